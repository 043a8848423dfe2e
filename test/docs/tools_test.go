package docs_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// helm is the pinned Helm, built.
func helm(t *testing.T) string {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/helm/go.mod", "-n", "helm")
	build.Dir = "../.."
	program, err := build.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(program))
}

// moduleDir is where the files of a module are that a directory of tools/lab pins.
func moduleDir(t *testing.T, pinnedBy, module string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir = filepath.Join("../../tools/lab", pinnedBy)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m.Dir
}

// addCharts lays the charts before the terminal.
func (term *terminal) addCharts() {
	term.t.Helper()
	charts, err := filepath.Abs("../../charts")
	if err != nil {
		term.t.Fatal(err)
	}
	if err := os.Symlink(charts, filepath.Join(term.dir, "charts")); err != nil {
		term.t.Fatal(err)
	}
}
