package docs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// installFabric is what the network team has made before anything is installed.
const installFabric = `{"fvTenant":{"attributes":{"name":"TEN_K8_C1"},"children":[
	{"fvCtx":{"attributes":{"name":"VRF_K8_C1"}}},
	{"l3extOut":{"attributes":{"name":"L3O_K8_C1"},"children":[
		{"l3extRsEctx":{"attributes":{"tnFvCtxName":"VRF_K8_C1"}}}]}}]}}`

// TestInstall goes the way of docs/install/helm.md and docs/operations/uninstall.md, from an empty cluster to an annotated
// Deployment that is in step, and back. In between it does what happens to those who run it.
func TestInstall(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.installPlain()
	c.term.follow("../../docs/install/helm.md")
	c.tell("docs/install/helm.md: every command does what the page says")
	c.checkPods()
	c.checkProbes()
	c.eventually(30*time.Second, func() error { return c.holds(2) })
	c.tell("the external EPG holds the addresses of the Deployment, and no others")
	c.takeOver()
	c.withoutARight()
	c.term.follow("../../docs/operations/uninstall.md")
	c.checkGone()
	c.tell("docs/operations/uninstall.md: nothing of the chart is left, and of what it made on the fabric nothing either")
}

// cluster is a control plane that aci-sync is installed into, with a node that runs it, and a fabric beside it.
type cluster struct {
	*testing.T
	lab    *lab.Lab
	client *kubernetes.Clientset
	sim    *apicsim.Sim
	node   *node
	term   *terminal
	began  time.Time
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t, began: time.Now()}
	image := filepath.Join(t.TempDir(), "image")
	c.must(c.exec("go", "-C", "../../tools/release", "run", ".", "rootfs", "-o", image))
	c.tell("the image is built")
	c.lab = newLab(t, lab.Options{Nodes: 2})
	var err error
	c.client, err = kubernetes.NewForConfig(c.lab.RESTConfig())
	c.must(err)
	u, err := url.Parse(c.lab.RESTConfig().Host)
	c.must(err)
	var here map[string]string
	c.sim, here = newSimulator(t, installFabric)
	c.term = newTerminal(t, c.lab, here)
	c.addHelm()
	c.addPrometheusOperator()
	c.node = newNode(t, c.client, "aci-sync", image, [2]string{u.Hostname(), u.Port()})
	c.tell("a control plane and a simulated APIC")
	return c
}

