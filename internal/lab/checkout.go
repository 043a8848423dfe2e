package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// modulePath tells the checkout's go.mod from others on the way up.
const modulePath = "github.com/haystacknetworks/aci-sync"

// checkout keeps the labs of one source tree apart from those of others. Below its root are
//
//	.lab/up            the lab of Up
//	.lab/up.lock       held while that one is started or stopped
//	.lab/own-*         a lab of Start
//	.lab/own-*/owner   held as long as its owner lives
//	.lab/lock          held while a directory of Start is made or taken away
//	.lab/failed        logs of the last start that failed
type checkout struct {
	root string // absolute, without links: command lines are compared with it
}

func findCheckout() (checkout, error) {
	dir, err := os.Getwd()
	if err != nil {
		return checkout{}, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return checkout{}, err
	}
	for at := dir; ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
			return checkout{root: at}, nil
		}
		if at == filepath.Dir(at) {
			return checkout{}, fmt.Errorf("%s is not in a checkout of %s, which the lab is built from", dir, modulePath)
		}
	}
}

func (c checkout) state(name ...string) string {
	return filepath.Join(append([]string{c.root, ".lab"}, name...)...)
}

func (c checkout) upDir() string { return c.state("up") }

// upKubeconfig is there once the lab of Up has been ready.
func (c checkout) upKubeconfig() string { return filepath.Join(c.upDir(), kubeconfigName) }

func (c checkout) lockUp(ctx context.Context) (*lock, error) {
	if err := os.MkdirAll(c.state(), 0o700); err != nil {
		return nil, err
	}
	return awaitLock(ctx, c.state("up.lock"))
}

// upIsHealthy tells whether the lab of Up works, as far as a quick look can tell.
func (c checkout) upIsHealthy(ctx context.Context) bool {
	if _, err := os.Stat(c.upKubeconfig()); err != nil {
		return false
	}
	pids, err := processes(ctx, c.upDir())
	if err != nil || len(pids) != processCount {
		return false
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("the lab does not answer"))
	defer cancel()
	return ready(ctx, c.upKubeconfig())
}

// own makes the directory of a lab whose owner is this process, after a sweep.
func (c checkout) own(ctx context.Context) (string, *lock, error) {
	if err := c.sweep(ctx); err != nil {
		return "", nil, err
	}
	// A sweep between the next two steps would take the directory for a leftover.
	guard, err := awaitLock(ctx, c.state("lock"))
	if err != nil {
		return "", nil, err
	}
	defer guard.Close()
	dir, err := os.MkdirTemp(c.state(), "own-")
	if err != nil {
		return "", nil, err
	}
	owner, err := tryLock(filepath.Join(dir, "owner"))
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, owner, nil
}

// disown takes the directory away again, and with it what may still run in it.
func (c checkout) disown(ctx context.Context, dir string, owner *lock) error {
	defer owner.Close()
	// A sweep that met the directory half gone would lock another file by the owner's name.
	guard, err := awaitLock(ctx, c.state("lock"))
	if err != nil {
		return err
	}
	defer guard.Close()
	return remove(ctx, dir)
}

// sweep ends the labs whose owner has ended without.
func (c checkout) sweep(ctx context.Context) error {
	if err := os.MkdirAll(c.state(), 0o700); err != nil {
		return err
	}
	guard, err := awaitLock(ctx, c.state("lock"))
	if err != nil {
		return err
	}
	defer guard.Close()
	dirs, err := filepath.Glob(c.state("own-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		owner, err := tryLock(filepath.Join(dir, "owner"))
		switch {
		case errors.Is(err, errLocked), errors.Is(err, os.ErrNotExist): // in use, or gone since
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		}
		errs = append(errs, remove(ctx, dir), owner.Close())
	}
	return errors.Join(errs...)
}

// remove ends all processes of the lab in dir and forgets its state.
func remove(ctx context.Context, dir string) error {
	// Also without a directory: somebody may have removed it under a running lab.
	if err := killAll(ctx, dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
