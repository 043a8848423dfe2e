package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const module = "github.com/haystacknetworks/aci-sync"

// platform is what a program runs on.
type platform struct{ os, arch string }

// source is the checkout that everything is made from.
type source struct {
	dir     string // absolute
	next    string // the version in Chart.yaml
	kube    string // the oldest Kubernetes that Chart.yaml is for
	commit  string // in full
	dirty   bool   // has changes that are not committed, or files that are not known to git
	time    time.Time
	release bool // what is made is the version next, and no snapshot on the way to it

	images   []string   // the architectures of Linux that the image is for
	archives []platform // what archives are made for
}

// checkout finds the source around the working directory.
func checkout(ctx context.Context) (*source, error) {
	top, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	s := &source{
		dir:    top,
		images: []string{"amd64", "arm64"},
		// A Mac is where people plan and adopt from.
		archives: []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}},
	}
	chart, err := os.ReadFile(s.path("charts/aci-sync/Chart.yaml"))
	if err != nil {
		return nil, err
	}
	for field, expr := range map[*string]string{
		&s.next: `(?m)^version: "?([^\s"]+)`,
		&s.kube: `(?m)^kubeVersion: ">=([0-9.]+)`,
	} {
		m := regexp.MustCompile(expr).FindSubmatch(chart)
		if m == nil {
			return nil, fmt.Errorf("charts/aci-sync/Chart.yaml has nothing like %s", expr)
		}
		*field = string(m[1])
	}
	if s.commit, err = output(ctx, s.dir, "git", "rev-parse", "HEAD"); err != nil {
		return nil, err
	}
	changes, err := output(ctx, s.dir, "git", "status", "--porcelain")
	if err != nil {
		return nil, err
	}
	s.dirty = changes != ""
	epoch := os.Getenv("SOURCE_DATE_EPOCH") // https://reproducible-builds.org/docs/source-date-epoch/
	if epoch == "" {
		if epoch, err = output(ctx, s.dir, "git", "log", "-1", "--format=%ct"); err != nil {
			return nil, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH is %q, not seconds since 1970", epoch)
	}
	s.time = time.Unix(seconds, 0).UTC()
	return s, nil
}

func (s *source) path(rel string) string { return filepath.Join(s.dir, filepath.FromSlash(rel)) }

// version is that of what is made. It is what aci-sync version prints: see internal/cli/version.go.
func (s *source) version() string {
	switch {
	case s.release:
		return s.next
	case s.dirty:
		return s.next + "-dev+" + s.commit[:12] + ".dirty"
	default:
		return s.next + "-dev+" + s.commit[:12]
	}
}

// tag is the version where a + is not allowed, such as in a reference of an image. Helm replaces it the same way.
func (s *source) tag() string { return strings.ReplaceAll(s.version(), "+", "_") }

// releasable says why this is no commit to release a version of.
func (s *source) releasable(ctx context.Context) error {
	if s.dirty {
		return errors.New("the checkout has changes: commit them, or make a snapshot with SNAPSHOT=1")
	}
	changes, err := os.ReadFile(s.path("CHANGELOG.md"))
	if err != nil {
		return err
	}
	if heading := "## [" + s.next + "]"; !bytes.Contains(changes, []byte("\n"+heading)) {
		return fmt.Errorf("CHANGELOG.md has no heading %q for the version in Chart.yaml; SNAPSHOT=1 makes a snapshot without", heading)
	}
	tagged, err := output(ctx, s.dir, "git", "for-each-ref", "--format=%(objectname) %(*objectname)", "refs/tags/v"+s.next)
	if err != nil {
		return err
	}
	if tagged != "" && !strings.Contains(tagged, s.commit) {
		return fmt.Errorf("v%s is the tag of another commit: raise the version in Chart.yaml", s.next)
	}
	return nil
}

// build makes a program of cmd/ for p: static, and without a trace of where it was built. The Dockerfile builds the same.
func (s *source) build(ctx context.Context, program string, p platform, to string) error {
	commit := s.commit
	if s.dirty {
		commit += "-dirty"
	}
	flags := fmt.Sprintf("-s -w -X %[1]s/internal/cli.commit=%[2]s -X %[1]s/internal/cli.release=%[3]t", module, commit, s.release)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", to, "./cmd/"+program)
	cmd.Dir = s.dir
	// Whatever the developer has set must not show in the binary.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-mod=readonly",
		"GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off")
	return silently(cmd)
}

// tool runs what a module below tools/ pins, at the top of the checkout.
func (s *source) tool(ctx context.Context, module string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"tool", "-modfile=tools/" + module + "/go.mod"}, args...)...)
	cmd.Dir = s.dir
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	err := silently(cmd)
	return stdout.Bytes(), err
}

// silently runs cmd, whose words are those of the error if it fails.
func silently(cmd *exec.Cmd) error {
	var words bytes.Buffer
	cmd.Stderr = &words
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(words.Bytes()))
	}
	return nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	err := silently(cmd)
	return strings.TrimSpace(stdout.String()), err
}
