package docs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// update writes what is printed into a page where it differs from what is shown; then read the diff.
var update = flag.Bool("update", false, "rewrite what pages show")

// patience is how long a command that only looks may take to show what it is to show, and a process to
// log it.
const patience = time.Minute

const password = "s3cret-of-the-docs"

// newLab starts a control plane of the test's own, because pages install and delete what all tests share elsewhere.
func newLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Progress = t.Output()
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return l
}

// newSimulator serves a fabric, and returns what stands for the placeholders of pages here. The user has rights to these
// tenants, or else to all.
func newSimulator(t *testing.T, fabric string, tenants ...string) (*apicsim.Sim, map[string]string) {
	t.Helper()
	sim := apicsim.New(apicsim.Options{Users: []apicsim.User{{Name: "aci-sync", Password: password, Tenants: tenants}}})
	t.Cleanup(sim.Close)
	if err := sim.Seed([]byte(fabric)); err != nil {
		t.Fatal(err)
	}
	cert, err := apicsim.NewCertificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(sim)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	files := map[string]string{"ca.pem": string(cert.PEM), "password": password}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sim, map[string]string{
		"apic1.example.com":          strings.TrimPrefix(server.URL, "https://"),
		"/etc/ssl/apic-ca.pem":       filepath.Join(dir, "ca.pem"),
		"/run/secrets/apic-password": filepath.Join(dir, "password"),
	}
}

// terminal executes commands one by one; what one exports the next ones have. A second one runs
// aci-sync.
type terminal struct {
	t       *testing.T
	dir     string
	here    map[string]string // placeholder -> what it is here
	env     []string
	last    int // exit code
	process *process
}

func newTerminal(t *testing.T, l *lab.Lab, here map[string]string) *terminal {
	t.Helper()
	home := t.TempDir()
	bin := filepath.Join(home, "bin")
	config, err := os.ReadFile(l.Kubeconfig())
	if err := errors.Join(
		err, os.MkdirAll(bin, 0o755), os.MkdirAll(filepath.Join(home, ".kube"), 0o755), //nolint:gosec // as everybody's
		os.WriteFile(filepath.Join(home, ".kube", "config"), config, 0o600), os.Symlink(l.KubectlPath(), filepath.Join(bin, "kubectl")),
	); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "../../cmd/aci-sync")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	term := &terminal{t: t, dir: home, here: here, env: []string{
		"HOME=" + home, "PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin",
		// As on a terminal, and on ports that are free.
		"ACI_SYNC_LOG_FORMAT=text", "ACI_SYNC_METRICS_BIND_ADDRESS=0", "ACI_SYNC_HEALTH_PROBE_BIND_ADDRESS=0",
	}}
	t.Cleanup(func() {
		if p := term.process; p != nil {
			_ = p.interrupt()
			t.Logf("the log of aci-sync:\n%s", p.out.String())
		}
	})
	return term
}

