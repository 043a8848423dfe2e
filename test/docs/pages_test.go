package docs_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// TestPages checks the pages that leave a cluster as it was, one after the other on one control plane.
func TestPages(t *testing.T) {
	t.Parallel()
	p := pages{newLab(t, lab.Options{Nodes: 2})}
	for _, page := range []struct {
		name  string
		check func(*testing.T)
	}{
		{"install/calico.md", p.calico},
		{"install/cilium.md", p.cilium},
		{"operations/migration.md", p.migration},
		{"install/outside.md", p.outside},
		{"threat-model.md", p.admission}, // last: a policy is followed for a while when it is gone
	} {
		if !t.Run(page.name, page.check) {
			return // the next one would find what this one left
		}
	}
}

// pages are checked on a lab.
type pages struct{ *lab.Lab }

// calico checks the manifests of Calico and MetalLB. Calico's users write in the version projectcalico.org/v3, whose
// spec is what its own definitions hold.
func (p pages) calico(t *testing.T) {
	dir := moduleDir(t, "calico", "github.com/projectcalico/calico")
	for _, crd := range []string{"bgpconfigurations", "bgppeers", "ippools"} {
		p.kubectl(t, "apply", "--server-side", "--filename="+filepath.Join(dir, "libcalico-go/config/crd/crd.projectcalico.org_"+crd+".yaml"))
	}
	p.kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	p.checkManifests(t, "../../docs/install/calico.md", []string{"IPPool", "BGPConfiguration", "BGPPeer", "BGPPeer", "IPAddressPool"},
		"projectcalico.org/v3", "crd.projectcalico.org/v1")
}

