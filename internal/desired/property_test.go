package desired_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

var histories = flag.Int("histories", 80, "how many random histories to fold")

// TestState_follows_its_definition folds random histories of a small cluster. The news of one
// object come in order, those of several in any. After each, the State answers what the
// definition says of the objects as they were last heard of, and whatever it answers otherwise
// than before is among what Fold said it touched.
func TestState_follows_its_definition(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*histories) {
		h := newHistory(seed)
		for step := range 120 {
			before := h.answers()
			what, touched := h.step()
			after := h.answers()
			if diff := gocmp.Diff(h.definition(), after); diff != "" {
				t.Fatalf("seed %d, step %d, after %s (-definition +state)\n%s", seed, step, what, diff)
			}
			if missing := h.untold(before, after, touched); missing != nil {
				t.Fatalf("seed %d, step %d: %s changed and did not touch\n%s", seed, step, what, strings.Join(missing, "\n"))
			}
		}
		if diff := gocmp.Diff(h.rebuilt(), h.rebuilt()); diff != "" {
			t.Fatalf("seed %d: the order of what is there now matters\n%s", seed, diff)
		}
		h.unpause()
		if diff := gocmp.Diff(answersOf(h.state), h.rebuilt()); diff != "" {
			t.Fatalf("seed %d: a state made anew from what is there now differs (-folded +anew)\n%s", seed, diff)
		}
	}
}

// history is a cluster as it is, the news of it that are still to come, and what was heard.
type history struct {
	rng    *rand.Rand
	opts   desired.Options
	state  *desired.State
	uids   int
	now    map[desired.Ref]metav1.Object   // the cluster
	queues map[desired.Ref][]metav1.Object // news, nil for gone
	heard  map[desired.Ref]metav1.Object   // as last told

	// What a State remembers that the objects of now do not tell.
	target   map[types.UID]string    // workload -> the last valid annotation while it has one
	deflt    map[types.UID]string    // namespace -> the last valid default while it has one
	ignored  map[types.UID]string    // workload -> "true", "false", or "" when it cannot be told
	paused   map[types.UID]string    // the same
	asked    map[types.UID]string    // workload -> what asks said of it, while it is paused what it said before
	workload map[types.UID]types.UID // Pod -> workload at the end of its chain
	seen     map[[2]types.UID]bool   // Pod and ReplicaSet that were there together
	begun    bool                    // State.Begin was called
	claims   map[aci.Place][]reason  // after the step before
	kept     map[aci.Place][]reason  // those of them that only a pause keeps
	ended    map[aci.Place]bool      // claimed before, not now, and not told gone from the fabric since
}

// reason is why an address is claimed for an EPG.
type reason struct {
	bearer desired.Ref
	owner  types.UID // a workload
}

var (
	someNamespaces = []string{"a", "b"}
	someNames      = []string{"web", "api"}
	someAddrs      = []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "::ffff:10.0.0.1", "127.0.0.1", ""}
	somePrefixes   = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("10.0.0.3/32"),
		netip.MustParsePrefix("2001:db8::1/128"), netip.MustParsePrefix("127.0.0.1/32"),
	}
	someEPGs = []aci.ExtEPG{
		{L3Out: aci.L3Out{Tenant: "T", Name: "O"}, Name: "E1"},
		{L3Out: aci.L3Out{Tenant: "T", Name: "O"}, Name: "E2"},
		{L3Out: aci.L3Out{Tenant: "T", Name: "P"}, Name: "E1"},
	}
	someAnnotations = []string{
		`{"tenant":"T","l3out":"O","epg":"E1"}`, `{"tenant":"T","l3out":"O","epg":"E2"}`,
		`{"tenant":"T","l3out":"P","epg":"E1","expose":["pods"]}`, `{"tenant":"T","l3out":"O","epg":"E1","expose":["services"]}`,
		`{"tenant":"T","l3out":"O"}`, `nonsense`,
	}
	someToggles = []string{"true", "true", "false", "yes", ""}
	someLabels  = []map[string]string{{"app": "web"}, {"app": "web"}, {"app": "api"}, {"app": "web", "tier": "x"}, nil}
)

