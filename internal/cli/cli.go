package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/haystacknetworks/aci-sync/charts"
)

// Exit codes.
const (
	exitDone    = 0
	exitError   = 1
	exitPending = 2 // changes are pending
)

// errPending ends a command that looked, and found changes that a run would make.
var errPending = errors.New("changes are pending")

// Main runs one command and returns the exit code of the process. Data goes to stdout, words
// and logs to stderr. When ctx ends the command finishes what it has in hand and returns.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "aci-sync",
		Short: "Keep the external EPGs of a Cisco ACI fabric in step with a Kubernetes cluster",
		Long: `aci-sync keeps the external EPGs of a Cisco ACI fabric in step with a Kubernetes cluster
whose CNI peers with the fabric over an L3Out. Annotate a Deployment, and every address of its
Pods and LoadBalancer Services becomes a subnet of the external EPG that you name:

  aci.haystacknetworks.com/l3o: '{"tenant":"T", "l3out":"O", "epg":"E"}'`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(newRun(stderr), newPlan(stderr), newPrune(stderr), newAdopt(stderr), newCRDs(), newVersion())
	err := root.ExecuteContext(ctx)
	if errors.Is(err, errPending) {
		return exitPending
	}
	if err != nil {
		fmt.Fprintf(stderr, "aci-sync: %v\n", err)
		return exitError
	}
	return exitDone
}

func newCRDs() *cobra.Command {
	return &cobra.Command{
		Use:   "crds",
		Short: "Print the CustomResourceDefinition of ExternalEPG, to be applied to a cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(charts.CRDs)
			return err
		},
	}
}

// twin is the environment variable that a flag can be given by.
func twin(flag string) string {
	return "ACI_SYNC_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// addTwins names the environment twin of each flag in its help, which has them in the order in
// which they were added.
func addTwins(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.VisitAll(func(f *pflag.Flag) { f.Usage += " [" + twin(f.Name) + "]" })
}

// readTwins sets the flags that were not given from their environment twins. An empty one is
// none, as a manifest that leaves a value open means it.
func readTwins(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		v := os.Getenv(twin(f.Name))
		if f.Changed || v == "" || err != nil {
			return
		}
		if e := flags.Set(f.Name, v); e != nil {
			err = fmt.Errorf("%s: %q is not a value of --%s: %w", twin(f.Name), v, f.Name, e)
		}
	})
	return err
}
