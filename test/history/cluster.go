package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The annotations, as SPEC.md and the reference spell them.
const (
	targetKey  = "aci.haystacknetworks.com/l3o"
	defaultKey = "aci.haystacknetworks.com/l3o-default"
	ignoreKey  = "aci.haystacknetworks.com/ignore"
	pauseKey   = "aci.haystacknetworks.com/paused"
)

// Ref names an object of the cluster.
type Ref struct{ Kind, Namespace, Name string }

func (r Ref) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

func compareRefs(a, b Ref) int { return strings.Compare(a.String(), b.String()) }

// refOf is what a script calls NAMESPACE/NAME.
func refOf(path string) Ref {
	ns, name, _ := strings.Cut(path, "/")
	kind := map[byte]string{'w': "Deployment", 's': "StatefulSet", 'd': "DaemonSet", 'v': "Service", 'p': "Pod"}[name[0]]
	return Ref{kind, ns, name}
}

// Cluster is what is in Kubernetes. What is in it is not changed but replaced, so that a clone is shallow.
type Cluster struct {
	uids       int
	namespaces map[string]namespace
	workloads  map[Ref]workload
	pods       map[Ref]pod
}

type namespace struct {
	uid   types.UID
	deflt string // "" for none
}

// workload is a Deployment, a StatefulSet, a DaemonSet or a Service.
type workload struct {
	ref         Ref
	uid         types.UID
	created     int // seconds
	annotations map[string]string
	selector    string   // of a Service; "" for none
	vips        []string // of a Service
}

// label is that of the template of a workload: app=LABEL. Some share it, so that a Service selects both.
func (w workload) label() string { return labels[w.ref.Name] }

var labels = map[string]string{"w1": "x", "w2": "x", "w3": "y", "s1": "y", "d1": "y"}

type pod struct {
	ref         Ref
	uid         types.UID
	owner       types.UID // a workload
	kind        string    // of its workload
	ips         []string
	host        bool
	finished    bool
	terminating bool
}

// NewCluster is an empty one.
func NewCluster() *Cluster {
	return &Cluster{namespaces: map[string]namespace{}, workloads: map[Ref]workload{}, pods: map[Ref]pod{}}
}

// Clone is a copy.
func (c *Cluster) Clone() *Cluster {
	return &Cluster{c.uids, maps.Clone(c.namespaces), maps.Clone(c.workloads), maps.Clone(c.pods)}
}

// Without is a copy that lacks a namespace and all in it.
func (c *Cluster) Without(ns string) *Cluster {
	c = c.Clone()
	c.vanish(ns)
	return c
}

func (c *Cluster) vanish(ns string) {
	delete(c.namespaces, ns)
	maps.DeleteFunc(c.workloads, func(r Ref, _ workload) bool { return r.Namespace == ns })
	maps.DeleteFunc(c.pods, func(r Ref, _ pod) bool { return r.Namespace == ns })
}

func (c *Cluster) uid(name string) types.UID {
	c.uids++
	return types.UID(fmt.Sprintf("%s-%d", name, c.uids))
}

// namespace makes a namespace, if need be.
func (c *Cluster) namespace(ns string) namespace {
	n, ok := c.namespaces[ns]
	if !ok {
		n = namespace{uid: c.uid(ns)}
		c.namespaces[ns] = n
	}
	return n
}

// workload is the workload r, made if need be. Two in a row are of one age.
func (c *Cluster) workload(r Ref) workload {
	c.namespace(r.Namespace)
	w, ok := c.workloads[r]
	if !ok {
		w = workload{ref: r, uid: c.uid(r.Name), created: c.uids / 3}
	}
	return w
}

// Learn takes over what an API server gave a workload: its UID, and when it was created.
func (c *Cluster) Learn(r Ref, uid types.UID, created time.Time) {
	w := c.workloads[r]
	w.uid, w.created = uid, int(created.Unix())
	c.workloads[r] = w
}

