package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// server is a namespace on a real API server.
type server struct {
	cfg    *rest.Config
	client *kubernetes.Clientset
	ns     string
}

// newServer uses the control plane that test/labctl run lends.
func newServer(t *testing.T) server {
	t.Helper()
	file := os.Getenv("ACI_SYNC_LAB_KUBECONFIG")
	if file == "" {
		t.Skip("needs a control plane: go run ./test/labctl run -- go test ./internal/kube")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "kube-", Labels: map[string]string{"team": "net"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	s := server{cfg, c, ns.Name}
	eventually(t, func() error {
		_, err := c.CoreV1().ServiceAccounts(s.ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return s
}

// eventually tries f until it succeeds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

func (s server) deployment(t *testing.T, replicas int32) *appsv1.Deployment {
	t.Helper()
	const name = "web"
	app := map[string]string{"app": name}
	d, err := s.client.AppsV1().Deployments(s.ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{desired.Annotation: "{}", "other": "x"}},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(replicas),
			Selector: &metav1.LabelSelector{MatchLabels: app},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: app},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(int64(0)),
					Containers:                    []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}},
				},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// watch feeds sink until ctx, that of the test or one below it, ends. It returns when everything is synced, or with
// what keeps it from that.
func (s server) watch(ctx context.Context, t *testing.T, sink Sink, owner aci.Owner) error {
	t.Helper()
	return s.watchAs(ctx, t, s.cfg, pageSize, sink, owner)
}

// watchAs lets somebody else list and watch, in pages of a size; what the API has is known already.
func (s server) watchAs(ctx context.Context, t *testing.T, cfg *rest.Config, size int64, sink Sink, owner aci.Owner) error {
	t.Helper()
	h, err := rest.HTTPClientFor(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(s.cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	o := CacheOptions()
	o.Scheme, o.Mapper, o.NewInformer = scheme, mapper, newInformer(size)
	c, err := cache.New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	from, err := NewSource(cfg, c, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	from.pageSize = size
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	running.Go(func() {
		if err := c.Start(ctx); err != nil {
			t.Error(err)
		}
	})
	synced, watched := make(chan struct{}), make(chan error, 1)
	running.Go(func() { watched <- from.Watch(ctx, &firstSync{Sink: sink, end: func() { close(synced) }}, owner) })
	select {
	case <-synced:
		return nil
	case err := <-watched:
		return err
	}
}

// view is the cluster as a sink was told, of one namespace.
type view struct {
	ns string

	mu     sync.Mutex // guards the fields below
	now    map[desired.Ref]metav1.Object
	gone   map[desired.Ref]int
	missed []desired.Ref
	synced []int // how many objects were there at each call of Synced

	records map[aci.ExtEPG]desired.Record
}

func newView(ns string) *view {
	return &view{ns: ns, now: map[desired.Ref]metav1.Object{}, gone: map[desired.Ref]int{}, records: map[aci.ExtEPG]desired.Record{}}
}

// Fold takes what concerns the namespace.
func (v *view) Fold(r desired.Ref, obj metav1.Object) {
	if r.Namespace != v.ns && (r.Kind != desired.KindNamespace || r.Name != v.ns) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if obj == nil {
		delete(v.now, r)
		v.gone[r]++
		return
	}
	v.now[r] = obj
}

// Missed notes what is in the namespace, and is as good as gone else.
func (v *view) Missed(r desired.Ref) {
	if r.Namespace == v.ns {
		v.mu.Lock()
		v.missed = append(v.missed, r)
		v.mu.Unlock()
	}
	v.Fold(r, nil)
}

// Recorded takes what concerns the tenant that is named like the namespace.
func (v *view) Recorded(e aci.ExtEPG, rec *desired.Record) {
	if e.Tenant != v.ns {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if rec == nil {
		delete(v.records, e)
		return
	}
	v.records[e] = *rec
}

// Synced notes how much was there.
func (v *view) Synced() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.synced = append(v.synced, len(v.now))
}

func (v *view) kinds() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := map[string]int{}
	for r := range v.now {
		n[r.Kind]++
	}
	return n
}

func (v *view) has(kind, name string) metav1.Object {
	v.mu.Lock()
	defer v.mu.Unlock()
	ns := v.ns
	if kind == desired.KindNamespace {
		ns = ""
	}
	return v.now[desired.Ref{Kind: kind, Namespace: ns, Name: name}]
}

func TestWatch_tells_of_all_that_is_there_before_Synced_and_then_of_what_happens(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.deployment(t, 2)
	_, err := s.client.CoreV1().Services(s.ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		pods, err := s.client.CoreV1().Pods(s.ns).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(pods.Items) != 2 {
			err = fmt.Errorf("%d Pods", len(pods.Items))
		}
		return err
	})

	v := newView(s.ns)
	if err := s.watch(t.Context(), t, v, ""); err != nil {
		t.Fatal(err)
	}
	all := map[string]int{"Namespace": 1, "Deployment": 1, "ReplicaSet": 1, "Pod": 2, "Service": 1}
	if d := cmp.Diff(all, v.kinds()); d != "" {
		t.Errorf("when synced (-want +got)\n%s", d)
	}
	if d := cmp.Diff([]int{6}, v.synced); d != "" {
		t.Errorf("objects at each Synced (-want +got)\n%s", d)
	}
	if ns := v.has(desired.KindNamespace, s.ns); ns == nil || ns.GetLabels()["team"] != "net" {
		t.Errorf("namespace %v", ns)
	}
	d, _ := v.has(desired.KindDeployment, "web").(*appsv1.Deployment)
	if d == nil || d.Annotations[desired.Annotation] != "{}" || len(d.Annotations) != 1 || d.Spec.Template.Labels["app"] != "web" ||
		len(d.Spec.Template.Spec.Containers) != 0 || len(d.ManagedFields) != 0 {
		t.Errorf("the Deployment is kept as %+v", d)
	}

	// Addresses come with updates.
	eventually(t, func() error {
		svc, _ := v.has(desired.KindService, "web").(*corev1.Service)
		if svc == nil || len(svc.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("Service is %+v", svc)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		for r, obj := range v.now {
			if p, ok := obj.(*corev1.Pod); ok && len(p.Status.PodIPs) != 2 {
				return fmt.Errorf("%v has addresses %v", r, p.Status.PodIPs)
			}
		}
		return nil
	})
	_, err = s.client.AppsV1().Deployments(s.ns).Patch(t.Context(), "web", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"`+desired.Annotation+`":"new"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if got := v.has(desired.KindDeployment, "web").GetAnnotations()[desired.Annotation]; got != "new" {
			return fmt.Errorf("annotation is %q", got)
		}
		return nil
	})

	// Everything goes, and each is told of as gone.
	if err := s.client.AppsV1().Deployments(s.ns).Delete(t.Context(), "web", metav1.DeleteOptions{
		PropagationPolicy: new(metav1.DeletePropagationBackground),
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.client.CoreV1().Services(s.ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if d := cmp.Diff(map[string]int{"Namespace": 1}, v.kinds()); d != "" {
			return fmt.Errorf("still there (-want +got)\n%s", d)
		}
		return nil
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.gone) != 5 || len(v.synced) != 1 {
		t.Errorf("gone are %v, synced %v", v.gone, v.synced)
	}
}

func TestWatch_ends_with_its_context_when_the_caches_do_not_sync(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	v := newView(s.ns)
	if err := s.watchAs(ctx, t, rest.AnonymousClientConfig(s.cfg), pageSize, v, ""); err == nil || v.synced != nil {
		t.Errorf("returned %v after %d calls of Synced, although nothing may be listed", err, len(v.synced))
	}
}

func TestLook_tells_of_all_that_is_there_and_returns(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.deployment(t, 0)
	v := newView(s.ns)
	if err := Look(t.Context(), ReadOnly(s.cfg), v, ""); err != nil {
		t.Fatal(err)
	}
	if v.has(desired.KindDeployment, "web") == nil || len(v.synced) != 1 {
		t.Errorf("saw %v, synced %v", v.kinds(), v.synced)
	}
}

func TestLook_gives_up_at_the_first_refusal_and_says_which(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// Bound to a user who may read nothing, but who may find out what kinds there are.
	cfg := rest.CopyConfig(s.cfg)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:authenticated"}}
	v := newView(s.ns)
	err := Look(t.Context(), cfg, v, "")
	if err == nil || !strings.HasPrefix(err.Error(), "list ") || !strings.Contains(err.Error(), "forbidden") || v.synced != nil {
		t.Errorf("returned %v after %d calls of Synced", err, len(v.synced))
	}
}

// What keeps it from looking ends it: nobody hangs at a command because the API server is gone.
func TestLook_gives_up_when_nothing_answers(t *testing.T) {
	t.Parallel()
	for what, owner := range map[string]aci.Owner{"without records": "", "with records": "k1"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			v := newView("any")
			if err := Look(ctx, &rest.Config{Host: "http://127.0.0.1:1"}, v, owner); !errors.Is(err, syscall.ECONNREFUSED) || v.synced != nil {
				t.Errorf("returned %v after %d calls of Synced", err, len(v.synced))
			}
		})
	}
}

func TestReadOnly_clients_cannot_write(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c, err := kubernetes.NewForConfig(ReadOnly(s.cfg))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Namespaces().Get(t.Context(), s.ns, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	all := c.CoreV1().ConfigMaps(s.ns)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}}
	_, create := all.Create(t.Context(), m, metav1.CreateOptions{})
	_, update := all.Update(t.Context(), m, metav1.UpdateOptions{})
	_, patch := all.Patch(t.Context(), "kube-root-ca.crt", types.MergePatchType, []byte("{}"), metav1.PatchOptions{})
	for what, err := range map[string]error{
		"create": create, "update": update, "patch": patch, "delete": all.Delete(t.Context(), "m", metav1.DeleteOptions{}),
		"delete all": all.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}),
	} {
		if !errors.Is(err, errReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.client.CoreV1().ConfigMaps(s.ns).Get(t.Context(), "m", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it was written: %v", err)
	}
}

func TestClusterID_is_the_UID_of_kube_system(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ns, err := s.client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(s.cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ClusterID(t.Context(), c); err != nil || string(got) != string(ns.UID) {
		t.Errorf("got %q, %v, want %q", got, err, ns.UID)
	}
	nobody, err := client.New(rest.AnonymousClientConfig(s.cfg), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ClusterID(t.Context(), nobody); err == nil || !strings.Contains(err.Error(), "kube-system") {
		t.Errorf("without rights: %v", err)
	}
}

// notes runs Notes.
func (s server) notes(t *testing.T) *Notes {
	t.Helper()
	objects, err := client.New(s.cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNotes(s.cfg, objects)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	return n
}

// events are those that kubectl describe shows for an object: found by its UID.
func (s server) events(t *testing.T, uid types.UID) ([]corev1.Event, error) {
	t.Helper()
	list, err := s.client.CoreV1().Events(s.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(uid)})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return e.Source.Component != "aci-sync" }), nil
}

func TestNotes_are_what_kubectl_describe_shows_and_are_counted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := s.deployment(t, 0)
	n := s.notes(t)
	r := desired.Ref{Kind: desired.KindDeployment, Namespace: s.ns, Name: "web"}
	for range 3 {
		n.Note(r, false, "Synced", "addresses were added")
	}
	n.Note(r, true, "InvalidAnnotation", "one mistake")
	n.Note(r, true, "InvalidAnnotation", "another mistake")
	n.Note(desired.Ref{Kind: desired.KindDeployment, Namespace: s.ns, Name: "none"}, true, "X", "nobody")
	n.Note(desired.Ref{Kind: desired.KindPod, Namespace: s.ns, Name: "web"}, true, "X", "nobody")
	want := []string{
		"Normal Synced addresses were added 3", "Warning InvalidAnnotation another mistake 1", "Warning InvalidAnnotation one mistake 1",
	}
	eventually(t, func() error {
		list, err := s.events(t, d.UID)
		if err != nil {
			return err
		}
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprintf("%s %s %s %d", e.Type, e.Reason, e.Message, e.Count))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("(-want +got)\n%s", diff)
		}
		return nil
	})
}

