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
// Source: apic-rest.md 4.1 and 4.5.
func newer(key string) bool { return key == "userdom" || key == "mplsEnabled" || key == "intent" }

// TestObjectsShowTheAttributesOfCaptures compares the attribute names of objects, in their
// order, with those of payloads captured from real APICs.
func TestObjectsShowTheAttributesOfCaptures(t *testing.T) {
	t.Parallel()
	const nested = `{"fvTenant":{"attributes":{"name":"T"},"children":[
		{"vzBrCP":{"attributes":{"name":"web"}}},
		{"l3extOut":{"attributes":{"name":"O"},"children":[
			{"l3extInstP":{"attributes":{"name":"E"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}},
			{"l3extInstP":{"attributes":{"name":"F"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.1/8"}}}]}}]}}]}}`
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
			"fault_of_a_leaf", "/api/class/faultInst.json", "faultInst",
			"ack annotation cause changeSet childAction code created delegated descr dn domain extMngdBy highestSeverity lastTransition lc modTs occur origSeverity prevSeverity rule severity status subject type uid", false,
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
