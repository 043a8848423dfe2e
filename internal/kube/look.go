package kube

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

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
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	o := CacheOptions()
	scheme, err := Scheme()
	if err != nil {
		return err
	}
	o.Scheme = scheme
	o.DefaultWatchErrorHandler = func(_ context.Context, r *toolscache.Reflector, err error) {
		fail(fmt.Errorf("list %s: %w", r.TypeDescription(), err))
	}
	c, err := cache.New(cfg, o)
	if err != nil {
		return fmt.Errorf("set up for the cluster at %s: %w", cfg.Host, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Start(ctx) }()
	err = Watch(ctx, c, sink, owner)
	if why := context.Cause(ctx); err != nil && why != nil {
		err = why
	}
	fail(nil)
	return errors.Join(err, <-ended)
}