func newHistory(seed uint64) *history {
	h := &history{
		rng:  rand.New(rand.NewPCG(seed, 1)),
		opts: desired.Options{Expose: desired.Expose{Pods: true, Services: seed%3 != 0}},
		now:  map[desired.Ref]metav1.Object{}, queues: map[desired.Ref][]metav1.Object{}, heard: map[desired.Ref]metav1.Object{},
		target: map[types.UID]string{}, deflt: map[types.UID]string{}, ignored: map[types.UID]string{}, workload: map[types.UID]types.UID{}, seen: map[[2]types.UID]bool{},
		paused: map[types.UID]string{}, asked: map[types.UID]string{},
		claims: map[aci.Place][]reason{}, kept: map[aci.Place][]reason{}, ended: map[aci.Place]bool{},
	}
	if seed%2 == 0 {
		h.opts.Namespaces = labels.SelectorFromSet(labels.Set{"team": "x"})
	}
	h.state = desired.NewState(h.opts)
	return h
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// step changes the cluster or tells the State of a change.
func (h *history) step() (string, desired.Touched) {
	switch h.rng.IntN(20) {
	case 0:
		h.begun = true
		h.state.Begin()
		return "the beginning", desired.Touched{}
	case 1:
		p := aci.Place{ExtEPG: pick(h.rng, someEPGs), Prefix: pick(h.rng, somePrefixes)}
		if len(h.kept) > 0 && h.rng.IntN(2) == 0 {
			p = pick(h.rng, slices.SortedFunc(maps.Keys(h.kept), aci.Place.Compare))
		}
		h.claims[p] = slices.DeleteFunc(h.claims[p], func(r reason) bool { return slices.Contains(h.kept[p], r) })
		if len(h.claims[p]) == 0 {
			delete(h.claims, p)
		}
		delete(h.ended, p)
		touched := h.state.Left(p)
		return p.String() + " has left", desired.Touched{Places: append(touched, p)}
	}
	for range 1 + h.rng.IntN(3) {
		h.change()
	}
	refs := slices.SortedFunc(maps.Keys(h.queues), desired.Ref.Compare)
	if len(refs) == 0 {
		return "nothing", desired.Touched{}
	}
	r := pick(h.rng, refs)
	queue := h.queues[r]
	n := 1 + h.rng.IntN(len(queue)) // a watch may skip what was between
	obj := queue[n-1]
	if h.queues[r] = queue[n:]; len(queue) == n {
		delete(h.queues, r)
	}
	h.hear(r, obj)
	what := r.String() + " gone"
	if obj != nil {
		text, _ := yaml.Marshal(obj)
		what = fmt.Sprintf("%s\n%s", r, text)
	}
	return what, h.state.Fold(r, obj)
}

// hear notes what was told, and what a State remembers of it.
func (h *history) hear(r desired.Ref, obj metav1.Object) {
	old := h.heard[r]
	if old != nil && (obj == nil || old.GetUID() != obj.GetUID()) {
		old = nil // replaced
	}
	switch {
	case obj == nil:
	case r.Kind == desired.KindNamespace:
		remember(h.deflt, obj, desired.DefaultAnnotation, "")
	case isWorkload(r.Kind):
		fallback := ""
		if old != nil && !annotated(old, desired.Annotation) {
			fallback = h.asks(old)
		}
		remember(h.target, obj, desired.Annotation, fallback)
		for key, said := range map[string]map[types.UID]string{desired.IgnoreAnnotation: h.ignored, desired.PausedAnnotation: h.paused} {
			switch v, there := obj.GetAnnotations()[key]; {
			case !there:
				said[obj.GetUID()] = "false"
			case v == "true" || v == "false":
				said[obj.GetUID()] = v
			}
		}
	}
	if obj == nil {
		delete(h.heard, r)
	} else {
		h.heard[r] = obj
	}
	asked := h.asked
	h.asked = map[types.UID]string{}
	for _, w := range h.workloads() {
		switch was := asked[w.GetUID()]; {
		case h.isPaused(w.GetUID()) && was != "":
			h.asked[w.GetUID()] = was
		case h.selected(w.GetNamespace()):
			h.asked[w.GetUID()] = h.asks(w)
		}
	}
	for _, p := range all[*corev1.Pod](h) {
		c := metav1.GetControllerOf(p)
		if c != nil && (c.Kind == desired.KindStatefulSet || c.Kind == desired.KindDaemonSet) {
			h.workload[p.UID] = c.UID
		}
		if c == nil || c.Kind != desired.KindReplicaSet {
			continue
		}
		for _, rs := range all[*metav1.PartialObjectMetadata](h) {
			if rs.UID != c.UID {
				continue
			}
			h.seen[[2]types.UID{p.UID, c.UID}] = true
			if d := metav1.GetControllerOf(rs); d != nil && d.Kind == desired.KindDeployment {
				h.workload[p.UID] = d.UID
			}
		}
	}
}

// isPaused reports whether a workload is paused; in doubt it is.
func (h *history) isPaused(w types.UID) bool { return h.paused[w] != "false" }

// remember keeps the last valid value of an annotation while there is one; fallback when it
// begins with an invalid one.
func remember(last map[types.UID]string, obj metav1.Object, key, fallback string) {
	v, there := obj.GetAnnotations()[key]
	_, err := desired.ParseTarget(v)
	switch {
	case !there:
		delete(last, obj.GetUID())
	case err == nil:
		last[obj.GetUID()] = v
	case last[obj.GetUID()] == "" && fallback != "":
		last[obj.GetUID()] = fallback
	}
}

func isWorkload(kind string) bool {
	return slices.Contains([]string{
		desired.KindDeployment, desired.KindStatefulSet, desired.KindDaemonSet, desired.KindService,
	}, kind)
}

func annotated(obj metav1.Object, key string) bool {
	if obj == nil {
		return false
	}
	_, there := obj.GetAnnotations()[key]
	return there
}

// unknownTarget is what asks says of a workload whose target cannot be told.
const unknownTarget = "unknown"

// asks is the annotation that holds for a workload, but for a pause: its own or its namespace's, as
// it was when it last was valid; "" for none.
func (h *history) asks(w metav1.Object) string {
	from, last, at := w, h.target, desired.Annotation
	if !annotated(w, at) {
		ns := h.heard[desired.Ref{Kind: desired.KindNamespace, Name: w.GetNamespace()}]
		if _, isService := w.(*corev1.Service); isService || !annotated(ns, desired.DefaultAnnotation) {
			return ""
		}
		from, last = ns, h.deflt
	}
	switch h.ignored[w.GetUID()] {
	case "true":
		return ""
	case "":
		return unknownTarget
	}
	return cmp.Or(last[from.GetUID()], unknownTarget)
}

// invalid reports how many of the annotations that hold for a workload are invalid.
func (h *history) invalid(w metav1.Object) int {
	n := 0
	for _, key := range []string{desired.IgnoreAnnotation, desired.PausedAnnotation} {
		if v, there := w.GetAnnotations()[key]; there && v != "true" && v != "false" {
			n++
		}
	}
	if s, ok := w.(*corev1.Service); ok && s.Spec.Type == corev1.ServiceTypeLoadBalancer && h.isPaused(s.UID) &&
		!annotated(s, desired.Annotation) && h.asked[s.UID] == "" {
		n++ // it pauses nothing
	}
	v, there := w.GetAnnotations()[desired.Annotation]
	if ns := h.heard[desired.Ref{Kind: desired.KindNamespace, Name: w.GetNamespace()}]; !there && ns != nil {
		if _, isService := w.(*corev1.Service); !isService {
			v, there = ns.GetAnnotations()[desired.DefaultAnnotation]
		}
	}
	if _, err := desired.ParseTarget(v); there && err != nil && h.ignored[w.GetUID()] != "true" {
		n++
	}
	return n
}

// workloads are those that were heard of and count, but for their namespace.
func (h *history) workloads() []metav1.Object {
	var out []metav1.Object
	for _, r := range slices.SortedFunc(maps.Keys(h.heard), desired.Ref.Compare) {
		o := h.heard[r]
		if isWorkload(r.Kind) && (r.Kind == desired.KindService || o.GetDeletionTimestamp() == nil) {
			out = append(out, o)
		}
	}
	return out
}

// refOf names a workload.
func refOf(w metav1.Object) desired.Ref {
	r := desired.Ref{Namespace: w.GetNamespace(), Name: w.GetName()}
	switch w.(type) {
	case *appsv1.Deployment:
		r.Kind = desired.KindDeployment
	case *appsv1.StatefulSet:
		r.Kind = desired.KindStatefulSet
	case *appsv1.DaemonSet:
		r.Kind = desired.KindDaemonSet
	case *corev1.Service:
		r.Kind = desired.KindService
	}
	return r
}

// template is the labels of a workload's Pods.
func template(w metav1.Object) (labels.Set, bool) {
	switch o := w.(type) {
	case *appsv1.Deployment:
		return o.Spec.Template.Labels, true
	case *appsv1.StatefulSet:
		return o.Spec.Template.Labels, true
	case *appsv1.DaemonSet:
		return o.Spec.Template.Labels, true
	}
	return nil, false
}

// all is what was heard of one type, in order.
func all[T metav1.Object](h *history) []T {
	var out []T
	for _, r := range slices.SortedFunc(maps.Keys(h.heard), desired.Ref.Compare) {
		if o, ok := h.heard[r].(T); ok && r.Kind != desired.KindNamespace {
			out = append(out, o)
		}
	}
	return out
}

// change makes, changes or deletes one object of the cluster.
func (h *history) change() {
	rng := h.rng
	ns := pick(rng, someNamespaces)
	meta := metav1.ObjectMeta{Namespace: ns}
	var r desired.Ref
	var obj metav1.Object
	switch k := rng.IntN(20); {
	case k == 0:
		r = desired.Ref{Kind: desired.KindNamespace, Name: ns}
		n := &metav1.PartialObjectMetadata{}
		h.identify(r, &n.ObjectMeta)
		n.Labels = pick(rng, []map[string]string{{"team": "x"}, {"team": "x"}, {"team": "x"}, {"team": "y"}})
		if rng.IntN(2) == 0 {
			n.Annotations = map[string]string{desired.DefaultAnnotation: pick(rng, someAnnotations)}
		}
		obj = n
	case k < 6:
		kind := pick(rng, []string{desired.KindDeployment, desired.KindDeployment, desired.KindStatefulSet, desired.KindDaemonSet})
		r = desired.Ref{Kind: kind, Namespace: ns, Name: pick(rng, someNames)}
		h.identify(r, &meta)
		h.annotate(r, &meta, 4)
		if old, ok := h.now[r]; rng.IntN(12) == 0 || ok && old.GetUID() == meta.UID && old.GetDeletionTimestamp() != nil {
			meta.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		}
		pods := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pick(rng, someLabels)}}
		switch kind {
		case desired.KindDeployment:
			obj = &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: pods}}
		case desired.KindStatefulSet:
			obj = &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: pods}}
		case desired.KindDaemonSet:
			obj = &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: pods}}
		}
	case k < 9:
		r = desired.Ref{Kind: desired.KindReplicaSet, Namespace: ns, Name: pick(rng, someNames) + "-1"}
		rs := &metav1.PartialObjectMetadata{ObjectMeta: meta}
		h.identify(r, &rs.ObjectMeta)
		if rng.IntN(4) > 0 {
			rs.OwnerReferences = h.owner(desired.KindDeployment, ns)
		}
		obj = rs
	case k < 16:
		r = desired.Ref{Kind: desired.KindPod, Namespace: ns, Name: pick(rng, someNames) + pick(rng, []string{"-1-a", "-1-b"})}
		p := &corev1.Pod{ObjectMeta: meta}
		h.identify(r, &p.ObjectMeta)
		if old, ok := h.now[r].(*corev1.Pod); ok && old.UID == p.UID {
			p.OwnerReferences, p.Spec, p.DeletionTimestamp = old.OwnerReferences, old.Spec, old.DeletionTimestamp
			if rng.IntN(20) == 0 {
				p.OwnerReferences = h.podOwner(ns) // let go of, or adopted
			}
		} else {
			p.OwnerReferences = h.podOwner(ns)
			p.Spec.HostNetwork = rng.IntN(6) == 0
		}
		if rng.IntN(4) == 0 {
			p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		}
		p.Status.Phase = pick(rng, []corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodFailed, corev1.PodSucceeded})
		for range rng.IntN(4) {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: pick(rng, someAddrs)})
		}
		obj = p
	default:
		r = desired.Ref{Kind: desired.KindService, Namespace: ns, Name: pick(rng, someNames)}
		s := &corev1.Service{ObjectMeta: meta}
		h.identify(r, &s.ObjectMeta)
		h.annotate(r, &s.ObjectMeta, 2)
		s.Spec.Type = pick(rng, []corev1.ServiceType{corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP})
		s.Spec.Selector = pick(rng, someLabels)
		for range rng.IntN(4) {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: pick(rng, someAddrs)})
		}
		obj = s
	}
	if _, there := h.now[r]; there && rng.IntN(7) == 0 {
		delete(h.now, r)
		h.queues[r] = append(h.queues[r], nil)
		return
	}
	h.now[r] = obj
	h.queues[r] = append(h.queues[r], obj)
}

