package lab

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

const (
	// clusterName is what kwokctl calls the cluster, in the directory that it gets for itself.
	clusterName    = "lab"
	kubeconfigName = "kubeconfig"
	// processCount is how many programs a lab runs that is not bare: etcd, three of Kubernetes, kwok
	// and MetalLB.
	processCount = 6
	loopback     = "127.0.0.1"
	// startTimeout is far more than a start takes on a slow machine, without the build.
	startTimeout = 3 * time.Minute
)

//go:embed manifests
var manifests embed.FS

// start starts a lab in dir, which exists and is empty but for its owner. Its stop ends the
// processes and leaves the state to the caller, as does an error, which leaves the logs elsewhere.
func (c checkout) start(ctx context.Context, dir string, tools toolchain, o Options) (*Lab, error) {
	l, err := startIn(ctx, dir, tools, o)
	if err == nil {
		return l, nil
	}
	err = fmt.Errorf("start the lab: %w", err)
	if killErr := killAll(context.WithoutCancel(ctx), dir); killErr != nil {
		return nil, errors.Join(err, killErr)
	}
	logs := c.state("failed")
	return nil, errors.Join(err, os.RemoveAll(logs), keepLogs(dir, logs))
}

// keepLogs moves the logs of the lab in dir, if it came to have any.
func keepLogs(dir, to string) error {
	err := os.Rename(filepath.Join(clusterDir(dir), "logs"), to)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func clusterDir(dir string) string { return filepath.Join(dir, "kwok", "clusters", clusterName) }

func startIn(ctx context.Context, dir string, tools toolchain, o Options) (*Lab, error) {
	nodes := o.Nodes
	if nodes == 0 {
		nodes = defaultNodes
	}
	if nodes < 0 || nodes > maxNodes {
		return nil, fmt.Errorf("%d nodes, where 1 to %d are possible", nodes, maxNodes)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the lab takes too long"))
	defer cancel()

	if err := createCluster(ctx, dir, tools, o.Bare); err != nil {
		return nil, err
	}
	// Under a name that nobody looks for until all is ready.
	draft := filepath.Join(dir, kubeconfigName+".draft")
	if err := writeKubeconfig(filepath.Join(clusterDir(dir), "kubeconfig.yaml"), draft); err != nil {
		return nil, err
	}
	l, err := attach(draft, tools)
	if err != nil {
		return nil, err
	}
	l.stop = func(ctx context.Context) error { return killAll(ctx, dir) }
	if l.bare = o.Bare; !l.bare {
		err = l.furnish(ctx, dir, tools, nodes)
	} else {
		_, err = l.Kubectl(ctx, "get", "--raw=/readyz")
	}
	if err == nil {
		l.kubeconfig = filepath.Join(dir, kubeconfigName)
		err = os.Rename(draft, l.kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// furnish adds the nodes and MetalLB, and returns when all of it works.
func (l *Lab) furnish(ctx context.Context, dir string, tools toolchain, nodes int) error {
	if err := l.createNodes(ctx, nodes); err != nil {
		return err
	}
	metallb, err := l.startMetalLB(ctx, tools)
	if err != nil {
		return err
	}
	l.stop = func(ctx context.Context) error {
		if err := killAll(ctx, dir); err != nil {
			return err
		}
		// It is our own child, so it is on us to reap it. That it was killed is no news.
		_ = metallb.Wait()
		return nil
	}
	return l.awaitReady(ctx)
}

// environment is all that the lab's programs see of ours. Above all no KWOK_ and KUBECONFIG of the
// user's, and a home of their own, so that nothing is written elsewhere.
func environment(dir string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + filepath.Join(dir, "home"),
		"TMPDIR=" + os.TempDir(),
		"KWOK_WORKDIR=" + filepath.Join(dir, "kwok"),
	}
}

// createCluster has kwokctl start all but MetalLB.
func createCluster(ctx context.Context, dir string, tools toolchain, bare bool) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	// From choosing ports until they are taken, no other lab of this user may choose.
	choosing, err := awaitLock(ctx, filepath.Join(cache, "ports.lock"))
	if err != nil {
		return err
	}
	defer choosing.Close()
	config, err := kwokctlConfig(ctx, tools, bare)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "kwokctl.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tools["kwokctl"], "create", "cluster", "--name="+clusterName, "--config="+file,
		"--kubeconfig="+filepath.Join(dir, "kwokctl.kubeconfig"), "--wait=1m")
	cmd.Dir = dir
	cmd.Env = environment(dir)
	cmd.WaitDelay = waitDelay
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); ctx.Err() != nil {
		return fmt.Errorf("kwokctl create cluster: %w", context.Cause(ctx))
	} else if err != nil {
		return fmt.Errorf("kwokctl create cluster: %w\n%s", err, tail(out.String(), 20))
	}
	return nil
}

// kwokctlConfig says what kwokctl is to run.
//
// Source: https://kwok.sigs.k8s.io/docs/generated/apis/#config.kwok.x-k8s.io/v1alpha1.KwokctlConfiguration
func kwokctlConfig(ctx context.Context, tools toolchain, bare bool) ([]byte, error) {
	ports, err := freePorts(ctx, 6)
	if err != nil {
		return nil, err
	}
	var without []string
	if bare {
		without = []string{"kube-controller-manager", "kube-scheduler", "kwok-controller"}
	}
	type arg struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	type patch struct {
		Name      string `json:"name"`
		ExtraArgs []arg  `json:"extraArgs"`
	}
	return yaml.Marshal(map[string]any{
		"apiVersion": "config.kwok.x-k8s.io/v1alpha1",
		"kind":       "KwokctlConfiguration",
		"options": map[string]any{
			"runtime":                     "binary",
			"bindAddress":                 loopback,
			"securePort":                  true,
			"kubeAuthorization":           true,
			"kubeAdmission":               true,
			"disableQPSLimits":            true,
			"disable":                     without,
			"etcdBinary":                  tools["etcd"],
			"kubeApiserverBinary":         tools["kube-apiserver"],
			"kubeControllerManagerBinary": tools["kube-controller-manager"],
			"kubeSchedulerBinary":         tools["kube-scheduler"],
			"kubectlBinary":               tools["kubectl"],
			"kwokControllerBinary":        tools["kwok"],
			"kubeApiserverPort":           ports[0],
			"etcdPort":                    ports[1],
			"etcdPeerPort":                ports[2],
			"kubeControllerManagerPort":   ports[3],
			"kubeSchedulerPort":           ports[4],
			"kwokControllerPort":          ports[5],
		},
		"componentsPatches": []patch{
			// The lab need not survive a power cut.
			{"etcd", []arg{{"unsafe-no-fsync", "true"}}},
			{"kube-apiserver", []arg{
				{"service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112"},
				// Else it asks for a default route, which a machine without a network has not,
				// and publishes the address that it finds as an endpoint, where nothing listens.
				{"advertise-address", loopback},
				{"endpoint-reconciler-type", "none"},
			}},
		},
	})
}

// freePorts returns ports that nobody listens on. They are below those that systems give to
// outgoing connections, so nobody gets them by accident before the lab does.
func freePorts(ctx context.Context, n int) ([]int, error) {
	const lowest, highest = 15000, 29999
	var ports []int
	var listen net.ListenConfig
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest+1)
		l, err := listen.Listen(ctx, "tcp", fmt.Sprintf("%s:%d", loopback, port))
		if err != nil {
			continue // taken
		}
		defer l.Close() // not before all are chosen, so that they differ
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports from %d to %d on %s", n, lowest, highest, loopback)
}

