package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// asked is a transport that notes what is asked of an API server, and can answer some of it as one
// does that is older or busier than that of the lab.
type asked struct {
	http.RoundTripper
	cannotStream bool // as without the feature gate WatchList

	mu sync.Mutex
	// mu guards the fields below.
	lists  []string // "PATH?QUERY" of what reads a collection
	expire int      // how many pages behind the first are gone before they are asked for
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	streams := q.Get("sendInitialEvents") == "true"
	if r.Method != http.MethodGet || q.Get("watch") != "" && !streams {
		return a.RoundTripper.RoundTrip(r)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists = append(a.lists, r.URL.Path+"?"+r.URL.RawQuery)
	switch {
	case streams && a.cannotStream:
		refusal := apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind("ListOptions").GroupKind(), "", field.ErrorList{
			field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"),
		})
		return answer(r, refusal)
	case q.Get("continue") != "" && a.expire > 0:
		a.expire--
		return answer(r, apierrors.NewResourceExpired("The provided continue parameter is too old"))
	}
	return a.RoundTripper.RoundTrip(r)
}

// answer is what an API server says when it refuses.
func answer(r *http.Request, refusal *apierrors.StatusError) (*http.Response, error) {
	status := refusal.Status()
	status.APIVersion, status.Kind = "v1", "Status"
	body, err := json.Marshal(status)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: int(status.Code), Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(body)), Request: r,
	}, nil
}

func (a *asked) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.lists)
}

func (s server) asking(a *asked) *rest.Config {
	cfg := rest.CopyConfig(s.cfg)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		a.RoundTripper = rt
		return a
	})
	return cfg
}

// somePods makes n Pods that nobody runs.
func (s server) somePods(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		s.pod(t, fmt.Sprintf("p%d", i))
	}
}

func (s server) pod(t *testing.T, name string) {
	t.Helper()
	_, err := s.client.CoreV1().Pods(s.ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"x": "y"}},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"no": "node"},
			Containers:   []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatch_streams_the_initial_state(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.somePods(t, 3)
	var a asked
	v := newView(s.ns)
	if err := s.watchAs(t.Context(), t, s.asking(&a), pageSize, v, ""); err != nil {
		t.Fatal(err)
	}
	lists := a.seen()
	if len(lists) != 7 {
		t.Errorf("%d kinds were read:\n%s", len(lists), strings.Join(lists, "\n"))
	}
	for _, l := range lists {
		if !strings.Contains(l, "watch=true") || !strings.Contains(l, "sendInitialEvents=true") {
			t.Errorf("not streamed: %s", l)
		}
	}
	if d := cmp.Diff(map[string]int{"Namespace": 1, "Pod": 3}, v.kinds()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// gap is a transport that can lose the API server for a while, which then does not know any more what happened
// meanwhile.
type gap struct {
	http.RoundTripper

	mu      sync.Mutex // guards the fields below
	shut    bool
	watches []io.Closer     // since the last time that it was lost
	expired map[string]bool // path that was asked for -> the version to go on from is too old
}

func (g *gap) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	watches := q.Get("watch") != ""
	g.mu.Lock()
	shut, expired := g.shut, watches && q.Get("sendInitialEvents") == "" && g.expired[r.URL.Path]
	if !shut {
		g.expired[r.URL.Path] = false
	}
	g.mu.Unlock()
	switch {
	case shut:
		return nil, syscall.ECONNREFUSED
	case expired:
		return answer(r, apierrors.NewResourceExpired("too old resource version"))
	}
	out, err := g.RoundTripper.RoundTrip(r)
	if err == nil && watches {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.shut { // lost since it was asked
			_ = out.Body.Close()
			return nil, syscall.ECONNREFUSED
		}
		g.watches = append(g.watches, out.Body)
	}
	return out, err
}

// during does something while the API server is gone.
func (g *gap) during(f func()) {
	g.mu.Lock()
	g.shut = true
	for _, w := range g.watches {
		_ = w.Close()
	}
	g.watches = nil
	for path := range g.expired {
		g.expired[path] = true
	}
	g.mu.Unlock()
	f()
	g.mu.Lock()
	g.shut = false
	g.mu.Unlock()
}

// What goes while nobody looks is told as missed, once, however the state after it is read.
func TestWatch_tells_what_it_missed_in_a_gap(t *testing.T) {
	t.Parallel()
	for what, cannotStream := range map[string]bool{"streamed": false, "in pages": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if _, err := s.client.CoreV1().Services(s.ns).Create(t.Context(), &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
			}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			s.somePods(t, 3)
			g := gap{expired: map[string]bool{}}
			cfg := s.asking(&asked{cannotStream: cannotStream})
			cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
				g.RoundTripper = rt
				return &g
			})
			v := newView(s.ns)
			if err := s.watchAs(t.Context(), t, cfg, pageSize, v, ""); err != nil {
				t.Fatal(err)
			}
			g.during(func() {
				now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
				if err := errors.Join(
					s.client.CoreV1().Pods(s.ns).Delete(t.Context(), "p1", now),
					s.client.CoreV1().Services(s.ns).Delete(t.Context(), "web", now),
				); err != nil {
					t.Fatal(err)
				}
				s.pod(t, "p3")
			})
			want := []desired.Ref{
				{Kind: desired.KindPod, Namespace: s.ns, Name: "p1"}, {Kind: desired.KindService, Namespace: s.ns, Name: "web"},
			}
			eventually(t, func() error {
				if v.has(desired.KindPod, "p3") == nil {
					return errors.New("p3 was not told of")
				}
				v.mu.Lock()
				defer v.mu.Unlock()
				missed := slices.SortedFunc(slices.Values(v.missed), desired.Ref.Compare)
				if d := cmp.Diff(want, missed); d != "" {
					return fmt.Errorf("missed (-want +got)\n%s", d)
				}
				return nil
			})
			if d := cmp.Diff(map[string]int{"Namespace": 1, "Pod": 3}, v.kinds()); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// What reads the cluster ends when it is told to, also while it waits for an API server that does not answer: the
// leader ends after it, with the time that is left.
func TestInformer_ends_at_once(t *testing.T) {
	t.Parallel()
	for what, err := range map[string]error{
		"nobody listens": &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"it is busy":     apierrors.NewTooManyRequests("later", 0),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				lw := &toolscache.ListWatch{
					ListFunc:  func(metav1.ListOptions) (runtime.Object, error) { return nil, err },
					WatchFunc: func(metav1.ListOptions) (watch.Interface, error) { return nil, err },
				}
				informer := newInformer(pageSize)(lw, &corev1.Pod{}, 0, nil)
				// The handler of the library waits for a moment of the real clock.
				if err := informer.SetWatchErrorHandler(func(*toolscache.Reflector, error) {}); err != nil {
					t.Fatal(err)
				}
				ctx, end := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					informer.RunWithContext(ctx)
					close(ended)
				}()
				time.Sleep(5 * time.Minute)
				end()
				synctest.Wait()
				if !closed(ended) {
					t.Error("it waits")
				}
				<-ended
			})
		})
	}
}

