package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/charts"
	"github.com/haystacknetworks/aci-sync/internal/lab"
)

const (
	user     = "admin"
	password = "demo-only"
)

// dir is where the demo keeps its binaries and logs; it is not tracked by git.
const dir = ".lab/demo"

// stage is what the story plays on: a cluster, a fabric, and aci-sync.
type stage struct {
	lab    *lab.Lab
	keep   bool
	fabric *fabric
	sim    *process
	sync   *process
	health string // host:port of aci-sync's probes
}

// setUp builds and starts everything.
func setUp(ctx context.Context, keep bool) (_ *stage, err error) {
	say("aci-sync demo: Kubernetes on the left, a Cisco ACI fabric on the right, aci-sync between them.")
	say("Everything runs on this machine's loopback. The fabric's APIC is simulated, Kubernetes is real.")
	say("")
	if err := stopKept(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &stage{keep: keep}
	defer func() {
		if err != nil {
			s.showLogs()
			s.tearDown()
		}
	}()
	say("building aci-sync and apic-sim ...")
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/aci-sync", "./cmd/apic-sim")
	if out, err := build.CombinedOutput(); err != nil {
		return s, fmt.Errorf("go build: %w\n%s", err, out)
	}
	say("starting Kubernetes (its binaries are built on the first run of a machine, which takes some twelve minutes) ...")
	if keep {
		s.lab, err = lab.Up(ctx, lab.Options{})
	} else {
		s.lab, err = lab.Start(ctx, lab.Options{})
	}
	if err != nil {
		return s, err
	}
	nodes, err := s.lab.Kubectl(ctx, "get", "nodes", "-o", "name")
	if err != nil {
		return s, err
	}
	version, err := s.lab.Kubectl(ctx, "version", "-o", "json")
	if err != nil {
		return s, err
	}
	say("  Kubernetes %s: etcd, API server, controllers, scheduler, MetalLB, %d nodes (kwok)",
		serverVersion(version), len(strings.Fields(nodes)))
	if err := s.startSim(ctx); err != nil {
		return s, err
	}
	say("  APIC at %s: tenant TEN_K8_C1 with the L3Out L3O_K8_C1, where the nodes' BGP peers", s.fabric.url)
	if err := s.installCRD(ctx); err != nil {
		return s, err
	}
	if err := s.startSync(ctx); err != nil {
		return s, err
	}
	say("  aci-sync runs")
	return s, nil
}

func serverVersion(out string) string {
	var v struct{ ServerVersion struct{ GitVersion string } }
	if json.Unmarshal([]byte(out), &v) != nil {
		return "of unknown version"
	}
	return v.ServerVersion.GitVersion
}

func (s *stage) startSim(ctx context.Context) error {
	urlFile, ca := filepath.Join(dir, "apic-sim.url"), filepath.Join(dir, "apic-ca.pem")
	_ = os.Remove(urlFile)
	var err error
	s.sim, err = start("apic-sim", []string{"APIC_SIM_PASSWORD=" + password},
		"--listen", "127.0.0.1:0", "--url-file", urlFile, "--ca-file", ca, "--user", user,
		"--seed", "test/demo/seed.json", "--request-log", filepath.Join(dir, "requests.jsonl"))
	if err != nil {
		return err
	}
	err = poll(ctx, 20*time.Second, func() error {
		if err := s.sim.alive(); err != nil {
			return err
		}
		b, err := os.ReadFile(urlFile)
		if err == nil && len(strings.TrimSpace(string(b))) == 0 {
			err = errors.New("no URL yet")
		}
		if err != nil {
			return err
		}
		s.fabric, err = newFabric(strings.TrimSpace(string(b)), ca)
		return err
	})
	if err != nil {
		return fmt.Errorf("apic-sim does not answer: %w", err)
	}
	return nil
}

// installCRD does what "aci-sync crds | kubectl apply --server-side --force-conflicts -f -" does.
func (s *stage) installCRD(ctx context.Context) error {
	if err := s.lab.Apply(ctx, string(charts.CRDs), "--server-side"); err != nil {
		return err
	}
	_, err := s.lab.Kubectl(ctx, "wait", "--for=condition=Established", "crd/"+v1alpha1.CRDName, "--timeout=60s")
	return err
}

func (s *stage) startSync(ctx context.Context) error {
	var err error
	if s.health, err = freePort(); err != nil {
		return err
	}
	s.sync, err = start("aci-sync", []string{
		"ACI_APIC=" + s.fabric.url, "ACI_USERNAME=" + user, "ACI_PASSWORD=" + password,
		"ACI_CA_FILE=" + filepath.Join(dir, "apic-ca.pem"),
	}, "run", "--kubeconfig", s.lab.Kubeconfig(), "--log-format", "json",
		"--health-probe-bind-address", s.health, "--metrics-bind-address", "0")
	if err != nil {
		return err
	}
	err = poll(ctx, 30*time.Second, func() error {
		if err := s.sync.alive(); err != nil {
			return err
		}
		log, err := os.ReadFile(s.sync.log)
		if err == nil && !strings.Contains(string(log), `"in control"`) {
			err = errors.New("it is not in control yet")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("aci-sync does not start: %w", err)
	}
	return nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tearDown stops everything; it is called when the story's context may have ended.
func (s *stage) tearDown() {
	say("\nstopping everything ...")
	for _, p := range []*process{s.sync, s.sim} {
		if p != nil {
			p.stop()
		}
	}
	if s.lab == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := s.lab.Stop(ctx)
	if s.keep {
		err = errors.Join(err, lab.Down(ctx))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot stop Kubernetes: %v; try make lab-down\n", err)
	}
}

// leave tells how to go on with what is left running.
func (s *stage) leave() error {
	if err := writePIDs(s.sync, s.sim); err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	say(`
Everything is left running. Go on with it:

  export KUBECONFIG=%s
  alias kubectl=%s
  kubectl apply -f test/demo/app.yaml
  kubectl scale deployment mcast --replicas=10
  kubectl get events --field-selector involvedObject.name=mcast
  kubectl describe xepg

  apic() { curl -sS -g --cacert %s/apic-ca.pem -b %s/cookies -c %s/cookies "$@"; }
  apic %s/api/aaaLogin.json -d '{"aaaUser":{"attributes":{"name":"%s","pwd":"%s"}}}' >/dev/null
  apic '%s/api/class/l3extSubnet.json?order-by=l3extSubnet.ip'
  apic -X DELETE %s/api/mo/%s.json    # it comes back

  tail -f %s/aci-sync.log    # what aci-sync does
  tail -f %s/requests.jsonl  # what it asks of the APIC

Stop it with:

  make demo-stop`, s.lab.Kubeconfig(), s.lab.KubectlPath(), abs, abs, abs, s.fabric.url, user, password,
		s.fabric.url, s.fabric.url, epgDN, abs, abs)
	return nil
}

// showLogs prints the ends of the logs, for whoever has to find out what went wrong.
func (s *stage) showLogs() {
	for _, p := range []*process{s.sync, s.sim} {
		if p == nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "\n--- end of %s ---\n%s", p.log, tail(p.log, 25))
	}
}

func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error() + "\n"
	}
	all := strings.SplitAfter(string(b), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}

// process is a child that logs to a file. It has a session of its own, so that Ctrl-C reaches
// only the demo, which then stops it in order.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan error
}

func start(name string, env []string, args ...string) (*process, error) {
	p := &process{log: filepath.Join(dir, name+".log"), done: make(chan error, 1)}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(filepath.Join(dir, name), args...) //nolint:noctx // ended by stop, in order
	p.cmd.Env = append(withoutOurs(os.Environ()), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

// withoutOurs leaves out variables that would configure aci-sync for another fabric.
func withoutOurs(env []string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, "ACI_") && !strings.HasPrefix(v, "KUBECONFIG=") {
			out = append(out, v)
		}
	}
	return out
}

// errExited is an end without an error: too early all the same.
var errExited = errors.New("exit status 0")

// alive returns why the process has ended, nil while it has not.
func (p *process) alive() error {
	select {
	case err := <-p.done:
		p.done <- err
		return fatal{fmt.Errorf("%s ended: %w", filepath.Base(p.cmd.Path), cmp.Or(err, errExited))}
	default:
		return nil
	}
}

func (p *process) stop() {
	if p.alive() != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
	}
}