// annotate gives m annotations: a target but for one in n, and sometimes one to ignore it. Often
// they stay.
func (h *history) annotate(r desired.Ref, m *metav1.ObjectMeta, n int) {
	if old, ok := h.now[r]; ok && h.rng.IntN(3) == 0 {
		m.Annotations = old.GetAnnotations()
		return
	}
	m.Annotations = map[string]string{}
	if h.rng.IntN(n) > 0 {
		m.Annotations[desired.Annotation] = pick(h.rng, someAnnotations)
	}
	if h.rng.IntN(5) == 0 {
		m.Annotations[desired.IgnoreAnnotation] = pick(h.rng, someToggles)
	}
	// A pause lasts, so that much happens meanwhile.
	old, there := h.now[r]
	if there = there && h.rng.IntN(5) > 0; there && annotated(old, desired.PausedAnnotation) {
		m.Annotations[desired.PausedAnnotation] = old.GetAnnotations()[desired.PausedAnnotation]
	} else if !there && h.rng.IntN(3) == 0 {
		m.Annotations[desired.PausedAnnotation] = pick(h.rng, someToggles)
	}
}

// podOwner is the controller of a Pod.
func (h *history) podOwner(ns string) []metav1.OwnerReference {
	return h.owner(pick(h.rng, []string{
		desired.KindReplicaSet, desired.KindReplicaSet, desired.KindReplicaSet, desired.KindStatefulSet, desired.KindDaemonSet,
	}), ns)
}

