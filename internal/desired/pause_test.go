package desired_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// A pause that begins or ends concerns all that its workload claims, and nothing else, although
// none of these claims changes.
func TestState_touches_what_a_pause_concerns(t *testing.T) {
	t.Parallel()
	w := newWorld(desired.Options{Expose: desired.Expose{Pods: true, Services: true}})
	deployment := func(name, pause string) desired.Touched {
		return w.fold(t, fmt.Sprintf(`{kind: Deployment, metadata: {namespace: shop, name: %s, uid: %[1]s, annotations: {
			aci.haystacknetworks.com/l3o: '{"tenant":"T","l3out":"O","epg":"E1"}', aci.haystacknetworks.com/paused: %q}},
			spec: {template: {metadata: {labels: {app: %[1]s}}}}}`, name, pause))
	}
	for i, name := range []string{"web", "api"} {
		deployment(name, "false")
		w.fold(t, fmt.Sprintf(`{kind: ReplicaSet, metadata: {namespace: shop, name: %s-1, uid: %[1]s-1, ownerReferences: [{kind: Deployment,
			name: %[1]s, uid: %[1]s, controller: true}]}}`, name))
		w.fold(t, fmt.Sprintf(`{kind: Pod, metadata: {namespace: shop, name: %s-1-a, uid: %[1]s-1-a, ownerReferences: [{kind: ReplicaSet,
			name: %[1]s-1, uid: %[1]s-1, controller: true}]}, status: {podIPs: [{ip: 10.0.0.%d}]}}`, name, i))
		w.fold(t, fmt.Sprintf(`{kind: Service, metadata: {namespace: shop, name: %s, uid: s-%[1]s}, spec: {type: LoadBalancer,
			selector: {app: %[1]s}}, status: {loadBalancer: {ingress: [{ip: 192.0.2.%d}]}}}`, name, i))
	}
	w.state.Begin()
	want := []string{"T/O/E1", "T/O/E1 10.0.0.0/32", "T/O/E1 192.0.2.0/32"}
	for _, pause := range []string{"true", "false"} {
		got := map[string]bool{}
		for _, p := range deployment("web", pause).Places {
			got[p.String()] = true
		}
		if d := cmp.Diff(want, slices.Sorted(maps.Keys(got))); d != "" {
			t.Errorf("paused %s (-want +got)\n%s", pause, d)
		}
	}
}

// What is remembered of a place goes when it is told that nothing is there, or when it is claimed
// again.
func TestState_forgets_what_was_withdrawn(t *testing.T) {
	t.Parallel()
	w := newWorld(desired.Options{Expose: desired.Expose{Services: true}})
	service := func(ip string) {
		w.fold(t, `{kind: Service, metadata: {namespace: shop, name: web, uid: v, annotations: {
			aci.haystacknetworks.com/l3o: '{"tenant":"T","l3out":"O","epg":"E1"}'}}, spec: {type: LoadBalancer},
			status: {loadBalancer: {ingress: [{ip: `+ip+`}]}}}`)
	}
	e := aci.ExtEPG{L3Out: aci.L3Out{Tenant: "T", Name: "O"}, Name: "E1"}
	place := func(ip string) aci.Place {
		return aci.Place{ExtEPG: e, Prefix: netip.PrefixFrom(netip.MustParseAddr(ip), 32)}
	}
	expect := func(when, ip string, want bool) {
		t.Helper()
		if got := w.state.Withdrawn(place(ip)); got != want {
			t.Errorf("%s, %s: withdrawn %v", when, ip, got)
		}
	}
	service("192.0.2.1")
	service("192.0.2.2")
	expect("before the beginning", "192.0.2.1", false)
	w.state.Begin()
	expect("claimed", "192.0.2.2", false)
	service("192.0.2.3")
	expect("changed", "192.0.2.2", true)
	expect("never claimed since the beginning", "192.0.2.1", false)
	service("192.0.2.2")
	expect("claimed again", "192.0.2.2", false)
	expect("changed once more", "192.0.2.3", true)
	w.state.Left(place("192.0.2.3"))
	expect("told gone", "192.0.2.3", false)
	w.fold(t, "gone: Service shop/web")
	expect("deleted", "192.0.2.2", true)
}