// writeKubeconfig copies a kubeconfig, with the files that it names put into it.
func writeKubeconfig(from, to string) error {
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return fmt.Errorf("read the cluster's certificates: %w", err)
	}
	return clientcmd.WriteToFile(*config, to)
}

// podCIDRs are the addresses of node i's Pods. kwok hands them out from the lowest up, looks at no
// limit, and takes back those of Pods that are gone; a /16 leaves ample room.
func podCIDRs(i int) []string {
	return []string{fmt.Sprintf("10.%d.0.0/16", 64+i), fmt.Sprintf("fd00:64:0:%x::/64", i+1)}
}

func (l *Lab) createNodes(ctx context.Context, n int) error {
	client, err := kubernetes.NewForConfig(l.config)
	if err != nil {
		return err
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("1k"),
		corev1.ResourceMemory: resource.MustParse("1Ti"),
		corev1.ResourcePods:   *resource.NewQuantity(PodsPerNode, resource.DecimalSI),
	}
	for i := range n {
		name := fmt.Sprintf("node-%d", i)
		cidrs := podCIDRs(i)
		if _, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelOSStable: "linux",
			}},
			Spec: corev1.NodeSpec{PodCIDR: cidrs[0], PodCIDRs: cidrs},
			Status: corev1.NodeStatus{
				Capacity:    room,
				Allocatable: room,
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeHostName, Address: name},
					{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.30.0.%d", i+1)},
					{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("fd00:30::%x", i+1)},
				},
			},
		}, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node: %w", err)
		}
	}
	return nil
}