// cilium checks the manifests of Cilium and the values of its chart.
func (p pages) cilium(t *testing.T) {
	dir := moduleDir(t, "cilium", "github.com/cilium/cilium")
	for _, crd := range []string{"bgpclusterconfigs", "bgppeerconfigs", "bgpadvertisements", "loadbalancerippools"} {
		p.kubectl(t, "apply", "--server-side", "--filename="+filepath.Join(dir, "pkg/k8s/apis/cilium.io/client/crds/v2/cilium"+crd+".yaml"))
	}
	p.kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	const page = "../../docs/install/cilium.md"
	p.checkManifests(t, page, []string{"CiliumBGPClusterConfig", "CiliumBGPPeerConfig", "CiliumBGPAdvertisement", "CiliumLoadBalancerIPPool"})

	values := blocks(t, page, "yaml")[0]
	if strings.Contains(values, "\nkind:") {
		t.Fatalf("the first block is no longer the values of the chart:\n%s", values)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	rendered := run(t, helm(t), "template", "cilium", filepath.Join(dir, "install/kubernetes/cilium"), "--values="+file, "--kube-version=1.37.2", "--show-only=templates/cilium-configmap.yaml")
	for _, want := range []string{
		`routing-mode: "native"`, `ipv4-native-routing-cidr: 10.64.0.0/15`, `auto-direct-node-routes: "true"`, `enable-ipv4-masquerade: "false"`,
		`enable-bgp-control-plane: "true"`, `cluster-pool-ipv4-cidr: "10.64.0.0/15"`,
	} {
		if !strings.Contains(rendered, "\n  "+want+"\n") {
			t.Errorf("the chart makes no %s of the values:\n%s", want, rendered)
		}
	}
}

// checkManifests has the API server look at the manifests of a page, which are of these kinds; what they are of is
// replaced as said. It must refuse each of them with a field that does not exist.
func (p pages) checkManifests(t *testing.T, page string, kinds []string, replace ...string) {
	t.Helper()
	var found []string
	for _, block := range blocks(t, page, "yaml") {
		for manifest := range strings.SplitSeq(block, "\n---\n") {
			var object map[string]any
			if err := yaml.UnmarshalStrict([]byte(strings.NewReplacer(replace...).Replace(manifest)), &object); err != nil {
				t.Fatalf("%s: %v\n%s", page, err, manifest)
			}
			kind, ok := object["kind"].(string)
			if !ok {
				continue
			}
			found = append(found, kind)
			if err := p.look(t, object); err != nil {
				t.Errorf("%s: %v", page, err)
			}
			object["spec"].(map[string]any)["nonsense"] = "x"
			if err := p.look(t, object); err == nil || !strings.Contains(err.Error(), "nonsense") {
				t.Errorf("%s: a field that does not exist is taken, in a %s: %v", page, kind, err)
			}
		}
	}
	if !slices.Equal(found, kinds) {
		t.Errorf("%s has %v, want %v", page, found, kinds)
	}
}

// look has the API server look strictly at an object, and keep nothing.
func (p pages) look(t *testing.T, object map[string]any) error {
	t.Helper()
	text, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return p.Apply(t.Context(), string(text), "--dry-run=server", "--validate=strict")
}

// prototypeFabric is what the prototype leaves in an external EPG, beside a subnet for each Pod.
const prototypeFabric = `{"l3extInstP":{"attributes":{"name":"EPG_K8_APP_MCAST","annotation":"orchestrator:aci-k8-haystack"},"children":[
	{"l3extSubnet":{"attributes":{"ip":"10.99.0.7/32","annotation":"orchestrator:aci-k8-haystack"}}},
	{"l3extSubnet":{"attributes":{"ip":"192.0.2.0/24","descr":"by hand"}}}]}}`

// migration follows docs/operations/migration.md.
func (p pages) migration(t *testing.T) {
	sim, here := newSimulator(t, installFabric)
	post := func(dn, body string) {
		if err := sim.Post(dn, body); err != nil {
			t.Fatal(err)
		}
	}
	post("uni/tn-TEN_K8_C1/out-L3O_K8_C1", prototypeFabric)
	workload := strings.ReplaceAll(firstDayCluster, "metadata: {name: mcast, namespace: media}\nspec:\n  replicas",
		`metadata: {name: mcast, namespace: media, annotations: {aci.haystacknetworks.com/l3o: '{"tenant":"TEN_K8_C1","l3out":"L3O_K8_C1","epg":"EPG_K8_APP_MCAST"}'}}`+"\nspec:\n  replicas")
	if err := p.Apply(t.Context(), workload); err != nil {
		t.Fatal(err)
	}
	defer p.clean(t, "namespace/media")
	p.kubectl(t, "-n", "media", "rollout", "status", "deployment/mcast", "--timeout=150s")
	p.kubectl(t, "-n", "media", "wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/mcast", "--timeout=60s")
	ips := strings.Fields(p.kubectl(t, "-n", "media", "get", "pods", "-o", "jsonpath={.items[*].status.podIP}"))
	if len(ips) != 2 {
		t.Fatalf("the Pods have the addresses %v", ips)
	}
	for _, ip := range ips {
		post(epgDN, fmt.Sprintf(`{"l3extSubnet":{"attributes":{"ip":"%s/32","annotation":"orchestrator:aci-k8-haystack"}}}`, ip))
	}

	newTerminal(t, p.Lab, here).follow("../../docs/operations/migration.md")

	dump := sim.Dump(epgDN)
	for _, stays := range []string{"10.99.0.7/32", "192.0.2.0/24"} {
		if strings.Contains(dump, "extsubnet-["+stays+"]/annotationKey-[aci-sync]") || !strings.Contains(dump, "extsubnet-["+stays+"]") {
			t.Errorf("%s, which no workload claims, is adopted or gone:\n%s", stays, dump)
		}
	}
	for _, dn := range []string{epgDN, epgDN + "/extsubnet-[" + ips[0] + "/32]", epgDN + "/extsubnet-[" + ips[1] + "/32]"} {
		if _, ok := sim.Lookup(dn + "/annotationKey-[aci-sync]"); !ok {
			t.Errorf("%s is not adopted:\n%s", dn, dump)
		}
	}
}

// outside follows docs/install/outside.md, as a user of the APIC with rights to one tenant.
func (p pages) outside(t *testing.T) {
	sim, here := newSimulator(t, installFabric, "TEN_K8_C1")
	term := newTerminal(t, p.Lab, here)
	term.addCharts()
	if err := os.Symlink(helm(t), filepath.Join(term.dir, "bin", "helm")); err != nil {
		t.Fatal(err)
	}
	defer p.clean(t, "deployment/mcast")
	term.follow("../../docs/install/outside.md")
	checkUnit(t, filepath.Join(term.dir, "aci-sync.service"))
	if n := strings.Count(sim.Dump(epgDN), " l3extSubnet "); n != 4 {
		t.Errorf("there are %d subnets, want 4:\n%s", n, sim.Dump("uni/tn-TEN_K8_C1"))
	}
	for _, r := range sim.Requests(0) {
		if r.Method == http.MethodPost && r.Status != http.StatusOK {
			t.Errorf("the APIC answers %d to %s %s: %s", r.Status, r.Method, r.Path, r.Text)
		}
	}
}

// checkUnit checks that aci-sync knows the flags of the unit and, where there is systemd, that it knows the rest.
func checkUnit(t *testing.T, unit string) {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	_, command, found := strings.Cut(string(text), "\nExecStart=/usr/local/bin/aci-sync ")
	command, _, _ = strings.Cut(command, "\n")
	if !found {
		t.Fatalf("the unit starts something else:\n%s", text)
	}
	program := filepath.Join(filepath.Dir(unit), "bin", "aci-sync")
	run(t, program, append(strings.Fields(command), "--help")...) // an unknown flag is an error all the same
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze: the unit is not verified")
		return
	}
	here := strings.ReplaceAll(string(text), "/usr/local/bin/aci-sync", program)
	if err := os.WriteFile(unit, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, analyze, "verify", "--man=no", unit); out != "" {
		t.Errorf("systemd says of the unit\n%s", out)
	}
}

