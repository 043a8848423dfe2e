package charts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/internal/cli"
	"github.com/haystacknetworks/aci-sync/internal/kube"
)

var update = flag.Bool("update", false, "write what is rendered where it is expected")

// kubernetes is the version of the lab, whose schemas there are.
const kubernetes = "1.37.2"

// tool runs a tool that is pinned in a module of its own below tools, and returns what it prints.
func tool(t *testing.T, name string, args ...string) (stdout string, err error) {
	t.Helper()
	modfile, err := filepath.Abs(filepath.Join("../tools", name, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "-modfile=" + modfile, name}, args...)...)
	home := t.TempDir() // of Helm's own files, so that the user's settings count for nothing
	cmd.Env = append(cmd.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+os.DevNull)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", name, err, &words)
	}
	return out.String(), nil
}

func helm(t *testing.T, args ...string) (string, error) { t.Helper(); return tool(t, "helm", args...) }

// render is what the chart makes of a file of values.
func render(t *testing.T, values string, args ...string) (string, error) {
	t.Helper()
	return helm(t, append([]string{"template", "aci-sync", "aci-sync", "--namespace=aci-sync", "--kube-version=" + kubernetes, "--values=" + values}, args...)...)
}

// golden compares got with a file, or writes it there.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what comes now, run make update-chart (-want +got):\n%s", file, diff)
	}
}

// values are the files that the chart is rendered with in goldens.
func values(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("aci-sync/testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values: %v", err)
	}
	return files
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, file := range values(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".values.yaml"), func(t *testing.T) {
			t.Parallel()
			out, err := render(t, file)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.Replace(file, ".values.", ".golden.", 1), out)
			if _, err := helm(t, "lint", "--strict", "--quiet", "--kube-version="+kubernetes, "aci-sync", "--values="+file); err != nil {
				t.Error(err)
			}
		})
	}
}

// What needs no Helm is what Helm makes of values that are to be edited.
func TestInstallYAML(t *testing.T) {
	t.Parallel()
	const file = "install.yaml"
	out, err := render(t, "aci-sync/testdata/install.values.yaml", "--include-crds")
	if err != nil {
		t.Fatal(err)
	}
	head := "# Rendered from the Helm chart by make update-chart. Edit what is marked with example.com, or use the chart.\n" +
		"# docs/install says what else there has to be: a namespace aci-sync, and in it a Secret apic with the key password.\n"
	golden(t, file, head+out)
}

func TestValuesThatAreWrong(t *testing.T) {
	t.Parallel()
	good := []string{"apic.hosts={apic.example.com}", "apic.username=aci-sync", "apic.password.secret=apic"}
	for _, tt := range []struct {
		name, set, want string
	}{
		{"no member", "apic.hosts=null", "name the members of the APIC cluster as apic.hosts"},
		{"no user", "apic.username=", "name the APIC user as apic.username"},
		{"no credentials", "apic.password.secret=", "give the Secret with the password of the APIC user as apic.password.secret"},
		{"both credentials", "apic.certificate.name=c,apic.certificate.secret=c", "are both set"},
		{"half a certificate", "apic.password.secret=,apic.certificate.name=c", "apic.certificate needs both"},
		{"two CAs", "apic.ca.secret=a,apic.ca.configMap=b", "apic.ca.configMap and apic.ca.secret are both set"},
		{"a path in a member", "apic.hosts={https://apic.example.com/api}", "/apic/hosts/0"},
		{"a value that there is not", "replica=3", "replica"},
		{"a flag that there is not", "flags.orphanlimit=3", "orphanlimit"},
		{"a flag that the chart sets", "flags.leader-elect-namespace=x", "leader-elect-namespace"},
		{"a port that is none", "probes.port=0", "/probes/port"},
		{"a monitor of nothing", "serviceMonitor.enabled=true,metrics.port=0", "serviceMonitor.enabled needs metrics.port"},
		{"an account without a name", "serviceAccount.create=false", "serviceAccount.name is needed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"template", "aci-sync", "aci-sync", "--kube-version=" + kubernetes}
			for _, set := range append(slices.Clone(good), tt.set) {
				args = append(args, "--set="+set)
			}
			out, err := helm(t, args...)
			if err == nil {
				t.Fatalf("it is rendered:\n%s", out)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("it says %v, want %q", err, tt.want)
			}
		})
	}
}

// What is rendered fits the schemas of Kubernetes and of the Prometheus operator. The lab's API server looks at it
// more closely: see test/chart.
func TestSchemas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeSchemas(t, dir)
	args := []string{"-strict", "-summary", "-schema-location=" + dir + "/{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json"}
	n := 0
	for _, file := range values(t) {
		out, err := render(t, file)
		if err != nil {
			t.Fatal(err)
		}
		n += len(objects(t, out))
		manifest := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(manifest, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, manifest)
	}
	out, err := tool(t, "kubeconform", args...)
	if err != nil || !strings.Contains(out, fmt.Sprintf("Valid: %d,", n)) {
		t.Errorf("of %d objects: %v\n%s", n, err, out)
	}
}

