package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// waitDelay is how long a program may take to end after it was told to.
	waitDelay = 10 * time.Second
	// killTimeout is how long the kernel may take to end what was killed.
	killTimeout = 20 * time.Second
)

// processes returns the processes of the lab in dir: those that run by a name below dir, as all
// of a lab's programs do, by way of links. Their ids are not kept in files, because such a file
// can be missing or name a process of somebody else by now.
func processes(ctx context.Context, dir string) ([]int, error) {
	all, err := commands(ctx)
	if err != nil {
		return nil, err
	}
	var pids []int
	for pid, command := range all {
		if runsBelow(command, dir) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func runsBelow(command, dir string) bool {
	return strings.HasPrefix(command, dir+string(filepath.Separator))
}

// commands returns the command line of every process, beginning with the name of its program.
func commands(ctx context.Context) (map[int]string, error) {
	all := map[int]string{}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range lines {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		// A process may have ended since; one that ended and is not yet reaped reads as empty.
		if line, err := os.ReadFile(file); err == nil {
			all[pid] = string(line)
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	// Systems without /proc have ps.
	out, err := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		id, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(id); err == nil {
			all[pid] = strings.TrimSpace(command)
		}
	}
	return all, nil
}

// killAll ends every process of the lab in dir and returns when none is left, nor anything that one
// held open. They are not asked: the state of a lab is thrown away.
func killAll(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killTimeout, errors.New("killed processes do not end"))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	killed := map[int]bool{}
	for {
		pids, err := processes(ctx, dir)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := kill(ctx, pid, dir); err != nil {
				return err
			}
			killed[pid] = true
		}
		maps.DeleteFunc(killed, func(pid int, _ bool) bool { return ended(pid, dir) })
		if len(killed) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			pids := slices.Sorted(maps.Keys(killed))
			return fmt.Errorf("end processes %v of %s: %w", pids, dir, context.Cause(ctx))
		}
	}
}

// ended tells whether a process of the lab in dir that was killed is through with it. Linux takes
// away first the command line and then, thread by thread, what is open: for a while a process that
// processes no longer knows still listens.
func ended(pid int, dir string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return true // reaped, or a system without /proc
	}
	if line, err := os.ReadFile(filepath.Join(proc, "cmdline")); err == nil && len(line) > 0 {
		return !runsBelow(string(line), dir) // the id is somebody else's by now
	}
	// The state follows the name, which is in parentheses and may hold any character.
	//
	// Source: proc_pid_stat(5) of the Linux manual pages.
	state := strings.TrimSpace(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	threads, err := filepath.Glob(filepath.Join(proc, "task", "*"))
	return err == nil && strings.HasPrefix(state, "Z") && len(threads) <= 1
}

// kill ends a process if it still is one of the lab in dir. Where the system has handles for
// processes, the second look makes sure that the id was not given to another in between.
func kill(ctx context.Context, pid int, dir string) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("find process %d: %w", pid, err)
	}
	defer p.Release() //nolint:errcheck // it only frees the handle
	all, err := commands(ctx)
	if err != nil {
		return err
	}
	if !runsBelow(all[pid], dir) {
		return nil
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}