// Apply does a step of the cluster; false when it is of something else.
func (c *Cluster) Apply(s Step) bool {
	switch s.Verb {
	case "target":
		w := c.workload(refOf(s.arg(0)))
		c.annotate(w, targetKey, target(s.arg(1), s.arg(2)))
	case "pause", "ignore":
		w, ok := c.workloads[refOf(s.arg(0))]
		if !ok {
			return true
		}
		key := map[string]string{"pause": pauseKey, "ignore": ignoreKey}[s.Verb]
		c.annotate(w, key, strings.TrimSuffix(s.arg(1), "none"))
	case "delete":
		delete(c.workloads, refOf(s.arg(0)))
	case "default":
		n := c.namespace(s.arg(0))
		n.deflt = target(s.arg(1), "")
		c.namespaces[s.arg(0)] = n
	case "vanish":
		c.vanish(s.arg(0))
	case "pod", "host":
		w, ok := c.workloads[refOf(s.arg(1))]
		r := refOf(s.arg(0))
		if !ok || r.Namespace != w.ref.Namespace || w.ref.Kind == "Service" {
			return true
		}
		c.pods[r] = pod{ref: r, uid: c.uid(r.Name), owner: w.uid, kind: w.ref.Kind, ips: s.Args[2:], host: s.Verb == "host"}
	case "ends", "terminates", "gone":
		r := refOf(s.arg(0))
		p, ok := c.pods[r]
		switch {
		case !ok:
			return true
		case s.Verb == "gone":
			delete(c.pods, r)
			return true
		case s.Verb == "ends":
			p.finished = true
		default:
			p.terminating = true
		}
		c.pods[r] = p
	case "vip":
		w := c.workload(refOf(s.arg(0)))
		w.selector, w.vips = strings.TrimSuffix(s.arg(1), "-"), s.Args[2:]
		c.workloads[w.ref] = w
	default:
		return false
	}
	return true
}

func (c *Cluster) annotate(w workload, key, value string) {
	w.annotations = maps.Clone(w.annotations)
	if w.annotations == nil {
		w.annotations = map[string]string{}
	}
	if w.annotations[key] = value; value == "" {
		delete(w.annotations, key)
	}
	c.workloads[w.ref] = w
}

// target is the annotation for an EPG, "" for none.
func target(epg, expose string) string {
	l3out, name, ok := strings.Cut(epg, "/")
	switch {
	case epg == "none":
		return ""
	case !ok:
		return epg // invalid
	case expose != "":
		return fmt.Sprintf(`{"tenant":%q,"l3out":%q,"epg":%q,"expose":[%q]}`, tenantOf(l3out), l3out, name, expose)
	}
	return fmt.Sprintf(`{"tenant":%q,"l3out":%q,"epg":%q}`, tenantOf(l3out), l3out, name)
}

// Objects are all objects of the cluster as its API server has them, with the ReplicaSets of the
// Deployments.
func (c *Cluster) Objects() map[Ref]metav1.Object {
	out := map[Ref]metav1.Object{}
	for name, n := range c.namespaces {
		o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, UID: n.uid}}
		if n.deflt != "" {
			o.Annotations = map[string]string{defaultKey: n.deflt}
		}
		out[Ref{"Namespace", "", name}] = o
	}
	for r, w := range c.workloads {
		m := metav1.ObjectMeta{
			Namespace: r.Namespace, Name: r.Name, UID: w.uid, Annotations: w.annotations,
			CreationTimestamp: metav1.NewTime(time.Unix(1e9+int64(w.created), 0)),
		}
		template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": w.label()}}}
		switch r.Kind {
		case "Deployment":
			out[r] = &appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{Template: template}}
			out[Ref{"ReplicaSet", r.Namespace, r.Name + "-rs"}] = &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
				Namespace: r.Namespace, Name: r.Name + "-rs", UID: "rs-" + w.uid, OwnerReferences: ownedBy("Deployment", w.uid),
			}}
		case "StatefulSet":
			out[r] = &appsv1.StatefulSet{ObjectMeta: m, Spec: appsv1.StatefulSetSpec{Template: template}}
		case "DaemonSet":
			out[r] = &appsv1.DaemonSet{ObjectMeta: m, Spec: appsv1.DaemonSetSpec{Template: template}}
		case "Service":
			s := &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
			if w.selector != "" {
				s.Spec.Selector = map[string]string{"app": w.selector}
			}
			for _, ip := range w.vips {
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
			}
			out[r] = s
		}
	}
	for r, p := range c.pods {
		o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name, UID: p.uid}}
		if o.OwnerReferences = ownedBy(p.kind, p.owner); p.kind == "Deployment" {
			o.OwnerReferences = ownedBy("ReplicaSet", "rs-"+p.owner)
		}
		if p.terminating {
			o.DeletionTimestamp = &metav1.Time{Time: time.Unix(1e9, 0)}
		}
		o.Spec.HostNetwork = p.host
		if o.Status.Phase = corev1.PodRunning; p.finished {
			o.Status.Phase = corev1.PodSucceeded
		}
		for _, ip := range p.ips {
			o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: ip})
		}
		out[r] = o
	}
	return out
}

func ownedBy(kind string, uid types.UID) []metav1.OwnerReference {
	return []metav1.OwnerReference{{Kind: kind, UID: uid, Controller: new(true)}}
}

// sorted are the values of a map in the order of their names.
func sorted[V any](m map[Ref]V) []V {
	out := make([]V, 0, len(m))
	for _, r := range slices.SortedFunc(maps.Keys(m), compareRefs) {
		out = append(out, m[r])
	}
	return out
}
