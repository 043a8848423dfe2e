package aci_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

func TestNames_to_DN_and_back(t *testing.T) {
	t.Parallel()
	e := aci.ExtEPG{L3Out: aci.L3Out{Tenant: "prod", Name: "wan:1"}, Name: "web.x"}
	if got := e.DN(); got != "uni/tn-prod/out-wan:1/instP-web.x" {
		t.Errorf("DN %s", got)
	}
	if got := e.String(); got != "prod/wan:1/web.x" {
		t.Errorf("String %s", got)
	}
	subnet := e.SubnetDN(netip.MustParsePrefix("2001:db8::1/64"))
	if subnet != "uni/tn-prod/out-wan:1/instP-web.x/extsubnet-[2001:db8::/64]" {
		t.Errorf("subnet DN %s", subnet)
	}
	tag := subnet.Child(aci.TagRN("a/b"))
	got, rest, ok := aci.ExtEPGOf(tag)
	if !ok || got != e || rest != "extsubnet-[2001:db8::/64]/annotationKey-[a/b]" {
		t.Errorf("ExtEPGOf(%s): %v, %q, %v", tag, got, rest, ok)
	}
	if l, ok := aci.L3OutOf(tag); !ok || l != e.L3Out {
		t.Errorf("L3OutOf(%s): %v, %v", tag, l, ok)
	}
	if l, ok := aci.ParseL3Out(e.L3Out.DN()); !ok || l != e.L3Out {
		t.Errorf("ParseL3Out: %v, %v", l, ok)
	}
	if ip, ok := aci.SubnetIP(subnet.RN()); !ok || ip != "2001:db8::/64" {
		t.Errorf("SubnetIP: %q, %v", ip, ok)
	}
	v := aci.VRF{Tenant: "prod", Name: "v"}
	if got, ok := aci.ParseVRF(v.DN()); !ok || got != v {
		t.Errorf("ParseVRF: %v, %v", got, ok)
	}
}

func TestNodeOf(t *testing.T) {
	t.Parallel()
	for d, want := range map[aci.DN]int{
		"topology/pod-1/node-101":                                      101,
		"topology/pod-2/node-103/sys/actrl/dbgStatsReport/fault-F3544": 103,
		"topology/pod-1/node-1":                                        1,
		"topology/pod-1":                                               0,
		"topology/pod-1/node-":                                         0,
		"topology/pod-1/node-101x":                                     0,
		"topology/pod-1/protpaths-101-102":                             0,
		"uni/topology/pod-1/node-101":                                  0,
		"topology/pod-1/node-99999999999999999999":                     0,
		"": 0,
	} {
		if got, ok := aci.NodeOf(d); got != want || ok != (want != 0) {
			t.Errorf("%s: %d, %v", d, got, ok)
		}
	}
}

func TestNames_of_other_DNs(t *testing.T) {
	t.Parallel()
	for _, d := range []aci.DN{"", "uni", "uni/tn-t", "uni/tn-t/ap-a", "uni/tn-/out-o", "uni/tn-t/out-", "topology/pod-1", "uni/tn-t/brc-out-x"} {
		if l, ok := aci.L3OutOf(d); ok {
			t.Errorf("L3OutOf(%s) is %v", d, l)
		}
	}
	for _, d := range []aci.DN{"uni/tn-t/out-o", "uni/tn-t/out-o/rsectx", "uni/tn-t/out-o/instP-", "uni/tn-t/out-o/lnodep-n/instP-x"} {
		if e, _, ok := aci.ExtEPGOf(d); ok {
			t.Errorf("ExtEPGOf(%s) is %v", d, e)
		}
	}
	for _, d := range []aci.DN{"", "uni/tn-t", "uni/tn-t/ctx-", "uni/tn-/ctx-v", "uni/tn-t/ctx-v/x", "uni/tn-t/out-o"} {
		if v, ok := aci.ParseVRF(d); ok {
			t.Errorf("ParseVRF(%s) is %v", d, v)
		}
	}
	if l, ok := aci.ParseL3Out("uni/tn-t/out-o/instP-e"); ok {
		t.Errorf("ParseL3Out of an EPG is %v", l)
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "A_b.C:d-0", strings.Repeat("x", 64)} {
		if err := aci.CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", " ", "a/b", "a[b", "ä", "a\n", strings.Repeat("x", 65)} {
		if err := aci.CheckName(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}
