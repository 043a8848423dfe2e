package kube

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// What is cut off never matters: whatever happens, a State that folds what the cache keeps tells
// the same as one that folds everything.
func TestStrip_keeps_all_that_claims_depend_on(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		selector, err := labels.Parse("team=net")
		if err != nil {
			t.Fatal(err)
		}
		o := desired.Options{Expose: desired.Expose{Pods: true, Services: true}}
		if seed%2 == 1 {
			o.Namespaces = selector
		}
		whole, stripped := desired.NewState(o), desired.NewState(o)
		whole.Begin()
		stripped.Begin()
		for step := range 150 {
			r, obj := someObject(rng)
			a, b := whole.Fold(r, obj), stripped.Fold(r, kept(t, obj))
			if d := cmp.Diff(touched(a), touched(b)); d != "" {
				t.Fatalf("seed %d, step %d: %s touches other places (-whole +stripped)\n%s", seed, step, r, d)
			}
			if d := cmp.Diff(answers(whole), answers(stripped)); d != "" {
				t.Fatalf("seed %d, step %d: after %s (-whole +stripped)\n%s", seed, step, r, d)
			}
		}
	}
}

// kept is obj as it comes out of the cache.
func kept(t *testing.T, obj metav1.Object) metav1.Object {
	t.Helper()
	if obj == nil {
		return nil
	}
	once, err := transform(obj.(runtime.Object).DeepCopyObject())
	if err != nil {
		t.Fatal(err)
	}
	out, err := transform(once.(runtime.Object).DeepCopyObject())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(once, out); d != "" {
		t.Fatalf("what is stripped twice differs\n%s", d)
	}
	return out.(metav1.Object)
}

// touched is what a fold touches; it may say so in any order, and more than once.
func touched(t desired.Touched) []string {
	var out []string
	for _, p := range t.Places {
		out = append(out, p.String())
	}
	for _, w := range t.Workloads {
		out = append(out, w.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// answers is what a State can be asked.
func answers(s *desired.State) []string {
	var out []string
	for _, e := range s.EPGs() {
		out = append(out, fmt.Sprintf("%v named %v by %v", e, s.Named(e), s.Workloads(e)))
		for p := range s.Places(e) {
			c, ok := s.Claim(p)
			out = append(out, fmt.Sprintf("%v %v %+v", p, ok, c))
		}
	}
	for i := range 6 {
		p := netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/32", i))
		out = append(out, fmt.Sprintf("%v %v %v %v", p, s.Held(p), s.Claimants(p), s.PausedBy(p)))
	}
	for _, w := range s.AllWorkloads() {
		out = append(out, fmt.Sprintf("%v %v", w, s.Problems(w)))
	}
	slices.Sort(out)
	return out
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

// someObject is an object of a small cluster, or its end, with much in it that nobody needs.
func someObject(rng *rand.Rand) (desired.Ref, metav1.Object) {
	n := rng.IntN(3)
	kind := pick(rng, desired.KindDeployment, desired.KindStatefulSet, desired.KindDaemonSet, desired.KindReplicaSet,
		desired.KindPod, desired.KindPod, desired.KindService, desired.KindNamespace)
	name := fmt.Sprint("o", n)
	r := desired.Ref{Kind: kind, Namespace: "ns", Name: name}
	if kind == desired.KindNamespace {
		r = desired.Ref{Kind: kind, Name: "ns"}
	}
	if rng.IntN(5) == 0 {
		return r, nil
	}
	meta := metav1.ObjectMeta{
		Name: r.Name, Namespace: r.Namespace, UID: types.UID(fmt.Sprint(kind, n)),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(n), 0)),
		ResourceVersion:   fmt.Sprint(rng.IntN(1000)), Generation: rng.Int64N(10), Finalizers: []string{"a/b"},
		Labels:        map[string]string{"app": pick(rng, "web", "api"), "team": pick(rng, "net", "dev")},
		Annotations:   map[string]string{"other": "x"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		OwnerReferences: []metav1.OwnerReference{
			{Kind: "Something", Name: "else", UID: "else", Controller: new(false)},
		},
	}
	owned := func(kind string, controller *bool) {
		if rng.IntN(6) > 0 {
			m := rng.IntN(3)
			meta.OwnerReferences = append(meta.OwnerReferences, metav1.OwnerReference{
				APIVersion: "apps/v1", Kind: kind, Name: fmt.Sprint("o", m), UID: types.UID(fmt.Sprint(kind, m)), Controller: controller,
			})
		}
	}
	if rng.IntN(8) == 0 {
		meta.DeletionTimestamp = new(metav1.NewTime(time.Unix(100, 0)))
	}
	ip := func() string { return fmt.Sprintf("10.0.0.%d", rng.IntN(6)) }
	annotate := func(key string) {
		switch rng.IntN(5) {
		case 0, 1:
		case 2:
			meta.Annotations[key] = `{"tenant":"T"}`
		default:
			meta.Annotations[key] = fmt.Sprintf(`{"tenant":"T","l3out":"O","epg":%q}`, pick(rng, "A", "B"))
		}
		if rng.IntN(4) == 0 {
			meta.Annotations[desired.IgnoreAnnotation] = pick(rng, "true", "false", "yes")
		}
		if rng.IntN(4) == 0 {
			meta.Annotations[desired.PausedAnnotation] = pick(rng, "true", "false", "yes")
		}
	}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": pick(rng, "web", "api")}, Annotations: map[string]string{"x": "y"}},
		Spec:       corev1.PodSpec{HostNetwork: true},
	}
	switch kind {
	case desired.KindDeployment:
		annotate(desired.Annotation)
		return r, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(rng.IntN(5))), Template: template,
		}}
	case desired.KindStatefulSet:
		annotate(desired.Annotation)
		return r, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{ServiceName: "db", Template: template}}
	case desired.KindDaemonSet:
		annotate(desired.Annotation)
		return r, &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{MinReadySeconds: 5, Template: template}}
	case desired.KindReplicaSet:
		owned(desired.KindDeployment, pick(rng, new(true), new(true), new(false), nil))
		return r, &metav1.PartialObjectMetadata{ObjectMeta: meta}
	case desired.KindPod:
		owned(pick(rng, desired.KindReplicaSet, desired.KindReplicaSet, desired.KindStatefulSet, desired.KindDaemonSet),
			pick(rng, new(true), new(true), new(false), nil))
		p := &corev1.Pod{
			ObjectMeta: meta,
			Spec:       corev1.PodSpec{NodeName: "node", HostNetwork: rng.IntN(6) == 0},
			Status: corev1.PodStatus{
				Phase: pick(rng, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed),
				PodIP: ip(), HostIP: ip(),
			},
		}
		if rng.IntN(3) > 0 {
			p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}, {IP: ip()}}
		}
		return r, p
	case desired.KindService:
		if rng.IntN(3) == 0 {
			annotate(desired.Annotation)
		}
		s := &corev1.Service{
			ObjectMeta: meta,
			Spec: corev1.ServiceSpec{
				Type:        pick(rng, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP),
				ExternalIPs: []string{ip()}, ClusterIP: ip(),
			},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
				Ingress: []corev1.LoadBalancerIngress{{IP: ip()}, {Hostname: "lb.example.com"}},
			}},
		}
		if rng.IntN(4) > 0 {
			s.Spec.Selector = map[string]string{"app": pick(rng, "web", "api")}
		}
		return r, s
	}
	annotate(desired.DefaultAnnotation)
	return r, &metav1.PartialObjectMetadata{ObjectMeta: meta}
}

