package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

func TestAllow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		patterns []string
		yes, no  []string
	}{
		"nothing is every tenant but the fabric's own": {nil, []string{"T/O", "common/O"}, []string{"infra/O", "mgmt/O"}},
		"a name":           {[]string{"T/O"}, []string{"T/O"}, []string{"T/P", "U/O", "T/OO"}},
		"all of a tenant":  {[]string{"T/*"}, []string{"T/O", "T/"}, []string{"U/O"}},
		"a piece":          {[]string{"TEN_K8*/L3O_?"}, []string{"TEN_K8_C1/L3O_A"}, []string{"TEN_K8/L3O_AB", "TEN_K/L3O_A"}},
		"several":          {[]string{"T/O", "U/*"}, []string{"T/O", "U/X"}, []string{"T/X"}},
		"said on purpose":  {[]string{"infra/O"}, []string{"infra/O"}, []string{"infra/P", "T/O"}},
		"everything":       {[]string{"*/*"}, []string{"T/O", "infra/O"}, nil},
		"a set of letters": {[]string{"T/[A-C]"}, []string{"T/B"}, []string{"T/D"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := plan.ParseAllow(tt.patterns)
			if err != nil {
				t.Fatal(err)
			}
			for want, list := range map[bool][]string{true: tt.yes, false: tt.no} {
				for _, s := range list {
					tenant, name, _ := strings.Cut(s, "/")
					if got := a.Allows(aci.L3Out{Tenant: tenant, Name: name}); got != want {
						t.Errorf("%s: %v", s, got)
					}
				}
			}
		})
	}
}

func TestParseAllow_says_what_is_wrong(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"T":     `"T" is not a pattern TENANT/L3OUT`,
		"":      `"" is not a pattern TENANT/L3OUT`,
		"/O":    `"/O" is not a pattern TENANT/L3OUT`,
		"T/":    `"T/" is not a pattern TENANT/L3OUT`,
		"T/O/E": `"T/O/E" is not a pattern TENANT/L3OUT`,
		"T/[":   `"T/[" is not a pattern: syntax error in pattern`,
	} {
		if _, err := plan.ParseAllow([]string{in}); err == nil || err.Error() != want {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

func TestChange_String(t *testing.T) {
	t.Parallel()
	pod := func(n string) desired.Ref { return desired.Ref{Kind: desired.KindPod, Namespace: "a", Name: n} }
	for want, c := range map[string]plan.Change{
		"+ uni/x Claimed by Pod a/1": {Action: plan.Create, DN: "uni/x", Reason: plan.Claimed, By: []desired.Ref{pod("1")}},
		"+ uni/x Claimed by Pod a/1, Pod a/2, Pod a/3, 2 more": {
			Action: plan.Create, DN: "uni/x", Reason: plan.Claimed, By: []desired.Ref{pod("1"), pod("2"), pod("3"), pod("4"), pod("5")},
		},
		"- uni/x Moved": {Action: plan.Delete, DN: "uni/x", Reason: plan.Moved},
		`~ uni/x name:"a"->"b" scope:""->"s" Drifted`: {
			Action: plan.Update, DN: "uni/x", Reason: plan.Drifted,
			Attrs: map[string]string{"scope": "s", "name": "b"}, Before: map[string]string{"scope": "", "name": "a"},
		},
		"~ uni/x mark Unmarked": {Action: plan.Update, DN: "uni/x", Mark: true, Reason: plan.Unmarked},
	} {
		if diff := cmp.Diff(want, c.String()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestDiff_cuts_the_name_of_a_subnet(t *testing.T) {
	t.Parallel()
	want, have := crowd(t, 0, 0)
	long := service("192.0.2.1")
	long.Name = strings.Repeat("n", 63)
	want.Fold(desired.Ref{Kind: desired.KindService, Namespace: "a", Name: long.Name}, long)
	p := plan.Diff(want, have, newCase().policy, "uni/tn-T/ctx-V", everywhere(want, have))
	if n := len(p.Changes); n != 2 {
		t.Fatalf("%d changes: %v", n, p.Changes)
	}
	if got := p.Changes[1].Attrs["name"]; got != "a::"+strings.Repeat("n", 61) {
		t.Errorf("got %q", got)
	}
}
