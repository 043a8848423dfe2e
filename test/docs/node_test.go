package docs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// exitWithin is what is promised after SIGTERM, and a little for a busy machine.
const exitWithin = 6 * time.Second

// begins is how long a process may take until it has come to say what signals are to do.
const begins = 2 * time.Second

// node runs containers of aci-sync's Pods, which the lab's nodes only pretend to: in the image's root, with the command
// line and the environment of the Pod, the files that it mounts, and as its user. It starts them again when they end, and
// ends them with their Pods. What else a node does is missing: resource limits, seccomp, and a network for each Pod; so
// there are not the ports for two, and it runs one Pod at a time, the first by name.
type node struct {
	t      *testing.T
	client kubernetes.Interface
	ns     string
	image  string // its unpacked root
	server [2]string

	log buffer

	mu       sync.Mutex // guards the fields below
	now      *container // nil when none runs
	failures []error    // of the node; after one it starts nothing
}

// container is what runs.
type container struct {
	pod   corev1.Pod
	cmd   *exec.Cmd
	began time.Time
	ended chan struct{} // closed when it ended
	err   error         // of Wait; not before ended is closed
}

// entrypoint is that of the image.
const entrypoint = "/aci-sync"

// newNode returns a node that runs until the test ends.
func newNode(t *testing.T, client kubernetes.Interface, ns, image string, server [2]string) *node {
	t.Helper()
	n := &node{t: t, client: client, ns: ns, image: image, server: server}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			n.look(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.now != nil {
			if err := n.now.stop(); err != nil {
				n.failures = append(n.failures, err)
			}
		}
		if err := errors.Join(n.failures...); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the log of aci-sync's containers:\n%s", n.log.String())
		}
	})
	return n
}

// look does what is due: a container ends with its Pod, and another one begins.
func (n *node) look(ctx context.Context) {
	list, err := n.client.CoreV1().Pods(n.ns).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=aci-sync"})
	if err != nil {
		return // it is tried again
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.now; c != nil {
		select {
		case <-c.ended:
			fmt.Fprintf(&n.log, "-- Pod %s ended: %v\n", c.pod.Name, c.err)
			n.now = nil
		default:
			if slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.UID == c.pod.UID }) {
				return
			}
			if err := c.stop(); err != nil {
				n.failures = append(n.failures, err)
			}
			fmt.Fprintf(&n.log, "-- Pod %s was deleted\n", c.pod.Name)
			n.now = nil
		}
	}
	if len(pods) == 0 || len(n.failures) > 0 {
		return
	}
	fmt.Fprintf(&n.log, "-- Pod %s\n", pods[0].Name)
	c, err := n.start(ctx, pods[0])
	switch {
	case err == nil:
		n.now = c
	case apierrors.IsNotFound(err): // what it mounts, as it may be yet; or the Pod itself, which was deleted meanwhile
		fmt.Fprintf(&n.log, "-- it does not start: %v\n", err)
	case ctx.Err() == nil:
		n.failures = append(n.failures, err)
	}
}

// running returns the Pod whose container runs; false when there is none.
func (n *node) running() (corev1.Pod, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now == nil {
		return corev1.Pod{}, false
	}
	return n.now.pod, true
}

// kill ends what runs, as a crash does.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.now.cmd.Process.Kill()
	<-n.now.ended
}

