// Bench measures what aci-sync costs, and whether that grows with what is already there: the built
// program as a process of its own, between a real API server and the simulated APIC.
//
//	bench [-quick] [-latency D] [-sizes N,N...] [-changes N] [-burst N] [-pprof ADDRESS] [-o FILE]
//
// Progress goes to stderr, the report to stdout, and with -o to a page, whose part by hand is kept.
// The exit code is 1 when something could not be measured, or when counts are not as promised; times
// are told and never judged.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
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
const maxTime = 40 * time.Minute

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
	s := full()
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolFunc("quick", "a part of it in two minutes; stands before other flags", func(string) error { s = quick(); return nil })
	fs.Func("sizes", "how many `subnets` are there already: even numbers, ascending, comma separated; 50000 is an outlook", func(v string) error {
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
	// Functions, not variables: -quick replaces all of s.
	number := func(name, usage string, least int, to func() *int) {
		fs.Func(name, usage, func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < least {
				return fmt.Errorf("not a number of at least %d", least)
			}
			*to() = n
			return nil
		})
	}
	number("changes", "single `changes` at each size", l3outs, func() *int { return &s.changes })
	number("burst", "`addresses` that come at once; 0 leaves that out", 0, func() *int { return &s.burst })
	fs.Func("latency", "what a request to the APIC takes", func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return errors.New("not a duration")
		}
		s.latency = d
		return nil
	})
	pprof := fs.String("pprof", "", "let aci-sync serve profiles at this `address`, such as 127.0.0.1:6060")
	page := fs.String("o", "", "the page to write, such as docs/performance.md")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return errors.New("usage: bench [-quick] [-latency D] [-sizes N,N...] [-changes N] [-burst N] [-pprof ADDRESS] [-o FILE]")
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
	results := results{settings: s}
	var idlers *watch
	if len(s.idle) > 0 {
		l, stop, e := startLab(ctx, stderr)
		if e != nil {
			return e
		}
		defer stop(&err)
		idlers, err = newWatch(ctx, l, s.idle, s.latency, binary, work, func(format string, args ...any) { say("idle: "+format, args...) })
		defer func() { err = errors.Join(err, idlers.close(ctx)) }()
		if err != nil {
			return err
		}
	}
	l, stop, err := startLab(ctx, stderr)
	if err != nil {
		return err
	}
	defer stop(&err)
	r, err := newRig(ctx, "bench", l, true, binary, work, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close(ctx)) }()
	r.flags = []string{"--resync-interval=1h"} // what is measured is the cost of changes, not how often all is read
	if *pprof != "" {
		r.flags = append(r.flags, "--pprof-bind-address="+*pprof)
	}
	version, err := r.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	where := machine(ctx, version.GitVersion, apicVersion)
	if results.rows, err = r.measure(ctx, s); err == nil && idlers != nil {
		say("idle: watching until %v are over ...", s.watch)
		results.idle, err = idlers.seen(ctx, s.watch)
	}
	var report bytes.Buffer
	if len(results.rows) > 0 {
		results.writeReport(&report, where)
		fmt.Fprintf(stdout, "\n%s", report.Bytes())
	}
	if err != nil {
		return fmt.Errorf("%w; the log of aci-sync is %s", err, filepath.Join(dir, logName))
	}
	if *page != "" {
		if err := savePage(*page, report.Bytes()); err != nil {
			return err
		}
	}
	return wrong(results.rows)
}

// startLab starts a bare control plane that knows our kinds; stop joins its error to another.
func startLab(ctx context.Context, stderr io.Writer) (l *lab.Lab, stop func(*error), err error) {
	fmt.Fprintln(stderr, "starting an API server (its binaries are built on the first run of a machine, which takes some twelve minutes) ...")
	if l, err = lab.Start(ctx, lab.Options{Bare: true, Progress: stderr}); err != nil {
		return nil, nil, err
	}
	stop = func(to *error) {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		*to = errors.Join(*to, l.Stop(end))
	}
	if err := l.Apply(ctx, string(charts.CRDs), "--server-side"); err != nil {
		stop(&err)
		return nil, nil, err
	}
	return l, stop, nil
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
