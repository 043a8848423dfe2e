package apicsim_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// newer are attributes that today's releases show and the captures, of older ones, do not.
// Source: apic-rest.md 4.1, 4.5 and 5.1.
func newer(key string) bool {
	return slices.Contains([]string{"userdom", "mplsEnabled", "intent", "capability", "isMultiPodDirect"}, key)
}

// TestObjectsShowTheAttributesOfCaptures compares the attribute names of objects, in their
// order, with those of payloads captured from real APICs.
func TestObjectsShowTheAttributesOfCaptures(t *testing.T) {
	t.Parallel()
	const nested = `{"fvTenant":{"attributes":{"name":"T"},"children":[
		{"vzBrCP":{"attributes":{"name":"web"}}},
		{"l3extOut":{"attributes":{"name":"O"},"children":[
			{"l3extInstP":{"attributes":{"name":"E"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}},
			{"l3extInstP":{"attributes":{"name":"F"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.1/8"}}}]}},
			{"l3extLNodeP":{"attributes":{"name":"N"},"children":[
				{"l3extRsNodeL3OutAtt":{"attributes":{"tDn":"topology/pod-1/node-101"},"children":[{"l3extLoopBackIfP":{"attributes":{"addr":"10.1.0.1"}}}]}},
				{"bgpPeerP":{"attributes":{"addr":"10.1.0.2","password":"x"},"children":[{"bgpAsP":{"attributes":{"asn":"65001"}}}]}},
				{"l3extLIfP":{"attributes":{"name":"I"},"children":[
					{"l3extRsPathL3OutAtt":{"attributes":{"tDn":"topology/pod-1/paths-101/pathep-[eth1/1]"}}},
					{"l3extVirtualLIfP":{"attributes":{"nodeDn":"topology/pod-1/node-101","encap":"vlan-7"}}}]}}]}}]}}]}}`
	for _, tc := range []struct {
		name, path string
		class      string
		keys       string // as captured
		subset     bool   // the capture was cut by its author
	}{
		{
			"contract_of_a_GUI_subscription", "/api/mo/uni/tn-T/brc-web.json", "vzBrCP",
			"annotation childAction configIssues descr dn extMngdBy lcOwn modTs monPolDn name nameAlias ownerKey ownerTag prio reevaluateAll scope status targetDscp uid", false,
		},
		{
			"L3Out", "/api/mo/uni/tn-T/out-O.json", "l3extOut",
			"annotation childAction descr dn enforceRtctrl extMngdBy lcOwn modTs monPolDn name nameAlias ownerKey ownerTag status targetDscp uid", false,
		},
		{
			"relation_to_the_VRF_in_a_subtree", "/api/mo/uni/tn-T/out-O.json?rsp-subtree=full&rsp-subtree-class=l3extRsEctx", "l3extRsEctx",
			"annotation childAction extMngdBy forceResolve lcOwn modTs monPolDn rType rn state stateQual status tCl tContextDn tDn tRn tType tnFvCtxName uid", false,
		},
		{
			"external_EPG_in_a_subtree", "/api/mo/uni/tn-T/out-O.json?rsp-subtree=full&rsp-subtree-class=l3extInstP", "l3extInstP",
			"annotation configSt descr exceptionTag floodOnEncap isSharedSrvMsiteEPg matchT name nameAlias pcEnfPref pcTag prefGrMemb prio rn status targetDscp", true,
		},
		{
			"node_profile_in_a_subtree", "/api/mo/uni/tn-T/out-O.json?rsp-subtree=children&rsp-subtree-class=l3extLNodeP", "l3extLNodeP",
			"annotation childAction configIssues descr extMngdBy lcOwn modTs monPolDn name nameAlias ownerKey ownerTag rn status tag targetDscp uid", false,
		},
		{
			"node_in_a_subtree", "/api/mo/uni/tn-T/out-O/lnodep-N.json?rsp-subtree=full", "l3extRsNodeL3OutAtt",
			"annotation childAction configIssues extMngdBy forceResolve lcOwn modTs monPolDn rType rn rtrId rtrIdLoopBack state stateQual status tCl tDn tType uid", false,
		},
		{
			"loopback_in_a_subtree", "/api/mo/uni/tn-T/out-O/lnodep-N.json?rsp-subtree=full", "l3extLoopBackIfP",
			"addr annotation childAction descr extMngdBy lcOwn modTs monPolDn name nameAlias rn status uid userdom", false,
		},
		{
			"interface_profile_in_a_subtree", "/api/mo/uni/tn-T/out-O/lnodep-N.json?rsp-subtree=full", "l3extLIfP",
			"addr annotation childAction descr encap extMngdBy lcOwn modTs monPolDn name nameAlias ownerKey ownerTag prio rn status tag uid", false,
		},
		{
			"path_in_a_subtree", "/api/mo/uni/tn-T/out-O/lnodep-N.json?rsp-subtree=full", "l3extRsPathL3OutAtt",
			"addr annotation autostate childAction configIssues descr encap encapScope extMngdBy forceResolve ifInstT ipv6Dad lcOwn llAddr mac modTs mode monPolDn mtu rType rn state stateQual status tCl tDn tType targetDscp uid", false,
		},
		{
			"floating_SVI", "/api/class/l3extVirtualLIfP.json", "l3extVirtualLIfP",
			"addr dn encap encapScope extMngdBy ifInstT ipv6Dad lcOwn llAddr mac mtu", true,
		},
		{
			"BGP_peer_in_a_subtree", "/api/mo/uni/tn-T/out-O/lnodep-N.json?rsp-subtree=full", "bgpPeerP",
			"ConfigIssues addr addrTCtrl adminSt allowedSelfAsCnt annotation childAction connectivityType ctrl ctrlExt descr extMngdBy lcOwn modTs monPolDn name nameAlias peerCtrl privateASctrl rn sessionT status ttl uid userdom weight", false,
		},
		{
			"AS_of_a_BGP_peer", "/api/class/bgpAsP.json", "bgpAsP",
			"annotation asn childAction descr dn extMngdBy lcOwn modTs monPolDn name nameAlias status uid userdom", false,
		},
		{
			"prefix_policy_of_a_BGP_peer", "/api/class/bgpRsPeerPfxPol.json", "bgpRsPeerPfxPol",
			"annotation childAction dn extMngdBy forceResolve lcOwn modTs monPolDn rType state stateQual status tCl tContextDn tDn tRn tType tnBgpPeerPfxPolName uid userdom", false,
		},
		{
			"fault_of_a_leaf", "/api/class/faultInst.json", "faultInst",
			"ack annotation cause changeSet childAction code created delegated descr dn domain extMngdBy highestSeverity lastTransition lc modTs occur origSeverity prevSeverity rule severity status subject type uid", false,
		},
		{
			"fault_delegated_to_an_external_EPG", "/api/class/faultDelegate.json", "faultDelegate",
			"ack affected cause changeSet childAction code created descr dn domain highestSeverity lastTransition lc modTs occur origSeverity prevSeverity rule severity status subject type", false,
		},
		{
			"node", "/api/mo/topology/pod-1/node-101.json", "fabricNode",
			"adSt address annotation apicType childAction delayedHeartbeat dn extMngdBy fabricSt id lastStateModTs lcOwn modTs model monPolDn name nameAlias nodeType role serial status uid userdom vendor version", false,
		},
		{
			"system_of_a_node", "/api/mo/topology/pod-1/node-1/sys.json", "topSystem",
			"address bootstrapState childAction configIssues controlPlaneMTU dn enforceSubnetCheck fabricDomain fabricId fabricMAC id inbMgmtAddr lastRebootTime lastResetReason lcOwn modTs mode monPolDn name nameAlias nodeType oobMgmtAddr podId remoteNode role serial serverType siteId state status tepPool version virtualMode", true,
		},
		{
			"member_as_others_see_it", "/api/class/infraWiNode.json", "infraWiNode",
			"addr adminSt apicMode cntrlSbstState dn failoverStatus health id mbSn name nodeName operSt podId targetMbSn", true,
		},
		{
			"BGP_session", "/api/class/bgpPeerEntry.json", "bgpPeerEntry",
			"addr connAttempts dn fd flags holdIntvl kaIntvl lastFlapTs localIp localPort modTs monPolDn name operSt passwdSet peerIdx prevOperSt rcvCap remotePort rtrId shutStQual stReason status type", true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, apicsim.Options{Leafs: []int{101}})
				if err := c.sim.Post("uni", nested); err != nil {
					t.Fatal(err)
				}
				session := `{"bgpPeerEntry":{"attributes":{"dn":"topology/pod-1/node-101/sys/bgp/inst/dom-T:V/peer-[10.1.0.2]/ent-[10.1.0.2]"}}}`
				if err := c.sim.Seed([]byte(session)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				c.login("admin", "apic-sim")
				_, body := c.do("GET", tc.path, "")
				got = keysOf(t, body, tc.class)
			})
			want := strings.Fields(tc.keys)
			if !slices.IsSorted(got) {
				t.Errorf("attributes are not in alphabetical order: %v", got)
			}
			got = slices.DeleteFunc(got, func(k string) bool {
				return !slices.Contains(want, k) && (tc.subset || newer(k))
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("attributes (-captured +got):\n%s", diff)
			}
		})
	}
}

// keysOf finds the first object of class in an answer and returns its attribute names in
// the order of the wire.
func keysOf(t *testing.T, body, class string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(body, `{"`+class+`":{"attributes":`)
	if !ok {
		t.Fatalf("no %s in %s", class, body)
	}
	dec := json.NewDecoder(strings.NewReader(rest))
	var keys []string
	for i := 0; ; i++ {
		tok, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		if tok == json.Delim('}') {
			return keys
		}
		if s, isKey := tok.(string); isKey && i%2 == 1 {
			keys = append(keys, s)
		}
	}
}
