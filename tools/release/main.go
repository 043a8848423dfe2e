// Command release makes what is published of aci-sync: the container image, without a daemon, and everything else that belongs
// to a version. make image and make release run it; docs/release.md says what comes out.
//
//	go -C tools/release run . image -o FILE      the image for all platforms, as an OCI layout in a tar archive
//	go -C tools/release run . rootfs -o DIR      the image's files, for the platform that this runs on
//	go -C tools/release run . dist -o DIR        all of a version; -snapshot for a version that is none yet
//
// Relative paths count from the top of the checkout. The same commit and the same Go give the same bytes, wherever and whenever
// they are made: archives are sorted, belong to nobody, and bear the time of the commit, or SOURCE_DATE_EPOCH.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

const usage = "usage: release image -o FILE | release rootfs -o DIR | release dist -o DIR [-snapshot]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("release "+args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard) // one line is enough
	out := flags.String("o", "", "what is written")
	snapshot := flags.Bool("snapshot", false, "of a version that is none yet")
	if err := flags.Parse(args[1:]); err != nil || *out == "" || flags.NArg() > 0 {
		return errors.New(usage)
	}
	src, err := checkout(ctx)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(*out) {
		*out = filepath.Join(src.dir, *out)
	}
	switch args[0] {
	case "image":
		digest, err := src.writeImage(ctx, *out)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s\n%s@%s\n", *out, src.reference(), digest)
		return nil
	case "rootfs":
		return src.writeRootfs(ctx, *out, runtime.GOARCH)
	case "dist":
		return src.writeDist(ctx, *out, *snapshot, stdout)
	default:
		return errors.New(usage)
	}
}
