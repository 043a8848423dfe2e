package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cacheVariable names the directory that keeps the binaries, instead of the user's cache.
const cacheVariable = "ACI_SYNC_LAB_CACHE"

// source is a module below tools/lab that pins what some binaries are built from. It is a module
// of its own for each, because their requirements exclude one another.
type source struct {
	dir      string // below tools/lab
	module   string // whose version is that of the binaries
	binaries []binary
	// versionVariables are set to the version by the linker.
	versionVariables []string
	files            string // a directory of the module that the lab needs besides, or ""
}

type binary struct {
	name string
	pkg  string
}

var sources = []source{
	{dir: "etcd", module: "go.etcd.io/etcd/server/v3", binaries: []binary{{"etcd", "go.etcd.io/etcd/server/v3"}}},
	{dir: "kwok", module: "sigs.k8s.io/kwok", binaries: []binary{
		{"kwok", "sigs.k8s.io/kwok/cmd/kwok"},
		{"kwokctl", "sigs.k8s.io/kwok/cmd/kwokctl"},
	}},
	{dir: "kubernetes", module: "k8s.io/kubernetes", binaries: []binary{
		{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
		{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
		{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"},
		{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
	}, versionVariables: []string{
		"k8s.io/component-base/version.gitVersion",
		"k8s.io/client-go/pkg/version.gitVersion",
	}},
	{dir: "metallb", module: "go.universe.tf/metallb", binaries: []binary{
		{"metallb-controller", "go.universe.tf/metallb/controller"},
	}, files: "config/crd/bases"},
}

// toolchain finds what a lab is made of: absolute paths by the name of the binary, and of the
// directory of files by the name of the source.
type toolchain map[string]string

// build returns the toolchain of the checkout, from the cache or built into it.
// It may run in several processes at once: they wait for each other.
func build(ctx context.Context, checkout string, progress io.Writer) (toolchain, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	total, n := 0, 0
	for _, s := range sources {
		total += len(s.binaries)
	}
	tools := toolchain{}
	for _, s := range sources {
		pin, err := s.pin(filepath.Join(checkout, "tools", "lab", s.dir))
		if err != nil {
			return nil, err
		}
		b := builder{source: s, pin: pin, cached: filepath.Join(cache, s.dir+"-"+pin.version+"-"+pin.hash)}
		for _, bin := range s.binaries {
			n++
			tools[bin.name] = filepath.Join(b.cached, bin.name)
			announce := func(words string) {
				fmt.Fprintf(progress, "lab: %s %s %s (%d of %d), first time only, about 10 minutes in all\n",
					words, bin.name, pin.version, n, total)
			}
			if err := b.ensure(ctx, tools[bin.name], announce, func(ctx context.Context, to string) error {
				return b.compile(ctx, bin, to)
			}); err != nil {
				return nil, err
			}
		}
		if s.files != "" {
			tools[s.dir] = filepath.Join(b.cached, "files")
			if err := b.ensure(ctx, tools[s.dir], func(string) {}, b.copyFiles); err != nil {
				return nil, err
			}
		}
	}
	return tools, nil
}

func cacheDir() (string, error) {
	if dir := os.Getenv(cacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for binaries (%s names one): %w", cacheVariable, err)
	}
	return filepath.Join(dir, "aci-sync", "lab"), nil
}

// pin is what a source pins.
type pin struct {
	dir     string // absolute, of the source
	version string // of the source's module
	hash    string // changes with anything that the binaries are made from
}

func (s source) pin(dir string) (pin, error) {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return pin{}, fmt.Errorf("read what the lab is built from: %w", err)
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return pin{}, fmt.Errorf("read what the lab is built from: %w", err)
	}
	p := pin{dir: dir}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == s.module && strings.HasPrefix(fields[1], "v") {
			p.version = fields[1]
		}
	}
	if p.version == "" {
		return pin{}, fmt.Errorf("%s does not require %s", filepath.Join(dir, "go.mod"), s.module)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%+v\n", mod, sum, s)
	p.hash = hex.EncodeToString(h.Sum(nil))[:10]
	return p, nil
}

// builder fills the cached directory of one source.
type builder struct {
	source source
	pin    pin
	cached string
}

// ensure makes sure that target is there, if need be by make, which is given a path beside it.
// Target appears at once and complete, or not at all.
func (b builder) ensure(
	ctx context.Context, target string, announce func(string), make func(ctx context.Context, to string) error,
) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if err := os.MkdirAll(b.cached, 0o755); err != nil {
		return err
	}
	lock, err := tryLock(target + ".lock")
	if errors.Is(err, errLocked) {
		announce("waiting for another process to build")
		lock, err = awaitLock(ctx, target+".lock")
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(target); err == nil {
		return nil // the one that we waited for made it
	}
	announce("building")
	// The lock makes this name ours; what a killed build left under it is void.
	to := target + ".new"
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := make(ctx, to); err != nil {
		return fmt.Errorf("build %s %s: %w", filepath.Base(target), b.pin.version, err)
	}
	return os.Rename(to, target)
}

func (b builder) compile(ctx context.Context, bin binary, to string) error {
	flags := []string{"-s", "-w"}
	for _, name := range b.source.versionVariables {
		flags = append(flags, "-X", name+"="+b.pin.version)
	}
	_, err := b.goTool(ctx, "build", "-trimpath", "-buildvcs=false", "-ldflags", strings.Join(flags, " "), "-o", to, bin.pkg)
	return err
}

// copyFiles copies the source's extra files, for the module cache may be emptied at any time.
func (b builder) copyFiles(ctx context.Context, to string) error {
	out, err := b.goTool(ctx, "mod", "download", "-json", b.source.module)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return fmt.Errorf("read where %s is: %w", b.source.module, err)
	}
	return os.CopyFS(to, os.DirFS(filepath.Join(module.Dir, b.source.files)))
}

// goTool runs the go command in the source's module, whatever the environment says of workspaces,
// vendoring or another platform: the binaries are to run here.
func (b builder) goTool(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.pin.dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "GOOS=", "GOARCH=", "GO111MODULE=")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// Compilers started by an interrupted go command may hold the pipes a little longer.
	cmd.WaitDelay = waitDelay
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Run(); ctx.Err() != nil {
		return nil, context.Cause(ctx)
	} else if err != nil {
		return nil, fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), b.pin.dir, err, tail(stderr.String(), 20))
	}
	return stdout.Bytes(), nil
}

// tail returns the last lines of text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
