package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/controller"
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
			return withConfig(cmd, &c, stderr, func(ctx context.Context, s settings) error {
				print, err := printerFor(output)
				if err != nil {
					return err
				}
				return runPlan(ctx, c, s, print, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	c.addFlags(cmd.Flags())
	addTwins(cmd.Flags())
	return cmd
}

func runPlan(ctx context.Context, c config, s settings, print printer, out io.Writer) error {
	var preview controller.Preview
	at, err := look(ctx, c, s, func(ctx context.Context, loop *controller.Controller) (err error) {
		preview, err = loop.Plan(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := print(out, at.settings.owner, preview); err != nil {
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

// unread is the error for what the APIC does not show, in one line.
func unread(failed map[aci.L3Out]error) error {
	var list []string
	for _, l := range slices.SortedFunc(maps.Keys(failed), aci.L3Out.Compare) {
		list = append(list, failed[l].Error())
	}
	return fmt.Errorf("the plan is not complete: %s", strings.Join(list, "; "))
}
