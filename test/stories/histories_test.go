package stories_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/test/history"
)

var (
	historySeed   = flag.Uint64("history-seed", 0, "play the history of this seed only")
	historyBudget = flag.Duration("history-budget", 50*time.Second, "how long to begin histories")
)

// atOnce is how many histories are played at a time: they wait most of it.
const atOnce = 6

// TestHistories plays random histories of test/history on the real control plane with the real program, several
// at a time, and asks the same oracle. Here nothing is exact to the millisecond, so what wins is known only where
// a single thing happened.
func TestHistories(t *testing.T) {
	t.Parallel()
	if *historySeed != 0 {
		playHistory(t, *historySeed)
		return
	}
	var seed, steps, played atomic.Int64
	began := time.Now()
	t.Run("players", func(t *testing.T) {
		for n := range atOnce {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				for time.Since(began) < *historyBudget && !t.Failed() {
					n := 2 * uint64(seed.Add(1))
					t.Run(fmt.Sprintf("seed %d", n), func(t *testing.T) {
						steps.Add(int64(playHistory(t, n)))
						played.Add(1)
					})
				}
			})
		}
	})
	t.Logf("%d histories, %d steps in %v", played.Load(), steps.Load(), time.Since(began).Round(time.Second))
}

// playHistory plays the history of a seed, and returns how many steps it had.
func playHistory(t *testing.T, seed uint64) int {
	t.Helper()
	h := history.Generate(seed, history.Limits{Real: true})
	p := newPlayer(t, h.With)
	for i, s := range h.Steps {
		if !p.do(s) {
			t.Fatalf("seed %d, after step %d, %s, of\n%s", seed, i+1, s, h)
		}
	}
	if !p.settle(true) {
		t.Fatalf("seed %d, at the end of\n%s", seed, h)
	}
	return len(h.Steps)
}

// players counts players.
var players atomic.Uint32

// player plays a history in a story of its own, with namespaces, tenants, addresses, a cluster id and an aci-sync of its own.
type player struct {
	*story
	t        *testing.T
	suffix   string            // of the names of tenants and of the cluster id: others play at the same time
	nets     *strings.Replacer // puts the player's own addresses for those of a history: all Pods of a cluster count
	histNets *strings.Replacer // and back
	with     map[string]bool
	ns       map[string]string                   // of the history -> on the API server
	sets     map[types.UID]metav1.OwnerReference // Deployment -> its ReplicaSet
	cluster  *history.Cluster
	told     map[history.Ref]metav1.Object
	mind     *history.Mind
	snapshot history.Fabric

	before  history.Fabric // after the last step
	last    history.Fabric // when all had come to rest
	was     map[string]history.Record
	touched map[string]bool // since
	since   int             // steps since
}

const keep = "history.aci-sync.example.com/keep"

func newPlayer(t *testing.T, with []string) *player {
	t.Helper()
	s, err := newStory(t, &testscript.Env{WorkDir: t.TempDir(), Vars: []string{"TESTSCRIPT_NAME=history"}})
	if err != nil {
		t.Fatal(err)
	}
	p := &player{
		story: s, t: t, ns: map[string]string{}, sets: map[types.UID]metav1.OwnerReference{}, cluster: history.NewCluster(),
		touched: map[string]bool{}, told: map[history.Ref]metav1.Object{},
		suffix: "_" + s.ns[strings.LastIndexByte(s.ns, '-')+1:], with: map[string]bool{},
	}
	for _, w := range with {
		p.with[w] = true
	}
	n := players.Add(1)
	v4, v6 := fmt.Sprintf("10.%d.%d.", n>>8, n&255), fmt.Sprintf("fd00:%x::", n)
	p.nets, p.histNets = strings.NewReplacer("10.0.0.", v4, "fd00::", v6), strings.NewReplacer(v4, "10.0.0.", v6, "fd00::")
	s.cluster = history.Owner + p.suffix
	s.lawsOff["twice"] = true // it knows one VRF of a tenant; the oracle knows them all
	shop, drop, err := shared.lab.Namespace(s.ctx, "history-shop")
	if err != nil {
		t.Fatal(err)
	}
	p.ns["lab"], p.ns["shop"] = s.ns, shop // in this order they are older, too
	t.Cleanup(func() {
		if err := drop(context.WithoutCancel(s.ctx)); err != nil {
			t.Error(err)
		}
	})
	p.edit(history.SetUp())
	p.last, p.touched = p.look(), map[string]bool{}
	t.Cleanup(func() {
		p.end()
		p.release()
	})
	p.start()
	return p
}