// must ends the test after an error.
func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// tell says what is done.
func (c *cluster) tell(format string, args ...any) {
	c.Helper()
	c.Logf("%5.1f s  %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// exec runs a program to its end.
func (c *cluster) exec(args ...string) error {
	cmd := exec.CommandContext(c.Context(), args[0], args[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (c *cluster) kubectl(args ...string) string {
	c.Helper()
	out, err := c.lab.Kubectl(c.Context(), args...)
	c.must(err)
	return out
}

// eventually tries f until it succeeds.
func (c *cluster) eventually(within time.Duration, f func() error) {
	c.Helper()
	err := f()
	for end := time.Now().Add(within); err != nil && time.Now().Before(end); err = f() {
		pause()
	}
	if err != nil {
		c.Fatalf("not within %v: %v", within, err)
	}
}

// addHelm gives the terminal the pinned Helm. The Pods of the lab's nodes share one network, in which a port is only there
// once: so the chart gets ports that are free.
func (c *cluster) addHelm() {
	c.Helper()
	c.term.addCharts()
	script := fmt.Sprintf("#!/bin/sh\ncase $1 in\ninstall | upgrade) set -- \"$@\" --set metrics.port=%d,probes.port=%d ;;\nesac\nexec %s \"$@\"\n",
		c.freePort(20100), c.freePort(21100), helm(c.T))
	c.must(os.WriteFile(filepath.Join(c.term.dir, "bin", "helm"), []byte(script), 0o755)) //nolint:gosec // a program
}

// helm is what somebody does with Helm in the namespace.
func (c *cluster) helm(args ...string) error {
	out, code, err := c.term.shell("helm -n aci-sync " + strings.Join(args, " "))
	if err == nil && code != 0 {
		err = errors.New(out)
	}
	return err
}

// addPrometheusOperator adds the definitions of what the chart makes for it.
func (c *cluster) addPrometheusOperator() {
	c.Helper()
	dir := moduleDir(c.T, "prometheus-operator", "github.com/prometheus-operator/prometheus-operator")
	for _, crd := range []string{"servicemonitors", "prometheusrules"} {
		c.kubectl("apply", "--server-side", "--filename="+filepath.Join(dir, "example/prometheus-operator-crd", "monitoring.coreos.com_"+crd+".yaml"))
	}
	c.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
}

// freePort is a port that nobody listens on, below those of outgoing connections.
func (c *cluster) freePort(from int) int {
	c.Helper()
	var lc net.ListenConfig
	for port := from; port < from+1000; port++ {
		if l, err := lc.Listen(c.Context(), "tcp", fmt.Sprintf(":%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	c.Fatal("no free port")
	return 0
}

// installPlain has the API server look at all that the chart can render, and installs what needs no Helm.
func (c *cluster) installPlain() {
	c.Helper()
	c.kubectl("create", "namespace", "aci-sync")
	c.kubectl("label", "namespace", "aci-sync", "pod-security.kubernetes.io/enforce=restricted")
	_, err := c.lab.Kubectl(c.Context(), "run", "root", "--image=registry.example.com/x", "--namespace=aci-sync")
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		c.Fatalf("a Pod that may do as it likes is not refused: %v", err)
	}
	files, err := filepath.Glob("../../charts/aci-sync/testdata/*.golden.yaml")
	c.must(err)
	if len(files) == 0 {
		c.Fatal("no goldens of the chart")
	}
	for _, file := range files {
		c.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename="+file)
	}
	c.tell("the API server takes all %d examples of what the chart renders", len(files))

	const plain = "../../charts/install.yaml"
	text, err := os.ReadFile(plain)
	c.must(err)
	c.must(c.lab.Apply(c.Context(), strings.ReplaceAll(string(text), "replicas: 2", "replicas: 0"))) // its APIC is an example
	c.kubectl("scale", "deployment/aci-sync", "--namespace=aci-sync", "--replicas=0")
	c.kubectl("delete", "--filename="+plain, "--wait")
	c.kubectl("delete", "namespace", "aci-sync", "--wait", "--timeout=60s")
	c.tell("install.yaml: it is admitted; deleted again")
}

// pods are those of aci-sync.
func (c *cluster) pods() []corev1.Pod {
	c.Helper()
	list, err := c.client.CoreV1().Pods("aci-sync").List(c.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=aci-sync"})
	c.must(err)
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// checkPods checks where the Pods are, and that what makes them safe reached them.
func (c *cluster) checkPods() {
	c.Helper()
	pods := c.pods()
	if len(pods) != 2 || pods[0].Spec.NodeName == pods[1].Spec.NodeName {
		c.Fatalf("there are %d Pods, want 2 on 2 nodes", len(pods))
	}
	p := pods[0].Spec
	s := p.Containers[0].SecurityContext
	if !*p.SecurityContext.RunAsNonRoot || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || p.SecurityContext.SeccompProfile == nil {
		c.Errorf("the Pod's security is %+v, %+v", p.SecurityContext, s)
	}
	c.tell("two Pods are admitted where the Pod security standard restricted is enforced, on two nodes")
}

// checkProbes asks what the Pod's probes ask, and for its metrics.
func (c *cluster) checkProbes() {
	c.Helper()
	c.eventually(30*time.Second, func() error {
		pod, ok := c.node.running()
		if !ok {
			return errors.New("nothing runs")
		}
		spec := pod.Spec.Containers[0]
		ports := map[string]int32{}
		for _, p := range spec.Ports {
			ports[p.Name] = p.ContainerPort
		}
		for path, port := range map[string]string{
			spec.LivenessProbe.HTTPGet.Path: spec.LivenessProbe.HTTPGet.Port.StrVal, spec.ReadinessProbe.HTTPGet.Path: spec.ReadinessProbe.HTTPGet.Port.StrVal,
			"/metrics": "metrics",
		} {
			text, err := c.fetch(fmt.Sprintf("http://127.0.0.1:%d%s", ports[port], path))
			if err != nil {
				return err
			}
			if path == "/metrics" && !strings.Contains(text, "\nacisync_convergence_seconds_count ") {
				return fmt.Errorf("the metrics lack acisync_convergence_seconds:\n%s", text)
			}
		}
		return nil
	})
	c.tell("the container is alive, ready and has metrics")
}

func (c *cluster) fetch(url string) (string, error) {
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, data)
	}
	return string(data), err
}

// holds says whether the external EPG holds the addresses of mcast's Pods, and nothing else.
func (c *cluster) holds(replicas int) error {
	list, err := c.client.CoreV1().Pods("default").List(c.Context(), metav1.ListOptions{LabelSelector: "app=mcast"})
	if err != nil {
		return err
	}
	dump, want, got := c.sim.Dump("uni/tn-TEN_K8_C1"), 0, 0
	for _, p := range list.Items {
		for _, ip := range p.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			if err != nil {
				return err
			}
			if want++; strings.Contains(dump, "extsubnet-["+netip.PrefixFrom(a, a.BitLen()).String()+"]") {
				got++
			}
		}
	}
	if all := strings.Count(dump, " l3extSubnet "); len(list.Items) != replicas || want != 2*replicas || got != want || all != got {
		return fmt.Errorf("%d Pods have %d addresses, and of %d subnets %d are theirs", len(list.Items), want, all, got)
	}
	return nil
}

// takeOver kills what runs, and then deletes its Pod: what runs next must wait for the lease of a killed one, and not for
// that of one that ended in good order.
func (c *cluster) takeOver() {
	c.Helper()
	began := time.Now()
	c.node.kill()
	c.kubectl("scale", "deployment/mcast", "--replicas=3")
	c.eventually(60*time.Second, func() error { return c.holds(3) })
	c.tell("it is killed, starts again, and has followed a scale-up after %.1f s", time.Since(began).Seconds())
	pod, ok := c.node.running()
	if !ok {
		c.Fatal("nothing runs")
	}
	began = time.Now()
	c.kubectl("delete", "pod", pod.Name, "--namespace=aci-sync", "--wait=false")
	c.kubectl("scale", "deployment/mcast", "--replicas=1")
	c.eventually(60*time.Second, func() error { return c.holds(1) })
	c.tell("its Pod is deleted, another one takes over, and has followed a scale-down after %.1f s", time.Since(began).Seconds())
}

// withoutARight takes a right away, has the Pods replaced, and gives it back by Helm.
func (c *cluster) withoutARight() {
	c.Helper()
	roles := c.client.RbacV1().ClusterRoles()
	role, err := roles.Get(c.Context(), "aci-sync", metav1.GetOptions{})
	c.must(err)
	for i := range role.Rules {
		role.Rules[i].Resources = slices.DeleteFunc(role.Rules[i].Resources, func(r string) bool { return r == "services" })
	}
	_, err = roles.Update(c.Context(), role, metav1.UpdateOptions{})
	c.must(err)
	c.node.kill()
	c.eventually(30*time.Second, func() error {
		if !bytes.Contains([]byte(c.node.log.String()), []byte("does not let it: list services; watch services; grant")) {
			return errors.New("nobody names the right that is missing")
		}
		return nil
	})
	c.must(c.helm("upgrade", "aci-sync", "charts/aci-sync", "-f", "values.yaml", "--wait"))
	c.kubectl("scale", "deployment/mcast", "--replicas=2")
	c.eventually(60*time.Second, func() error { return c.holds(2) })
	c.tell("without a right it does not start, and names it; helm upgrade gives it back")
}

// checkGone checks that nothing of the chart is left.
func (c *cluster) checkGone() {
	c.Helper()
	const kinds = "deployments,pods,services,serviceaccounts,configmaps,poddisruptionbudgets,networkpolicies,roles,rolebindings," +
		"clusterroles,clusterrolebindings,servicemonitors,prometheusrules"
	c.eventually(60*time.Second, func() error {
		left := c.kubectl("get", kinds, "--all-namespaces", "--selector=app.kubernetes.io/instance=aci-sync", "--output=name")
		if left != "" {
			return fmt.Errorf("it left %s", left)
		}
		return nil
	})
	c.eventually(10*time.Second, func() error {
		if _, runs := c.node.running(); runs {
			return errors.New("a container runs")
		}
		return nil
	})
	if _, ok := c.sim.Lookup("uni/tn-TEN_K8_C1/out-L3O_K8_C1"); !ok {
		c.Error("the L3Out is gone")
	}
	if dump := c.sim.Dump("uni"); strings.Contains(dump, "aci-sync") || strings.Contains(dump, "l3extInstP") {
		c.Errorf("something of aci-sync is left:\n%s", dump)
	}
}
