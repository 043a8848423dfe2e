package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// startSleep starts a program in the way of a lab's: by a link below dir.
func startSleep(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "sleep")
	if err := os.Symlink(sleep, name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestSweep(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := checkout{root: root}
	orphan, owner, err := c.own(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left := startSleep(t, orphan)
	used, usedOwner, err := c.own(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer usedOwner.Close()
	kept := startSleep(t, used)
	foreign := startSleep(t, t.TempDir())

	owner.Close() // as its end would
	if err := c.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := left.Wait(); err == nil {
		t.Error("the process of a lab without owner ended by itself, want it killed")
	}
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its state is still there, error %v", err)
	}
	for name, cmd := range map[string]*exec.Cmd{"a lab in use": kept, "somebody else": foreign} {
		all, err := commands(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all[cmd.Process.Pid] == "" {
			t.Errorf("the process of %s is gone", name)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := tryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryLock(path); !errors.Is(err, errLocked) {
		t.Errorf("taken twice: got error %v", err)
	}
	called := errors.New("called off")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(called)
	if _, err := awaitLock(ctx, path); !errors.Is(err, called) {
		t.Errorf("waiting was not called off: got error %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := awaitLock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
