package stories_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// exitWithin is what is promised after SIGTERM, and a little for a busy machine.
const exitWithin = 6 * time.Second

// process is an aci-sync.
type process struct {
	cmd     *exec.Cmd
	run     int     // how many ran under this name before
	log     *buffer // of all that ran under this name
	from    int     // where the log of this one begins
	probe   string  // where its probes are
	metrics string
	pprof   string
	ended   chan struct{} // closed when it ended
	err     error         // of Wait; not before ended is closed
}

// buffer is a log that grows while it is read.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait waits for the end, and wants exit code 0.
func (p *process) wait(d time.Duration) error {
	select {
	case <-p.ended:
		return p.err
	case <-time.After(d):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // the log then tells what it is doing
		select {
		case <-p.ended:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		return fmt.Errorf("aci-sync did not end within %v", d)
	}
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.wait(exitWithin)
}

// acisyncVerb starts and stops aci-sync, and looks at it:
//
//	acisync start [-name N] [-nowait] [-link] [-env K=V]... [FLAG...]   until it is in control; -link: see link; with
//	                                                            the flag -metrics or -pprof it serves them
//	acisync stop | kill | term [-name N]                        term does not wait
//	acisync exited [-name N] [CODE]                             waits for the end, by itself or after term; 0 is expected
//	acisync ended [-name N] CODE                                it has ended, with this exit code
//	acisync pause | resume [-name N]                            SIGSTOP and SIGCONT
//	acisync log [-name N] REGEXP [COUNT]                        lines since the start
//	acisync ready | alive [-name N]                             its probes
//	acisync metrics [-name N] REGEXP                            a line of what Prometheus gets
//	acisync profile [-name N]                                   a profile of its memory is one
//	acisync memory [-name N] COUNT                              MiB of resident memory
//	acisync plan CODE FILE [FLAG...]                            what plan prints, and its exit code
//	acisync once CODE FILE COMMAND [FLAG...]                    the same of another command that ends by itself;
//	                                                            what it says on stderr is in FILE.err
func acisyncVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: acisync start|stop|kill|term|exited|ended|pause|resume|log|ready|alive|metrics|memory")
	}
	do, args := args[0], args[1:]
	name, wait := "sync", true
	var env, flags []string
	for len(args) > 0 {
		switch {
		case args[0] == "-nowait":
			wait, args = false, args[1:]
			continue
		case args[0] == "-link":
			file, err := s.linked()
			if err != nil {
				return err
			}
			flags, args = append(flags, "--kubeconfig="+file), args[1:]
			continue
		case args[0] == "-name" && len(args) > 1:
			name, args = args[1], args[2:]
			continue
		case args[0] == "-env" && len(args) > 1:
			env, args = append(env, args[1]), args[2:]
			continue
		}
		break
	}
	p := s.procs[name]
	switch do {
	case "start":
		return s.start(name, wait, env, append(flags, args...))
	case "plan":
		return s.once(ts, env, slices.Insert(args, min(len(args), 2), "plan"))
	case "once":
		return s.once(ts, env, args)
	}
	if p == nil {
		return fmt.Errorf("no aci-sync %s was started", name)
	}
	switch do {
	case "stop":
		start := time.Now()
		err := p.stop()
		ts.Logf("# stopped within %v", time.Since(start).Round(time.Millisecond))
		return err
	case "term":
		return p.cmd.Process.Signal(syscall.SIGTERM)
	case "exited":
		err := p.wait(exitWithin)
		if e, failed := errors.AsType[*exec.ExitError](err); failed && len(args) > 0 && args[0] == strconv.Itoa(e.ExitCode()) {
			return nil
		}
		return err
	case "ended":
		return p.hasEnded(args)
	case "pause":
		return p.cmd.Process.Signal(syscall.SIGSTOP)
	case "resume":
		return p.cmd.Process.Signal(syscall.SIGCONT)
	case "kill":
		if err := p.cmd.Process.Kill(); err != nil {
			return err
		}
		<-p.ended
		return nil
	case "log":
		return p.logged(args)
	case "ready", "alive":
		text, err := fetch(s.ctx, "http://"+p.probe+map[string]string{"ready": "/readyz", "alive": "/healthz"}[do])
		if err != nil || len(args) == 0 {
			return err
		}
		if ok, err := regexp.MatchString(args[0], text); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("it says %q", text))
		}
		return nil
	case "metrics":
		return p.measured(s.ctx, args)
	case "profile":
		text, err := fetch(s.ctx, "http://"+p.pprof+"/debug/pprof/heap")
		if err == nil && !strings.HasPrefix(text, "\x1f\x8b") { // gzip
			err = fmt.Errorf("%d bytes that are no profile", len(text))
		}
		return err
	case "memory":
		return p.memory(ts, args)
	}
	return fmt.Errorf("acisync does not know %q", do)
}

