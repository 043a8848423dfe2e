package desired

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// workload is what may opt in: a Deployment, StatefulSet or DaemonSet, or a Service.
type workload struct {
	ref      Ref
	uid      types.UID
	created  time.Time
	ns       *namespace
	template labels.Set // labels of its Pods; none for a Service
	own      setting    // its own annotation
	ignore   toggle     // IgnoreAnnotation
	pause    toggle     // PausedAnnotation
	memory   *Target    // from a record: its last valid target before this run; nil once it has another

	// What follows from these and from the namespace.
	target  *Target     // what it asks for; nil for nothing or unknown
	unknown bool        // it asks for something that cannot be told
	names   *aci.ExtEPG // the EPG that it is counted at; nil for none
	paused  bool        // what it asks for, and all that it claims, stays as it is
	next    *aci.ExtEPG // of a paused one: the EPG that it will name when the pause ends; nil for none

	frozen map[give]*give // of a paused one: claims that would have ended, but for the pause
}

// toggle is an annotation that is "true" or "false". Any other value leaves it as it was.
type toggle struct {
	value *string // nil for none
	is    answer
}

// answer is what a toggle says.
type answer int

const (
	no answer = iota
	yes
	maybe // it never was valid
)

// namespace is what workloads and Services have in common, and which there are.
type namespace struct {
	there     bool // it has been folded
	uid       types.UID
	chosen    bool                   // its workloads count
	deflt     setting                // for workloads without an annotation of their own
	workloads map[*workload]struct{} // those with a template
	services  map[*service]struct{}
}

// setting is an annotation that says a target.
type setting struct {
	value  *string // nil for none
	target *Target // the last valid one while the annotation stands; nil for none or unknown
	err    error   // what is wrong with value
}

// set takes in the annotation as it is now. An invalid one keeps the last valid target, which
// is fallback where the annotation itself had none.
func (a *setting) set(value *string, fallback *Target) {
	was := a.value
	if a.value, a.err = value, nil; value == nil {
		a.target = nil
		return
	}
	target, err := ParseTarget(*value)
	if a.err = err; err == nil {
		a.target = &target
	} else if was == nil {
		a.target = fallback
	}
}

// problem says what is wrong with an invalid annotation, and what was kept.
func (a *setting) problem(where string, kept *Target) string {
	if kept == nil {
		return fmt.Sprintf("annotation %s: %v; no valid target is known, so nothing of this workload is added or deleted",
			where, a.err)
	}
	return fmt.Sprintf("annotation %s: %v; the last valid target %s is kept", where, a.err, kept.EPG)
}

// set takes in the annotation as it is now; at first it has had no value that is known.
func (g *toggle) set(value *string, first bool) {
	switch g.value = value; {
	case value == nil, *value == "false":
		g.is = no
	case *value == "true":
		g.is = yes
	case first:
		g.is = maybe
	}
}

// problem says what is wrong with an invalid annotation, and which answer was kept; "" when
// nothing is wrong.
func (g *toggle) problem(key string, kept map[answer]string) string {
	if g.value == nil || *g.value == "true" || *g.value == "false" {
		return ""
	}
	return fmt.Sprintf(`annotation %s: %.40q is neither "true" nor "false"; %s`, key, *g.value, kept[g.is])
}

// compare orders by age, then name: who wins a conflict without an incumbent.
func (w *workload) compare(v *workload) int {
	return cmp.Or(w.created.Compare(v.created), cmp.Compare(w.ref.Namespace, v.ref.Namespace),
		cmp.Compare(w.ref.Name, v.ref.Name), cmp.Compare(w.ref.Kind, v.ref.Kind))
}

// asks reports whether anything is to be claimed or held for w.
func (w *workload) asks() bool { return w.target != nil || w.unknown }

func (w *workload) expose(deflt Expose) Expose {
	if w.target != nil && w.target.Expose != nil {
		return *w.target.Expose
	}
	return deflt
}

// setting is the annotation that applies to w; nil for none. The namespace's is not for
// Services: the workloads that they select claim their addresses already.
func (w *workload) setting() *setting {
	switch {
	case w.own.value != nil:
		return &w.own
	case w.ref.Kind != KindService && w.ns.deflt.value != nil:
		return &w.ns.deflt
	}
	return nil
}

// aim works out what w asks for, where its namespace is chosen.
//
//	ignored | own annotation | namespace's default | asks for
//	yes     |                |                     | nothing
//	unknown | one of the two                       | unknown
//	no      | valid          |                     | its own target
//	no      | invalid        |                     | its last valid target, or unknown
//	no      | none           | valid               | the namespace's target
//	no      | none           | invalid             | the namespace's last valid target, or unknown
//	        | none           | none                | nothing
func (w *workload) aim() (target *Target, unknown bool) {
	a := w.setting()
	switch {
	case a == nil, w.ignore.is == yes:
		return nil, false
	case w.ignore.is == maybe:
		return nil, true
	}
	target = cmp.Or(a.target, w.memory)
	return target, target == nil
}