// startMetalLB gives the cluster MetalLB's types and a pool, and starts the controller: the half
// of MetalLB that assigns addresses. The other half announces them, which needs real nodes.
func (l *Lab) startMetalLB(ctx context.Context, tools toolchain) (*exec.Cmd, error) {
	if _, err := l.Kubectl(ctx, "apply", "--filename="+tools["metallb"]); err != nil {
		return nil, err
	}
	if _, err := l.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return nil, err
	}
	pool, err := manifests.ReadFile("manifests/metallb.yaml")
	if err != nil {
		return nil, err
	}
	if err := l.Apply(ctx, string(pool)); err != nil {
		return nil, err
	}

	name := filepath.Join(clusterDir(l.dir), "bin", "metallb-controller")
	if err := os.Symlink(tools["metallb-controller"], name); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(clusterDir(l.dir), "logs", "metallb-controller.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Not by CommandContext: it outlives the start.
	cmd := &exec.Cmd{
		Path: name,
		Args: []string{
			name,
			"--kubeconfig=" + filepath.Join(clusterDir(l.dir), "kubeconfig.yaml"),
			"--namespace=metallb-system",
			"--webhook-mode=disabled",
			// It would serve metrics on every interface and has no flag for one; no port, no
			// listener: it logs that and goes on.
			"--port=-1",
		},
		Dir:    l.dir,
		Env:    environment(l.dir),
		Stdout: log,
		Stderr: log,
		// Out of reach of the terminal's Ctrl-C, as kwokctl does with the others.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the MetalLB controller: %w", err)
	}
	return cmd, nil
}

// awaitReady returns when the lab does all that it is for.
func (l *Lab) awaitReady(ctx context.Context) error {
	probe, err := manifests.ReadFile("manifests/probe.yaml")
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, string(probe)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"get", "--raw=/readyz"},
		{"wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"},
		{"wait", "--for=create", "serviceaccount/default", "--namespace=default", "--timeout=60s"},
		{"wait", "--for=jsonpath={.status.loadBalancer.ingress[1].ip}", "service/probe", "--namespace=metallb-system", "--timeout=60s"},
		{"delete", "service/probe", "--namespace=metallb-system"},
	} {
		if _, err := l.Kubectl(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// ready asks the API server whether it is.
func ready(ctx context.Context, kubeconfig string) bool {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return false
	}
	client, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "aci-sync-lab"))
	if err != nil {
		return false
	}
	answer, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err == nil && strings.TrimSpace(string(answer)) == "ok"
}
