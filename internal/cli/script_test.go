package cli_test

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/haystacknetworks/aci-sync/internal/cli"
)

// update rewrites the goldens in the scripts: go test ./internal/cli -update.
var update = flag.Bool("update", false, "rewrite the goldens in testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"aci-sync": func() { // as cmd/aci-sync
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt) //nolint:forbidigo // it is main here
			code := cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
			stop()
			os.Exit(code) //nolint:forbidigo // it is main here
		},
	})
}

// Every script starts from an environment in which run finds all that it needs, except that
// nobody listens where the cluster and the APIC should be.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("ACI_APIC", "apic.invalid")
			e.Setenv("ACI_USERNAME", "aci-sync")
			e.Setenv("ACI_PASSWORD", secret)
			e.Setenv("SECRET", secret)
			e.Setenv("KUBECONFIG", e.WorkDir+"/kubeconfig")
			return os.WriteFile(e.WorkDir+"/kubeconfig", []byte(kubeconfig), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"refused": refused,
		},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

const secret = "t0p-s3cret"

const kubeconfig = `apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: nobody, user: {token: t0p-s3cret}}]
`

var variable = regexp.MustCompile(`^ACI_[A-Z_]+=`)

// refused checks that aci-sync run, with the flags given, ends with exit code 1 and one line
// on stderr that holds a text, before anything starts: refused TEXT [FLAG...]. Arguments of the
// form NAME=value in front are put into its environment.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("refused cannot be negated")
	}
	var env []string
	for len(args) > 0 && variable.MatchString(args[0]) {
		env, args = append(env, args[0]), args[1:]
	}
	if len(args) == 0 {
		ts.Fatalf("usage: refused [NAME=value...] TEXT [FLAG...]")
	}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		old := ts.Getenv(name)
		ts.Setenv(name, value)
		defer ts.Setenv(name, old)
	}
	text, flags := args[0], args[1:]
	if err := ts.Exec("aci-sync", append([]string{"run", "--cluster-id=test"}, flags...)...); err == nil {
		ts.Fatalf("it ran")
	} else if err.Error() != "exit status 1" {
		ts.Fatalf("%v, want exit status 1", err)
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	switch {
	case stdout != "":
		ts.Fatalf("stdout is %q", stdout)
	case !strings.HasPrefix(stderr, "aci-sync: ") || strings.Count(stderr, "\n") != 1:
		ts.Fatalf("not one line of ours: %q", stderr)
	case !strings.Contains(stderr, text):
		ts.Fatalf("%q does not say %q", stderr, text)
	case strings.Contains(stderr, secret):
		ts.Fatalf("%q tells a secret", stderr)
	}
}