// recall gives a workload that is seen first its last valid target of an earlier run.
func (s *State) recall(w *workload) {
	if m, ok := s.memories[w.ref]; ok && m.uid == w.uid {
		w.memory = m.target
	}
}

// same reports whether the annotations of w still are these.
func (w *workload) same(annotations map[string]string) bool {
	return equal(w.own.value, value(annotations, Annotation)) &&
		equal(w.ignore.value, value(annotations, IgnoreAnnotation)) &&
		equal(w.pause.value, value(annotations, PausedAnnotation))
}

// annotate gives w its annotations; at first it has had none that are known.
func (w *workload) annotate(annotations map[string]string, first bool) {
	var had *Target
	if !first {
		had, _ = w.aim()
	}
	w.own.set(value(annotations, Annotation), had)
	w.ignore.set(value(annotations, IgnoreAnnotation), first)
	w.pause.set(value(annotations, PausedAnnotation), first)
}

// templateOf returns the labels of the Pods that a workload makes.
func templateOf(obj metav1.Object) (labels.Set, bool) {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return o.Spec.Template.Labels, true
	case *appsv1.StatefulSet:
		return o.Spec.Template.Labels, true
	case *appsv1.DaemonSet:
		return o.Spec.Template.Labels, true
	}
	return nil, false
}

func (s *State) foldWorkload(r Ref, obj metav1.Object, t *Touched) {
	template, ok := templateOf(obj)
	// What is being deleted goes for good, only its Pods are waited for; it withdraws at once.
	there := ok && obj.GetDeletionTimestamp() == nil
	w := s.byName[r]
	if w != nil && (!there || obj.GetUID() != w.uid) {
		s.removeWorkload(w, t)
		w = nil
	}
	if !there {
		return
	}
	if w != nil && w.same(obj.GetAnnotations()) && maps.Equal(w.template, template) {
		return // most updates are of the status
	}
	first := w == nil
	if first {
		w = s.addWorkload(r, obj)
		s.workloads[w.uid] = w
		w.ns.workloads[w] = struct{}{}
	}
	asked, old := w.asks(), w.template
	w.template = template
	w.annotate(obj.GetAnnotations(), first)
	s.settle(w, t)
	if asked || w.asks() {
		s.giveSelecting(w.ns, t, old, template)
	}
}

func (s *State) addWorkload(r Ref, obj metav1.Object) *workload {
	w := &workload{
		ref: r, uid: obj.GetUID(), created: obj.GetCreationTimestamp().Time, ns: s.namespace(r.Namespace),
		frozen: map[give]*give{},
	}
	s.byName[r] = w
	s.recall(w)
	return w
}

func (s *State) removeWorkload(w *workload, t *Touched) {
	asked := w.asks()
	delete(s.workloads, w.uid)
	delete(s.byName, w.ref)
	delete(s.memories, w.ref)
	delete(w.ns.workloads, w)
	w.own, w.ignore.is, w.pause = setting{}, yes, toggle{} // also for the default
	s.settle(w, t)
	if asked {
		s.giveSelecting(w.ns, t, w.template)
	}
	s.forget(w.ref.Namespace)
}

// settle works out what w asks for now. It moves w from the EPG that it named to the one that
// it names, and its Pods with it. Services are the caller's: they may be shared.
//
// A paused workload goes on asking for what it asked for, also in an earlier run. One that asked
// for nothing has nothing to keep: so it is the same whether it was paused before it asked, or is
// seen first when it is.
func (s *State) settle(w *workload, t *Touched) {
	t.Workloads = append(t.Workloads, w.ref)
	was, paused := w.names, w.paused
	var target *Target
	var unknown bool
	if w.ns.chosen {
		target, unknown = w.aim()
	}
	switch w.paused = w.pause.is != no; {
	case w.paused && w.asks(): // goes on
	case w.paused && w.memory != nil:
		w.target, w.unknown = w.memory, false // as before the restart
	default:
		w.target, w.unknown = target, unknown
	}
	// Before its namespace is told, it may yet turn out to have the default, and that to be invalid.
	if a := w.setting(); !w.paused && (a == nil && w.ns.there || a != nil && a.target != nil) {
		w.memory = nil
	}
	if w.names = nil; w.target != nil {
		w.names = &w.target.EPG
	}
	is, flips := w.names, paused != w.paused
	if flips || !equal(was, is) {
		if was != nil {
			t.Places = append(t.Places, aci.Place{ExtEPG: *was})
			delete(s.epg(*was).workloads, w)
			delete(s.epg(*was).paused, w)
			if len(s.epg(*was).workloads) == 0 && s.begun && !s.missing {
				s.withdrawn[aci.Place{ExtEPG: *was}] = struct{}{}
			}
		}
		if is != nil {
			t.Places = append(t.Places, aci.Place{ExtEPG: *is})
			s.epg(*is).workloads[w] = struct{}{}
			delete(s.withdrawn, aci.Place{ExtEPG: *is})
			if w.paused {
				s.epg(*is).paused[w] = struct{}{}
			}
		}
	}
	s.settleNext(w, target, t)
	for p := range s.below[w.uid] {
		s.givePod(p, t)
	}
	if flips {
		s.touchClaims(w, t)
	}
	if !w.paused {
		s.thaw(w, t)
	}
	if was != nil {
		s.drop(*was)
	}
	toggled(s.unknown, w, w.unknown, t)
	toggled(s.pausedUnknown, w, w.paused && (w.unknown || unknown), t)
}