// moduleDir is where the files of a module are that a module below tools requires.
func moduleDir(t *testing.T, pin, module string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir = filepath.Join("../tools", pin)
	cmd.Env = append(cmd.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	var answer struct{ Dir string }
	if err := errors.Join(err, json.Unmarshal(out, &answer)); err != nil {
		t.Fatalf("where are the files of %s: %v\n%s", module, err, out)
	}
	return answer.Dir
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// writeSchemas writes a JSON schema for every kind of Kubernetes, made from its API's description, and for
// those of the Prometheus operator.
func writeSchemas(t *testing.T, dir string) {
	t.Helper()
	write := func(kind, group, version string, schema any) {
		if group == "" {
			group = version // as kubeconform calls the core
		}
		data, err := json.Marshal(schema)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, strings.ToLower(kind)+"-"+group+"-"+version+".json"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var api struct{ Definitions map[string]map[string]any }
	swagger := read(t, filepath.Join(moduleDir(t, "lab/kubernetes", "k8s.io/kubernetes"), "api/openapi-spec/swagger.json"))
	if err := json.Unmarshal([]byte(swagger), &api); err != nil {
		t.Fatal(err)
	}
	for _, definition := range api.Definitions {
		if _, listed := definition["properties"]; listed {
			definition["additionalProperties"] = false
		}
	}
	data, err := json.Marshal(map[string]any{"definitions": api.Definitions})
	if err != nil {
		t.Fatal(err)
	}
	// Either a number or a word, of which the description knows the word alone.
	text := strings.ReplaceAll(string(data), `"format":"int-or-string","type":"string"`, `"type":["string","integer"]`)
	if err := os.WriteFile(filepath.Join(dir, "all.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, definition := range api.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			k := k.(map[string]any)
			write(k["kind"].(string), k["group"].(string), k["version"].(string), map[string]any{"$ref": "all.json#/definitions/" + name})
		}
	}
	crds := filepath.Join(moduleDir(t, "lab/prometheus-operator", "github.com/prometheus-operator/prometheus-operator"), "example/prometheus-operator-crd")
	for _, name := range []string{"servicemonitors", "prometheusrules"} {
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		if err := yaml.Unmarshal([]byte(read(t, filepath.Join(crds, "monitoring.coreos.com_"+name+".yaml"))), &crd); err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			write(crd.Spec.Names.Kind, crd.Spec.Group, v.Name, v.Schema.OpenAPIV3Schema)
		}
	}
}

// object is as much of a manifest as the tests look at.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []struct{ APIGroups, Resources, ResourceNames, Verbs []string }
}

// objects are those that a rendered text holds.
func objects(t *testing.T, text string) []object {
	t.Helper()
	var all []object
	for _, doc := range regexp.MustCompile(`(?m)^---$`).Split(text, -1) {
		var o object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != "" {
			all = append(all, o)
		}
	}
	return all
}

// The roles grant what the program asks for at its start, and nothing else.
func TestRolesAreTheRights(t *testing.T) {
	t.Parallel()
	out, err := render(t, "aci-sync/testdata/install.values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, o := range objects(t, out) {
		if o.Kind != "ClusterRole" && o.Kind != "Role" || strings.HasSuffix(o.Metadata.Name, "-view") {
			continue
		}
		for _, rule := range o.Rules {
			names := rule.ResourceNames
			if names == nil {
				names = []string{""}
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, name := range names {
						for _, verb := range rule.Verbs {
							got = append(got, kube.Right{Verb: verb, Group: group, Resource: resource, Name: name, Namespace: o.Metadata.Namespace}.String())
						}
					}
				}
			}
		}
	}
	for _, r := range kube.Rights(kube.Needs{ClusterID: true, Records: true, LeaseNamespace: "kube-system"}) {
		want = append(want, r.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the roles differ from the rights (-rights +roles):\n%s", diff)
	}
}

// The schema knows the flags of aci-sync run, but for those that the chart sets.
func TestSchemaKnowsFlags(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	if code := cli.Main(t.Context(), []string{"run", "--help"}, &help, &help); code != 0 {
		t.Fatal(help.String())
	}
	not := []string{"context", "health-probe-bind-address", "help", "kubeconfig", "leader-elect", "leader-elect-namespace", "metrics-bind-address"}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([-a-z]+)`).FindAllStringSubmatch(help.String(), -1) {
		if !slices.Contains(not, m[1]) {
			want = append(want, m[1])
		}
	}
	slices.Sort(want)
	data, err := os.ReadFile("aci-sync/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Flags struct {
				PropertyNames struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, schema.Properties.Flags.PropertyNames.Enum); diff != "" {
		t.Errorf("the schema's flags differ from the program's (-program +schema):\n%s", diff)
	}
}

func TestREADME(t *testing.T) {
	t.Parallel()
	out, err := tool(t, "helm-docs", "--chart-search-root=.", "--dry-run", "--sort-values-order=file", "--log-level=error")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\| (\S+) \|.*\| +\|$`).FindAllStringSubmatch(out, -1) {
		t.Errorf("values.yaml does not say what %s is", m[1])
	}
	golden(t, "aci-sync/README.md", out)
}

// version is Chart.yaml's, where it stands for all of aci-sync.
func TestVersionOfChartIsThatOfTheProgram(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("aci-sync/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal(data, &chart); err != nil {
		t.Fatal(err)
	}
	if chart.Version == "" || chart.Version != chart.AppVersion {
		t.Errorf("version is %q and appVersion %q, want the same", chart.Version, chart.AppVersion)
	}
}
