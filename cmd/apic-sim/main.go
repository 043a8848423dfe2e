// Command apic-sim is a simulated Cisco APIC; apic-sim --help shows how to use it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := apicsim.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
