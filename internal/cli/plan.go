package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/kube"
)

func newPlan(stderr io.Writer) *cobra.Command {
	var c config
	var output string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Print what a run would do, and do nothing",
		Long: `Look once at the cluster and the fabric, print what aci-sync run would do with the same flags, and
why, and do nothing. Its clients cannot write.

Exit code: 0 nothing is pending, 2 changes are pending, 1 error, also when a part of the fabric
could not be read; the rest is printed all the same.

` + environmentHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readTwins(cmd.Flags()); err != nil {
				return err
			}
			s, err := c.check(stderr)
			if err != nil {
				return err
			}
			print, err := printerFor(output)
			if err != nil {
				return err
			}
			return runPlan(cmd.Context(), c, s, print, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	c.addFlags(cmd.Flags())
	addTwins(cmd.Flags())
	return cmd
}

func runPlan(ctx context.Context, c config, s settings, print printer, out io.Writer) error {
	frameworkLog(s)
	cfg, err := kubeConfig(c.kubeconfig, c.context)
	if err != nil {
		return err
	}
	cfg = kube.ReadOnly(cfg)
	if s.owner == "" {
		reader, err := client.New(cfg, client.Options{})
		if err != nil {
			return fmt.Errorf("set up for the cluster at %s: %w", cfg.Host, err)
		}
		if s.owner, err = kube.ClusterID(ctx, reader); err != nil {
			return err
		}
	}
	s.policy.Owner = s.owner
	s.apic.Gate, s.apic.ReadOnce = apic.ReadOnly, true
	fabric, err := apic.New(s.members, s.username, s.apic)
	if err != nil {
		return err
	}
	preview, err := look(ctx, fabric, controller.New(fabric, nil, silent{}, controller.Options{
		Desired: s.desired, Policy: s.policy, Logger: slog.New(s.log),
	}), func(ctx context.Context, loop *controller.Controller) error { return kube.Look(ctx, cfg, loop) })
	if err != nil {
		return err
	}
	if err := print(out, s.owner, preview); err != nil {
		return err
	}
	switch {
	case len(preview.Unread) > 0:
		return unread(preview.Unread)
	case len(preview.Changes) > 0:
		return errPending
	}
	return nil
}

// look lets loop see the cluster and the fabric once.
func look(
	ctx context.Context, fabric *apic.Client, loop *controller.Controller,
	cluster func(context.Context, *controller.Controller) error,
) (controller.Preview, error) {
	session, logout := context.WithCancel(context.WithoutCancel(ctx))
	defer logout()
	var closing errgroup.Group
	closing.Go(func() error { return fabric.Run(session) })

	var preview controller.Preview
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return cluster(ctx, loop) })
	g.Go(func() error {
		var err error
		preview, err = loop.Plan(ctx)
		return err
	})
	err := g.Wait()
	logout()
	return preview, errors.Join(err, closing.Wait())
}

// unread is the error for what the APIC does not show, in one line.
func unread(failed map[aci.L3Out]error) error {
	var list []string
	for _, l := range slices.SortedFunc(maps.Keys(failed), aci.L3Out.Compare) {
		list = append(list, failed[l].Error())
	}
	return fmt.Errorf("the plan is not complete: %s", strings.Join(list, "; "))
}
