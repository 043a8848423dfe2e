package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

func TestRunPassesOnExitCodes(t *testing.T) {
	// One lab for all of them: the one of make test, or one that lives as long as this test.
	l, err := lab.Shared(t.Context(), lab.Options{Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Setenv(lab.KubeconfigVariable, l.Kubeconfig())
	for name, test := range map[string]struct {
		command string
		want    int
	}{
		"success":          {"exit 0", 0},
		"failure":          {"exit 3", 3},
		"a signal":         {"kill -TERM $$", 143},
		"the lab is there": {`test -s "$ACI_SYNC_LAB_KUBECONFIG"`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := run(t.Context(), []string{"run", "--", "sh", "-c", test.command}, t.Output(), t.Output())
			if err != nil {
				t.Error(err)
			}
			if got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
	t.Run("no such command", func(t *testing.T) {
		if got, err := run(t.Context(), []string{"run", "--", "no-such-command"}, t.Output(), t.Output()); got != 1 || err == nil {
			t.Errorf("exit code %d, error %v, want 1 and an error", got, err)
		}
	})
	t.Run("the lab outlives it", func(t *testing.T) {
		if _, err := l.Kubectl(t.Context(), "get", "--raw=/readyz"); err != nil {
			t.Error(err)
		}
	})
}

func TestRunRefusesWrongUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"sideways"}, {"up", "high"}, {"run"}, {"run", "--"}, {"run", "true"}} {
		var stdout bytes.Buffer
		got, err := run(t.Context(), args, &stdout, t.Output())
		if got != 2 || err == nil || stdout.Len() > 0 {
			t.Errorf("labctl %q: exit code %d, error %v, output %q; want 2 and an error", args, got, err, &stdout)
		}
	}
}