// identify names m: an object that is there mostly keeps its UID.
func (h *history) identify(r desired.Ref, m *metav1.ObjectMeta) {
	m.Name = r.Name
	if old, ok := h.now[r]; ok && h.rng.IntN(8) > 0 {
		m.UID, m.CreationTimestamp = old.GetUID(), old.GetCreationTimestamp()
		return
	}
	h.uids++
	m.UID = types.UID(fmt.Sprintf("u%d", h.uids))
	m.CreationTimestamp = metav1.Unix(int64(h.rng.IntN(3)), 0)
}

// owner is a controller of the kind, mostly one that is there.
func (h *history) owner(kind, ns string) []metav1.OwnerReference {
	var of []desired.Ref
	for r := range h.now {
		if r.Kind == kind && r.Namespace == ns {
			of = append(of, r)
		}
	}
	if len(of) == 0 || h.rng.IntN(8) == 0 {
		return pick(h.rng, [][]metav1.OwnerReference{nil, {{Kind: "Job", UID: "j", Controller: new(true)}}})
	}
	slices.SortFunc(of, desired.Ref.Compare)
	o := h.now[pick(h.rng, of)]
	return []metav1.OwnerReference{{Kind: kind, Name: o.GetName(), UID: o.GetUID(), Controller: new(true)}}
}

