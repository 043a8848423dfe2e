package aci_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

func TestDN(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in     string
		rns    []string
		parent aci.DN
	}{
		{"uni", []string{"uni"}, ""},
		{"uni/tn-t", []string{"uni", "tn-t"}, "uni"},
		{
			"uni/tn-t/out-o/instP-e/extsubnet-[10.1.2.3/32]/annotationKey-[a/b]",
			[]string{"uni", "tn-t", "out-o", "instP-e", "extsubnet-[10.1.2.3/32]", "annotationKey-[a/b]"},
			"uni/tn-t/out-o/instP-e/extsubnet-[10.1.2.3/32]",
		},
		{
			"uni/epp/rtd-[uni/tn-t/out-o/instP-e]/x-[sys/ctx-[vxlan-1]/pfx-[::/0]]",
			[]string{"uni", "epp", "rtd-[uni/tn-t/out-o/instP-e]", "x-[sys/ctx-[vxlan-1]/pfx-[::/0]]"},
			"uni/epp/rtd-[uni/tn-t/out-o/instP-e]",
		},
		{"a/vlifp-[topology/pod-1/node-101]-[vlan-46]", []string{"a", "vlifp-[topology/pod-1/node-101]-[vlan-46]"}, "a"},
	}
	for _, tt := range tests {
		d, err := aci.ParseDN(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff(tt.rns, d.RNs()); diff != "" {
			t.Errorf("%s: RNs (-want +got)\n%s", tt.in, diff)
		}
		if d.Parent() != tt.parent || d.RN() != tt.rns[len(tt.rns)-1] {
			t.Errorf("%s: parent %q, RN %q", tt.in, d.Parent(), d.RN())
		}
	}
	for _, in := range []string{"", "/", "/uni", "uni/", "uni//tn-t", "a[", "a]", "a]b[", "a/[b/c", "a/b]"} {
		if d, err := aci.ParseDN(in); err == nil {
			t.Errorf("%q was taken: %s", in, d)
		}
	}
}

func TestDN_Within(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dn, root aci.DN
		want     bool
	}{
		{"uni/tn-t/out-o", "uni/tn-t/out-o", true},
		{"uni/tn-t/out-o/instP-e", "uni/tn-t/out-o", true},
		{"uni/tn-t/out-o2", "uni/tn-t/out-o", false},
		{"uni/tn-t", "uni/tn-t/out-o", false},
	} {
		if got := tt.dn.Within(tt.root); got != tt.want {
			t.Errorf("%s within %s: %v", tt.dn, tt.root, got)
		}
	}
}

func FuzzParseDN(f *testing.F) {
	for _, s := range []string{"uni/tn-t/out-o/instP-e/extsubnet-[10.0.0.0/8]", "a-[b/[c]]/d", "[", "a//b", "]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := aci.ParseDN(s)
		if err != nil {
			return
		}
		rns := d.RNs()
		if got := strings.Join(rns, "/"); got != s {
			t.Errorf("%q prints as %q", s, got)
		}
		if got := d.Parent().Child(d.RN()); got != d {
			t.Errorf("%q: parent and RN make %q", s, got)
		}
		if d.RN() != rns[len(rns)-1] {
			t.Errorf("%q: RN is %q, the last of RNs %q", s, d.RN(), rns[len(rns)-1])
		}
		if !d.Within(d) || (d.Parent() != "" && !d.Within(d.Parent())) {
			t.Errorf("%q is not within itself or its parent", s)
		}
	})
}
