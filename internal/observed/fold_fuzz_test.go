package observed

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// FuzzFold folds whatever an APIC may say, as events and as reads: nothing of it is known to be ours without a mark of ours.
func FuzzFold(f *testing.F) {
	for _, s := range []string{
		`{"imdata":[{"l3extOut":{"attributes":{"dn":"uni/tn-T/out-A"}}},{"l3extInstP":{"attributes":{"dn":"uni/tn-T/out-A/instP-E"}}},
		 {"l3extSubnet":{"attributes":{"dn":"uni/tn-T/out-A/instP-E/extsubnet-[10.0.0.1/32]","scope":"import-security","status":"created"}}}]}`,
		`{"imdata":[{"tagAnnotation":{"attributes":{"dn":"uni/tn-T/out-A/instP-E/annotationKey-[aci-sync]","key":"aci-sync","value":"k1 uni/tn-T/out-A/instP-E"}}}]}`,
		`{"imdata":[{"l3extRsEctx":{"attributes":{"dn":"uni/tn-T/out-A/rsectx","tDn":"uni/tn-T/ctx-V","state":"formed","status":"modified"}}}]}`,
		`{"imdata":[{"faultInst":{"attributes":{"dn":"topology/pod-1/node-101/local/svc-policyelem-id-0/uni/epp/rtd-[uni/tn-T/out-A/instP-E]/fault-F0467","code":"F0467","lc":"raised"}}}]}`,
		`{"imdata":[{"faultInst":{"attributes":{"dn":"topology/pod-1/node-x/fault-F3544","status":"deleted"}}},{"l3extSubnet":{"attributes":{"dn":"]"}}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := aci.DecodeReply(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		for _, kind := range []aci.UpdateKind{aci.Event, aci.FullRead} {
			s := NewState("k1")
			for _, root := range []aci.DN{"uni/tn-T/out-A", "uni/tn-T/out-A/instP-E", aci.Topology, aci.Universe} {
				s.Fold(aci.Update{Kind: kind, Root: root, Objects: rep.Objects})
			}
			if subnets, epgs := s.Owned(); subnets+epgs > 0 && !strings.Contains(string(data), "k1") && !strings.Contains(string(data), `\\`) {
				t.Errorf("%d subnets and %d EPGs are ours, and nothing bears our mark: %s", subnets, epgs, cmp.Diff(nil, rep.Objects))
			}
		}
	})
}