// follow executes a page.
func (term *terminal) follow(page string) {
	t := term.t
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	for i := range steps {
		if err := term.play(&steps[i]); err != nil {
			t.Fatalf("%s:%d: %s: %v", page, steps[i].line, steps[i].command, err)
		}
	}
	if term.process != nil {
		t.Errorf("%s leaves aci-sync running", page)
	}
	if *update {
		if err := os.WriteFile(page, []byte(rewrite(string(text), steps)), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
}

// play executes a step. What only looks is tried again until it shows what it is to show.
func (term *terminal) play(s *step) error {
	if s.command == "" {
		return term.end(s)
	}
	if strings.HasPrefix(s.command, "aci-sync run") {
		if err := term.start(s); err != nil || !s.interrupted {
			return err
		}
		return term.end(s)
	}
	deadline := time.Now().Add(patience)
	if *update {
		deadline = time.Now().Add(8 * time.Second)
	}
	for {
		out, code, err := term.shell(s.command)
		if err != nil {
			return err
		}
		if code != 0 && !s.mayFail {
			return fmt.Errorf("exit code %d\n%s", code, out)
		}
		if fits(s.shown, term.told(out)) {
			term.last = code
			return nil
		}
		if looks(s.command) && time.Now().Before(deadline) {
			pause()
			continue
		}
		if *update {
			term.last, s.shown = code, term.told(out)
			return nil
		}
		return fmt.Errorf("it prints\n%s\nand the page shows\n%s", term.told(out), s.shown)
	}
}

// pause is between two looks.
func pause() { <-time.After(200 * time.Millisecond) }

// looks reports whether a command changes nothing, so that it may be repeated.
func looks(command string) bool {
	return command == "aci-sync plan" || gets.MatchString(command)
}

var gets = regexp.MustCompile(`^kubectl( -n [-a-z]+)? get `)

// told puts the placeholders into what was printed.
func (term *terminal) told(out string) string {
	for placeholder, is := range term.here {
		out = strings.ReplaceAll(out, is, placeholder)
	}
	return out
}

// script makes a shell execute a command with what the last one exported, and its exit code in $?.
func (term *terminal) script(command string) string {
	for placeholder, is := range term.here {
		command = strings.ReplaceAll(command, placeholder, is)
	}
	return fmt.Sprintf("test -e env && . ./env\n(exit %d)\n%s\ncode=$?\nexport -p >env\nexit $code\n", term.last, command)
}

func (term *terminal) shell(command string) (string, int, error) {
	ctx, cancel := context.WithTimeout(term.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", term.script(command))
	cmd.Dir, cmd.Env = term.dir, term.env
	out, err := cmd.CombinedOutput()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() >= 0 {
		return string(out), failed.ExitCode(), nil
	}
	return string(out), 0, err
}

// process is an aci-sync in the second terminal.
type process struct {
	cmd   *exec.Cmd
	out   buffer
	ended chan error
}

// buffer may be written to and read at once.
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

// start starts aci-sync and waits until it has logged what the page shows.
func (term *terminal) start(s *step) error {
	if term.process != nil {
		return errors.New("another one runs")
	}
	p := &process{ended: make(chan error, 1)}
	p.cmd = exec.Command("sh", "-c", term.script("exec "+s.command)) //nolint:noctx // ended by Ctrl-C
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = term.dir, term.env, &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	term.process = p
	return term.await(&s.shown)
}

// await waits until aci-sync has logged what is shown, if something is.
func (term *terminal) await(shown *string) error {
	p := term.process
	timeout := patience
	if *update {
		timeout = 10 * time.Second
	}
	for deadline := time.Now().Add(timeout); ; pause() {
		out := term.told(p.out.String())
		if *shown != "" && fits(*shown+"...\n", out) {
			return nil
		}
		select {
		case err := <-p.ended:
			term.process = nil
			return fmt.Errorf("it ended: %w\n%s", err, out)
		default:
		}
		if time.Now().After(deadline) {
			if *update {
				*shown = out
				return nil
			}
			return fmt.Errorf("it logs\n%s\nand the page shows\n%s", out, *shown)
		}
	}
}

// end presses Ctrl-C in the second terminal, and wants what the page shows after it.
func (term *terminal) end(s *step) error {
	p := term.process
	if p == nil {
		return errors.New("nothing runs that could be interrupted")
	}
	term.process = nil
	before := len(p.out.String())
	if err := p.interrupt(); err != nil {
		return fmt.Errorf("%w\n%s", err, p.out.String())
	}
	if out := p.out.String()[before:]; !fits(s.after, term.told(out)) {
		if !*update {
			return fmt.Errorf("after Ctrl-C it logs\n%s\nand the page shows\n%s", out, s.after)
		}
		s.after = term.told(out)
	}
	return nil
}

// interrupt ends the process, which must take no longer than is promised.
func (p *process) interrupt() error {
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		return err
	}
	select {
	case err := <-p.ended:
		return err
	case <-time.After(6 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		return errors.Join(errors.New("it did not end within 6 s"), <-p.ended)
	}
}
