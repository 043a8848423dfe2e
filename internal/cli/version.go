package cli

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/haystacknetworks/aci-sync/charts"
)

// Set by the linker, in what make and the Dockerfile build. Without them, Go's own notes tell as much as they can.
//
//nolint:gochecknoglobals // the linker sets nothing else
var (
	commit  string // the commit, in full, and then -dirty when the checkout had changes
	release string // "true" in what is released
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go that built it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

func versionLine() string {
	v, c := build()
	return fmt.Sprintf("aci-sync %s, commit %s, %s %s/%s", v, c, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// build is the version and the commit that this program was built from.
func build() (version, revision string) {
	info, _ := debug.ReadBuildInfo()
	return describe(charts.Version(), commit, release == "true", info)
}

// pseudo is the end of a version that Go makes up for a commit without a tag.
var pseudo = regexp.MustCompile(`\d{14}-([0-9a-f]{12})(\+dirty)?$`)

// describe tells the version and the commit of a build of the source of version next. It has that very version when it was
// released, or made by the go command from the tag; every other build is VERSION-dev+COMMIT, and .dirty when that is
// not all. commit and released are what the linker was told, info is what Go noted, which may be nil.
func describe(next, commit string, released bool, info *debug.BuildInfo) (version, revision string) {
	commit, dirty := strings.CutSuffix(commit, "-dirty")
	if info != nil && commit == "" {
		if m := pseudo.FindStringSubmatch(info.Main.Version); m != nil {
			commit = m[1]
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = s.Value
			case "vcs.modified":
				dirty = s.Value == "true"
			}
		}
	}
	commit = cmp.Or(commit, "unknown")
	if !dirty && (released || info != nil && info.Main.Version == "v"+next) {
		return next, commit
	}
	version = next + "-dev+" + commit[:min(len(commit), 12)]
	if dirty {
		version += ".dirty"
	}
	return version, commit
}
