package desired

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Kinds that are folded.
const (
	KindNamespace  = "Namespace"
	KindDeployment = "Deployment"
	KindReplicaSet = "ReplicaSet"
	KindPod        = "Pod"
	KindService    = "Service"
)

// workload is what opts in: a Deployment.
type workload struct {
	ref        Ref
	uid        types.UID
	created    time.Time
	annotation *string
	template   labels.Set
	target     *Target // the last valid one while the annotation stands; nil for none or unknown
	invalid    string  // what is wrong with the annotation and what was kept; "" when nothing is
}

// compare orders by age, then name: who wins a conflict without an incumbent.
func (w *workload) compare(v *workload) int {
	return cmp.Or(w.created.Compare(v.created), cmp.Compare(w.ref.Namespace, v.ref.Namespace),
		cmp.Compare(w.ref.Name, v.ref.Name), cmp.Compare(w.ref.Kind, v.ref.Kind))
}

func (w *workload) unknown() bool { return w.invalid != "" && w.target == nil }

func (w *workload) expose(deflt Expose) Expose {
	if w.target != nil && w.target.Expose != nil {
		return *w.target.Expose
	}
	return deflt
}

type pod struct {
	bearer
	uid         types.UID
	replicaSet  types.UID // its controller, when that is a ReplicaSet
	resolved    bool      // the ReplicaSet has been seen
	workload    types.UID // where the chain ended when it was last seen whole; "" for nowhere yet
	addrs       []netip.Addr
	counts      bool // neither finished nor on its node's network
	terminating bool
	hostNetwork bool
}

type service struct {
	bearer
	selector labels.Selector // nil when the Service claims nothing
	addrs    []netip.Addr
}

// Fold folds in the object r as it is now; obj is nil when it is gone. Deployments, Pods and
// Services are taken as their API types, ReplicaSets and Namespaces as any object metadata.
// Objects of other kinds change nothing.
func (s *State) Fold(r Ref, obj metav1.Object) Touched {
	var t Touched
	switch r.Kind {
	case KindNamespace:
		s.foldNamespace(r, obj, &t)
	case KindDeployment:
		d, _ := obj.(*appsv1.Deployment)
		s.foldDeployment(r, d, &t)
	case KindReplicaSet:
		s.foldReplicaSet(r, obj, &t)
	case KindPod:
		p, _ := obj.(*corev1.Pod)
		s.foldPod(r, p, &t)
	case KindService:
		v, _ := obj.(*corev1.Service)
		s.foldService(r, v, &t)
	}
	return t
}

func (s *State) foldNamespace(r Ref, obj metav1.Object, t *Touched) {
	if s.opts.Namespaces == nil {
		return
	}
	chosen := obj != nil && s.opts.Namespaces.Matches(labels.Set(obj.GetLabels()))
	if chosen == s.namespaces[r.Name] {
		return
	}
	unknown := s.Unknown()
	if chosen {
		s.namespaces[r.Name] = true
	} else {
		delete(s.namespaces, r.Name)
	}
	m := s.members(r.Name)
	for w := range m.workloads {
		was := s.named(w, !chosen)
		s.retarget(w, was, t)
	}
	for v := range m.services {
		s.giveService(v, t)
	}
	if unknown && !s.Unknown() {
		t.Places = append(t.Places, aci.Place{})
	}
}

func (s *State) foldDeployment(r Ref, d *appsv1.Deployment, t *Touched) {
	if d != nil && d.DeletionTimestamp != nil {
		d = nil // going for good, only its Pods are waited for; it withdraws at once
	}
	w := s.byName[r]
	if w != nil && (d == nil || d.UID != w.uid) {
		s.removeWorkload(w, t)
		w = nil
	}
	if d == nil {
		return
	}
	var annotation *string
	if v, ok := d.Annotations[Annotation]; ok {
		annotation = &v
	}
	if w != nil && equal(w.annotation, annotation) && maps.Equal(w.template, d.Spec.Template.Labels) {
		return // most updates are of the status
	}
	m := s.members(r.Namespace)
	var was *aci.ExtEPG
	if w == nil {
		w = &workload{ref: r, uid: d.UID, created: d.CreationTimestamp.Time}
		s.workloads[w.uid], s.byName[r] = w, w
		m.workloads[w] = struct{}{}
	} else {
		was = s.named(w, s.selected(r.Namespace))
	}
	w.template = d.Spec.Template.Labels
	if !equal(w.annotation, annotation) {
		s.annotate(w, annotation, t)
	}
	s.retarget(w, was, t)
	for v := range m.services {
		s.giveService(v, t)
	}
}

