package stories_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"
)

// link is the network between an aci-sync and the API server: it can go down. What is sent while
// it hangs arrives later, as in a network that is repaired.
type link struct {
	listener net.Listener
	target   string
	serving  sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	mode    string     // "up", "refuse" or "hang"; "" when it is closed
	changed chan struct{}
	conns   map[net.Conn]struct{}
}

func newLink(ctx context.Context, target string) (*link, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{listener: l, target: target, mode: "up", changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	k.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			k.serving.Go(func() { k.carry(ctx, c) })
		}
	})
	return k, nil
}

// set changes the mode; "refuse" cuts all connections.
func (k *link) set(mode string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mode = mode
	close(k.changed)
	k.changed = make(chan struct{})
	if mode == "up" || mode == "hang" {
		return
	}
	for c := range k.conns {
		_ = c.Close()
	}
	clear(k.conns)
}

func (k *link) close() {
	k.set("")
	_ = k.listener.Close()
	k.serving.Wait()
}

// pass waits while the link hangs; false when it carries nothing any more.
func (k *link) pass() bool {
	for {
		k.mu.Lock()
		mode, changed := k.mode, k.changed
		k.mu.Unlock()
		if mode != "hang" {
			return mode == "up"
		}
		<-changed
	}
}

// keep notes connections for the cut; false, and they are closed, when it is done.
func (k *link) keep(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		if k.mode != "up" && k.mode != "hang" {
			_ = c.Close()
			continue
		}
		k.conns[c] = struct{}{}
	}
	return k.mode == "up" || k.mode == "hang"
}

// carry connects one end with the other until either closes.
func (k *link) carry(ctx context.Context, near net.Conn) {
	if !k.keep(near) || !k.pass() {
		_ = near.Close()
		return
	}
	far, err := new(net.Dialer).DialContext(ctx, "tcp", k.target)
	if err != nil || !k.keep(far) {
		_ = near.Close()
		return
	}
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
		both.Go(func() {
			buf := make([]byte, 32<<10)
			for {
				n, err := from.Read(buf)
				if k.pass() {
					_, _ = to.Write(buf[:n])
				}
				if err != nil {
					_, _ = near.Close(), far.Close()
					return
				}
			}
		})
	}
	both.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, near)
	delete(k.conns, far)
}

// linked returns a kubeconfig whose way to the API server is the story's link.
func (s *story) linked() (string, error) {
	file := filepath.Join(s.dir, "kubeconfig-link")
	if s.link != nil {
		return file, nil
	}
	cfg, err := clientcmd.LoadFromFile(s.account)
	if err != nil {
		return "", err
	}
	server := cfg.Clusters[cfg.Contexts[cfg.CurrentContext].Cluster]
	u, err := url.Parse(server.Server)
	if err != nil {
		return "", err
	}
	if s.link, err = newLink(s.ctx, u.Host); err != nil {
		return "", err
	}
	s.t.Cleanup(s.link.close)
	server.TLSServerName = u.Hostname()
	server.Server = "https://" + s.link.listener.Addr().String()
	return file, clientcmd.WriteToFile(*cfg, file)
}

// linkVerb changes the network between the API server and who was started with -link: link
// up|refuse|hang.
func linkVerb(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 || args[0] != "up" && args[0] != "refuse" && args[0] != "hang" {
		return errors.New("usage: link up|refuse|hang")
	}
	if s.link == nil {
		return errors.New("nobody was started with -link")
	}
	s.link.set(args[0])
	return nil
}