func TestNotes_reach_workloads_of_every_kind(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	name := metav1.ObjectMeta{Name: "web"}
	pods := metav1.LabelSelector{MatchLabels: map[string]string{"app": "none"}}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: pods.MatchLabels},
		Spec: corev1.PodSpec{
			NodeSelector: pods.MatchLabels, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}},
		},
	}
	set, err := s.client.AppsV1().StatefulSets(s.ns).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: name, Spec: appsv1.StatefulSetSpec{Replicas: new(int32(0)), Selector: &pods, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	daemons, err := s.client.AppsV1().DaemonSets(s.ns).Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: name, Spec: appsv1.DaemonSetSpec{Selector: &pods, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := s.client.CoreV1().Services(s.ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: name, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := s.notes(t)
	for kind, uid := range map[string]types.UID{
		desired.KindStatefulSet: set.UID, desired.KindDaemonSet: daemons.UID, desired.KindService: svc.UID,
	} {
		n.Note(desired.Ref{Kind: kind, Namespace: s.ns, Name: "web"}, true, "InvalidAnnotation", "a mistake")
		eventually(t, func() error {
			list, err := s.events(t, uid)
			if err == nil && (len(list) != 1 || list[0].InvolvedObject.Kind != kind) {
				err = fmt.Errorf("%s has Events %v", kind, list)
			}
			return err
		})
	}
}

// The recorder lets only so many Events of one object pass. What is routine must not use up what
// a person needs to see.
func TestNotes_warn_also_after_many_others(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := s.deployment(t, 0)
	n := s.notes(t)
	r := desired.Ref{Kind: desired.KindDeployment, Namespace: s.ns, Name: "web"}
	for range 60 {
		n.Note(r, false, "Synced", "addresses were added")
	}
	n.Note(r, true, "InvalidAnnotation", "a mistake")
	eventually(t, func() error {
		list, err := s.events(t, d.UID)
		if err == nil && !slices.ContainsFunc(list, func(e corev1.Event) bool { return e.Message == "a mistake" }) {
			err = fmt.Errorf("no warning among %d Events", len(list))
		}
		return err
	})
}

func TestNotes_are_cut_between_letters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := s.deployment(t, 0)
	n := s.notes(t)
	n.Note(desired.Ref{Kind: desired.KindDeployment, Namespace: s.ns, Name: "web"}, true, "Long", "x"+strings.Repeat("ß", 2000))
	eventually(t, func() error {
		list, err := s.events(t, d.UID)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("no Event")
		}
		if err != nil {
			return err
		}
		if m := list[0].Message; len(m) > maxNote || len(m) < maxNote-4 || !utf8.ValidString(m) || strings.ContainsRune(m, utf8.RuneError) {
			t.Fatalf("%d bytes that end in %q", len(m), m[len(m)-8:])
		}
		return nil
	})
}