// settleNext notes what a paused workload will name when the pause ends.
func (s *State) settleNext(w *workload, target *Target, t *Touched) {
	was := w.next
	if w.next = nil; w.paused && target != nil {
		w.next = &target.EPG
	}
	if equal(was, w.next) {
		return
	}
	if was != nil {
		t.Places = append(t.Places, aci.Place{ExtEPG: *was})
		if delete(s.next[*was], w); len(s.next[*was]) == 0 {
			delete(s.next, *was)
		}
	}
	if e := w.next; e != nil {
		t.Places = append(t.Places, aci.Place{ExtEPG: *e})
		if s.next[*e] == nil {
			s.next[*e] = map[*workload]struct{}{}
		}
		s.next[*e][w] = struct{}{}
	}
}

// toggled puts w into a set, or takes it out. What the last of it forbade is to be looked at
// everywhere.
func toggled(set map[*workload]struct{}, w *workload, in bool, t *Touched) {
	if in {
		set[w] = struct{}{}
	} else if _, was := set[w]; was {
		if delete(set, w); len(set) == 0 {
			t.Places = append(t.Places, aci.Place{})
		}
	}
}

// touchClaims adds all that Pods and Services give to w now.
func (s *State) touchClaims(w *workload, t *Touched) {
	touch := func(b *bearer) {
		for _, g := range b.gives {
			if g.workload == w {
				t.Places = append(t.Places, g.place())
			}
		}
	}
	for p := range s.below[w.uid] {
		touch(&p.bearer)
	}
	for v := range w.ns.services {
		touch(&v.bearer)
	}
}

// thaw ends the claims that w has for no other reason than its pause.
func (s *State) thaw(w *workload, t *Touched) {
	for g := range w.frozen {
		delete(w.frozen, g)
		t.Places = append(t.Places, g.place())
		s.unclaim(g)
	}
}

// giveSelecting works out what the Services of n give that select one of these templates, in
// order: what one lets go of may be held by the next.
func (s *State) giveSelecting(n *namespace, t *Touched, templates ...labels.Set) {
	var list []*service
	for v := range n.services {
		if v.selector != nil && slices.ContainsFunc(templates, func(l labels.Set) bool { return v.selector.Matches(l) }) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *service) int { return a.bearer.ref.Compare(b.bearer.ref) })
	for _, v := range list {
		s.giveService(v, t)
	}
}

func (s *State) foldNamespace(r Ref, obj metav1.Object, t *Touched) {
	n := s.namespace(r.Name)
	defer s.forget(r.Name)
	var uid types.UID
	var deflt *string
	chosen := s.opts.Namespaces == nil
	if n.there = obj != nil; n.there {
		uid, deflt = obj.GetUID(), value(obj.GetAnnotations(), DefaultAnnotation)
		chosen = chosen || s.opts.Namespaces.Matches(labels.Set(obj.GetLabels()))
	}
	if n.uid == uid && n.chosen == chosen && equal(n.deflt.value, deflt) {
		return
	}
	if n.uid != uid {
		n.deflt = setting{} // another namespace of that name
	}
	n.uid, n.chosen = uid, chosen
	n.deflt.set(deflt, nil)
	for w := range n.workloads {
		s.settle(w, t)
	}
	for v := range n.services {
		s.settle(v.workload, t)
		s.giveService(v, t)
	}
}

// namespace returns the namespace of this name, which need not have been folded yet.
func (s *State) namespace(name string) *namespace {
	n := s.namespaces[name]
	if n == nil {
		n = &namespace{
			chosen: s.opts.Namespaces == nil, workloads: map[*workload]struct{}{}, services: map[*service]struct{}{},
		}
		s.namespaces[name] = n
	}
	return n
}

// forget drops a namespace that is gone, once nothing is in it.
func (s *State) forget(name string) {
	if n := s.namespaces[name]; n != nil && !n.there && len(n.workloads) == 0 && len(n.services) == 0 {
		delete(s.namespaces, name)
	}
}

// value is that of one annotation, nil for none.
func value(annotations map[string]string, key string) *string {
	if v, ok := annotations[key]; ok {
		return &v
	}
	return nil
}

func equal[T comparable](a, b *T) bool {
	return a == b || (a != nil && b != nil && *a == *b)
}