func TestWatch_reads_pages_where_the_initial_state_is_not_streamed(t *testing.T) {
	t.Parallel()
	// The size of a page, and how many there are of Pods, at least.
	for size, pages := range map[int64]int{2: 4, pageSize: 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.somePods(t, 7)
			readsPages(t, s, size, pages)
		})
	}
}

func readsPages(t *testing.T, s server, size int64, pods int) {
	t.Helper()
	a := asked{cannotStream: true}
	v := newView(s.ns)
	if err := s.watchAs(t.Context(), t, s.asking(&a), size, v, ""); err != nil {
		t.Fatal(err)
	}
	pages := map[string]int{}
	for _, l := range a.seen() {
		path, query, _ := strings.Cut(l, "?")
		switch {
		case strings.Contains(query, "sendInitialEvents"): // refused
		case !strings.Contains(query, fmt.Sprintf("limit=%d", size)) || strings.Contains(query, "resourceVersion="):
			t.Errorf("not in pages, or from the server's cache, which ignores the limit: %s", l)
		default:
			pages[path]++
		}
	}
	if len(pages) != 7 || pages["/api/v1/pods"] < pods {
		t.Errorf("pages by kind: %v", pages)
	}
	if d := cmp.Diff(map[string]int{"Namespace": 1, "Pod": 7}, v.kinds()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// It goes on with a watch, and reads nothing again.
	n := len(a.seen())
	s.pod(t, "late")
	eventually(t, func() error {
		if v.has(desired.KindPod, "late") == nil {
			return fmt.Errorf("no Pod late")
		}
		return nil
	})
	if more := a.seen()[n:]; len(more) > 0 {
		t.Errorf("read again: %q", more)
	}
}

// What becomes invalid between two pages is read anew, in pages, and never taken for all there is.
func TestLists_that_expire_begin_anew(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.somePods(t, 5)
	a := asked{cannotStream: true, expire: 2}
	v := newView(s.ns)
	if err := s.watchAs(t.Context(), t, s.asking(&a), 2, v, ""); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{"Namespace": 1, "Pod": 5}, v.kinds()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for _, l := range a.seen() {
		if !strings.Contains(l, "sendInitialEvents") && !strings.Contains(l, "limit=2") {
			t.Errorf("not in pages: %s", l)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.expire != 0 {
		t.Error("nothing expired")
	}
}

func TestLists_keep_of_each_page_what_is_needed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.somePods(t, 5)
	pods := toolscache.NewListWatchFromClient(s.client.CoreV1().RESTClient(), "pods", s.ns, fields.Everything())
	for size, pages := range map[int64]int{2: 3, 500: 1} {
		n := 0
		list, err := inPages(lister(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			n++
			return pods.ListWithContext(ctx, o)
		}), size)(t.Context(), metav1.ListOptions{ResourceVersion: "0", Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil || len(items) != 5 || n != pages {
			t.Fatalf("%d Pods on %d pages of %d: %v", len(items), n, size, err)
		}
		for _, o := range items {
			if p := o.(*corev1.Pod); p.Name == "" || len(p.Spec.Containers)+len(p.Annotations)+len(p.ManagedFields) > 0 {
				t.Errorf("kept %+v", p)
			}
		}
		if l, err := meta.ListAccessor(list); err != nil || l.GetResourceVersion() == "" || l.GetContinue() != "" {
			t.Errorf("the list is %+v", l)
		}
	}
}

type lister func(context.Context, metav1.ListOptions) (runtime.Object, error)

func (f lister) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	return f(ctx, o)
}