// release lets go of what would keep the namespaces, and of the records.
func (p *player) release() {
	ctx := context.WithoutCancel(p.ctx)
	for _, ns := range p.ns {
		pods, _ := p.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		for _, o := range pods.Items {
			_, _ = p.client.CoreV1().Pods(ns).Patch(ctx, o.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		}
		sets, _ := p.client.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
		for _, o := range sets.Items {
			_, _ = p.client.AppsV1().ReplicaSets(ns).Patch(ctx, o.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		}
	}
	for _, x := range p.externalEPGs() {
		if err := p.client.RESTClient().Delete().AbsPath(externalEPGs, x.Name).Do(ctx).Error(); err != nil && !apierrors.IsNotFound(err) {
			p.t.Error(err)
		}
	}
}

// externalEPGs are the records of the history.
func (p *player) externalEPGs() []v1alpha1.ExternalEPG {
	data, err := p.client.RESTClient().Get().AbsPath(externalEPGs).DoRaw(context.WithoutCancel(p.ctx))
	var list v1alpha1.ExternalEPGList
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(x v1alpha1.ExternalEPG) bool { return x.Spec.Cluster != p.story.cluster })
}

func (p *player) records(counts bool) map[string]history.Record {
	out := map[string]history.Record{}
	for _, x := range p.externalEPGs() {
		r := history.Record{
			Managed: x.Spec.Managed, Owner: strings.TrimSuffix(x.Spec.Owner, p.suffix), Paused: x.Annotations[v1alpha1.PausedAnnotation] == "true",
			Desired: int(x.Status.Desired), Present: int(x.Status.Present),
		}
		if !counts {
			r.Desired, r.Present = -1, -1
		}
		for _, w := range x.Spec.Workloads {
			r.Members = append(r.Members, w.UID)
		}
		out[x.Spec.L3Out+"/"+x.Spec.EPG] = r
	}
	return out
}

func (p *player) start() {
	if q := p.procs["sync"]; q != nil && q.running() {
		return
	}
	var members []history.Member
	for _, x := range p.externalEPGs() {
		for _, w := range x.Spec.Workloads {
			all := len(w.Expose) == 0
			members = append(members, history.Member{
				UID: w.UID, EPG: x.Spec.L3Out + "/" + x.Spec.EPG,
				Pods: all || slices.Contains(w.Expose, "pods"), Services: all || slices.Contains(w.Expose, "services"),
			})
		}
	}
	mind := history.NewMind(members)
	if p.mind != nil {
		mind.Follow(p.mind)
	}
	p.mind = mind
	p.mind.Hear(p.cluster.Clone())
	flags := []string{
		"--namespace-selector=kubernetes.io/metadata.name in (" + p.ns["lab"] + "," + p.ns["shop"] + ")", "--resync-interval=10s",
		fmt.Sprintf("--orphan-limit=%d", p.limit()),
	}
	for word, flag := range map[string]string{
		"upsert": "--policy=upsert-only", "always": "--epg-deletion=always", "allow": "--allow=" + p.here(strings.Join(history.Allowed, ",")),
	} {
		if p.with[word] {
			flags = append(flags, flag)
		}
	}
	if err := p.story.start("sync", true, nil, flags); err != nil {
		p.t.Fatal(err)
	}
	p.mind.Begin()
}

// limit is that of the orphan guard.
func (p *player) limit() int {
	if p.with["guard"] {
		return 2
	}
	return 20
}

var ownNames = regexp.MustCompile(`\btn-[TU]\b|"tenant":"[TU]|\b[TU]/|\b` + history.Owner + `\b|"(?:lab|shop)::`)

// here puts the player's own names where a history names a tenant, the cluster or a namespace.
func (p *player) here(text string) string {
	return ownNames.ReplaceAllStringFunc(p.nets.Replace(text), func(name string) string {
		if tenant, ok := strings.CutSuffix(name, "/"); ok {
			return tenant + p.suffix + "/"
		}
		if ns, ok := strings.CutSuffix(name, "::"); ok {
			return `"` + p.ns[ns[1:]] + "::"
		}
		return name + p.suffix
	})
}

// look reads the fabric; what is the player's own is named as in the history.
func (p *player) look() history.Fabric {
	dump := p.histNets.Replace(strings.ReplaceAll(p.sim.Dump("uni"), p.suffix, ""))
	for name, ns := range p.ns {
		dump = strings.ReplaceAll(dump, `name="`+ns+"::", `name="`+name+"::")
	}
	return history.ParseDump(dump)
}

func (p *player) edit(edits []history.Edit) {
	for _, e := range edits {
		var err error
		switch {
		case e.Body == "":
			err = p.sim.Delete(p.here(e.DN))
		case e.Seed:
			err = p.sim.Seed([]byte(p.here(e.Body)))
		default:
			err = p.sim.Post(p.here(e.DN), p.here(e.Body))
		}
		// Others write at the same time: what is not there any more cannot be deleted.
		if err != nil && !strings.Contains(err.Error(), "404") {
			p.t.Fatal(err)
		}
		for _, path := range history.Paths() {
			dn := history.DN(path)
			if dn == e.DN || strings.HasPrefix(dn, e.DN+"/") || strings.HasPrefix(e.DN, dn+"/") && (strings.Contains(path, "/") || strings.HasSuffix(e.DN, "/rsectx")) {
				p.touched[path] = true
			}
		}
	}
}

// do does a step; false when the fabric did not become what it must.
func (p *player) do(s history.Step) bool {
	if s.Verb != "settle" {
		p.since++
	}
	switch s.Verb {
	case "settle":
		return p.settle(false)
	case "snapshot":
		p.snapshot = p.look()
	case "stop", "kill":
		q := p.procs["sync"]
		if q == nil || !q.running() {
			break
		}
		if s.Verb == "stop" {
			if err := q.stop(); err != nil {
				p.t.Fatal(err)
			}
			break
		}
		p.since++ // what it did last, the next one might not have done
		_ = q.cmd.Process.Kill()
		<-q.ended
		p.start()
	case "start":
		p.start()
	case "sleep":
		if d, err := time.ParseDuration(s.Args[0]); err == nil {
			time.Sleep(d)
		}
	case "fault":
		p.fault(s.Args[0])
	default:
		p.before = p.look()
		if !p.cluster.Apply(s) {
			p.edit(p.look().Edits(s, p.snapshot))
			p.before = p.look()
			break
		}
		p.push()
		p.mind.Hear(p.cluster.Clone())
	}
	return true
}

func (p *player) fault(what string) {
	post := "^POST /api/mo/"
	f, ok := map[string]apicsim.Fault{
		"503": {Match: post, Status: 503}, "before": {Match: post, Hangup: true}, "after": {Match: post, Hangup: true, After: true},
		"202": {Match: post, Status: 202}, "reads": {Match: "^GET /api/", Status: 503, Times: 3},
		"sessions": {ExpireSessions: true}, "sockets": {CloseSockets: true},
	}[what]
	if !ok {
		return // events that get lost are noticed by a read only, which takes too long
	}
	if err := p.sim.AddFault(f); err != nil {
		p.t.Fatal(err)
	}
}

// settleWithin is how long it may take until all is as it must be, on a machine that is busy: a resync, and
// backoff after faults.
const settleWithin = 40 * time.Second

// settle waits until all is as it must be, and stays so.
func (p *player) settle(end bool) bool {
	p.start()
	p.sim.ClearFaults()
	if p.since == 0 || p.before == nil {
		p.before = p.last
	}
	var bad []string
	var after history.Fabric
	var is map[string]history.Record
	deadline := time.Now().Add(settleWithin)
	for good := 0; ; time.Sleep(100 * time.Millisecond) {
		after, is = p.look(), p.records(end)
		mind := *p.mind
		s := history.Settled{
			Before: p.before, After: after, Last: p.last, Mind: &mind, Was: p.was, Is: is, Exact: p.since <= 1, Guard: p.limit(),
			Policies: p.with,
			Touched:  func(path string) bool { return p.touched[path] },
		}
		if bad = s.Check(); p.since <= 1 {
			t := history.Transaction{
				Before: p.before, After: after, Policies: p.with,
				Fresh: func(string) bool { return false }, UnderWay: func(string) bool { return false }, Stripped: func(string) bool { return false },
				Recorded: func(epg string) bool { r := p.was[epg]; return r.Managed != nil && *r.Managed },
			}
			bad = append(bad, t.Written()...)
		}
		if good++; len(bad) > 0 {
			good = 0
		}
		if time.Now().After(deadline) {
			p.t.Errorf("not within %v:\n%s", settleWithin, strings.Join(bad, "\n"))
			return false
		}
		if good == 3 {
			break
		}
	}
	p.mind.Thaw(func(epg, ip string) bool { return after.Has(epg + "/" + ip) })
	p.mind.Rest(after, func(path string) bool { return p.touched[path] })
	p.last, p.was, p.touched, p.since, p.before = after, is, map[string]bool{}, 0, nil
	return true
}

// push brings the API server to what the cluster of the history holds.
func (p *player) push() {
	now := p.cluster.Objects()
	for r, o := range p.told {
		if n := now[r]; n == nil || n.GetUID() != o.GetUID() {
			p.withdraw(r, o)
			delete(p.told, r)
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(now), func(a, b history.Ref) int { return strings.Compare(a.String(), b.String()) }) {
		if !reflect.DeepEqual(p.told[r], now[r]) {
			p.put(r, now[r], p.told[r] == nil)
		}
	}
	p.told = p.cluster.Objects()
}

func (p *player) check(err error) {
	p.t.Helper()
	if err != nil && !apierrors.IsNotFound(err) {
		p.t.Fatal(err)
	}
}

var unkept = []byte(`{"metadata":{"finalizers":null}}`)

// withdraw deletes an object.
func (p *player) withdraw(r history.Ref, o metav1.Object) {
	ns, now := p.ns[r.Namespace], metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	switch r.Kind {
	case "Deployment":
		p.check(p.client.AppsV1().Deployments(ns).Delete(p.ctx, r.Name, now))
		_, err := p.client.AppsV1().ReplicaSets(ns).Patch(p.ctx, setName(r.Name, o.GetUID()), types.MergePatchType, unkept, metav1.PatchOptions{})
		p.check(err)
	case "StatefulSet":
		p.check(p.client.AppsV1().StatefulSets(ns).Delete(p.ctx, r.Name, now))
	case "DaemonSet":
		p.check(p.client.AppsV1().DaemonSets(ns).Delete(p.ctx, r.Name, now))
	case "Service":
		p.check(p.client.CoreV1().Services(ns).Delete(p.ctx, r.Name, now))
	case "Pod":
		_, err := p.client.CoreV1().Pods(ns).Patch(p.ctx, r.Name, types.MergePatchType, unkept, metav1.PatchOptions{})
		p.check(err)
		p.check(p.client.CoreV1().Pods(ns).Delete(p.ctx, r.Name, now))
	}
}

// setName is the name of a Deployment's ReplicaSet.
func setName(deployment string, uid types.UID) string { return deployment + "-" + string(uid[:8]) }

// annotations is a merge patch: what is not in m goes.
func (p *player) annotations(m map[string]string) []byte {
	all := map[string]any{}
	for _, key := range []string{"l3o", "l3o-default", "ignore", "paused"} {
		key = v1alpha1.Group + "/" + key
		if all[key] = nil; m[key] != "" {
			all[key] = p.here(m[key])
		}
	}
	body, _ := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": all}})
	return body
}

// put makes or changes an object.
func (p *player) put(r history.Ref, obj metav1.Object, create bool) {
	ns := p.ns[r.Namespace]
	meta := metav1.ObjectMeta{Name: r.Name, Annotations: map[string]string{}}
	for key, value := range obj.GetAnnotations() {
		meta.Annotations[key] = p.here(value)
	}
	var made metav1.Object
	var err error
	switch o := obj.(type) {
	case *metav1.PartialObjectMetadata:
		if r.Kind == "Namespace" {
			_, err = p.client.CoreV1().Namespaces().Patch(p.ctx, p.ns[r.Name], types.MergePatchType, p.annotations(o.Annotations), metav1.PatchOptions{})
		}
		p.check(err)
		return
	case *appsv1.Deployment:
		if !create {
			_, err = p.client.AppsV1().Deployments(ns).Patch(p.ctx, r.Name, types.MergePatchType, p.annotations(o.Annotations), metav1.PatchOptions{})
			break
		}
		made, err = p.client.AppsV1().Deployments(ns).Create(p.ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(0)), Selector: selector(r.Name), Template: template(r.Name, o.Spec.Template.Labels["app"]),
		}}, metav1.CreateOptions{})
		p.check(err)
		p.own(r.Name, ns, made.GetUID(), o.Spec.Template.Labels["app"])
	case *appsv1.StatefulSet:
		if !create {
			_, err = p.client.AppsV1().StatefulSets(ns).Patch(p.ctx, r.Name, types.MergePatchType, p.annotations(o.Annotations), metav1.PatchOptions{})
			break
		}
		made, err = p.client.AppsV1().StatefulSets(ns).Create(p.ctx, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(0)), Selector: selector(r.Name), Template: template(r.Name, o.Spec.Template.Labels["app"]),
		}}, metav1.CreateOptions{})
	case *appsv1.DaemonSet:
		if !create {
			_, err = p.client.AppsV1().DaemonSets(ns).Patch(p.ctx, r.Name, types.MergePatchType, p.annotations(o.Annotations), metav1.PatchOptions{})
			break
		}
		pods := template(r.Name, o.Spec.Template.Labels["app"])
		pods.Spec.NodeSelector = map[string]string{keep: "nowhere"} // its Pods are what the history says
		made, err = p.client.AppsV1().DaemonSets(ns).Create(p.ctx, &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{
			Selector: selector(r.Name), Template: pods,
		}}, metav1.CreateOptions{})
	case *corev1.Service:
		made, err = p.putService(ns, meta, o, create)
	case *corev1.Pod:
		p.putPod(ns, meta, o, create)
		return
	}
	p.check(err)
	if create {
		p.cluster.Learn(r, made.GetUID(), made.GetCreationTimestamp().Time)
	}
}

