package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

const (
	user     = "aci-sync"
	password = "bench-only"

	apicVersion = "6.0(9c)"
	// l3outs is how many L3Outs there are, each in a VRF of its own. aci-sync works on VRFs one by
	// one; with two, every other change finds a VRF that has been quiet.
	l3outs = 2
)

func l3outName(i int) string { return fmt.Sprintf("OUT%d", i) }

// l3outDN is that of an L3Out of the bench called name, whose tenant has the same name.
func l3outDN(name string, i int) string { return fmt.Sprintf("uni/tn-%s/out-%s", name, l3outName(i)) }

// fabric is the simulated APIC. It is in this process, so that what it knows is known here at
// once and on the same clock; its CPU is not that of aci-sync.
type fabric struct {
	sim     *apicsim.Sim
	url     string
	caFile  string
	server  *http.Server
	served  sync.WaitGroup
	latency atomic.Int64 // nanoseconds before a request is looked at

	mu    sync.Mutex    // guards the fields below
	wrote chan struct{} // closed at the next write
	seq   int           // of the last request that was looked at
}

func newFabric(ctx context.Context, tenant, caFile string) (*fabric, error) {
	f := &fabric{
		sim: apicsim.New(apicsim.Options{Version: apicVersion, Users: []apicsim.User{{Name: user, Password: password}}}), caFile: caFile,
		wrote: make(chan struct{}),
	}
	var children []string
	for i := range l3outs {
		children = append(children, fmt.Sprintf(`{"fvCtx":{"attributes":{"name":"VRF%d"}}},
			{"l3extOut":{"attributes":{"name":%q},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"VRF%d"}}}]}}`, i, l3outName(i), i))
	}
	seed := fmt.Sprintf(`{"fvTenant":{"attributes":{"name":%q},"children":[%s]}}`, tenant, strings.Join(children, ","))
	if err := f.sim.Seed([]byte(seed)); err != nil {
		return nil, err
	}
	cert, err := apicsim.NewCertificate("127.0.0.1")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(caFile, cert.PEM, 0o600); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.url = "https://" + l.Addr().String()
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: 30 * time.Second}
	secure := tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	f.served.Go(func() { _ = f.server.Serve(secure) })
	return f, nil
}

func (f *fabric) close() {
	f.sim.Close()
	_ = f.server.Close()
	f.served.Wait()
}

// ServeHTTP lets the simulator answer, and wakes who waits for a write.
func (f *fabric) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if pause(r.Context(), time.Duration(f.latency.Load())) != nil {
		return // the client is gone
	}
	f.sim.ServeHTTP(w, r)
	if r.Method == http.MethodGet {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.wrote)
	f.wrote = make(chan struct{})
}

// next is closed at the next write.
func (f *fabric) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrote
}

// now is the sequence number of the last request.
func (f *fabric) now() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if all := f.sim.Requests(f.seq); len(all) > 0 {
		f.seq = all[len(all)-1].Seq
	}
	return f.seq
}

// writes are those that were carried out since a sequence number.
func (f *fabric) writes(since int) []apicsim.Request {
	var out []apicsim.Request
	for _, r := range f.sim.Requests(since) {
		if r.Method != http.MethodGet && strings.HasPrefix(r.Path, "/api/mo/") && r.Status == http.StatusOK {
			out = append(out, r)
		}
	}
	return out
}

// subnetsIn counts the subnets that a write carries.
func subnetsIn(r apicsim.Request) int { return bytes.Count(r.Body, []byte(`"l3extSubnet"`)) }

// written waits for the write since a sequence number that carries the address, and returns when,
// by the simulator's log, it was done.
func (f *fabric) written(ctx context.Context, since int, ip string) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s is not on the APIC after %v", ip, patience))
	defer cancel()
	named := []byte(`"` + ip + `/`)
	for {
		next := f.next()
		for _, r := range f.writes(since) {
			if bytes.Contains(r.Body, named) {
				return r.Time, nil
			}
		}
		select {
		case <-next:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// lose takes so many subnets out of the large EPGs of a tenant, as somebody may by hand, an equal
// share in one request for each, and returns when the last was done.
func (f *fabric) lose(tenant string, subnets int) (time.Time, error) {
	for i := range l3outs {
		epg := l3outDN(tenant, i) + "/instP-" + largeEPG
		var gone []string
		for line := range strings.Lines(f.sim.Dump(epg)) {
			dn, rest, _ := strings.Cut(line, " ")
			if ip, ok := strings.CutPrefix(dn, epg+"/extsubnet-["); ok && strings.HasPrefix(rest, "l3extSubnet") && len(gone) < share(subnets, i) {
				gone = append(gone, fmt.Sprintf(`{"l3extSubnet":{"attributes":{"ip":%q,"status":"deleted"}}}`, strings.TrimSuffix(ip, "]")))
			}
		}
		if len(gone) < share(subnets, i) {
			return time.Time{}, fmt.Errorf("%s holds %d subnets, %d were to be deleted", epg, len(gone), share(subnets, i))
		}
		if len(gone) == 0 {
			continue
		}
		body := fmt.Sprintf(`{"l3extInstP":{"attributes":{"name":%q},"children":[%s]}}`, largeEPG, strings.Join(gone, ","))
		if err := f.sim.Post(l3outDN(tenant, i), body); err != nil {
			return time.Time{}, err
		}
	}
	return time.Now(), nil
}

// holds waits until there are exactly so many subnets.
func (f *fabric) holds(ctx context.Context, subnets int) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		next := f.next()
		n := f.sim.Stats().Classes["l3extSubnet"]
		if n == subnets {
			return nil
		}
		select {
		case <-next:
		case <-deadline.C:
			return fmt.Errorf("%d subnets are on the APIC after %v, want %d", n, patience, subnets)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// patience is how long anything may take that takes seconds on an idle machine.
const patience = 2 * time.Minute
