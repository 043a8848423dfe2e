// Package stories_test tells what aci-sync does as a whole, one story per script in testdata.
//
// A story has a namespace of its own on a real Kubernetes control plane, a simulated APIC of its
// own behind TLS, and the built aci-sync as a child process. What people do, it does with kubectl
// and, as another user, over the APIC's REST API; what it asserts, it asserts there as well.
//
// What the verbs of the scripts do stands at the functions in verbs. At the end of every story some laws are checked that
// hold whatever happens: see laws_test.go.
package stories_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/charts"
	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// world is what all stories share.
type world struct {
	lab    *lab.Lab
	binary string          // the built aci-sync
	key    *rsa.PrivateKey // with which the stories sign their requests to an APIC
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Stories wait most of the time, so more of them than there are cores run at once.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stories:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// shared is set once, before any test runs.
var shared world

func run(m *testing.M) (int, error) {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // there is no test yet
	defer cancel()
	dir, err := os.MkdirTemp("", "aci-sync-stories")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	shared.binary = filepath.Join(dir, "aci-sync")
	args := []string{"build", "-o", shared.binary}
	if raceDetector {
		args = append(args, "-race")
	}
	build := exec.CommandContext(ctx, "go", append(args, "../../cmd/aci-sync")...)
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build aci-sync: %w\n%s", err, out)
	}
	if shared.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return 1, err
	}
	if shared.lab, err = lab.Shared(ctx, lab.Options{}); err != nil {
		return 1, err
	}
	if err := shared.lab.Apply(ctx, string(charts.CRDs), "--server-side"); err != nil {
		return 1, err
	}
	if err := applyRole(ctx, shared.lab); err != nil {
		return 1, err
	}
	if _, err := shared.lab.Kubectl(ctx, "wait", "--for=condition=Established", "crd/"+v1alpha1.CRDName, "--timeout=60s"); err != nil {
		return 1, err
	}
	code := m.Run()
	return code, shared.lab.Stop(ctx)
}

func TestStories(t *testing.T) {
	t.Parallel()
	testscript.Run(t, params("testdata", nil))
}

// TestStoriesWhereModifiedCreates tells stories once more on the other reading of the APIC's
// documents: that a write of status "modified" makes an object that is absent. It takes those
// whose first lines say so.
func TestStoriesWhereModifiedCreates(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("\n# Also where modified creates.\n")) {
			files = append(files, file)
		}
	}
	p := params("", files)
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Setenv(modifiedCreates, "yes")
		return setup(e)
	}
	testscript.Run(t, p)
}

// modifiedCreates is the variable that chooses the reading.
const modifiedCreates = "MODIFIED_CREATES"

func params(dir string, files []string) testscript.Params {
	return testscript.Params{
		Dir:                dir,
		Files:              files,
		Setup:              setup,
		Cmds:               commands(),
		RequireUniqueNames: true,
	}
}

// setup gives a story its world.
func setup(e *testscript.Env) error {
	t, ok := e.T().(testing.TB)
	if !ok {
		return fmt.Errorf("%T is no testing.TB", e.T())
	}
	s, err := newStory(t, e)
	if err != nil {
		return err
	}
	e.Values[storyKey{}] = s
	e.Defer(s.end)
	return nil
}

type storyKey struct{}

// commands are the verbs. They return errors, so that a verb can be tried again by another.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	cmds := map[string]func(*testscript.TestScript, bool, []string){}
	for name, v := range verbs() {
		cmds[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			s := ts.Value(storyKey{}).(*story)
			for i := range args {
				args[i] = s.own(args[i])
			}
			err := v(s, ts, args)
			switch {
			case err == nil && neg:
				ts.Fatalf("%s succeeded", strings.Join(append([]string{name}, args...), " "))
			case err != nil && !neg:
				ts.Fatalf("%v", err)
			}
		}
	}
	return cmds
}
