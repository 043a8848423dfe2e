package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/haystacknetworks/aci-sync/internal/apic"
)

// probes answer whether the process is alive (/healthz) and ready (/readyz). Neither depends on the
// APIC: nothing would be better for a restart, or without whoever else is asked for by the Service of
// this Pod. What is wrong with the APIC is told in the body of /readyz, for people and scripts.
type probes struct {
	synced  atomic.Bool // every cache is
	leading atomic.Bool // this replica talks to the APIC
	fabric  func() apic.Status
}

// server serves p at address; nil when that is "0".
func (p *probes) server(ctx context.Context, address string) (*manager.Server, error) {
	if address == "0" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--health-probe-bind-address: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", p.ready)
	return &manager.Server{
		Name:            "health probe",
		Server:          &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second},
		Listener:        l,
		ShutdownTimeout: new(time.Second),
	}, nil
}

func (p *probes) ready(w http.ResponseWriter, _ *http.Request) {
	caches := "synced"
	if !p.synced.Load() {
		caches = "not synced yet"
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fabric := "not asked: this replica does not lead"
	if p.leading.Load() {
		fabric = standing(p.fabric(), time.Now())
	}
	fmt.Fprintf(w, "caches: %s\napic: %s\n", caches, fabric)
}

// standing says in one line how it stands with the APIC.
func standing(s apic.Status, now time.Time) string {
	why := strings.Join(strings.Fields(s.Err), " ")
	next := max(0, s.NextLogin.Sub(now)).Round(time.Second)
	switch {
	case s.Refused && !s.LoggedIn:
		return fmt.Sprintf("%s refuses the credentials, next login in %v or when they change: %s", s.Member, next, why)
	case s.Refused:
		return fmt.Sprintf("session at %s, but new ones are refused, next login in %v or when the credentials change: %s", s.Member, next, why)
	case !s.LoggedIn && why == "":
		return "no session yet"
	case !s.LoggedIn:
		return fmt.Sprintf("no session at %s, next login in %v: %s", s.Member, next, why)
	case !s.SocketUp:
		return strings.TrimSuffix(fmt.Sprintf("session at %s, no events: %s", s.Member, why), ": ")
	}
	return "session at " + s.Member
}
