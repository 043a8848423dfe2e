// Demo shows aci-sync at work and checks what it shows: a real Kubernetes control plane on
// loopback, a simulated APIC, and aci-sync between them. It fails loudly when a step of its
// story does not happen.
//
//	demo        tell the story, then stop everything
//	demo stop   stop what a demo with KEEP=1 left running
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nThe demo FAILED: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "stop" {
		if err := stopKept(); err != nil {
			return err
		}
		return lab.Down(ctx)
	}
	if len(args) > 0 {
		return fmt.Errorf("usage: demo [stop]")
	}
	keep := os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0"
	ctx, cancel := context.WithTimeoutCause(ctx, 25*time.Minute, fmt.Errorf("it took more than 25 minutes"))
	defer cancel()
	s, err := setUp(ctx, keep)
	if err != nil {
		return err
	}
	err = s.tell(ctx)
	if err != nil {
		s.showLogs()
	}
	if keep && err == nil {
		return s.leave()
	}
	s.tearDown()
	return err
}
