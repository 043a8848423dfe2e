package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// Sink takes what Watch tells. It is called from several goroutines, one for each kind.
type Sink interface {
	// Fold takes the object r as it is now, nil when it is gone.
	Fold(r desired.Ref, obj metav1.Object)
	// Missed says that the object r is gone, but nobody saw it go: a list does not have it any more.
	Missed(r desired.Ref)
	// Recorded takes the record of e as it is now, nil when it is gone. Those that are there at
	// first come before any object.
	Recorded(e aci.ExtEPG, rec *desired.Record)
	// Synced says that the initial state of everything has been folded.
	Synced()
}

// CacheOptions says what of each object is kept in memory, which is what claims depend on, and that
// all lists are streamed or paginated.
func CacheOptions() cache.Options {
	return cache.Options{
		DefaultTransform: transform,
		NewInformer:      newInformer(pageSize),
		// Nothing writes to what the cache hands out.
		DefaultUnsafeDisableDeepCopy: new(true),
	}
}

// newObject returns an empty object of a kind about which Events are recorded, a workload or an
// ExternalEPG, nil for other kinds, and the kind's API version.
func newObject(kind string) (client.Object, string) {
	switch kind {
	case desired.KindDeployment:
		return &appsv1.Deployment{}, "apps/v1"
	case desired.KindStatefulSet:
		return &appsv1.StatefulSet{}, "apps/v1"
	case desired.KindDaemonSet:
		return &appsv1.DaemonSet{}, "apps/v1"
	case desired.KindService:
		return &corev1.Service{}, "v1"
	case desired.KindExternalEPG:
		return &v1alpha1.ExternalEPG{}, v1alpha1.GroupVersion().String()
	}
	return nil, ""
}

// Source is what Watch reads from. A cache holds what is read back, which is workloads, Services and
// records; of all else, which is most, nothing is kept.
type Source struct {
	cache    cache.Cache
	client   client.WithWatch
	pageSize int64       // of lists of what is not cached
	refused  func(error) // gets the error of each such list; nil for nobody
}

// NewSource returns a Source at the cluster of cfg. Somebody else runs c, which was made with CacheOptions;
// o is about what is not read from it.
func NewSource(cfg *rest.Config, c cache.Cache, o client.Options) (*Source, error) {
	watching, err := client.NewWithWatch(cfg, o)
	if err != nil {
		return nil, fmt.Errorf("set up for the cluster at %s: %w", cfg.Host, err)
	}
	return &Source{cache: c, client: watching, pageSize: pageSize}, nil
}

// Watch feeds sink until ctx ends; with the records of owner, unless that is empty because the cluster
// cannot hold any. It calls Synced when everything is synced; an error is what keeps it from that.
func (s *Source) Watch(ctx context.Context, sink Sink, owner aci.Owner) error {
	if owner != "" {
		if err := watchRecords(ctx, s.cache, sink, owner); err != nil {
			return err
		}
	}
	var streams sync.WaitGroup
	defer streams.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	var synced []toolscache.InformerSynced
	for _, of := range streamed() {
		told := make(chan struct{})
		streams.Go(func() { s.stream(ctx, of, sink, told) })
		synced = append(synced, func() bool { return closed(told) })
	}
	for _, kind := range []string{desired.KindDeployment, desired.KindStatefulSet, desired.KindDaemonSet, desired.KindService} {
		obj, _ := newObject(kind)
		// They sync side by side; the wait for all of them comes below.
		informer, err := s.cache.GetInformer(ctx, obj, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %ss: %w", kind, err)
		}
		reg, err := informer.AddEventHandler(handler(kind, sink))
		if err != nil {
			return fmt.Errorf("watch %ss: %w", kind, err)
		}
		synced = append(synced, reg.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.Join(ctx.Err(), errors.New("caches did not sync"))
	}
	sink.Synced()
	<-ctx.Done()
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// watchRecords feeds sink with records, and returns when those that are there have been told.
func watchRecords(ctx context.Context, c cache.Cache, sink Sink, owner aci.Owner) error {
	informer, err := c.GetInformer(ctx, &v1alpha1.ExternalEPG{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch ExternalEPGs: %w", err)
	}
	tell := func(obj any, gone bool) {
		if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = last.Obj
		}
		o, ok := obj.(*v1alpha1.ExternalEPG)
		if !ok {
			return
		}
		rec, ok := recordOf(o, owner)
		switch {
		case !ok:
		case gone:
			sink.Recorded(rec.EPG, nil)
		default:
			sink.Recorded(rec.EPG, &rec)
		}
	}
	reg, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { tell(obj, false) },
		UpdateFunc: func(_, obj any) { tell(obj, false) },
		DeleteFunc: func(obj any) { tell(obj, true) },
	})
	if err != nil {
		return fmt.Errorf("watch ExternalEPGs: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
		return errors.Join(ctx.Err(), errors.New("the cache of ExternalEPGs did not sync"))
	}
	return nil
}

func handler(kind string, sink Sink) toolscache.ResourceEventHandler {
	fold := func(obj any, gone bool) {
		last, missed := obj.(toolscache.DeletedFinalStateUnknown)
		if missed {
			obj = last.Obj
		}
		o, ok := obj.(metav1.Object)
		if !ok {
			return
		}
		switch r := (desired.Ref{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}); {
		case missed:
			sink.Missed(r)
		case gone:
			sink.Fold(r, nil)
		default:
			sink.Fold(r, o)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { fold(obj, false) },
		UpdateFunc: func(_, obj any) { fold(obj, false) },
		DeleteFunc: func(obj any) { fold(obj, true) },
	}
}

func objectMeta(apiVersion, kind string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}}
}

// ClusterID is the UID of the namespace kube-system, which lives as long as the cluster.
func ClusterID(ctx context.Context, c client.Reader) (aci.Owner, error) {
	ns := objectMeta("v1", desired.KindNamespace)
	if err := c.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, ns); err != nil {
		return "", fmt.Errorf("read the UID of namespace %s: %w", metav1.NamespaceSystem, err)
	}
	return aci.ParseOwner(string(ns.GetUID()))
}