// annotate gives w its new annotation. An invalid one keeps the last valid target.
func (s *State) annotate(w *workload, annotation *string, t *Touched) {
	was := w.unknown()
	w.annotation, w.invalid = annotation, ""
	defer func() { s.setUnknown(w, was, t) }()
	if annotation == nil {
		w.target = nil
		return
	}
	target, err := ParseTarget(*annotation)
	switch {
	case err == nil:
		w.target = &target
	case w.target != nil:
		w.invalid = fmt.Sprintf("annotation %s: %v; the last valid target %s is kept", Annotation, err, w.target.EPG)
	default:
		w.invalid = fmt.Sprintf("annotation %s: %v; no valid target is known, so nothing of this workload is added or deleted",
			Annotation, err)
	}
}

// setUnknown keeps the set of workloads without a known target, after w may have changed.
func (s *State) setUnknown(w *workload, was bool, t *Touched) {
	switch is := w.unknown(); {
	case is:
		s.unknown[w] = struct{}{}
	case was:
		delete(s.unknown, w)
		t.Places = append(t.Places, aci.Place{})
	}
}

// named is the EPG that w names, given whether its namespace is selected.
func (s *State) named(w *workload, selected bool) *aci.ExtEPG {
	if !selected || w.target == nil {
		return nil
	}
	return &w.target.EPG
}

// retarget moves w from the EPG it named to the one it names now, and its Pods with it. An EPG
// is touched when its first workload comes or its last one goes. Services are the caller's:
// they may be shared.
func (s *State) retarget(w *workload, was *aci.ExtEPG, t *Touched) {
	t.Workloads = append(t.Workloads, w.ref)
	is := s.named(w, s.selected(w.ref.Namespace))
	if is != nil {
		if !s.Named(*is) {
			t.Places = append(t.Places, aci.Place{ExtEPG: *is})
		}
		s.epg(*is).workloads[w] = struct{}{}
	}
	if was != nil && (is == nil || *is != *was) {
		if delete(s.epg(*was).workloads, w); !s.Named(*was) {
			t.Places = append(t.Places, aci.Place{ExtEPG: *was})
		}
	}
	for p := range s.below[w.uid] {
		s.givePod(p, t)
	}
	if was != nil {
		s.drop(*was)
	}
}

func (s *State) removeWorkload(w *workload, t *Touched) {
	was := s.named(w, s.selected(w.ref.Namespace))
	delete(s.workloads, w.uid)
	delete(s.byName, w.ref)
	m := s.members(w.ref.Namespace)
	delete(m.workloads, w)
	s.annotate(w, nil, t)
	s.retarget(w, was, t)
	for v := range m.services {
		s.giveService(v, t)
	}
}

func (s *State) foldReplicaSet(r Ref, obj metav1.Object, t *Touched) {
	old, had := s.replicas[r]
	if had && (obj == nil || obj.GetUID() != old) {
		delete(s.owners, old) // its Pods keep their workload
		delete(s.replicas, r)
	}
	if obj == nil {
		return
	}
	uid := obj.GetUID()
	s.replicas[r] = uid
	owner := types.UID("")
	if c := metav1.GetControllerOfNoCopy(obj); c != nil && c.Kind == KindDeployment {
		owner = c.UID
	}
	if was, known := s.owners[uid]; known && was == owner {
		return // most updates are of the status
	}
	s.owners[uid] = owner
	for p := range s.below[uid] {
		s.resolve(p, t)
		s.givePod(p, t)
	}
}