// start starts the only container of a Pod. What it does not understand of the Pod is an error.
func (n *node) start(ctx context.Context, pod corev1.Pod) (*container, error) {
	spec := pod.Spec.Containers[0]
	if len(pod.Spec.Containers) != 1 || len(spec.Command) > 0 || len(spec.EnvFrom) > 0 || len(pod.Spec.InitContainers) > 0 {
		return nil, errors.New("only a Pod with one container and the image's entrypoint is understood")
	}
	root, err := os.MkdirTemp(n.t.TempDir(), "")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(root, 0o755), os.CopyFS(root, os.DirFS(n.image))); err != nil {
		return nil, err
	}
	for _, mount := range spec.VolumeMounts {
		files, err := n.volume(ctx, pod, mount.Name)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", mount.Name, err)
		}
		if err := put(filepath.Join(root, mount.MountPath), files); err != nil {
			return nil, err
		}
	}
	env := []string{"KUBERNETES_SERVICE_HOST=" + n.server[0], "KUBERNETES_SERVICE_PORT=" + n.server[1]}
	for _, e := range spec.Env {
		if e.ValueFrom != nil {
			return nil, fmt.Errorf("variable %s: valueFrom is not understood", e.Name)
		}
		env = append(env, e.Name+"="+e.Value)
	}
	user, group := int(*pod.Spec.SecurityContext.RunAsUser), int(*pod.Spec.SecurityContext.RunAsGroup)
	attr := &syscall.SysProcAttr{Chroot: root}
	if os.Getuid() == 0 {
		if err := give(root, int(*pod.Spec.SecurityContext.FSGroup)); err != nil {
			return nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(group)}
	} else { // in a namespace of users of its own, in which we are that user
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: group, HostID: os.Getgid(), Size: 1}}
	}
	c := &container{pod: pod, began: time.Now(), ended: make(chan struct{})}
	c.cmd = &exec.Cmd{
		Path: entrypoint, Args: append([]string{entrypoint}, spec.Args...), Env: env, Dir: "/", Stdout: &n.log, Stderr: &n.log, SysProcAttr: attr,
		WaitDelay: time.Second,
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("run the container of Pod %s: %w", pod.Name, err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// volume is what a volume of a Pod holds, by file name.
func (n *node) volume(ctx context.Context, pod corev1.Pod, name string) (map[string][]byte, error) {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i < 0 {
		return nil, errors.New("the Pod has no such volume")
	}
	switch v := pod.Spec.Volumes[i]; {
	case v.Secret != nil && len(v.Secret.Items) == 0:
		secret, err := n.client.CoreV1().Secrets(pod.Namespace).Get(ctx, v.Secret.SecretName, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return secret.Data, nil
	case v.ConfigMap != nil:
		return n.configMap(ctx, pod, v.ConfigMap.Name, v.ConfigMap.Items)
	case v.Projected != nil:
		return n.projected(ctx, pod, v.Projected.Sources)
	}
	return nil, errors.New("a kind of volume that is not understood")
}

func (n *node) configMap(ctx context.Context, pod corev1.Pod, name string, items []corev1.KeyToPath) (map[string][]byte, error) {
	cm, err := n.client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, item := range items {
		files[item.Path] = []byte(cm.Data[item.Key])
	}
	for key, text := range cm.Data {
		if items == nil {
			files[key] = []byte(text)
		}
	}
	return files, nil
}

// projected is what the API server gives every Pod to speak to it with.
func (n *node) projected(ctx context.Context, pod corev1.Pod, sources []corev1.VolumeProjection) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, s := range sources {
		switch {
		case s.ServiceAccountToken != nil:
			token, err := n.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequest{
				Spec: authenticationv1.TokenRequestSpec{
					ExpirationSeconds: s.ServiceAccountToken.ExpirationSeconds,
					BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				return nil, err
			}
			files[s.ServiceAccountToken.Path] = []byte(token.Status.Token)
		case s.ConfigMap != nil:
			more, err := n.configMap(ctx, pod, s.ConfigMap.Name, s.ConfigMap.Items)
			if err != nil {
				return nil, err
			}
			maps.Copy(files, more)
		case s.DownwardAPI != nil && len(s.DownwardAPI.Items) == 1 && s.DownwardAPI.Items[0].FieldRef.FieldPath == "metadata.namespace":
			files[s.DownwardAPI.Items[0].Path] = []byte(pod.Namespace)
		default:
			return nil, errors.New("a projection that is not understood")
		}
	}
	return files, nil
}

// put writes files into a directory, to be read by owner and group.
func put(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o440); err != nil {
			return err
		}
	}
	return nil
}

// give makes all of a directory root's and a group's.
func give(dir string, group int) error {
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, 0, group)
	})
}

// stop ends a container as a node does, and wants exit code 0.
func (c *container) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the container of Pod %s: %w", c.pod.Name, err)
	}
	select {
	case <-c.ended:
		if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGTERM && time.Since(c.began) < begins {
			return nil
		}
		if c.err != nil {
			return fmt.Errorf("the container of Pod %s ended: %w", c.pod.Name, c.err)
		}
		return nil
	case <-time.After(exitWithin):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("the container of Pod %s did not end within %v", c.pod.Name, exitWithin)
	}
}