func TestStrip_passes_what_it_does_not_know(t *testing.T) {
	t.Parallel()
	gone := toolscache.DeletedFinalStateUnknown{Key: "ns/web"}
	got, err := transform(gone)
	if err != nil || got != gone {
		t.Errorf("got %v, %v", got, err)
	}
}

// recorded is what a sink was told.
type recorded struct {
	Ref    desired.Ref
	UID    types.UID // "" for gone
	Sync   bool
	Missed bool
}

type recorder struct{ list []recorded }

func (s *recorder) Fold(r desired.Ref, obj metav1.Object) {
	n := recorded{Ref: r}
	if obj != nil {
		n.UID = obj.GetUID()
	}
	s.list = append(s.list, n)
}

func (s *recorder) Synced() { s.list = append(s.list, recorded{Sync: true}) }

func (s *recorder) Missed(r desired.Ref)                 { s.list = append(s.list, recorded{Ref: r, Missed: true}) }
func (s *recorder) Recorded(aci.ExtEPG, *desired.Record) {}

// A relist that finds an object gone, whose deletion nobody saw, tells so by a tombstone.
func TestHandler_tells_of_objects_that_a_relist_misses(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "1"}}
	var s recorder
	h := handler(desired.KindPod, &s)
	h.OnAdd(pod, true)
	h.OnUpdate(pod, pod)
	h.OnDelete(pod)
	h.OnDelete(toolscache.DeletedFinalStateUnknown{Key: "ns/web", Obj: pod})
	r := desired.Ref{Kind: desired.KindPod, Namespace: "ns", Name: "web"}
	want := []recorded{{Ref: r, UID: "1"}, {Ref: r, UID: "1"}, {Ref: r}, {Ref: r, Missed: true}}
	if d := cmp.Diff(want, s.list); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
