package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestLab is not parallel, because a part of it sets the environment.
func TestLab(t *testing.T) {
	ctx := t.Context()
	l, err := Start(ctx, Options{Nodes: 3, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() error { return l.Stop(context.WithoutCancel(ctx)) }
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})

	// The subtests share the lab, so it ends after they have.
	t.Run("in use", func(t *testing.T) {
		t.Run("gives the Pods of a Deployment distinct addresses of both families", l.deployment)
		t.Run("gives a Service of type LoadBalancer addresses", l.loadBalancer)
		t.Run("authorizes by roles", l.roles)
		t.Run("is told apart by namespaces", l.namespaces)
		t.Run("listens on loopback only", l.listeners)
		t.Run("is shared by way of the environment", func(t *testing.T) {
			t.Setenv(KubeconfigVariable, l.Kubeconfig())
			shared, err := Shared(t.Context(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := shared.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := shared.Kubectl(t.Context(), "get", "--raw=/readyz"); err != nil {
				t.Errorf("stopping a lab that is only shared ended it: %v", err)
			}
		})
		t.Run("says what kubectl says", func(t *testing.T) {
			_, err := l.Kubectl(t.Context(), "get", "pod", "nobody")
			if err == nil || !strings.Contains(err.Error(), `pods "nobody" not found`) {
				t.Errorf("got error %v", err)
			}
		})
	})

	addresses := l.listening(t)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	pids, err := processes(ctx, l.dir)
	if err != nil || len(pids) > 0 {
		t.Errorf("processes %v left, error %v", pids, err)
	}
	for _, a := range addresses {
		var d net.Dialer
		if c, err := d.DialContext(ctx, "tcp", a.String()); err == nil {
			c.Close()
			t.Errorf("somebody still listens on %s", a)
		}
	}
	if _, err := os.Stat(l.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state left in %s, error %v", l.dir, err)
	}
	if err := stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

// namespace returns a namespace that ends with the test.
func (l *Lab) namespace(t *testing.T) string {
	t.Helper()
	name, drop, err := l.Namespace(t.Context(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := drop(ctx); err != nil {
			t.Error(err)
		}
	})
	return name
}

// must runs kubectl and returns what it prints.
func (l *Lab) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (l *Lab) deployment(t *testing.T) {
	ns := "--namespace=" + l.namespace(t)
	const replicas = 300
	l.must(t, "create", "deployment", "web", "--image=web", fmt.Sprintf("--replicas=%d", replicas), ns)
	l.must(t, "rollout", "status", "deployment/web", "--timeout=120s", ns)

	var pods corev1.PodList
	if err := json.Unmarshal([]byte(l.must(t, "get", "pods", "--output=json", ns)), &pods); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != replicas {
		t.Errorf("%d Pods, want %d", len(pods.Items), replicas)
	}
	holders := map[netip.Addr]string{}
	nodes := map[string]bool{}
	for _, pod := range pods.Items {
		nodes[pod.Spec.NodeName] = true
		if len(pod.Status.PodIPs) != 2 {
			t.Fatalf("Pod %s has addresses %v, want two", pod.Name, pod.Status.PodIPs)
		}
		for i, ip := range pod.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			if err != nil {
				t.Fatal(err)
			}
			if a.Is4() != (i == 0) {
				t.Errorf("Pod %s has addresses %v, want IPv4 and IPv6", pod.Name, pod.Status.PodIPs)
			}
			if other := holders[a]; other != "" {
				t.Errorf("Pods %s and %s both have %s", pod.Name, other, a)
			}
			holders[a] = pod.Name
		}
	}
	if len(nodes) != 3 {
		t.Errorf("Pods on %d nodes, want them on all 3", len(nodes))
	}
}

func (l *Lab) loadBalancer(t *testing.T) {
	ns := l.namespace(t)
	if err := l.Apply(t.Context(), `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80}]
`, "--namespace="+ns); err != nil {
		t.Fatal(err)
	}
	l.must(t, "wait", "service/web", "--for=jsonpath={.status.loadBalancer.ingress[1].ip}", "--timeout=60s", "--namespace="+ns)
	ips := strings.Fields(l.must(t, "get", "service/web", "--output=jsonpath={.status.loadBalancer.ingress[*].ip}", "--namespace="+ns))
	for _, pool := range []string{"172.31.0.0/20", "fd00:31::/112"} {
		if !slices.ContainsFunc(ips, func(ip string) bool {
			a, err := netip.ParseAddr(ip)
			return err == nil && netip.MustParsePrefix(pool).Contains(a)
		}) {
			t.Errorf("addresses %v, want one of %s", ips, pool)
		}
	}
}

func (l *Lab) roles(t *testing.T) {
	ns := l.namespace(t)
	as := "--as=system:serviceaccount:" + ns + ":default"
	if _, err := l.Kubectl(t.Context(), "get", "pods", as, "--namespace="+ns); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("without a role: got error %v, want Forbidden", err)
	}
	l.must(t, "create", "rolebinding", "view", "--clusterrole=view", "--serviceaccount="+ns+":default", "--namespace="+ns)
	// The authorizer learns of the binding from a watch, so a little later. kubectl wait looks
	// once and then watches, both under the same rule, so it cannot bridge that.
	for {
		if _, err := l.Kubectl(t.Context(), "get", "pods", as, "--namespace="+ns); err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the role never took effect")
		}
	}
}