// admission tries the policy of docs/threat-model.md.
func (p pages) admission(t *testing.T) {
	manifests := blocks(t, "../../docs/threat-model.md", "yaml")
	if err := p.Apply(t.Context(), strings.Join(manifests, "\n---\n"), "--validate=strict"); err != nil {
		t.Fatal(err)
	}
	deployment := func(namespace, annotation string) error {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(strings.Split(firstDayCluster, "---\n")[1]), &object); err != nil {
			t.Fatal(err)
		}
		meta := object["metadata"].(map[string]any)
		meta["namespace"] = namespace
		if annotation != "" {
			meta["annotations"] = map[string]any{"aci.haystacknetworks.com/l3o": annotation}
		}
		return p.look(t, object)
	}
	const foreign = `{"tenant":"TEN_X","l3out":"L3O_K8_C1","epg":"E"}`
	for end := time.Now().Add(30 * time.Second); deployment("shop", foreign) == nil; pause() { // a policy takes a moment
		if time.Now().After(end) {
			t.Fatal("the policy lets through what the namespace may not name")
		}
	}
	if err := deployment("shop", foreign); !strings.Contains(fmt.Sprint(err), "namespace shop may not name the L3Out TEN_X/L3O_K8_C1; its annotation") {
		t.Errorf("it says %v", err)
	}
	for _, c := range []struct {
		namespace, annotation string
		taken                 bool
	}{
		{"shop", "", true},
		{"default", "", true},
		{"shop", `{"tenant":"TEN_K8_C1","l3out":"L3O_K8_C1","epg":"E"}`, true},
		{"shop", `{ "epg" : "E", "l3out" : "L3O_K8_X", "tenant" : "TEN_K8_C1", "expose": ["pods"] }`, true},
		{"default", `{"tenant":"TEN_K8_C1","l3out":"L3O_K8_C1","epg":"E"}`, false},
		{"shop", `{"tenant":"TEN_K8_C1","l3out":"L3O_K8_Y","epg":"E"}`, false},
		{"shop", `{"tenant":"TEN_K8_C1 ","l3out":"L3O_K8_C1","epg":"E"}`, false},
		{"shop", `{"l3out":"L3O_K8_C1","epg":"E"}`, false},
		{"shop", `{"tenant":"","l3out":"","epg":"E"}`, false},
		{"shop", `{"tenant":"TEN\u005fX","l3out":"L3O_K8_C1","epg":"E"}`, false},
		{"shop", `{"epg":"\"tenant\":\"TEN_K8_C1\"","tenant":"TEN_X","l3out":"L3O_K8_C1"}`, false},
		{"shop", `nonsense`, false},
	} {
		if err := deployment(c.namespace, c.annotation); (err == nil) != c.taken {
			t.Errorf("in %s, %s: taken is to be %v: %v", c.namespace, c.annotation, c.taken, err)
		}
	}

	// What is there already may be changed, but for the annotation; that may be taken off.
	p.kubectl(t, "-n", "shop", "create", "deployment", "old", "--image=registry.example.com/x", "--replicas=0")
	p.kubectl(t, "-n", "shop", "annotate", "deployment/old", `aci.haystacknetworks.com/l3o={"tenant":"TEN_K8_C1","l3out":"L3O_K8_C1","epg":"E"}`)
	p.kubectl(t, "annotate", "namespace/shop", "example.com/l3outs-")
	p.refuses(t, "another value", "-n", "shop", "annotate", "deployment/old", "--overwrite", `aci.haystacknetworks.com/l3o={"tenant":"TEN_K8_C1","l3out":"L3O_K8_C1","epg":"F"}`)
	p.refuses(t, "another value by the status", "-n", "shop", "patch", "deployment/old", "--subresource=status", "--type=merge", `--patch={"metadata":{"annotations":{"aci.haystacknetworks.com/l3o":"{}"}}}`)
	p.kubectl(t, "-n", "shop", "scale", "deployment/old", "--replicas=1")
	p.kubectl(t, "-n", "shop", "label", "deployment/old", "x=y")
	p.kubectl(t, "-n", "shop", "annotate", "deployment/old", "aci.haystacknetworks.com/l3o-")
	service := map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "x", "namespace": "shop", "annotations": map[string]any{"aci.haystacknetworks.com/l3o": foreign}},
		"spec":     map[string]any{"type": "LoadBalancer", "ports": []any{map[string]any{"port": 80}}},
	}
	if err := p.look(t, service); err == nil {
		t.Error("a Service may name what its namespace may not")
	}
}

