package docs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// firstDayFabric is what the network team has made.
const firstDayFabric = `{"fvTenant":{"attributes":{"name":"TEN_K8_C1"},"children":[
	{"fvCtx":{"attributes":{"name":"VRF_K8_C1"}}},
	{"vzBrCP":{"attributes":{"name":"CON_MCAST"}}},
	{"l3extOut":{"attributes":{"name":"L3O_K8_C1"},"children":[
		{"l3extRsEctx":{"attributes":{"tnFvCtxName":"VRF_K8_C1"}}},
		{"l3extInstP":{"attributes":{"name":"EPG_K8_APP_MCAST","descr":"multicast receivers"},"children":[
			{"fvRsCons":{"attributes":{"tnVzBrCPName":"CON_MCAST"}}}]}}]}}]}}`

const epgDN = "uni/tn-TEN_K8_C1/out-L3O_K8_C1/instP-EPG_K8_APP_MCAST"

// firstDayCluster is what runs there already.
const firstDayCluster = `
apiVersion: v1
kind: Namespace
metadata: {name: media}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: mcast, namespace: media}
spec:
  replicas: 2
  selector: {matchLabels: {app: mcast}}
  template:
    metadata: {labels: {app: mcast}}
    spec: {containers: [{name: mcast, image: registry.example.com/mcast}]}
---
apiVersion: v1
kind: Service
metadata: {name: mcast, namespace: media}
spec:
  type: LoadBalancer
  selector: {app: mcast}
  ports: [{port: 5000}]
`

func TestFirstDay(t *testing.T) {
	t.Parallel()
	l := newLab(t, lab.Options{})
	sim, here := newSimulator(t, firstDayFabric)
	stale := furnish(t, l, sim)
	before := sim.Dump(epgDN)
	newTerminal(t, l, here).follow("../../docs/first-day.md")
	checkEnd(t, sim, before, stale)
}

// checkEnd checks what the page says of the fabric after the roll-back.
func checkEnd(t *testing.T, sim *apicsim.Sim, before, stale string) {
	t.Helper()
	after := sim.Dump(epgDN)
	for _, dn := range []string{epgDN, epgDN + "/rscons-CON_MCAST", epgDN + "/extsubnet-[" + stale + "]"} {
		if _, ok := sim.Lookup(dn); !ok {
			t.Errorf("%s is gone; the fabric before:\n%safter:\n%s", dn, before, after)
		}
	}
	if n := strings.Count(after, "l3extSubnet"); n != 1 {
		t.Errorf("%d subnets are left, want that of the network team:\n%s", n, after)
	}
	if strings.Contains(after, "aci-sync") {
		t.Errorf("something of aci-sync is left:\n%s", after)
	}
}

// furnish brings the workload into the cluster and its IPv4 addresses onto the fabric, by hand, with
// another one, which it returns.
func furnish(t *testing.T, l *lab.Lab, sim *apicsim.Sim) (stale string) {
	t.Helper()
	ctx := t.Context()
	if err := l.Apply(ctx, firstDayCluster); err != nil {
		t.Fatal(err)
	}
	kubectl := func(args ...string) string {
		out, err := l.Kubectl(ctx, append([]string{"-n", "media"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	kubectl("rollout", "status", "deployment/mcast", "--timeout=150s")
	kubectl("wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/mcast", "--timeout=60s")
	stale = "10.99.0.7/32"
	byHand := []string{stale}
	for ip := range strings.FieldsSeq(kubectl("get", "pods", "-o", "jsonpath={.items[*].status.podIP}")) {
		byHand = append(byHand, ip+"/32")
	}
	if len(byHand) != 3 {
		t.Fatalf("the Pods have the addresses %v", byHand[1:])
	}
	for _, ip := range byHand {
		if err := sim.Post(epgDN, fmt.Sprintf(`{"l3extSubnet":{"attributes":{"ip":%q}}}`, ip)); err != nil {
			t.Fatal(err)
		}
	}
	return stale
}
