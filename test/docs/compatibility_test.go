package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/kube"
)

// TestCompatibility compares docs/compatibility.md with what is pinned.
func TestCompatibility(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/compatibility.md")
	required := func(file, module string) string {
		m := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(module) + `\s+(?:=> \S+ )?(\S+)`).FindStringSubmatch(read(t, file))
		if m == nil {
			t.Errorf("%s pins no %s", file, module)
			return ""
		}
		return m[1]
	}
	pinned := map[string]string{
		"Kubernetes":          required("tools/lab/kubernetes/go.mod", "k8s.io/kubernetes"),
		"etcd":                required("tools/lab/etcd/go.mod", "go.etcd.io/etcd/server/v3"),
		"kwok":                required("tools/lab/kwok/go.mod", "sigs.k8s.io/kwok"),
		"MetalLB":             required("tools/lab/metallb/go.mod", "go.universe.tf/metallb"),
		"client-go":           required("go.mod", "k8s.io/client-go"),
		"Go":                  required("go.mod", "go"),
		"Helm":                required("tools/helm/go.mod", "helm.sh/helm/v3"),
		"Prometheus operator": required("tools/lab/prometheus-operator/go.mod", "github.com/prometheus-operator/prometheus-operator"),
		"Cilium":              required("tools/lab/cilium/go.mod", "github.com/cilium/cilium"),
		"Calico":              required("tools/lab/calico/go.mod", "github.com/projectcalico/calico"),
	}
	first, second, found := strings.Cut(page, "\nWhat is supported beyond that")
	if !found {
		t.Fatal("the page has no second table")
	}
	rows := regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|`).FindAllStringSubmatch(first, -1)
	if len(rows) < 2 {
		t.Fatal("the page has no first table")
	}
	for _, row := range rows[2:] { // behind the heading
		if want, known := pinned[row[1]]; !known || row[2] != want {
			t.Errorf("%s is said to be tested with %s, pinned is %q", row[1], row[2], want)
		}
		delete(pinned, row[1])
	}
	for what := range pinned {
		t.Errorf("the page lacks %s", what)
	}
	for what, from := range map[string]string{"Kubernetes": kube.MinVersion, "APIC": aci.MinVersion} {
		if !strings.Contains(second, "\n| "+what+" | "+from+" |") {
			t.Errorf("the page does not say that %s is supported from %s", what, from)
		}
	}
}

// read returns a file of the checkout.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestUser takes the bodies of docs/reference/credentials.md for what they say. The simulator makes users another way, so
// it is given only that for a tenant.
func TestUser(t *testing.T) {
	t.Parallel()
	sim, _ := newSimulator(t, installFabric)
	posted := 0
	for _, body := range blocks(t, "../../docs/reference/credentials.md", "json") {
		var object map[string]any
		if err := json.Unmarshal([]byte(body), &object); err != nil || len(object) != 1 {
			t.Errorf("that is no object: %v\n%s", err, body)
		}
		if object["fvTenant"] == nil {
			continue
		}
		if err := sim.Post("uni", body); err != nil {
			t.Error(err)
		}
		posted++
	}
	if _, ok := sim.Lookup("uni/tn-TEN_K8_C1/domain-orchestrate"); !ok || posted != 1 {
		t.Errorf("%d bodies put a tenant into a security domain:\n%s", posted, sim.Dump("uni/tn-TEN_K8_C1"))
	}
}
