package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// logName is the log of aci-sync, of all its starts one after the other.
const logName = "aci-sync.log"

// process is a running aci-sync.
type process struct {
	cmd     *exec.Cmd
	began   time.Time
	control chan control  // gets a value when it says that it is in control
	ended   chan struct{} // closed when it ended
}

// control is what aci-sync says when it begins to decide.
type control struct {
	at      time.Time
	subnets int // that it found to be its own
}

// startSync starts aci-sync and returns at once.
func (r *rig) startSync() (*process, error) {
	p := &process{control: make(chan control, 1), ended: make(chan struct{})}
	p.cmd = exec.Command(r.binary, append([]string{ //nolint:noctx // ended by kill
		"run", "--kubeconfig=" + r.lab.Kubeconfig(), "--namespace-selector=kubernetes.io/metadata.name=" + r.namespace,
		"--cluster-id=" + r.name, "--leader-elect=false", "--log-format=json",
		"--metrics-bind-address=0", "--health-probe-bind-address=0",
	}, r.flags...)...)
	p.cmd.Env = append([]string{
		"HOME=" + r.dir, "ACI_APIC=" + r.fabric.url, "ACI_USERNAME=" + user, "ACI_PASSWORD=" + password,
		"ACI_CA_FILE=" + r.fabric.caFile,
	}, r.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(r.dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		p.listen(io.TeeReader(stderr, log))
		_ = p.cmd.Wait()
		_ = log.Close()
		close(p.ended)
	}()
	return p, nil
}

// listen reads the log to its end.
func (p *process) listen(log io.Reader) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte(`"in control"`)) {
			continue
		}
		var line struct{ Subnets int }
		if json.Unmarshal(lines.Bytes(), &line) == nil {
			p.control <- control{time.Now(), line.Subnets}
		}
	}
	_, _ = io.Copy(io.Discard, log) // after a line that was too long
}

// inControl waits until it decides.
func (p *process) inControl(ctx context.Context) (control, error) {
	select {
	case c := <-p.control:
		return c, nil
	case <-p.ended:
		return control{}, errors.New("aci-sync ended")
	case <-time.After(patience):
		return control{}, fmt.Errorf("aci-sync is not in control after %v", patience)
	case <-ctx.Done():
		return control{}, context.Cause(ctx)
	}
}

// kill ends it as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// cpu is the time that it computed since it began, in user and kernel mode, to the nanosecond: what /proc tells is
// counted in ticks of 10 ms, and that is several changes.
//
// Source: clock_getcpuclockid(3); the clock of a process is its id inverted, shifted by 3, and 2 for all its time.
func (p *process) cpu() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|2), &t); err != nil { //nolint:gosec // process ids have 22 bits
		return 0, fmt.Errorf("read the CPU clock of aci-sync: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// memory is how much is resident now, and was at most since it began, in bytes.
func (p *process) memory() (now, peak int, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.Atoi(fields[1])
		switch fields[0] {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	if now == 0 || peak == 0 {
		return 0, 0, errors.New("/proc tells no memory")
	}
	return now, peak, nil
}

// rest waits until it computes nothing worth counting.
func (p *process) rest(ctx context.Context) error {
	const look, little = 250 * time.Millisecond, 10 * time.Millisecond
	last, err := p.cpu()
	quiet := 0
	for range int(patience / look) {
		if err != nil {
			return err
		}
		if quiet == 2 {
			return nil
		}
		if err := pause(ctx, look); err != nil {
			return err
		}
		var now time.Duration
		if now, err = p.cpu(); now-last <= little {
			quiet++
		} else {
			quiet = 0
		}
		last = now
	}
	return fmt.Errorf("aci-sync does not come to rest within %v", patience)
}

// pause waits for d, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
