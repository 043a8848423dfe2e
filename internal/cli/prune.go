package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

func newPrune(stderr io.Writer) *cobra.Command {
	var c config
	var yes bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete what bears this cluster's mark and no workload claims",
		Long: `Look for objects on the fabric that bear this cluster's mark and that no workload claims, show them,
and delete them when that is approved: by --yes, or at the terminal.

While an aci-sync leads, it is told what was approved, plans anew, and acts if that is still the same;
otherwise this command takes the lease and acts itself.

Exit code: 0 done, or nothing to do; 2 there are orphans and they were not approved; 1 error.

` + environmentHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConfig(cmd, &c, stderr, func(ctx context.Context, s settings) error {
				return act(ctx, c, s, cmd.InOrStdin(), cmd.OutOrStdout(), stderr, yes, nil, func(loop *controller.Controller) (proposal, error) {
					return proposePrune(loop), nil
				})
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "delete them without asking")
	c.addFlags(cmd.Flags())
	c.addLeaseFlags(cmd.Flags())
	addTwins(cmd.Flags())
	return cmd
}

func newAdopt(stderr io.Writer) *cobra.Command {
	var c config
	var yes, epg bool
	var from string
	cmd := &cobra.Command{
		Use:   "adopt TENANT/L3OUT/EPG --from=prototype|cluster:ID|unmanaged",
		Short: "Put this cluster's mark on what exists in an external EPG and is claimed",
		Long: `Look for subnets in an external EPG that a workload of this cluster claims and that are not this
cluster's, show them, and put its mark on them when that is approved: by --yes, or at the terminal. From
then on they are kept, moved and deleted like those that aci-sync made. The external EPG itself is adopted
with --epg only. Everything else that is there is listed and left.

--from says whose they are:

  prototype    those of the Python prototype of 2021 (annotation ` + plan.PrototypeAnnotation + `)
  cluster:ID   those that bear the mark of another cluster, such as one that was rebuilt
  unmanaged    those that bear no mark, made by hand or by another tool

While an aci-sync leads, it is told what was approved, plans anew, and acts if that is still the same;
otherwise this command takes the lease and acts itself.

Exit code: 0 done, or nothing to do; 2 something is to be adopted and was not approved; 1 error.

` + environmentHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withConfig(cmd, &c, stderr, func(ctx context.Context, s settings) error {
				e, err := parseEPG(args[0])
				if err != nil {
					return err
				}
				source, err := plan.ParseSource(from)
				if err != nil {
					return fmt.Errorf("--from: %w", err)
				}
				if !s.policy.Allow.Allows(e.L3Out) {
					return fmt.Errorf("%s: --allow does not name the L3Out %s", e, e.L3Out)
				}
				return act(ctx, c, s, cmd.InOrStdin(), cmd.OutOrStdout(), stderr, yes, &e, func(loop *controller.Controller) (proposal, error) {
					return proposeAdoption(loop, e, source, epg)
				})
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "whose objects: prototype, cluster:ID or unmanaged")
	cmd.Flags().BoolVar(&epg, "epg", false, "adopt the external EPG itself, too")
	cmd.Flags().BoolVar(&yes, "yes", false, "adopt without asking")
	c.addFlags(cmd.Flags())
	c.addLeaseFlags(cmd.Flags())
	addTwins(cmd.Flags())
	return cmd
}

// parseEPG reads TENANT/L3OUT/EPG.
func parseEPG(s string) (aci.ExtEPG, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return aci.ExtEPG{}, fmt.Errorf("%q is not TENANT/L3OUT/EPG", s)
	}
	for _, name := range parts {
		if err := aci.CheckName(name); err != nil {
			return aci.ExtEPG{}, fmt.Errorf("%q is not TENANT/L3OUT/EPG: %w", s, err)
		}
	}
	return aci.ExtEPG{L3Out: aci.L3Out{Tenant: parts[0], Name: parts[1]}, Name: parts[2]}, nil
}

// proposal is what is shown to a person, and what is done when it is approved.
type proposal struct {
	text     string
	question string
	requests []controller.Request
}

func proposePrune(loop *controller.Controller) proposal {
	var b strings.Builder
	var p proposal
	orphans := loop.Orphans()
	for _, e := range orphans.EPGs() {
		r := controller.Request{EPG: e, Objects: orphans.Of[e]}
		p.requests = append(p.requests, r)
		fmt.Fprintf(&b, "%s\n", e)
		for _, d := range r.Objects {
			fmt.Fprintf(&b, "  - %s\n", what(d))
		}
	}
	if len(p.requests) == 0 {
		b.WriteString("Nothing bears this cluster's mark that is not claimed.\n")
	} else {
		fmt.Fprintf(&b, "\n%d of the %d objects that bear this cluster's mark are claimed by nobody.\n", orphans.Count, orphans.Marked)
		p.question = "Delete them?"
	}
	p.text = b.String()
	return p
}

func proposeAdoption(loop *controller.Controller, e aci.ExtEPG, from plan.Source, epg bool) (proposal, error) {
	a, exists := loop.Adoption(e, from, epg)
	if !exists {
		return proposal{}, fmt.Errorf("%s does not exist on the APIC, or may not be read", e)
	}
	var b strings.Builder
	var p proposal
	fmt.Fprintf(&b, "%s\n", e)
	for _, d := range a.Take {
		fmt.Fprintf(&b, "  ~ %s\n", what(d))
	}
	for _, l := range a.Leave {
		fmt.Fprintf(&b, "    %s  stays as it is: %s\n", what(l.DN), l.Why)
	}
	if len(a.Take) == 0 {
		b.WriteString("\nNothing to adopt.\n")
	} else {
		fmt.Fprintf(&b, "\n%d to adopt, %d to leave.\n", len(a.Take), len(a.Leave))
		p.question = "Adopt them?"
		p.requests = []controller.Request{{EPG: e, Plan: plan.Request{From: &from, EPG: epg}, Objects: a.Take}}
	}
	p.text = b.String()
	return p, nil
}

// what names an object within its external EPG.
func what(d aci.DN) string {
	if ip, ok := aci.SubnetIP(d.RN()); ok {
		return ip
	}
	return "external EPG"
}

// confirmed asks at the terminal. Where there is none the answer is no, and it says so.
func confirmed(question string, stdin io.Reader, stderr io.Writer) bool {
	f, ok := stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		fmt.Fprintln(stderr, "Nothing was done: there is no terminal to ask at, and --yes was not given.")
		return false
	}
	fmt.Fprintf(stderr, "%s [y/N] ", question)
	line, _ := bufio.NewReader(f).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}
