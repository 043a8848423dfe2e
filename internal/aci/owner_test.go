package aci_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

func TestOwner_marks(t *testing.T) {
	t.Parallel()
	const dn, other aci.DN = "uni/tn-t/out-o/instP-e", "uni/tn-t/out-o/instP-f"
	o, err := aci.ParseOwner("c1.example_x-0")
	if err != nil {
		t.Fatal(err)
	}
	if got := aci.MarkedBy(o.Mark(dn), dn); got != o {
		t.Errorf("own mark is of %q", got)
	}
	for name, value := range map[string]string{
		"a copy from another object": o.Mark(other),
		"no DN":                      string(o),
		"nothing":                    "",
		"a space too many":           o.Mark(dn) + " ",
		"no cluster id":              " " + string(dn),
		"not a cluster id":           "c/1 " + string(dn),
	} {
		if got := aci.MarkedBy(value, dn); got != "" {
			t.Errorf("%s: %q is a mark of %q", name, value, got)
		}
	}
	if got := aci.AnnotatedBy(o.Annotation()); got != o {
		t.Errorf("own annotation is of %q", got)
	}
	for _, value := range []string{"", "orchestrator:aci-sync", "orchestrator:aci-sync:", "orchestrator:aci-sync:a b", "orchestrator:terraform", o.Annotation() + "/x"} {
		if got := aci.AnnotatedBy(value); got != "" {
			t.Errorf("%q names %q", value, got)
		}
	}
	for _, s := range []string{"", "a b", "a/b", strings.Repeat("x", 64)} {
		if o, err := aci.ParseOwner(s); err == nil {
			t.Errorf("%q is the owner %q", s, o)
		}
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := aci.ParseScope(" shared-rtctrl,import-security,,import-security ")
	if diff := cmp.Diff(aci.Scope{"import-security", "shared-rtctrl"}, s); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if s.String() != "import-security,shared-rtctrl" {
		t.Errorf("String is %q", s)
	}
	if !s.Contains(aci.Scope{"import-security"}) || s.Contains(aci.Scope{"export-rtctrl"}) || !s.Contains(nil) {
		t.Error("Contains is wrong")
	}
	if got := s.Union(aci.Scope{"export-rtctrl"}).String(); got != "export-rtctrl,import-security,shared-rtctrl" {
		t.Errorf("Union is %q", got)
	}
	if err := aci.CheckScope(s); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "import", "shared-security"} {
		if err := aci.CheckScope(aci.ParseScope(bad)); err == nil {
			t.Errorf("scope %q was taken", bad)
		}
	}
}
