package kube

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Scheme knows the API groups that aci-sync speaks.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := errors.Join(
		appsv1.AddToScheme(s), corev1.AddToScheme(s), coordinationv1.AddToScheme(s), v1alpha1.AddToScheme(s),
	); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(s, metav1.Unversioned)
	return s, nil
}

// Look feeds sink once with all that is there, calls Synced, and returns; owner as for Watch. It gives up at the first
// list that the API server refuses or does not answer, instead of waiting for better times.
func Look(ctx context.Context, cfg *rest.Config, sink Sink, owner aci.Owner) error {
	scheme, err := Scheme()
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	o := CacheOptions()
	o.Scheme = scheme
	o.DefaultWatchErrorHandler = func(_ context.Context, r *toolscache.Reflector, err error) {
		end(fmt.Errorf("list %s: %w", r.TypeDescription(), err))
	}
	c, err := cache.New(cfg, o)
	if err != nil {
		return fmt.Errorf("set up for the cluster at %s: %w", cfg.Host, err)
	}
	from, err := NewSource(cfg, c, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	from.refused = end
	var all errgroup.Group
	first := &firstSync{Sink: sink, end: func() { end(nil) }}
	for _, run := range []func() error{
		func() error { return c.Start(ctx) },
		func() error { return from.Watch(ctx, first, owner) },
	} {
		all.Go(func() error {
			err := run()
			end(err) // neither is of use without the other
			return err
		})
	}
	err = all.Wait()
	if !first.done {
		return context.Cause(ctx)
	}
	return err
}

// firstSync ends what feeds it at the first Synced.
type firstSync struct {
	Sink
	end  func()
	done bool
}

// Synced tells the sink, and ends.
func (s *firstSync) Synced() {
	s.Sink.Synced()
	s.done = true
	s.end()
}