// answers are all that a State says, by what it is about.
func (h *history) answers() map[string]string {
	out := answersOf(h.state)
	for _, e := range someEPGs {
		for _, p := range somePrefixes {
			if place := (aci.Place{ExtEPG: e, Prefix: p}); h.state.Withdrawn(place) {
				out["withdrawn "+place.String()] = "yes"
			}
		}
	}
	return out
}

func answersOf(s *desired.State) map[string]string {
	out := map[string]string{}
	for _, e := range s.EPGs() {
		out["epg "+e.String()] = list(s.Workloads(e))
		for p := range s.Places(e) {
			if c, ok := s.Claim(p); ok != p.Prefix.IsValid() || ok && len(c.By) == 0 {
				out["wrong "+p.String()] = "is a place without claim"
			}
		}
	}
	for _, e := range someEPGs {
		if s.NamedIn(e.L3Out) != slices.ContainsFunc(s.EPGs(), func(f aci.ExtEPG) bool { return f.L3Out == e.L3Out }) {
			out["wrong "+e.L3Out.String()] = "is not named as its EPGs are"
		}
		for _, p := range somePrefixes {
			place := aci.Place{ExtEPG: e, Prefix: p}
			c, ok := s.Claim(place)
			if ok {
				out["place "+place.String()] = fmt.Sprint(list(c.By), " for ", list(c.Workloads), " since ", c.Since.Unix())
			}
			if ok != slices.Contains(s.Claimants(p), e) {
				out["wrong "+place.String()] = "is not in Claimants"
			}
		}
	}
	for _, p := range somePrefixes {
		if s.Held(p) {
			out["held "+p.String()] = "yes"
		}
		if by := s.PausedBy(p); len(by) > 0 {
			out["paused "+p.String()] = list(by)
		}
	}
	for _, e := range someEPGs {
		some, all := s.PausedIn(e)
		if some {
			out["some paused "+e.String()] = "yes"
		}
		if all {
			out["all paused "+e.String()] = "yes"
		}
	}
	if s.Unknown() {
		out["unknown"] = "yes"
	}
	for _, r := range s.AllWorkloads() {
		if e, ok := s.Target(r); ok {
			out["target "+r.String()] = e.String()
		}
		if s.Paused(r) {
			out["paused "+r.String()] = "yes"
		}
		for _, p := range s.Problems(r) {
			out["problem "+r.String()] += p.Reason + " "
		}
	}
	return out
}

