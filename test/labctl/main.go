// Labctl starts and stops the lab of this checkout: a real Kubernetes control plane on loopback.
//
//	labctl up                start it and leave it running; prints its kubeconfig
//	labctl down              stop it, and what killed processes have left
//	labctl run -- CMD ARG…   run CMD with ACI_SYNC_LAB_KUBECONFIG set, on the lab that runs or on one
//	                         that lives as long as CMD
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

const usage = `usage: labctl up | down | run -- COMMAND [ARGUMENT...]`

func main() {
	code, err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "labctl:", err)
	}
	os.Exit(code)
}

// run returns the exit code: that of the command, else 0, 1 for an error and 2 for wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	switch {
	case len(args) == 1 && args[0] == "up":
		ctx, stop := cancelOn(ctx, signals)
		defer stop()
		l, err := lab.Up(ctx, lab.Options{Progress: stderr})
		if err != nil {
			return 1, err
		}
		fmt.Fprintln(stdout, l.Kubeconfig())
		fmt.Fprintf(stderr, "the lab is up; try: %s --kubeconfig=%s get nodes\nstop it with: make lab-down\n",
			l.KubectlPath(), l.Kubeconfig())
		return 0, nil
	case len(args) == 1 && args[0] == "down":
		ctx, stop := cancelOn(ctx, signals)
		defer stop()
		if err := lab.Down(ctx); err != nil {
			return 1, err
		}
		fmt.Fprintln(stderr, "the lab is down")
		return 0, nil
	case len(args) >= 3 && args[0] == "run" && args[1] == "--":
		return runOnLab(ctx, args[2:], signals, stderr)
	}
	return 2, errors.New(usage)
}

// cancelOn returns a context that ends at the first signal. To be stopped.
func cancelOn(ctx context.Context, signals <-chan os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			cancel(fmt.Errorf("stopped by %v", s))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

func runOnLab(ctx context.Context, command []string, signals <-chan os.Signal, stderr io.Writer) (code int, err error) {
	starting, started := cancelOn(ctx, signals)
	l, err := lab.Shared(starting, lab.Options{Progress: stderr})
	started()
	if err != nil {
		return 1, err
	}
	defer func() {
		if stopErr := l.Stop(ctx); stopErr != nil {
			code, err = max(code, 1), errors.Join(err, stopErr)
		}
	}()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), lab.KubeconfigVariable+"="+l.Kubeconfig())
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			// The terminal sends Ctrl-C to the command, too. A second one may well mean to it to
			// skip what it does at the first.
			if s != os.Interrupt || !haveTerminal() {
				_ = cmd.Process.Signal(s) // it may have ended just now
			}
		case err := <-ended:
			return exitCode(err)
		}
	}
}

// haveTerminal tells whether a terminal can send signals to this process.
func haveTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	return tty.Close() == nil
}

// exitCode is the exit code of a command, as a shell would tell it.
func exitCode(err error) (int, error) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0, nil
	case !ok:
		return 1, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
