package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/kube"
)

// actTimeout bounds how long what was approved may take, and the wait for an answer of the leader.
const actTimeout = 2 * time.Minute

// withConfig reads the configuration of a command and runs it.
func withConfig(cmd *cobra.Command, c *config, stderr io.Writer, f func(context.Context, settings) error) error {
	if err := readTwins(cmd.Flags()); err != nil {
		return err
	}
	s, err := c.check(stderr)
	if err != nil {
		return err
	}
	return f(cmd.Context(), s)
}

// session is a cluster and a fabric that a command looks at once.
type session struct {
	cfg      *rest.Config // of the cluster
	recorder aci.Owner
	settings settings
	log      *slog.Logger
}

// open finds the cluster and what is to be known before anything is read.
func open(ctx context.Context, c config, s settings) (session, error) {
	frameworkLog(s)
	log := slog.New(s.log)
	cfg, err := kubeConfig(c.kubeconfig, c.context)
	if err != nil {
		return session{}, err
	}
	readOnly := kube.ReadOnly(cfg)
	if err := checkKubernetes(ctx, log, readOnly); err != nil {
		return session{}, err
	}
	reader, err := client.New(readOnly, client.Options{})
	if err != nil {
		return session{}, fmt.Errorf("set up for the cluster at %s: %w", cfg.Host, err)
	}
	if s.owner == "" {
		if s.owner, err = kube.ClusterID(ctx, reader); err != nil {
			return session{}, err
		}
	}
	recorder, err := recorderFor(ctx, log, reader, s.owner, false)
	if err != nil {
		return session{}, err
	}
	s.policy.Owner = s.owner
	return session{cfg, recorder, s, log}, nil
}

// look opens a session, and lets f work with a controller that is told once all that is in the cluster,
// and that cannot write.
func look(ctx context.Context, c config, s settings, f func(context.Context, *controller.Controller) error) (session, error) {
	at, err := open(ctx, c, s)
	if err != nil {
		return session{}, err
	}
	o := at.settings.apic
	o.Gate, o.ReadOnce = apic.ReadOnly, true
	_, err = at.with(ctx, o, false, f)
	return at, err
}

// write lets f work with a controller that can write to the APIC. Of the cluster it is told once. It
// reports whether it is known what became of every write.
func (s session) write(ctx context.Context, f func(context.Context, *controller.Controller) error) (settled bool, err error) {
	return s.with(ctx, s.settings.apic, true, f)
}

func (s session) with(
	ctx context.Context, o apic.Options, writes bool, f func(context.Context, *controller.Controller) error,
) (settled bool, err error) {
	fabric, err := apic.New(s.settings.members, s.settings.username, o)
	if err != nil {
		return true, err
	}
	var writer controller.Writer
	if writes {
		writer = fabric
	}
	loop := controller.New(fabric, writer, silent{}, controller.Options{
		Desired: s.settings.desired, Policy: s.settings.policy, Logger: s.log,
	})
	open, logout := context.WithCancel(context.WithoutCancel(ctx))
	defer logout()
	var closing errgroup.Group
	closing.Go(func() error { return fabric.Run(open) })
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return kube.Look(ctx, kube.ReadOnly(s.cfg), loop, s.recorder) })
	g.Go(func() error { return f(ctx, loop) })
	err = g.Wait()
	logout()
	err = errors.Join(err, closing.Wait())
	return fabric.Settled(), err
}