func (s *story) start(name string, wait bool, env, flags []string) error {
	p := s.procs[name]
	if p == nil {
		p = &process{log: &buffer{}}
	} else if p.running() {
		return fmt.Errorf("aci-sync %s runs already", name)
	}
	probe, err := freeAddress(s.ctx)
	if err != nil {
		return err
	}
	p = &process{log: p.log, from: len(p.log.String()), run: p.run + 1, probe: probe, ended: make(chan struct{})}
	if i := slices.Index(flags, "-metrics"); i >= 0 {
		if p.metrics, err = freeAddress(s.ctx); err != nil {
			return err
		}
		flags[i] = "--metrics-bind-address=" + p.metrics
	}
	if i := slices.Index(flags, "-pprof"); i >= 0 {
		if p.pprof, err = freeAddress(s.ctx); err != nil {
			return err
		}
		flags[i] = "--pprof-bind-address=" + p.pprof
	}
	if slices.Contains(flags, "--leader-elect") {
		user, err := electedUser(name, p.run)
		if err != nil {
			return err
		}
		env = append(env, "ACI_USERNAME="+user)
	}
	// The story ends it; a test that panics does not.
	p.cmd = s.command(env, append([]string{
		"run", "--leader-elect=false", "--metrics-bind-address=0", "--health-probe-bind-address=" + probe,
	}, flags...))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	s.procs[name] = p
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if !wait {
		return nil
	}
	for range 600 {
		switch {
		case p.logged([]string{"in control"}) == nil:
			return nil
		case !p.running():
			return fmt.Errorf("aci-sync ended: %w", p.err)
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("aci-sync is not in control after 30 s")
}

// command is an aci-sync for this story, with the rights that the chart gives it.
func (s *story) command(env, args []string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(s.ctx), shared.binary, slices.Insert(args, 1,
		"--kubeconfig="+s.account, "--namespace-selector=kubernetes.io/metadata.name="+s.ns,
		"--cluster-id="+s.cluster, "--log-format=text")...)
	cmd.Env = append([]string{
		"HOME=" + s.dir, "ACI_APIC=" + s.urls(), "ACI_USERNAME=" + ourUser, "ACI_PASSWORD=" + password,
		"ACI_CA_FILE=" + s.caFile, "GORACE=halt_on_error=1",
	}, env...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// once runs a command of aci-sync to its end and keeps what it prints.
func (s *story) once(ts *testscript.TestScript, env, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: acisync plan CODE FILE [FLAG...], or once CODE FILE COMMAND [FLAG...]")
	}
	var stdout, stderr bytes.Buffer
	cmd := s.command(env, slices.Clone(args[2:]))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	ts.Logf("%s%s", &stdout, &stderr)
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return err
	}
	if code := strconv.Itoa(cmd.ProcessState.ExitCode()); code != args[0] {
		return fmt.Errorf("exit code %s, want %s", code, args[0])
	}
	return errors.Join(
		os.WriteFile(ts.MkAbs(args[1]), []byte(s.told(stdout.String())), 0o600),
		os.WriteFile(ts.MkAbs(args[1]+".err"), []byte(s.told(stderr.String())), 0o600),
	)
}

// hasEnded checks that the process has ended: CODE.
func (p *process) hasEnded(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: acisync ended CODE")
	}
	if p.running() {
		return errors.New("aci-sync runs")
	}
	if code := strconv.Itoa(p.cmd.ProcessState.ExitCode()); code != args[0] {
		return fmt.Errorf("exit code %s, want %s", code, args[0])
	}
	return nil
}

// nextPort is where the next search for a free port begins. It stays below those that the kernel gives to
// outgoing connections, of which one could have it before who it is for.
var nextPort atomic.Int32

const firstPort, lastPort = 20_000, 32_000

// freeAddress is an address that nobody listens on, and that is not given twice.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	nextPort.CompareAndSwap(0, int32(os.Getpid()%(lastPort-firstPort)))
	var err error
	for range 100 {
		port := firstPort + int(nextPort.Add(1))%(lastPort-firstPort)
		var l net.Listener
		if l, err = lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

func (p *process) logged(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: acisync log REGEXP [COUNT]")
	}
	re, err := regexp.Compile(args[0])
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(p.log.String()[p.from:]) {
		if re.MatchString(line) {
			n++
		}
	}
	condition := ">=1"
	if len(args) > 1 {
		condition = args[1]
	}
	if ok, err := compare(float64(n), condition); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%d lines of the log match %q, want %s", n, args[0], condition))
	}
	return nil
}

func (p *process) measured(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: acisync metrics REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	text, err := fetch(ctx, "http://"+p.metrics+"/metrics")
	if err == nil && !re.MatchString(text) {
		err = fmt.Errorf("no line fits %q", args[0])
	}
	return err
}

// fetch gets what is at a URL that answers 200.
func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, resp.Status)
	}
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

// memory checks the resident memory. Linux only, as the lab.
func (p *process) memory(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: acisync memory COUNT")
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "VmRSS:" {
			continue
		}
		kib, err := strconv.Atoi(fields[1])
		if err != nil {
			return err
		}
		mib := float64(kib) / 1024
		ts.Logf("# %.0f MiB", mib)
		if ok, err := compare(mib, args[0]); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("aci-sync uses %.0f MiB, want %s", mib, args[0]))
		}
		return nil
	}
	return errors.New("the system does not tell the memory of a process")
}