// untold are the answers that changed although nothing was touched that they belong to.
func (h *history) untold(before, after map[string]string, t desired.Touched) []string {
	touched := map[string]bool{}
	for _, p := range t.Places {
		switch {
		case p == aci.Place{}:
			return nil
		case p.ExtEPG == aci.ExtEPG{}:
			touched["held "+p.Prefix.String()], touched["paused "+p.Prefix.String()] = true, true
			for _, e := range someEPGs {
				touched["place "+aci.Place{ExtEPG: e, Prefix: p.Prefix}.String()] = true
				touched["withdrawn "+aci.Place{ExtEPG: e, Prefix: p.Prefix}.String()] = true
			}
		case p.Prefix.IsValid():
			touched["place "+p.String()], touched["held "+p.Prefix.String()] = true, true
			touched["withdrawn "+p.String()], touched["paused "+p.Prefix.String()] = true, true
		default:
			touched["epg "+p.String()] = true
			touched["some paused "+p.String()], touched["all paused "+p.String()] = true, true
		}
	}
	for _, r := range t.Workloads {
		touched["target "+r.String()], touched["problem "+r.String()] = true, true
		touched["paused "+r.String()] = true
	}
	var missing []string
	for k := range maps.Keys(merge(before, after)) {
		switch {
		case before[k] == after[k], touched[k]:
		case (k == "unknown" || strings.HasPrefix(k, "some paused ")) && before[k] == "": // it only forbids
		default:
			missing = append(missing, fmt.Sprintf("%s: %q -> %q", k, before[k], after[k]))
		}
	}
	return missing
}

