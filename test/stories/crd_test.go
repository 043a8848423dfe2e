package stories_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/haystacknetworks/aci-sync/charts"
)

// A cluster without the definition of ExternalEPG, then with an old one, then with what the command
// that aci-sync names has installed. It has an API server of its own, because all stories share the
// definition.
func TestDefinitionOfExternalEPG(t *testing.T) {
	t.Parallel()
	s, l, must := alone(t)
	const install = "aci-sync crds | kubectl apply --server-side --force-conflicts -f -"

	// Outside a cluster it warns, and runs without the durable promises.
	must(s.start("sync", true, nil, nil))
	must(s.procs["sync"].logged([]string{"nothing is remembered across a restart.*" + regexp.QuoteMeta(install), "1"}))
	must(s.procs["sync"].stop())

	// An old one stops the start, with one line that says what to do.
	old := strings.Replace(string(charts.CRDs), `aci.haystacknetworks.com/schema: "1"`, `aci.haystacknetworks.com/schema: "0"`, 1)
	must(l.Apply(t.Context(), old, "--server-side", "--field-manager=helm"))
	var stderr bytes.Buffer
	cmd := s.command(nil, []string{"run", "--leader-elect=false", "--metrics-bind-address=0", "--health-probe-bind-address=0"})
	cmd.Stderr = &stderr
	err := cmd.Run()
	line := stderr.String()[strings.LastIndex(strings.TrimSpace(stderr.String()), "\n")+1:]
	if cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(line, "aci-sync: ") || !strings.Contains(line, "older than this aci-sync") ||
		!strings.Contains(line, install) {
		t.Errorf("%v: %s", err, stderr.String())
	}

	// That command, as it is.
	shell := exec.CommandContext(t.Context(), "sh", "-c", "set -e; "+install)
	shell.Env = []string{"PATH=" + filepath.Dir(shared.binary) + ":" + filepath.Dir(l.KubectlPath()) + ":/usr/bin:/bin", "KUBECONFIG=" + l.Kubeconfig(), "HOME=" + s.dir}
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", install, err, out)
	}
	must(s.start("sync", true, nil, nil))
	must(s.procs["sync"].logged([]string{"nothing is remembered", "0"}))
	must(s.procs["sync"].stop())
	s.checkLaws()
}
