package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	annotation = "aci.haystacknetworks.com/l3o"
	// stepLabel is on all that one step of the bench makes.
	stepLabel = "bench"
	// hands is how many requests to the API server are under way at once.
	hands = 16
)

// workload is an annotated Deployment with so many Pods.
type workload struct {
	name, epg string
	l3out     int
	pods      int
}

// crowd are the workloads that bring what is there from one number of subnets to another, in Pods
// of two addresses: half of them in a large EPG in each L3Out, half in EPGs of twenty. So what
// grows are both the EPGs and their number.
func crowd(from, to int) []workload {
	const small = 10
	pods := (to - from) / 2
	var list []workload
	step := fmt.Sprintf("s%d", to)
	few := pods / 2
	for i := range l3outs {
		list = append(list, workload{name: fmt.Sprintf("%s-large%d", step, i), epg: largeEPG, l3out: i, pods: share(pods-few, i)})
	}
	for i := 0; few > 0; i++ {
		n := min(few, small)
		name := fmt.Sprintf("%s-small%d", step, i)
		list = append(list, workload{name: name, epg: name, l3out: i % l3outs, pods: n})
		few -= n
	}
	return list
}

// largeEPG is the EPG of each L3Out in which half of everything is, and all that is measured.
const largeEPG = "LARGE"

// share is how many of n fall on the L3Out i.
func share(n, i int) int { return n/l3outs + min(1, max(0, n%l3outs-i)) }

// make makes workloads and returns their Pods, which have no addresses yet, by workload.
func (r *rig) make(ctx context.Context, step string, list []workload) ([][]string, error) {
	if err := parallel(ctx, len(list), func(ctx context.Context, i int) error { return r.deploy(ctx, step, list[i]) }); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	total := 0
	for _, w := range list {
		total += w.pods
	}
	for {
		pods, err := r.client.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: stepLabel + "=" + step, ResourceVersion: "0"})
		if err != nil {
			return nil, err
		}
		if len(pods.Items) == total {
			names := map[string][]string{}
			for _, p := range pods.Items {
				names[p.Labels["app"]] = append(names[p.Labels["app"]], p.Name)
			}
			out := make([][]string, len(list))
			for i, w := range list {
				out[i] = names[w.name]
			}
			return out, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d Pods are there after %v", len(pods.Items), total, patience)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// deploy makes a Deployment; where nobody else does, also its ReplicaSet and its Pods. They name a
// scheduler that there is not, so that nobody but us gives them addresses.
func (r *rig) deploy(ctx context.Context, step string, w workload) error {
	labels := map[string]string{"app": w.name, stepLabel: step}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			Containers:    []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}},
		},
	}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	d, err := r.client.AppsV1().Deployments(r.namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: w.name, Labels: labels, Annotations: map[string]string{
			annotation: fmt.Sprintf(`{"tenant":%q, "l3out":%q, "epg":%q}`, r.name, l3outName(w.l3out), w.epg),
		}},
		Spec: appsv1.DeploymentSpec{Replicas: new(int32(w.pods)), Selector: selector, Template: template},
	}, metav1.CreateOptions{})
	if err != nil || !r.bare {
		return err
	}
	s, err := r.client.AppsV1().ReplicaSets(r.namespace).Create(ctx, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: w.name, Labels: labels, OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment")),
		}},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(w.pods)), Selector: selector, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	owner := *metav1.NewControllerRef(s, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	return parallel(ctx, w.pods, func(ctx context.Context, i int) error {
		_, err := r.client.CoreV1().Pods(r.namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("%s-%d", w.name, i), Labels: labels, OwnerReferences: []metav1.OwnerReference{owner},
			},
			Spec: template.Spec,
		}, metav1.CreateOptions{})
		return err
	})
}

// addresses hands out addresses, none of them twice. It is safe for concurrent use.
type addresses struct {
	mu     sync.Mutex
	v4, v6 netip.Addr
}

func newAddresses() *addresses {
	return &addresses{v4: netip.MustParseAddr("10.0.0.0"), v6: netip.MustParseAddr("fd00::")}
}

func (a *addresses) one() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.v4 = a.v4.Next()
	return []string{a.v4.String()}
}

func (a *addresses) both() []string {
	v4 := a.one()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.v6 = a.v6.Next()
	return append(v4, a.v6.String())
}

// address lets a Pod have come to run, with these addresses, and returns when the API server has
// taken that in.
func (r *rig) address(ctx context.Context, pod string, ips []string) error {
	list := make([]string, len(ips))
	for i, ip := range ips {
		list[i] = fmt.Sprintf(`{"ip":%q}`, ip)
	}
	patch := fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[%s]}}`, ips[0], strings.Join(list, ","))
	_, err := r.client.CoreV1().Pods(r.namespace).Patch(ctx, pod, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	return err
}

// churn lets Pods come and go until stop is closed, so many a second: half of them get their address,
// the other half, which got theirs a second ago, are deleted. It returns how many it was a second.
func (r *rig) churn(ctx context.Context, stop <-chan struct{}, pods []string, rate int) (float64, error) {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(hands)
	tick := time.NewTicker(2 * time.Second / time.Duration(rate))
	defer tick.Stop()
	var done atomic.Int64
	for i, pod := range pods {
		ip := r.ips.one()
		g.Go(func() error {
			done.Add(1)
			return r.address(ctx, pod, ip)
		})
		if before := i - rate/2; before >= 0 {
			g.Go(func() error {
				done.Add(1)
				return r.client.CoreV1().Pods(r.namespace).Delete(ctx, pods[before], metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
			})
		}
		select {
		case <-tick.C:
		case <-stop:
			took := time.Since(began)
			return float64(done.Load()) / took.Seconds(), g.Wait()
		case <-ctx.Done():
			return 0, g.Wait()
		}
	}
	return 0, errors.Join(g.Wait(), errors.New("there were too few Pods to come and go"))
}

// remove takes away what a step has made.
func (r *rig) remove(ctx context.Context, step string) error {
	of := metav1.ListOptions{LabelSelector: stepLabel + "=" + step}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), PropagationPolicy: new(metav1.DeletePropagationBackground)}
	if err := r.client.AppsV1().Deployments(r.namespace).DeleteCollection(ctx, now, of); err != nil {
		return err
	}
	if err := r.client.AppsV1().ReplicaSets(r.namespace).DeleteCollection(ctx, now, of); err != nil {
		return err
	}
	return r.client.CoreV1().Pods(r.namespace).DeleteCollection(ctx, now, of)
}

// parallel calls f for 0 to n-1, some at a time.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(hands)
	for i := range n {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}
