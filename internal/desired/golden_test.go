package desired_test

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

var update = flag.Bool("update", false, "write the goldens anew")

// TestState_goldens runs the files of testdata. In each, every *.yaml is a step whose documents
// are folded in order, and the file behind it is the state that follows. A document that says
// "gone: Kind namespace/name" is a deletion. A file options chooses what NewState gets. Where
// the comment says "in any order", the documents of each step are folded in every order, and
// must come to the same. Where it says "the same after a restart", a State that is told only of what is
// there must answer the same after every step.
func TestState_goldens(t *testing.T) {
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
			opts := options(t, "")
			orders := 1
			if strings.Contains(comment, "in any order") {
				orders = 24
			}
			restarts := strings.Contains(comment, "the same after a restart")
			for order := range orders {
				world := newWorld(opts)
				for i, sec := range sections {
					switch {
					case sec.name == "options":
						text, withdrawn := strings.CutSuffix(sec.text, "withdrawn\n")
						opts = options(t, text)
						world = newWorld(opts)
						world.withdrawn = withdrawn
					case strings.HasSuffix(sec.name, ".yaml"):
						docs := strings.Split(sec.text, "---\n")
						for _, k := range permutation(len(docs), order) {
							world.fold(t, docs[k])
						}
						world.state.Begin()
					default:
						got := world.dump()
						if *update {
							sections[i].text = got
						} else if diff := cmp.Diff(sec.text, got); diff != "" {
							t.Errorf("order %d, %s (-want +got)\n%s", order, sec.name, diff)
						}
						if restarts {
							if diff := cmp.Diff(got, world.restarted(t, opts).dump()); diff != "" {
								t.Errorf("order %d, %s: a restart differs (-before +after)\n%s", order, sec.name, diff)
							}
						}
					}
				}
				if *update {
					if err := os.WriteFile(file, []byte(pack(comment, sections)), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// permutation is the k-th order of n things; k counts all orders of the last of them first.
func permutation(n, k int) []int {
	left := make([]int, n)
	for i := range left {
		left[i] = i
	}
	var out []int
	for len(left) > 0 {
		f := 1
		for i := 2; i < len(left); i++ {
			f *= i
		}
		i := k / f % len(left)
		out = append(out, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return out
}

func options(t *testing.T, text string) desired.Options {
	t.Helper()
	o := desired.Options{Expose: desired.Expose{Pods: true, Services: true}}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch key {
		case "expose":
			o.Expose, err = desired.ParseExpose(strings.Split(value, ","))
		case "namespaces":
			o.Namespaces, err = labels.Parse(value)
		default:
			t.Fatalf("option %q", key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// world is a State with what it was told, so that it can be asked about it.
type world struct {
	state    *desired.State
	prefixes map[netip.Prefix]bool
	epgs     map[aci.ExtEPG]bool
	now      map[desired.Ref]string // the documents of what is there

	withdrawn bool // show it
}

func newWorld(o desired.Options) *world {
	return &world{state: desired.NewState(o), prefixes: map[netip.Prefix]bool{}, epgs: map[aci.ExtEPG]bool{}, now: map[desired.Ref]string{}}
}

// restarted is a world that was told of nothing but what is there.
func (w *world) restarted(t *testing.T, o desired.Options) *world {
	t.Helper()
	anew := newWorld(o)
	for _, r := range slices.SortedFunc(maps.Keys(w.now), desired.Ref.Compare) {
		anew.fold(t, w.now[r])
	}
	maps.Copy(anew.prefixes, w.prefixes)
	maps.Copy(anew.epgs, w.epgs)
	return anew
}

func (w *world) fold(t *testing.T, doc string) desired.Touched {
	t.Helper()
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Gone              string `json:"gone"`
		Left              string `json:"left"`
	}
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		t.Fatal(err, doc)
	}
	if head.Gone != "" {
		kind, name, _ := strings.Cut(head.Gone, " ")
		namespace, name, _ := strings.Cut(name, "/")
		r := desired.Ref{Kind: kind, Namespace: namespace, Name: name}
		delete(w.now, r)
		return w.state.Fold(r, nil)
	}
	if head.Left != "" {
		epg, prefix, _ := strings.Cut(head.Left, " ")
		names := strings.Split(epg, "/")
		return desired.Touched{Places: w.state.Left(aci.Place{
			ExtEPG: aci.ExtEPG{L3Out: aci.L3Out{Tenant: names[0], Name: names[1]}, Name: names[2]}, Prefix: netip.MustParsePrefix(prefix),
		})}
	}
	var obj metav1.Object
	switch head.Kind {
	case desired.KindDeployment:
		obj = &appsv1.Deployment{}
	case desired.KindStatefulSet:
		obj = &appsv1.StatefulSet{}
	case desired.KindDaemonSet:
		obj = &appsv1.DaemonSet{}
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
	w.remember(obj)
	r := desired.Ref{Kind: head.Kind, Namespace: head.Namespace, Name: head.Name}
	w.now[r] = doc
	return w.state.Fold(r, obj)
}

func (w *world) remember(obj metav1.Object) {
	var ips []string
	switch o := obj.(type) {
	case *corev1.Pod:
		ips = append(ips, o.Status.PodIP)
		for _, ip := range o.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
	case *corev1.Service:
		for _, in := range o.Status.LoadBalancer.Ingress {
			ips = append(ips, in.IP)
		}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil {
			a = a.Unmap()
			w.prefixes[netip.PrefixFrom(a, a.BitLen())] = true
		}
	}
}

// dump is all that a State answers, for people.
func (w *world) dump() string {
	var b strings.Builder
	s := w.state
	prefixes := slices.SortedFunc(maps.Keys(w.prefixes), netip.Prefix.Compare)
	for _, e := range s.EPGs() {
		w.epgs[e] = true
		fmt.Fprintf(&b, "%s for %s\n", e, list(s.Workloads(e)))
		if _, all := s.PausedIn(e); all {
			b.WriteString("  paused\n")
		}
		if !s.Named(e) {
			b.WriteString("  not named\n")
		}
		var places []aci.Place
		for p := range s.Places(e) {
			places = append(places, p)
		}
		slices.SortFunc(places, aci.Place.Compare)
		for _, p := range places[1:] {
			c, _ := s.Claim(p)
			fmt.Fprintf(&b, "  %s by %s for %s\n", p.Prefix, list(c.By), list(c.Workloads))
			if !slices.Contains(s.Claimants(p.Prefix), e) {
				b.WriteString("  not among the claimants\n")
			}
		}
	}
	for _, p := range prefixes {
		if s.Held(p) {
			fmt.Fprintf(&b, "held %s\n", p)
		}
		if by := s.PausedBy(p); len(by) > 0 {
			fmt.Fprintf(&b, "paused %s by %s\n", p, list(by))
		}
	}
	for _, e := range slices.SortedFunc(maps.Keys(w.epgs), aci.ExtEPG.Compare) {
		for _, p := range prefixes {
			if place := (aci.Place{ExtEPG: e, Prefix: p}); w.withdrawn && s.Withdrawn(place) {
				fmt.Fprintf(&b, "withdrawn %s\n", place)
			}
		}
	}
	if s.Unknown() {
		b.WriteString("unknown\n")
	}
	for _, r := range s.AllWorkloads() {
		for _, p := range s.Problems(r) {
			fmt.Fprintf(&b, "%s %s: %s\n", p.Reason, p.Ref, p.Message)
		}
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func list(refs []desired.Ref) string {
	var s []string
	for _, r := range refs {
		s = append(s, r.String())
	}
	return strings.Join(s, ", ")
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