// refuses wants the policy to refuse what kubectl is told to do.
func (p pages) refuses(t *testing.T, what string, args ...string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; pause() { // a namespace is seen by the policy a moment later
		_, err := p.Kubectl(t.Context(), append(args, "--dry-run=server")...)
		if err != nil && strings.Contains(err.Error(), "may not name the L3Out") {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%s is not refused: %v", what, err)
			return
		}
	}
}

// clean deletes what a page leaves, so that the next one begins with a cluster like new.
func (p pages) clean(t *testing.T, objects ...string) {
	p.kubectl(t, append([]string{"delete", "--wait", "--timeout=60s"}, objects...)...)
	p.kubectl(t, "delete", "customresourcedefinition/externalepgs.aci.haystacknetworks.com", "--ignore-not-found")
	p.kubectl(t, "delete", "lease/aci-sync", "--namespace=kube-system", "--ignore-not-found")
}

func (p pages) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// blocks are the blocks of a page that are of a language; there must be one.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	parts := strings.Split("\n"+string(text), "\n"+fence)
	for i := 1; i < len(parts); i += 2 { // a block, and the text behind it
		if is, block, _ := strings.Cut(parts[i], "\n"); is == language {
			found = append(found, block)
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has no block of the language %s", page, language)
	}
	return found
}

// run runs a program to its end, and returns what it prints.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}
