package plan_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

var update = flag.Bool("update", false, "write the goldens anew")

const us = aci.Owner("c1")

// TestDiff_goldens runs the files of testdata, one for each row of the tables above Diff and
// of what they promise. The sections of a file are taken in order:
//
//	policy         upsert-only, delete-used, allow TENANT/L3OUT, scope FLAGS, apic VERSION
//	*cluster.yaml  Kubernetes objects, folded; the first are what there is at the beginning
//	*fabric.json   all that the APIC holds now, flat; read
//	*events.json   what the APIC announces, folded; with "expect STATUS DN" lines before it
//	truth.json     all that the APIC holds now, not read before the plan asks for it
//	*plan.txt      what Diff finds, domain by domain; reads that it asks for are made
//	post.json      the requests that follow
func TestDiff_goldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			comment, sections := unpack(string(data))
			c := newCase()
			var text, posts string
			for i := range sections {
				sec := &sections[i]
				switch {
				case sec.name == "policy":
					c.setPolicy(t, sec.text)
				case strings.HasSuffix(sec.name, "cluster.yaml"):
					for doc := range strings.SplitSeq(sec.text, "---\n") {
						foldYAML(t, c.want, doc)
					}
					c.want.Begin()
				case strings.HasSuffix(sec.name, "fabric.json"):
					c.truth = objects(t, sec.text)
					c.readAll()
				case strings.HasSuffix(sec.name, "events.json"):
					c.events(t, sec.text)
				case sec.name == "truth.json":
					c.truth = objects(t, sec.text)
				case strings.HasSuffix(sec.name, "plan.txt"):
					text, posts = c.decide(t)
					check(t, sec, text)
				case sec.name == "post.json":
					check(t, sec, posts)
				default:
					t.Fatalf("section %q", sec.name)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(pack(comment, sections)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func check(t *testing.T, sec *section, got string) {
	t.Helper()
	if *update {
		sec.text = got
	} else if diff := cmp.Diff(sec.text, got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", sec.name, diff)
	}
}

// golden is one comparison in the making.
type golden struct {
	want   *desired.State
	have   *observed.State
	policy plan.Policy
	truth  []aci.MO
}

func newCase() *golden {
	return &golden{
		want:   desired.NewState(desired.Options{Expose: desired.Expose{Pods: true, Services: true}}),
		have:   observed.NewState(us),
		policy: plan.Policy{Owner: us, Scope: aci.Scope{"import-security"}},
	}
}

func (c *golden) setPolicy(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch key {
		case "upsert-only":
			c.policy.UpsertOnly = true
		case "delete-used":
			c.policy.DeleteUsed = true
		case "allow":
			c.policy.Allow, err = plan.ParseAllow(strings.Split(value, ","))
		case "apic":
			c.policy.APIC = value
		case "scope":
			c.policy.Scope = aci.ParseScope(value)
		default:
			t.Fatalf("policy %q", key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads every L3Out that is named, or was before, or that is there.
func (c *golden) readAll() {
	all := map[aci.L3Out]bool{}
	for _, e := range c.want.EPGs() {
		all[e.L3Out] = true
	}
	for _, l := range c.have.L3Outs() {
		all[l] = true
	}
	for _, m := range c.truth {
		if l, ok := aci.L3OutOf(m.DN); ok {
			all[l] = true
		}
	}
	for l := range all {
		c.have.Fold(read(c.truth, l.DN()))
	}
}

func (c *golden) events(t *testing.T, text string) {
	t.Helper()
	for {
		line, rest, _ := strings.Cut(text, "\n")
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "expect" {
			break
		}
		c.have.Expect(aci.DN(words[2]), words[1], nil)
		text = rest
	}
	c.have.Fold(aci.Update{Kind: aci.Event, Objects: objects(t, text)})
}

func read(truth []aci.MO, root aci.DN) aci.Update {
	u := aci.Update{Kind: aci.FullRead, Root: root}
	for _, m := range truth {
		if m.DN.Within(root) {
			u.Objects = append(u.Objects, m)
		}
	}
	return u
}

// everywhere is every place that is wanted or there.
func everywhere(want *desired.State, have *observed.State) []aci.Place {
	all := map[aci.Place]bool{}
	for _, e := range want.EPGs() {
		for p := range want.Places(e) {
			all[p] = true
		}
	}
	for _, l := range have.L3Outs() {
		for _, e := range have.ExtEPGs(l) {
			all[aci.Place{ExtEPG: e}] = true
			for n := range have.Subnets(e) {
				all[aci.Place{ExtEPG: e, Prefix: n.Prefix}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), aci.Place.Compare)
}

func domains(want *desired.State, have *observed.State) []aci.DN {
	all := map[aci.DN]bool{}
	for _, e := range want.EPGs() {
		all[have.Domain(e.L3Out)] = true
	}
	for _, l := range have.L3Outs() {
		all[have.Domain(l)] = true
	}
	return slices.Sorted(maps.Keys(all))
}

func (c *golden) decide(t *testing.T) (text, posts string) {
	t.Helper()
	var b strings.Builder
	all := []map[string]any{}
	for _, domain := range domains(c.want, c.have) {
		fmt.Fprintf(&b, "%s\n", domain)
		var p plan.Plan
		for range 5 {
			p = plan.Diff(c.want, c.have, c.policy, domain, everywhere(c.want, c.have))
			for _, d := range p.Reads {
				fmt.Fprintf(&b, "  read %s\n", d)
				c.have.Fold(read(c.truth, d))
			}
			if len(p.Reads) == 0 {
				break
			}
		}
		if len(p.Reads) > 0 {
			t.Error("asks for the same reads again and again")
		}
		for _, ch := range p.Changes {
			fmt.Fprintf(&b, "  %s\n", ch)
			if len(ch.Lost) > 0 {
				fmt.Fprintf(&b, "    lost %s\n", strings.Join(ch.Lost, ", "))
			}
		}
		for _, at := range slices.SortedFunc(maps.Keys(p.Problems), aci.Place.Compare) {
			for _, q := range p.Problems[at] {
				fmt.Fprintf(&b, "  %s %s: %s\n", q.Reason, q.Ref, q.Message)
			}
		}
		for _, e := range slices.SortedFunc(maps.Keys(p.Kept), aci.ExtEPG.Compare) {
			fmt.Fprintf(&b, "  kept %s: %s\n", e, strings.Join(p.Kept[e], ", "))
		}
		for _, post := range p.Posts(us) {
			all = append(all, map[string]any{"post": post.EPG.L3Out.DN(), "body": post.Body})
		}
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), string(data) + "\n"
}

func objects(t *testing.T, text string) []aci.MO {
	t.Helper()
	var out []aci.MO
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err, text)
	}
	return out
}

func service(ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "new"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "web"}},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
			Ingress: []corev1.LoadBalancerIngress{{IP: ip}},
		}},
	}
}

// foldYAML folds one object, and returns what that touched.
func foldYAML(t testing.TB, s *desired.State, doc string) []aci.Place {
	t.Helper()
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		t.Fatal(err, doc)
	}
	var obj metav1.Object
	switch head.Kind {
	case desired.KindDeployment:
		obj = &appsv1.Deployment{}
	case desired.KindPod:
		obj = &corev1.Pod{}
	case desired.KindService:
		obj = &corev1.Service{}
	default:
		obj = &metav1.PartialObjectMetadata{}
	}
	if err := yaml.UnmarshalStrict([]byte(doc), obj); err != nil {
		t.Fatal(err, doc)
	}
	return s.Fold(desired.Ref{Kind: head.Kind, Namespace: head.Namespace, Name: head.Name}, obj).Places
}

// section is one file of a txtar archive.
type section struct{ name, text string }

func unpack(s string) (comment string, sections []section) {
	for line := range strings.Lines(s) {
		name, begins := strings.CutPrefix(line, "-- ")
		name, ends := strings.CutSuffix(name, " --\n")
		switch {
		case begins && ends:
			sections = append(sections, section{name: name})
		case len(sections) == 0:
			comment += line
		default:
			sections[len(sections)-1].text += line
		}
	}
	return comment, sections
}

func pack(comment string, sections []section) string {
	for _, s := range sections {
		comment += "-- " + s.name + " --\n" + s.text
	}
	return comment
}
