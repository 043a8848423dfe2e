package stories_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/charts"
)

// The kubeconfig is that of another cluster, in which nothing is, and --cluster-id is the same: what was
// made for the right one is kept, and a person is told. It has an API server of its own.
func TestKubeconfigOfAnotherCluster(t *testing.T) {
	t.Parallel()
	s, l, must := alone(t)
	must(l.Apply(t.Context(), string(charts.CRDs), "--server-side"))
	mark := func(dn string) string {
		return fmt.Sprintf(`{"tagAnnotation":{"attributes":{"key":"aci-sync","value":"blue %s"}}}`, dn)
	}
	epg := s.l3out("OUT") + "/instP-EPG_WEB"
	children := []string{mark(epg)}
	for i := range 30 {
		ip := fmt.Sprintf("10.64.0.%d/32", i+1)
		children = append(children, fmt.Sprintf(`{"l3extSubnet":{"attributes":{"ip":%q,"name":"shop::web-%d","annotation":"orchestrator:aci-sync:blue"},"children":[%s]}}`,
			ip, i, mark(epg+"/extsubnet-["+ip+"]")))
	}
	must(s.netops.post(t.Context(), s.l3out("OUT"), fmt.Sprintf(`{"l3extInstP":{"attributes":{"name":"EPG_WEB","annotation":"orchestrator:aci-sync:blue"},"children":[%s]}}`,
		strings.Join(children, ","))))
	before := s.sim.Dump(epg)

	must(s.start("sync", true, nil, nil))
	told := func() error { return s.procs["sync"].logged([]string{"a person is needed.*OrphansHeld", "1"}) }
	for end := time.Now().Add(time.Minute); told() != nil && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	must(told())
	time.Sleep(2 * time.Second) // what must not happen has time to
	if after := s.sim.Dump(epg); after != before || strings.Count(after, " l3extSubnet ") != 30 {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	must(s.procs["sync"].stop())
	for _, r := range s.sim.Requests(0) {
		if r.User == ourUser && r.Method != "GET" && strings.HasPrefix(r.Path, "/api/mo") {
			t.Errorf("it wrote: %s %s", r.Method, r.Path)
		}
	}
	s.checkLaws()
}