// pidFile is where a demo that leaves things running notes them.
const pidFile = dir + "/pids"

func writePIDs(ps ...*process) error {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "%d %s\n", p.cmd.Process.Pid, filepath.Base(p.cmd.Path))
	}
	return os.WriteFile(pidFile, []byte(b.String()), 0o600)
}

// stopKept stops the processes that a demo with KEEP=1 left, if they are still the ones.
func stopKept() error {
	f, err := os.Open(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 1<<16))
	for lines.Scan() {
		pid, name, _ := strings.Cut(lines.Text(), " ")
		exe, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if is, err := os.Readlink("/proc/" + pid + "/exe"); err != nil || strings.TrimSuffix(is, " (deleted)") != exe {
			continue // it ended, and the number may be another's by now
		}
		n, err := strconv.Atoi(pid)
		if err != nil {
			return fmt.Errorf("%s: %w", pidFile, err)
		}
		say("stopping %s of the last demo ...", name)
		if err := syscall.Kill(n, syscall.SIGTERM); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		for range 100 {
			if syscall.Kill(n, 0) != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return errors.Join(lines.Err(), os.Remove(pidFile))
}

// fatal ends a poll at once.
type fatal struct{ error }

// poll calls f until it returns nil, at most for d; the error is f's last.
func poll(ctx context.Context, d time.Duration, f func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := f()
		var end fatal
		if err == nil || errors.As(err, &end) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", d, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
