// Bench measures what aci-sync costs, and whether that grows with what is already there: the built
// program as a process of its own, between a real API server and the simulated APIC.
//
//	bench [-sizes N,N...] [-changes N] [-burst N]
//
// Progress goes to stderr, the table to stdout. The exit code is 1 when something could not be
// measured, or when counts are not as promised; times are told and never judged.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/haystacknetworks/aci-sync/charts"
	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// dir is where the bench keeps the binary and the logs; it is not tracked by git.
const dir = ".lab/bench"

// maxTime ends a bench that hangs.
const maxTime = 20 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s := quick()
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Func("sizes", "how many `subnets` are there already: even numbers, ascending, comma separated", func(v string) error {
		s.sizes = nil
		for n := range strings.SplitSeq(v, ",") {
			size, err := strconv.Atoi(n)
			if err != nil || size < 2 || size%2 != 0 || len(s.sizes) > 0 && size <= s.sizes[len(s.sizes)-1] {
				return errors.New("not an ascending list of even numbers")
			}
			s.sizes = append(s.sizes, size)
		}
		return nil
	})
	fs.IntVar(&s.changes, "changes", s.changes, "single `changes` at each size")
	fs.IntVar(&s.burst, "burst", s.burst, "`addresses` that come at once")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || s.changes < 1 || s.burst < 0 {
		return errors.New("usage: bench [-sizes N,N...] [-changes N] [-burst N]")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxTime, fmt.Errorf("it took more than %v", maxTime))
	defer cancel()

	say := func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	work, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(work, 0o755)
	}
	if err != nil {
		return err
	}
	say("building aci-sync ...")
	binary, err := build(ctx, work)
	if err != nil {
		return err
	}
	say("starting an API server (its binaries are built on the first run of a machine, which takes some twelve minutes) ...")
	l, err := lab.Start(ctx, lab.Options{Bare: true, Progress: stderr})
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, l.Stop(end))
	}()
	if err := l.Apply(ctx, string(charts.CRDs), "--server-side"); err != nil {
		return err
	}
	r, err := newRig(ctx, l, true, binary, work, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close(ctx)) }()
	rows, err := r.measure(ctx, s)
	if len(rows) > 0 {
		fmt.Fprintf(stdout, "\n%d cores, %s/%s, %s\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
		writeTable(stdout, s, rows)
	}
	if err != nil {
		return fmt.Errorf("%w; the log of aci-sync is %s", err, filepath.Join(dir, logName))
	}
	return wrong(rows)
}

// build makes the program that is measured, as it is released: without the race detector.
func build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "aci-sync")
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary,
		"github.com/haystacknetworks/aci-sync/cmd/aci-sync").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build aci-sync: %w\n%s", err, out)
	}
	return binary, nil
}
