package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// KubeconfigVariable names the kubeconfig of a running lab to the processes that are to share it.
const KubeconfigVariable = "ACI_SYNC_LAB_KUBECONFIG"

// PodsPerNode is how many Pods the scheduler puts on one node.
const PodsPerNode = 1000

const (
	defaultNodes = 4
	maxNodes     = 32 // each has a /16 for Pods, see podCIDRs
)

// Lab is a running control plane. Its methods are safe for concurrent use.
type Lab struct {
	dir        string // absolute; holds all its state
	kubeconfig string
	kubectl    string
	config     *rest.Config
	bare       bool

	stop func(context.Context) error
}

// Options say what a lab is like. The zero value is good.
type Options struct {
	// Nodes is how many nodes there are, at most 32; 0 means 4. Each takes PodsPerNode Pods.
	Nodes int
	// Bare is etcd and kube-apiserver alone: no nodes, and nobody makes Pods or gives addresses. For
	// who plays all that, to measure without its company; only Start makes one.
	Bare bool
	// Progress takes a line for each binary that has to be built; nil means os.Stderr.
	Progress io.Writer
}

// Start starts a lab of the checkout around the working directory, on free ports and with its own
// state, and returns when it works: the API server and all nodes are ready, and MetalLB gives
// addresses away, unless it is a bare one. The first start on a machine builds the binaries, which takes minutes.
// The caller stops it with Stop; if the caller is killed before that, the next Start, Up or Down
// of the checkout does. After an error nothing is left but the logs, in .lab/failed.
func Start(ctx context.Context, o Options) (*Lab, error) {
	c, err := findCheckout()
	if err != nil {
		return nil, err
	}
	tools, err := build(ctx, c.root, o.progress())
	if err != nil {
		return nil, err
	}
	dir, owner, err := c.own(ctx)
	if err != nil {
		return nil, err
	}
	l, err := c.start(ctx, dir, tools, o)
	if err != nil {
		return nil, errors.Join(err, c.disown(context.WithoutCancel(ctx), dir, owner))
	}
	end := l.stop
	l.stop = once(func(ctx context.Context) error {
		if err := end(ctx); err != nil {
			return errors.Join(err, owner.Close()) // the next sweep tries again
		}
		return c.disown(ctx, dir, owner)
	})
	return l, nil
}

// Shared returns the lab that ACI_SYNC_LAB_KUBECONFIG names, else the one that Up left running in
// this checkout, and starts one as Start does if there is neither. Stop ends only the latter.
// Labs that are shared are told apart by namespaces: see Lab.Namespace.
func Shared(ctx context.Context, o Options) (*Lab, error) {
	l, err := running(ctx, o)
	if err != nil || l != nil {
		return l, err
	}
	return Start(ctx, o)
}

// running returns the lab that Shared need not start, or nil.
func running(ctx context.Context, o Options) (*Lab, error) {
	c, err := findCheckout()
	if err != nil {
		return nil, err
	}
	kubeconfig := os.Getenv(KubeconfigVariable)
	if kubeconfig == "" && !c.upIsHealthy(ctx) {
		return nil, nil
	}
	tools, err := build(ctx, c.root, o.progress())
	if err != nil {
		return nil, err
	}
	return attach(cmp.Or(kubeconfig, c.upKubeconfig()), tools)
}

// attach returns a lab that others have started and will stop.
func attach(kubeconfig string, tools toolchain) (*Lab, error) {
	kubeconfig, err := filepath.Abs(kubeconfig)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of the lab: %w", err)
	}
	config.QPS = -1 // the lab is for tests of speed, too
	return &Lab{
		dir:        filepath.Dir(kubeconfig),
		kubeconfig: kubeconfig,
		kubectl:    tools["kubectl"],
		config:     config,
		stop:       func(context.Context) error { return nil },
	}, nil
}

// Up starts a lab that outlives this process, unless it runs already. Down stops it; Stop does not.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o.Bare = false
	c, err := findCheckout()
	if err != nil {
		return nil, err
	}
	tools, err := build(ctx, c.root, o.progress())
	if err != nil {
		return nil, err
	}
	lock, err := c.lockUp(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := c.sweep(ctx); err != nil {
		return nil, err
	}
	if c.upIsHealthy(ctx) {
		return attach(c.upKubeconfig(), tools)
	}
	// What an Up that was killed has left, or a lab that lost some of its processes.
	if err := remove(ctx, c.upDir()); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.upDir(), 0o700); err != nil {
		return nil, err
	}
	if _, err := c.start(ctx, c.upDir(), tools, o); err != nil {
		return nil, errors.Join(err, remove(context.WithoutCancel(ctx), c.upDir()))
	}
	return attach(c.upKubeconfig(), tools)
}