func merge(a, b map[string]string) map[string]string {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// definition works out, from what was heard last and what is to be remembered, what a State
// is to answer: slowly, and without any index. It remembers what is claimed, so it is asked once
// after each step.
func (h *history) definition() map[string]string {
	out := map[string]string{}
	claims, kept := map[aci.Place][]reason{}, map[aci.Place][]reason{}
	named := map[aci.ExtEPG][]desired.Ref{}
	workloads := map[types.UID]metav1.Object{}
	target := func(w metav1.Object) (t desired.Target, known, unknown bool) {
		v := h.asked[w.GetUID()]
		t, err := desired.ParseTarget(v)
		return t, err == nil, v == unknownTarget
	}
	expose := func(t desired.Target) desired.Expose {
		if t.Expose != nil {
			return *t.Expose
		}
		return h.opts.Expose
	}
	running, paused := map[aci.ExtEPG]bool{}, map[aci.ExtEPG]bool{}
	for _, w := range h.workloads() {
		workloads[w.GetUID()] = w
		t, known, unknown := target(w)
		problems := ""
		if h.isPaused(w.GetUID()) {
			out["paused "+refOf(w).String()] = "yes"
			if known || unknown {
				problems = desired.ReasonPaused + " "
			}
		}
		if known {
			out["target "+refOf(w).String()] = t.EPG.String()
			named[t.EPG] = append(named[t.EPG], refOf(w))
			running[t.EPG] = running[t.EPG] || !h.isPaused(w.GetUID())
			paused[t.EPG] = paused[t.EPG] || h.isPaused(w.GetUID())
		}
		if unknown {
			out["unknown"] = "yes"
		}
		if next := h.asks(w); h.isPaused(w.GetUID()) {
			will, err := desired.ParseTarget(next)
			for _, e := range someEPGs {
				if known && e == t.EPG || unknown || h.selected(w.GetNamespace()) && (next == unknownTarget || err == nil && e == will.EPG) {
					out["some paused "+e.String()] = "yes"
				}
			}
		}
		if h.selected(w.GetNamespace()) {
			problems += strings.Repeat(desired.ReasonInvalidAnnotation+" ", h.invalid(w))
			if s, ok := w.(*corev1.Service); ok && known && (s.Spec.Type != corev1.ServiceTypeLoadBalancer || !expose(t).Services) {
				problems += desired.ReasonNotExposed + " "
			}
		}
		if problems != "" {
			out["problem "+refOf(w).String()] = problems
		}
	}
	for e := range paused {
		if paused[e] && !running[e] {
			out["all paused "+e.String()] = "yes"
		}
	}
	hold := func(a netip.Addr) { out["held "+netip.PrefixFrom(a, a.BitLen()).String()] = "yes" }
	claim := func(t desired.Target, a netip.Addr, by desired.Ref, d metav1.Object) {
		place := aci.Place{ExtEPG: t.EPG, Prefix: netip.PrefixFrom(a, a.BitLen())}
		claims[place] = append(claims[place], reason{by, d.GetUID()})
	}
	pods := all[*corev1.Pod](h)
	for _, p := range pods {
		by := desired.Ref{Kind: desired.KindPod, Namespace: p.Namespace, Name: p.Name}
		d := workloads[h.workload[p.UID]]
		if p.Spec.HostNetwork && d != nil && h.selected(d.GetNamespace()) {
			if t, known, _ := target(d); known && expose(t).Pods {
				key := "problem " + refOf(d).String()
				out[key] = strings.TrimSuffix(out[key], desired.ReasonHostNetwork+" ") + desired.ReasonHostNetwork + " "
			}
		}
		if !counts(p) {
			continue
		}
		c := metav1.GetControllerOf(p)
		for _, a := range addrs(p) {
			taken := slices.ContainsFunc(pods, func(q *corev1.Pod) bool {
				return q != p && counts(q) && q.DeletionTimestamp == nil && slices.Contains(addrs(q), a)
			})
			switch {
			case p.DeletionTimestamp != nil && taken:
			case h.workload[p.UID] == "":
				if c != nil && c.Kind == desired.KindReplicaSet && !h.seen[[2]types.UID{p.UID, c.UID}] {
					hold(a)
				}
			case d == nil:
			default:
				t, known, unknown := target(d)
				if unknown {
					hold(a)
				} else if known && expose(t).Pods {
					claim(t, a, by, d)
				}
			}
		}
	}
	for _, s := range all[*corev1.Service](h) {
		by := desired.Ref{Kind: desired.KindService, Namespace: s.Namespace, Name: s.Name}
		only := h.asked[s.UID] != "" // annotated, or was when it was paused
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || !only && (annotated(s, desired.Annotation) || h.ignored[s.UID] == "true") {
			continue
		}
		var claimants []metav1.Object
		for _, w := range workloads {
			switch l, ok := template(w); {
			case only:
				if w.GetUID() == s.UID {
					claimants = append(claimants, w)
				}
			case ok && w.GetNamespace() == s.Namespace && len(s.Spec.Selector) > 0 &&
				labels.SelectorFromSet(s.Spec.Selector).Matches(l):
				claimants = append(claimants, w)
			}
		}
		for _, w := range claimants {
			for _, in := range s.Status.LoadBalancer.Ingress {
				a, ok := usable(in.IP)
				t, known, unknown := target(w)
				switch {
				case !ok:
				case unknown, known && h.ignored[s.UID] == "":
					hold(a)
				case known && expose(t).Services:
					claim(t, a, by, w)
				}
			}
		}
	}
	for e, refs := range named {
		out["epg "+e.String()] = list(slices.SortedFunc(slices.Values(refs), desired.Ref.Compare))
	}
	// Of a paused workload no claim ends.
	for place, reasons := range h.claims {
		for _, r := range reasons {
			if h.begun && workloads[r.owner] != nil && h.isPaused(r.owner) && !slices.Contains(claims[place], r) {
				kept[place] = append(kept[place], r)
			}
		}
		claims[place] = append(claims[place], kept[place]...)
		if len(claims[place]) == 0 {
			delete(claims, place)
		}
	}
	pausedBy := map[netip.Prefix][]desired.Ref{}
	for place, reasons := range claims {
		var by, of []desired.Ref
		slices.SortFunc(reasons, func(a, b reason) int {
			v, w := workloads[a.owner], workloads[b.owner]
			p, q := refOf(v), refOf(w)
			return cmp.Or(v.GetCreationTimestamp().Compare(w.GetCreationTimestamp().Time),
				cmp.Compare(p.Namespace, q.Namespace), cmp.Compare(p.Name, q.Name), cmp.Compare(p.Kind, q.Kind))
		})
		for _, r := range reasons {
			owner := refOf(workloads[r.owner])
			by, of = append(by, r.bearer), append(of, owner)
			if h.isPaused(r.owner) {
				pausedBy[place.Prefix] = append(pausedBy[place.Prefix], owner)
			}
		}
		slices.SortFunc(by, desired.Ref.Compare)
		out["place "+place.String()] = fmt.Sprint(list(slices.Compact(by)), " for ", list(slices.Compact(of)),
			" since ", workloads[reasons[0].owner].GetCreationTimestamp().Unix())
	}
	for p, refs := range pausedBy {
		slices.SortFunc(refs, desired.Ref.Compare)
		out["paused "+p.String()] = list(slices.Compact(refs))
	}
	for place := range h.claims {
		if h.begun && claims[place] == nil {
			h.ended[place] = true
		}
	}
	for place := range claims {
		delete(h.ended, place)
	}
	h.claims, h.kept = claims, kept
	for place := range h.ended {
		out["withdrawn "+place.String()] = "yes"
	}
	return out
}

func (h *history) selected(ns string) bool {
	if h.opts.Namespaces == nil {
		return true
	}
	o, ok := h.heard[desired.Ref{Kind: desired.KindNamespace, Name: ns}]
	return ok && h.opts.Namespaces.Matches(labels.Set(o.GetLabels()))
}

func counts(p *corev1.Pod) bool {
	return !p.Spec.HostNetwork && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded
}

func addrs(p *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, ok := usable(ip.IP); ok && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func usable(ip string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(ip)
	return a.Unmap(), err == nil && !a.IsLoopback()
}

// unpause lifts all pauses.
func (h *history) unpause() {
	for _, r := range slices.SortedFunc(maps.Keys(h.heard), desired.Ref.Compare) {
		if o := h.heard[r]; isWorkload(r.Kind) && annotated(o, desired.PausedAnnotation) {
			o = o.(interface{ DeepCopyObject() runtime.Object }).DeepCopyObject().(metav1.Object)
			delete(o.GetAnnotations(), desired.PausedAnnotation)
			h.hear(r, o)
			h.state.Fold(r, o)
		}
	}
}

// rebuilt is what a new State answers when it is told what is there now, in any order. It is
// told first what a State remembers: the last valid annotations, and the chains of Pods.
func (h *history) rebuilt() map[string]string {
	s := desired.NewState(h.opts)
	refs := slices.SortedFunc(maps.Keys(h.heard), desired.Ref.Compare)
	h.rng.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	for _, r := range refs {
		o := h.heard[r]
		if isWorkload(r.Kind) || r.Kind == desired.KindNamespace {
			s.Fold(r, h.lastValid(o))
		}
		switch o := o.(type) {
		case *corev1.Pod:
			at := desired.Ref{Kind: desired.KindReplicaSet, Namespace: "ghosts", Name: "ghost"}
			if d := h.workload[o.UID]; d != "" {
				was := o.DeepCopy()
				was.OwnerReferences = []metav1.OwnerReference{{Kind: desired.KindReplicaSet, UID: "ghost-" + o.UID, Controller: new(true)}}
				s.Fold(r, was)
				s.Fold(at, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
					UID: "ghost-" + o.UID, OwnerReferences: []metav1.OwnerReference{{Kind: desired.KindDeployment, UID: d, Controller: new(true)}},
				}})
			}
			if c := metav1.GetControllerOf(o); c != nil && h.seen[[2]types.UID{o.UID, c.UID}] {
				s.Fold(r, o)
				s.Fold(at, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: c.UID}})
			}
			s.Fold(at, nil)
		}
	}
	h.rng.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	for _, r := range refs {
		s.Fold(r, h.heard[r])
	}
	return answersOf(s)
}

// lastValid is a workload or a namespace as it was when its annotations last were valid.
func (h *history) lastValid(o metav1.Object) metav1.Object {
	o = o.(interface{ DeepCopyObject() runtime.Object }).DeepCopyObject().(metav1.Object)
	a := o.GetAnnotations()
	for key, last := range map[string]map[types.UID]string{
		desired.Annotation: h.target, desired.DefaultAnnotation: h.deflt,
		desired.IgnoreAnnotation: h.ignored, desired.PausedAnnotation: h.paused,
	} {
		if v := last[o.GetUID()]; v != "" && annotated(o, key) {
			a[key] = v
		}
	}
	return o
}
