package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

var errLocked = errors.New("locked by another process")

// A lock is held until it is closed or its process ends, however it ends. Programs that the
// process starts do not inherit it.
type lock struct{ f *os.File }

// tryLock takes the lock of the file at path, which it makes if need be. The error is errLocked
// while somebody else, also in this process, holds it.
func tryLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &lock{f}, nil
}

// awaitLock is tryLock that waits for its turn until ctx ends.
func awaitLock(ctx context.Context, path string) (*lock, error) {
	// Asking now and then, because a blocking flock could not be called off.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock %s: %w", path, context.Cause(ctx))
		}
	}
}

// Close lets the lock go. The file stays: were it removed, two processes could hold locks of
// different files of the same name.
func (l *lock) Close() error { return l.f.Close() }
