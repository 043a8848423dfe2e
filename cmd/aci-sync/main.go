// Command aci-sync keeps a Cisco ACI fabric in step with a Kubernetes cluster.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	_ "golang.org/x/crypto/x509roots/fallback" // Mozilla's roots where there are none, as in the image

	"github.com/haystacknetworks/aci-sync/internal/cli"
)

// What is there stays, and little comes and goes beside it: so collecting garbage sooner costs next to nothing, and
// saves a tenth of the memory (docs/performance.md). GOGC in the environment has the last word.
const gcPercent = 25

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
