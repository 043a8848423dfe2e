package desired

import (
	"net/netip"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Kinds that are folded.
const (
	KindNamespace   = "Namespace"
	KindDeployment  = "Deployment"
	KindStatefulSet = "StatefulSet"
	KindDaemonSet   = "DaemonSet"
	KindReplicaSet  = "ReplicaSet"
	KindPod         = "Pod"
	KindService     = "Service"
)

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

// service is a Service, which is a workload once it is annotated.
type service struct {
	bearer
	*workload
	loadBalancer bool
	selector     labels.Selector // nil when it selects nothing
	addrs        []netip.Addr
}

// Fold folds in the object r as it is now; obj is nil when it is gone. Workloads, Pods and
// Services are taken as their API types, ReplicaSets and Namespaces as any object metadata.
// Objects of other kinds change nothing.
func (s *State) Fold(r Ref, obj metav1.Object) Touched {
	var t Touched
	switch r.Kind {
	case KindNamespace:
		s.foldNamespace(r, obj, &t)
	case KindDeployment, KindStatefulSet, KindDaemonSet:
		s.foldWorkload(r, obj, &t)
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

// Missed folds in that the object r is gone although nobody saw it go: a list does not have it any
// more. What it claimed is claimed no longer, but nothing explains that; the list may be wrong.
func (s *State) Missed(r Ref) Touched {
	s.missing = true
	defer func() { s.missing = false }()
	return s.Fold(r, nil)
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
	var was []netip.Addr // what r reported until now
	if p != nil {
		was = p.addrs
	}
	if p != nil && (obj == nil || obj.UID != p.uid) {
		s.removePod(p, t)
		p = nil
	}
	if obj == nil {
		s.yield(was, nil, t)
		return
	}
	if p == nil {
		p = &pod{bearer: bearer{ref: r}, uid: obj.UID, hostNetwork: obj.Spec.HostNetwork}
		s.pods[r] = p
	}
	rs, owner := ownersOf(obj)
	if rs != p.replicaSet {
		for q := range s.below[rs] {
			rs = q.replicaSet // the same string for all its Pods
			break
		}
		s.unlink(p.replicaSet, p)
		p.replicaSet, p.resolved = rs, false
		s.link(p.replicaSet, p)
		s.resolve(p, t)
	}
	if owner != "" && owner != p.workload {
		s.assign(p, owner, t)
	}
	finished := obj.Status.Phase == corev1.PodSucceeded || obj.Status.Phase == corev1.PodFailed
	p.counts = !finished && !p.hostNetwork
	p.terminating = obj.DeletionTimestamp != nil
	s.occupy(p, podAddrs(obj))
	s.givePod(p, t)
	s.yield(was, p, t)
	s.yield(p.addrs, p, t)
}

func (s *State) removePod(p *pod, t *Touched) {
	delete(s.pods, p.ref)
	s.unlink(p.replicaSet, p)
	s.assign(p, "", t)
	p.counts = false
	s.occupy(p, nil)
	s.givePod(p, t)
}

// resolve walks from the Pod to its workload. Once known that holds, also when its ReplicaSet
// goes or is let go of, until the chain ends at another workload: one that took it on.
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

// link notes that p is below the ReplicaSet or the workload with this UID, seen or not.
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
// came or changed, or, with nil, went.
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
//	terminating                | as below, until another live Pod has the address
//	owner not seen             | held
//	of a workload              | given, if Pods are exposed
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
		case p.terminating && s.taken(a, p):
		case unresolved, w != nil && w.unknown:
			holds = append(holds, prefix)
		case w == nil || w.target == nil || !w.expose(s.opts.Expose).Pods:
		default:
			gives = append(gives, give{prefix, unique.Make(w.target.EPG), p.ref, w})
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
	if v != nil && (obj == nil || obj.UID != v.uid) {
		v.selector, v.addrs = nil, nil
		s.giveService(v, t)
		delete(s.services, r)
		delete(v.ns.services, v)
		s.removeWorkload(v.workload, t)
		v = nil
	}
	if obj == nil {
		return
	}
	first := v == nil
	if first {
		v = &service{bearer: bearer{ref: r}, workload: s.addWorkload(r, obj)}
		s.services[r] = v
		v.ns.services[v] = struct{}{}
	}
	was := v.loadBalancer
	v.loadBalancer, v.selector, v.addrs = obj.Spec.Type == corev1.ServiceTypeLoadBalancer, nil, nil
	if v.loadBalancer {
		if len(obj.Spec.Selector) > 0 {
			v.selector = labels.SelectorFromSet(obj.Spec.Selector)
		}
		for _, in := range obj.Status.LoadBalancer.Ingress {
			v.addrs = appendAddr(v.addrs, in.IP)
		}
	}
	if !v.same(obj.Annotations) || was != v.loadBalancer {
		v.annotate(obj.Annotations, first)
		s.settle(v.workload, t)
	}
	s.giveService(v, t)
}

// giveService works out what v gives, and to whom: the addresses of a LoadBalancer.
//
//	ignored                      | nobody's
//	  perhaps                    | held
//	annotated                    | its own, if Services are exposed
//	  with an unknown target     | held
//	not annotated, selects Pods  | those of every workload of its namespace whose template it selects
//	  with an unknown target     | held
//	not annotated                | nobody's
//
// As templates are selected, not Pods, its addresses survive zero replicas.
func (s *State) giveService(v *service, t *Touched) {
	var gives []give
	var holds []netip.Prefix
	for _, w := range s.claimants(v) {
		for _, a := range v.addrs {
			prefix, ok := claimable(a)
			switch {
			case !ok:
			case w.unknown, v.ignore.is == maybe:
				holds = append(holds, prefix)
			case w.target != nil && w.expose(s.opts.Expose).Services:
				gives = append(gives, give{prefix, unique.Make(w.target.EPG), v.bearer.ref, w})
			}
		}
	}
	s.set(&v.bearer, gives, holds, t)
}

// claimants are the workloads that the addresses of v are for, the oldest first.
func (s *State) claimants(v *service) []*workload {
	switch {
	case len(v.addrs) == 0:
		return nil
	case v.asks():
		return []*workload{v.workload}
	case v.own.value != nil || v.ignore.is == yes || v.selector == nil:
		return nil
	}
	var out []*workload
	for w := range v.ns.workloads {
		if w.asks() && v.selector.Matches(w.template) {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, (*workload).compare)
	return out
}

// ownersOf returns the UIDs of the ReplicaSet or of the workload that controls a Pod, "" for none.
func ownersOf(obj *corev1.Pod) (replicaSet, workload types.UID) {
	if c := metav1.GetControllerOfNoCopy(obj); c != nil {
		switch c.Kind {
		case KindReplicaSet:
			return c.UID, ""
		case KindStatefulSet, KindDaemonSet:
			return "", c.UID
		}
	}
	return "", ""
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
