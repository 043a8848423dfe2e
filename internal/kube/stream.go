package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// stream hands the objects of one kind to a sink as they come. It keeps nothing of them but which
// there are, so that it can tell what a list does not have any more. It is the store of a reflector,
// which uses it from one goroutine.
type stream struct {
	kind   string
	sink   Sink
	there  map[types.NamespacedName]struct{}
	synced chan struct{} // closed when the initial state has been told
}

// source is a kind of which nothing is kept: an empty object and an empty list of it.
type source struct {
	kind string
	obj  client.Object
	list client.ObjectList
}

// streamed are the kinds that nobody reads back, which are the many.
func streamed() []source {
	metadata := func(apiVersion, kind string) source {
		return source{kind, objectMeta(apiVersion, kind), &metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: kind + "List"},
		}}
	}
	return []source{
		{desired.KindPod, &corev1.Pod{}, &corev1.PodList{}},
		metadata("apps/v1", desired.KindReplicaSet),
		metadata("v1", desired.KindNamespace),
	}
}

// stream feeds sink with objects of a kind until ctx ends; synced is closed when the initial state has been told.
func (s *Source) stream(ctx context.Context, of source, sink Sink, synced chan struct{}) {
	lw := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list := of.list.DeepCopyObject().(client.ObjectList) //nolint:forcetypeassert // a copy of one
			err := s.client.List(ctx, list, &client.ListOptions{Limit: o.Limit, Continue: o.Continue, Raw: &o})
			if err != nil && s.refused != nil && !apierrors.IsResourceExpired(err) { // it begins anew then
				s.refused(fmt.Errorf("list %ss: %w", of.kind, err))
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return s.client.Watch(ctx, of.list, &client.ListOptions{Raw: &o})
		},
	}
	store := &stream{of.kind, sink, map[types.NamespacedName]struct{}{}, synced}
	toolscache.NewReflectorWithOptions(paged(lw, s.pageSize), of.obj, store, toolscache.ReflectorOptions{Name: of.kind}).RunWithContext(ctx)
}

// Add tells of an object.
func (s *stream) Add(obj any) error {
	strip(obj)
	if o, ok := obj.(metav1.Object); ok {
		n := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
		if _, known := s.there[n]; !known { // else the name of now would be kept beside that of then
			s.there[n] = struct{}{}
		}
		s.sink.Fold(s.ref(n), o)
	}
	return nil
}

// Update tells of an object.
func (s *stream) Update(obj any) error { return s.Add(obj) }

// Delete tells that an object is gone.
func (s *stream) Delete(obj any) error {
	if o, ok := obj.(metav1.Object); ok {
		n := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
		delete(s.there, n)
		s.sink.Fold(s.ref(n), nil)
	}
	return nil
}

// Replace tells of all objects that there are, then of those that are gone although nobody saw them go.
func (s *stream) Replace(list []any, _ string) error {
	was := s.there
	s.there = make(map[types.NamespacedName]struct{}, len(list))
	for _, obj := range list {
		_ = s.Add(obj)
	}
	for n := range was {
		if _, ok := s.there[n]; !ok {
			s.sink.Missed(s.ref(n))
		}
	}
	select {
	case <-s.synced: // by an earlier list
	default:
		close(s.synced)
	}
	return nil
}

// Resync does nothing: what has been told once is not told again.
func (s *stream) Resync() error { return nil }

// Transformer strips objects as they come in, before there is a list of them.
func (s *stream) Transformer() toolscache.TransformFunc { return transform }

func (s *stream) ref(n types.NamespacedName) desired.Ref {
	return desired.Ref{Kind: s.kind, Namespace: n.Namespace, Name: n.Name}
}