func selector(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"of": name}}
}

func template(name, app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": name, "app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}}},
	}
}

// own makes the ReplicaSet that a history's Pods belong to. It is being deleted from its first day, and kept by a
// finalizer: so its controller leaves it alone, and the Pods are what the history says.
func (p *player) own(name, ns string, deployment types.UID, app string) {
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: setName(name, deployment), Labels: map[string]string{"of": name, "app": app}, Finalizers: []string{keep},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: name, UID: deployment, Controller: new(true)}},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), Selector: selector(name), Template: template(name, app)},
	}
	made, err := p.client.AppsV1().ReplicaSets(ns).Create(p.ctx, set, metav1.CreateOptions{})
	p.check(err)
	p.check(p.client.AppsV1().ReplicaSets(ns).Delete(p.ctx, set.Name, metav1.DeleteOptions{}))
	p.sets[deployment] = metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: made.Name, UID: made.UID, Controller: new(true)}
}

func (p *player) putService(ns string, meta metav1.ObjectMeta, o *corev1.Service, create bool) (metav1.Object, error) {
	services := p.client.CoreV1().Services(ns)
	if create {
		_, err := services.Create(p.ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: o.Spec.Selector, Ports: []corev1.ServicePort{{Port: 80}},
			LoadBalancerClass: new(keep), AllocateLoadBalancerNodePorts: new(false), // nobody's but the history's
		}}, metav1.CreateOptions{})
		p.check(err)
	} else {
		_, err := services.Patch(p.ctx, meta.Name, types.MergePatchType, p.annotations(o.Annotations), metav1.PatchOptions{})
		p.check(err)
		body, _ := json.Marshal([]map[string]any{{"op": "add", "path": "/spec/selector", "value": o.Spec.Selector}})
		_, err = services.Patch(p.ctx, meta.Name, types.JSONPatchType, body, metav1.PatchOptions{})
		p.check(err)
	}
	body, _ := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": o.Status.LoadBalancer.Ingress}}})
	body = []byte(p.nets.Replace(string(body)))
	return services.Patch(p.ctx, meta.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
}