func (s *State) foldPod(r Ref, obj *corev1.Pod, t *Touched) {
	p := s.pods[r]
	if p != nil && (obj == nil || obj.UID != p.uid) {
		s.removePod(p, t)
		p = nil
	}
	if obj == nil {
		return
	}
	if p == nil {
		p = &pod{bearer: bearer{ref: r}, uid: obj.UID, hostNetwork: obj.Spec.HostNetwork}
		s.pods[r] = p
	}
	if rs := replicaSetOf(obj); rs != p.replicaSet {
		s.unlink(p.replicaSet, p)
		p.replicaSet, p.resolved = rs, false
		s.link(p.replicaSet, p)
		s.resolve(p, t)
	}
	finished := obj.Status.Phase == corev1.PodSucceeded || obj.Status.Phase == corev1.PodFailed
	p.counts = !finished && !p.hostNetwork
	p.terminating = obj.DeletionTimestamp != nil
	was := p.addrs
	s.occupy(p, podAddrs(obj))
	s.givePod(p, t)
	s.yield(was, p, t)
	s.yield(p.addrs, p, t)
}

func (s *State) removePod(p *pod, t *Touched) {
	delete(s.pods, p.ref)
	s.unlink(p.replicaSet, p)
	s.assign(p, "", t)
	was := p.addrs
	p.counts = false
	s.occupy(p, nil)
	s.givePod(p, t)
	s.yield(was, p, t)
}

// resolve walks from the Pod to its workload. Once known that holds, also when its ReplicaSet
// goes or is let go of, until the chain ends at another Deployment: one that took it on.
func (s *State) resolve(p *pod, t *Touched) {
	owner, known := s.owners[p.replicaSet]
	p.resolved = p.resolved || known
	if owner != "" && owner != p.workload {
		s.assign(p, owner, t)
	}
}

// assign makes p a Pod of the workload with this UID, which need not have been seen yet.
func (s *State) assign(p *pod, workload types.UID, t *Touched) {
	s.unlink(p.workload, p)
	s.countHostNetwork(p, -1, t)
	p.workload = workload
	s.link(p.workload, p)
	s.countHostNetwork(p, 1, t)
}

// countHostNetwork counts the Pods of a workload that use the address of their node.
func (s *State) countHostNetwork(p *pod, n int, t *Touched) {
	if !p.hostNetwork || p.workload == "" {
		return
	}
	if s.hostNetwork[p.workload] += n; s.hostNetwork[p.workload] == 0 {
		delete(s.hostNetwork, p.workload)
	}
	if w := s.workloads[p.workload]; w != nil {
		t.Workloads = append(t.Workloads, w.ref)
	}
}

// link notes that p is below the ReplicaSet or the Deployment with this UID, seen or not.
func (s *State) link(owner types.UID, p *pod) {
	if owner == "" {
		return
	}
	set := s.below[owner]
	if set == nil {
		set = map[*pod]struct{}{}
		s.below[owner] = set
	}
	set[p] = struct{}{}
}

func (s *State) unlink(owner types.UID, p *pod) {
	set := s.below[owner]
	if delete(set, p); len(set) == 0 {
		delete(s.below, owner)
	}
}

// occupy notes which addresses p reports.
func (s *State) occupy(p *pod, addrs []netip.Addr) {
	if slices.Equal(p.addrs, addrs) {
		return
	}
	for _, a := range p.addrs {
		list := slices.DeleteFunc(s.holders[a], func(q *pod) bool { return q == p })
		if len(list) == 0 {
			delete(s.holders, a)
		} else {
			s.holders[a] = list
		}
	}
	for _, a := range addrs {
		s.holders[a] = append(s.holders[a], p)
	}
	p.addrs = addrs
}

// yield lets terminating Pods that report one of addrs give it up, or take it back, when p
// came or went.
func (s *State) yield(addrs []netip.Addr, p *pod, t *Touched) {
	for _, a := range addrs {
		for _, q := range s.holders[a] {
			if q != p && q.terminating {
				s.givePod(q, t)
			}
		}
	}
}

