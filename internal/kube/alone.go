package kube

import (
	"context"
	"fmt"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaseName is the name of the Lease by which one of several replicas leads.
const LeaseName = "aci-sync"

// Leader returns who leads by the Lease in a namespace; "" when nobody does, or whoever did has not
// renewed it for twice as long as it is good for.
func Leader(ctx context.Context, cfg *rest.Config, namespace string) (string, error) {
	client, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return "", fmt.Errorf("client for the Lease: %w", err)
	}
	lease, err := client.Leases(namespace).Get(ctx, LeaseName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read Lease %s/%s: %w", namespace, LeaseName, err)
	}
	s := lease.Spec
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || s.RenewTime == nil || s.LeaseDurationSeconds == nil {
		return "", nil
	}
	if time.Since(s.RenewTime.Time) > 2*time.Duration(*s.LeaseDurationSeconds)*time.Second {
		return "", nil
	}
	return *s.HolderIdentity, nil
}

// Alone takes the Lease, runs f while it is held, and gives it up. It waits until whoever holds it
// lets go; ctx bounds that. When the Lease is lost the context of f ends.
func Alone(ctx context.Context, cfg *rest.Config, namespace string, f func(context.Context) error) error {
	client, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("client for the Lease: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: LeaseName}, Client: client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	ended := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ReleaseOnCancel: true, Name: LeaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				ended <- f(ctx)
				done()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	select {
	case err := <-ended:
		return err
	default:
		return fmt.Errorf("the Lease %s/%s could not be had: %w", namespace, LeaseName, context.Cause(ctx))
	}
}