func (p *player) putPod(ns string, meta metav1.ObjectMeta, o *corev1.Pod, create bool) {
	pods := p.client.CoreV1().Pods(ns)
	if create {
		owner := types.UID(strings.TrimPrefix(string(o.OwnerReferences[0].UID), "rs-"))
		meta.Finalizers = []string{keep}
		meta.OwnerReferences = []metav1.OwnerReference{p.sets[owner]}
		spec := template("", "").Spec
		spec.SchedulerName, spec.HostNetwork = "nobody", o.Spec.HostNetwork
		_, err := pods.Create(p.ctx, &corev1.Pod{ObjectMeta: meta, Spec: spec}, metav1.CreateOptions{})
		p.check(err)
	}
	status, _ := json.Marshal(map[string]any{"status": map[string]any{
		"phase": o.Status.Phase, "podIP": o.Status.PodIPs[0].IP, "podIPs": o.Status.PodIPs,
	}})
	status = []byte(p.nets.Replace(string(status)))
	if old, err := pods.Patch(p.ctx, meta.Name, types.MergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		p.t.Fatal(err)
	} else if o.DeletionTimestamp != nil && old.DeletionTimestamp == nil {
		p.check(pods.Delete(p.ctx, meta.Name, metav1.DeleteOptions{}))
	}
}