func (l *Lab) namespaces(t *testing.T) {
	first, second := l.namespace(t), l.namespace(t)
	const prefix = "testlab-in-use-is-told-apart-by-namespaces-"
	if first == second || !strings.HasPrefix(first, prefix) {
		t.Errorf("namespaces %s and %s, want different ones that begin with %s", first, second, prefix)
	}
}

func (l *Lab) listeners(t *testing.T) {
	addresses := l.listening(t)
	if len(addresses) < 6 {
		t.Errorf("%d listeners, want etcd's two and four more: %v", len(addresses), addresses)
	}
	for _, a := range addresses {
		if !a.Addr().IsLoopback() {
			t.Errorf("something listens on %s", a)
		}
	}
}

// listening returns the addresses on which the lab's processes listen.
func (l *Lab) listening(t *testing.T) []netip.AddrPort {
	t.Helper()
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Fatalf("the lab runs on Linux, and looks for listeners in /proc: %v", err)
	}
	pids, err := processes(t.Context(), l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) != processCount {
		t.Errorf("%d processes, want %d", len(pids), processCount)
	}
	sockets := map[string]bool{}
	for _, pid := range pids {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil {
				sockets[to] = true
			}
		}
	}
	var addresses []netip.AddrPort
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		table, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(table))
		for lines.Scan() {
			// Source: proc_pid_net(5) of the Linux manual pages.
			const local, state, inode, listen = 1, 3, 9, "0A"
			fields := strings.Fields(lines.Text())
			if len(fields) > inode && fields[state] == listen && sockets["socket:["+fields[inode]+"]"] {
				addresses = append(addresses, parseProcAddress(t, fields[local]))
			}
		}
	}
	return addresses
}

// parseProcAddress reads an address and a port as the kernel prints them: in hexadecimal, the
// address in words of the machine's byte order, which is little-endian wherever this runs.
func parseProcAddress(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	host, port, _ := strings.Cut(s, ":")
	var words []byte
	var p uint16
	if _, err := fmt.Sscanf(host, "%x", &words); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	if _, err := fmt.Sscanf(port, "%x", &p); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	for word := range slices.Chunk(words, 4) {
		slices.Reverse(word)
	}
	a, ok := netip.AddrFromSlice(words)
	if !ok {
		t.Fatalf("%q is no address", s)
	}
	return netip.AddrPortFrom(a.Unmap(), p)
}

func TestBareLab(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l, err := Start(ctx, Options{Bare: true, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
		if pids, err := processes(context.WithoutCancel(ctx), l.dir); err != nil || len(pids) > 0 {
			t.Errorf("processes %v left, error %v", pids, err)
		}
	})
	ns := "--namespace=" + l.namespace(t)
	l.must(t, "create", "deployment", "web", "--image=web", ns)
	l.must(t, "run", "pod", "--image=web", ns)
	if got := l.must(t, "get", "replicasets,pods,nodes", "--all-namespaces", "--output=name"); got != "pod/pod\n" {
		t.Errorf("somebody else works here:\n%s", got)
	}
	pids, err := processes(ctx, l.dir)
	if err != nil || len(pids) != 2 {
		t.Errorf("processes %v, want etcd and kube-apiserver; error %v", pids, err)
	}
}

func TestNamespacePrefix(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                                 "lab-",
		"TestRun/moves_an_address":         "testrun-moves-an-address-",
		"/é/":                              "lab-",
		strings.Repeat("a", 49) + "/bcdef": strings.Repeat("a", 49) + "-",
	} {
		if got := namespacePrefix(name); got != want {
			t.Errorf("namespacePrefix(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestStartRefusesTooManyNodes(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), Options{Nodes: 33, Progress: t.Output()}); err == nil || !strings.Contains(err.Error(), "33 nodes") {
		t.Errorf("got error %v", err)
	}
}
