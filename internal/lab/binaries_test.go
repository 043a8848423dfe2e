package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestEnsureMakesOnce(t *testing.T) {
	t.Parallel()
	b := builder{cached: filepath.Join(t.TempDir(), "cached")}
	target := filepath.Join(b.cached, "tool")
	var made atomic.Int32
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if err := b.ensure(t.Context(), target, func(string) {}, func(_ context.Context, to string) error {
				made.Add(1)
				return os.WriteFile(to, []byte("tool"), 0o755)
			}); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(target); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("made %d times, want once", n)
	}
}

func TestEnsureLeavesNothingHalfMade(t *testing.T) {
	t.Parallel()
	b := builder{cached: t.TempDir()}
	target := filepath.Join(b.cached, "tool")
	broken := errors.New("disk full")
	if err := b.ensure(t.Context(), target, func(string) {}, func(_ context.Context, to string) error {
		return errors.Join(os.WriteFile(to, []byte("half"), 0o755), broken)
	}); !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a tool is there, error %v", err)
	}
	if err := b.ensure(t.Context(), target, func(string) {}, func(_ context.Context, to string) error {
		if _, err := os.Stat(to); err == nil {
			t.Error("the half of the first attempt is still there")
		}
		return os.WriteFile(to, []byte("whole"), 0o755)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPinnedVersions(t *testing.T) {
	t.Parallel()
	c, err := findCheckout()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		p, err := s.pin(filepath.Join(c.root, "tools", "lab", s.dir))
		if err != nil {
			t.Error(err)
			continue
		}
		changed := s
		changed.binaries = append([]binary{{"more", "more"}}, s.binaries...)
		q, err := changed.pin(p.dir)
		if err != nil {
			t.Error(err)
		}
		if p.hash == q.hash {
			t.Errorf("%s: the cache would not notice another recipe", s.dir)
		}
	}
}