// givePod works out what p gives.
//
//	Pod                        | its addresses
//	finished, on its node's network | nobody's
//	owner not seen             | held
//	of a workload              | given, if Pods are exposed
//	  terminating              | as above, until another live Pod has the address
//	  with an unknown target   | held
//	of anything else           | nobody's
func (s *State) givePod(p *pod, t *Touched) {
	var gives []give
	var holds []netip.Prefix
	w := s.workloads[p.workload]
	unresolved := p.replicaSet != "" && p.workload == "" && !p.resolved
	for _, a := range p.addrs {
		prefix, ok := claimable(a)
		switch {
		case !ok || !p.counts:
		case unresolved, w != nil && w.unknown() && s.selected(p.ref.Namespace):
			holds = append(holds, prefix)
		case w == nil || w.target == nil || !s.selected(p.ref.Namespace) || !w.expose(s.opts.Expose).Pods:
		case p.terminating && s.taken(a, p):
		default:
			gives = append(gives, give{prefix, w.target.EPG, p.ref, w})
		}
	}
	s.set(&p.bearer, gives, holds, t)
}

// taken reports whether a Pod other than p, and not on its way out, holds a.
func (s *State) taken(a netip.Addr, p *pod) bool {
	return slices.ContainsFunc(s.holders[a], func(q *pod) bool { return q != p && q.counts && !q.terminating })
}

func (s *State) foldService(r Ref, obj *corev1.Service, t *Touched) {
	v := s.services[r]
	m := s.members(r.Namespace)
	if obj == nil {
		if v != nil {
			v.selector, v.addrs = nil, nil
			s.giveService(v, t)
			delete(s.services, r)
			delete(m.services, v)
		}
		return
	}
	if v == nil {
		v = &service{bearer: bearer{ref: r}}
		s.services[r] = v
		m.services[v] = struct{}{}
	}
	v.selector, v.addrs = nil, nil
	if obj.Spec.Type == corev1.ServiceTypeLoadBalancer && len(obj.Spec.Selector) > 0 {
		v.selector = labels.SelectorFromSet(obj.Spec.Selector)
		for _, in := range obj.Status.LoadBalancer.Ingress {
			v.addrs = appendAddr(v.addrs, in.IP)
		}
	}
	s.giveService(v, t)
}

// giveService works out what v gives, and to whom: a LoadBalancer with a selector gives its
// addresses to every annotated workload of its namespace whose Pod template it selects. So
// they survive zero replicas.
func (s *State) giveService(v *service, t *Touched) {
	var gives []give
	var holds []netip.Prefix
	if v.selector != nil && len(v.addrs) > 0 && s.selected(v.ref.Namespace) {
		selecting := slices.SortedFunc(maps.Keys(s.members(v.ref.Namespace).workloads), (*workload).compare)
		for _, w := range selecting {
			if !v.selector.Matches(w.template) {
				continue
			}
			for _, a := range v.addrs {
				prefix, ok := claimable(a)
				switch {
				case !ok:
				case w.unknown():
					holds = append(holds, prefix)
				case w.target != nil && w.expose(s.opts.Expose).Services:
					gives = append(gives, give{prefix, w.target.EPG, v.ref, w})
				}
			}
		}
	}
	s.set(&v.bearer, gives, holds, t)
}

// replicaSetOf is the UID of the ReplicaSet that controls a Pod, "" for none.
func replicaSetOf(obj *corev1.Pod) types.UID {
	if c := metav1.GetControllerOfNoCopy(obj); c != nil && c.Kind == KindReplicaSet {
		return c.UID
	}
	return ""
}

func podAddrs(obj *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range obj.Status.PodIPs {
		out = appendAddr(out, ip.IP)
	}
	if len(out) == 0 { // podIPs holds podIP too, but an object read in between may not
		out = appendAddr(out, obj.Status.PodIP)
	}
	return out
}

func appendAddr(list []netip.Addr, ip string) []netip.Addr {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return list // a hostname, or nothing yet
	}
	if a = a.Unmap().WithZone(""); slices.Contains(list, a) {
		return list
	}
	return append(list, a)
}

func equal(a, b *string) bool {
	return a == b || (a != nil && b != nil && *a == *b)
}