// act shows what propose finds and, when that is approved, has it done: by the leader, if there is
// one, or here, holding the lease.
func act(
	ctx context.Context, c config, s settings, stdin io.Reader, stdout, stderr io.Writer, yes bool, about *aci.ExtEPG,
	propose func(*controller.Controller) (proposal, error),
) error {
	var p proposal
	at, err := look(ctx, c, s, func(ctx context.Context, loop *controller.Controller) error {
		if about != nil {
			loop.Watch(*about)
		}
		missing, err := loop.Look(ctx)
		if err == nil && len(missing) > 0 {
			err = unread(missing)
		}
		if err == nil {
			p, err = propose(loop)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, p.text); err != nil {
		return err
	}
	if len(p.requests) == 0 {
		return nil
	}
	if !yes && !confirmed(p.question, stdin, stderr) {
		return errPending
	}
	ctx, cancel := context.WithTimeoutCause(ctx, actTimeout, fmt.Errorf("not done within %v", actTimeout))
	defer cancel()
	if err := at.do(ctx, c, p.requests, stderr); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "Done.")
	return err
}

// do has what was approved done: by the leader, if there is one, or here, holding the lease.
func (s session) do(ctx context.Context, c config, requests []controller.Request, stderr io.Writer) error {
	apply := func(ctx context.Context, loop *controller.Controller) error { return loop.Apply(ctx, requests) }
	if !c.leaderElect {
		_, err := s.write(ctx, apply)
		return err
	}
	lease, err := kube.NewLease(s.cfg, c.leaderNamespace)
	if err != nil {
		return err
	}
	leader, err := lease.Leader(ctx)
	if err != nil {
		return err
	}
	if leader != "" {
		requests, err = s.handOver(ctx, lease, leader, requests, stderr)
		if err != nil || len(requests) == 0 {
			return err
		}
		fmt.Fprintf(stderr, "%s does not lead any more\n", leader)
	}
	s.settings.apic.Gate = lease.MayWrite
	settled := false
	err = lease.Alone(ctx, func(ctx context.Context) (err error) {
		settled, err = s.write(ctx, apply)
		return err
	})
	stepDown(ctx, s.log, lease, settled)
	return err
}

// handOver tells the leader what was approved, and waits for its answers. When nobody leads any more it returns
// what is still to be done.
func (s session) handOver(
	ctx context.Context, lease *kube.Lease, leader string, requests []controller.Request, stderr io.Writer,
) (left []controller.Request, err error) {
	if s.recorder == "" {
		return nil, fmt.Errorf("%s leads, and without ExternalEPG objects it cannot be told; stop it, or install them with: %s", leader, installCRD)
	}
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, err
	}
	c, err := client.New(s.cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	records := kube.NewRecords(c, s.recorder)
	fmt.Fprintf(stderr, "%s leads and is told\n", leader)
	var errs []error
	for i, r := range requests {
		approval := r.Plan.Approve(r.Objects)
		if err := records.Approve(ctx, r.EPG, approval); err != nil {
			errs = append(errs, err)
			continue
		}
		answer, err := awaitAnswer(ctx, lease, records, r.EPG, approval)
		if errors.Is(err, errNoLeader) {
			// Nobody is to find it later.
			if err := records.Answer(ctx, r.EPG, approval+": nobody leads"); err != nil {
				errs = append(errs, err)
			}
			return requests[i:], errors.Join(errs...)
		}
		if err == nil && answer != controller.AnswerDone && answer != kube.AnswerGone {
			err = fmt.Errorf("%s: %s", r.EPG, answer)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// errNoLeader ends the wait for a leader's answer: it was killed, say, and its lease has run out.
var errNoLeader = errors.New("nobody leads any more")

// How often awaitAnswer looks for an answer, and after how many looks for the leader.
const (
	answerEvery = 200 * time.Millisecond
	leaderEvery = 10
)

func awaitAnswer(ctx context.Context, lease *kube.Lease, records *kube.Records, e aci.ExtEPG, approval string) (string, error) {
	for looks := 1; ; looks++ {
		answer, err := records.Answered(ctx, e, approval)
		if err != nil || answer != "" {
			return answer, err
		}
		if looks%leaderEvery == 0 {
			if leader, err := lease.Leader(ctx); err == nil && leader == "" {
				return "", errNoLeader
			}
		}
		t := time.NewTimer(answerEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return "", fmt.Errorf("%s: no answer of the leader: %w", e, context.Cause(ctx))
		case <-t.C:
		}
	}
}