// Down stops the lab of Up, if any, and whatever killed processes of this checkout have left. Labs
// whose owner lives go on. It returns when no process is left.
func Down(ctx context.Context) error {
	c, err := findCheckout()
	if err != nil {
		return err
	}
	lock, err := c.lockUp(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	return errors.Join(remove(ctx, c.upDir()), c.sweep(ctx))
}

// Stop ends the lab if it came from Start or was started by Shared, and returns when none of its
// processes is left. More calls do nothing. To be called also when the test's context has ended,
// so with a context of its own.
func (l *Lab) Stop(ctx context.Context) error { return l.stop(ctx) }

// Kubeconfig is the path of a kubeconfig of the cluster's administrator, with the certificates in it.
func (l *Lab) Kubeconfig() string { return l.kubeconfig }

// KubectlPath is the path of the lab's kubectl.
func (l *Lab) KubectlPath() string { return l.kubectl }

// RESTConfig returns the administrator's configuration for client-go, without a limit on the rate
// of requests. The caller may change it.
func (l *Lab) RESTConfig() *rest.Config { return rest.CopyConfig(l.config) }

// Kubectl runs kubectl as the administrator and returns its standard output. The error holds what
// it wrote to standard error.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.runKubectl(ctx, "", args...)
}

// Apply is kubectl apply of a manifest, YAML or JSON, with further arguments such as a namespace.
func (l *Lab) Apply(ctx context.Context, manifest string, args ...string) error {
	_, err := l.runKubectl(ctx, manifest, append([]string{"apply", "--filename=-"}, args...)...)
	return err
}

func (l *Lab) runKubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.kubectl, append([]string{"--kubeconfig=" + l.kubeconfig}, args...)...)
	cmd.Env = environment(l.dir)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = waitDelay
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); ctx.Err() != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), context.Cause(ctx))
	} else if err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Namespace creates a namespace of its own for whoever asks, say a test, with a unique name that
// begins with what is left of the given one, and waits until Pods can be created in it. The
// function that it returns deletes the namespace, without waiting until all in it is gone; in a bare
// lab, which nobody clears up, all in it stays.
func (l *Lab) Namespace(ctx context.Context, name string) (string, func(context.Context) error, error) {
	client, err := kubernetes.NewForConfig(l.config)
	if err != nil {
		return "", nil, err
	}
	ns, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: namespacePrefix(name)},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", nil, fmt.Errorf("create namespace: %w", err)
	}
	drop := func(ctx context.Context) error {
		if err := client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("delete namespace: %w", err)
		}
		return nil
	}
	if err := l.awaitServiceAccount(ctx, client, ns.Name); err != nil {
		return "", nil, errors.Join(err, drop(context.WithoutCancel(ctx)))
	}
	return ns.Name, drop, nil
}

// awaitServiceAccount returns when a namespace has the ServiceAccount that its Pods need. Where
// nobody makes it, it does.
func (l *Lab) awaitServiceAccount(ctx context.Context, client kubernetes.Interface, namespace string) error {
	if !l.bare {
		_, err := l.Kubectl(ctx, "wait", "--for=create", "serviceaccount/default", "--namespace="+namespace, "--timeout=30s")
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create ServiceAccount: %w", err)
	}
	return nil
}

// namespacePrefix makes a label of the DNS from a name such as TestRun/moves_an_address.
func namespacePrefix(name string) string {
	label := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
	// The server appends five characters; the whole may have 63.
	label = strings.Trim(label[:min(len(label), 50)], "-")
	return cmp.Or(label, "lab") + "-"
}

func (o Options) progress() io.Writer {
	if o.Progress == nil {
		return os.Stderr
	}
	return o.Progress
}

// once makes a function that runs stop at most once, and returns the same error each time.
func once(stop func(context.Context) error) func(context.Context) error {
	var first sync.Once
	var err error
	return func(ctx context.Context) error {
		first.Do(func() { err = stop(ctx) })
		return err
	}
}
