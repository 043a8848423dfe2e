package kube

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection"
)

// Leader returns who leads; "" when nobody does, or whoever did has not renewed the lease for twice
// as long as it is good for.
func (l *Lease) Leader(ctx context.Context) (string, error) {
	r, _, err := l.Interface.Get(ctx)
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read the lease %s: %w", l.Describe(), err)
	case time.Since(r.RenewTime.Time) > 2*time.Duration(r.LeaseDurationSeconds)*time.Second:
		return "", nil
	}
	return r.HolderIdentity, nil
}

// Alone takes the lease, runs f while it is held, and returns when f has; whoever calls it then
// releases the lease. It waits until whoever holds it lets go; ctx bounds that. When the lease is
// lost the context of f ends.
func (l *Lease) Alone(ctx context.Context, f func(context.Context) error) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	ended := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l, LeaseDuration: LeaseDuration, RenewDeadline: RenewDeadline, RetryPeriod: RetryPeriod, Name: l.Describe(),
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
	l.mu.Lock()
	had := l.ours
	l.mu.Unlock()
	if !had {
		return fmt.Errorf("the lease %s could not be had: %w", l.Describe(), context.Cause(ctx))
	}
	return <-ended // f has begun, and its context has ended
}
