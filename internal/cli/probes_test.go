package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apic"
)

func TestReadyz_says_how_it_stands_with_the_APIC(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(2*time.Minute + 400*time.Millisecond)
	for name, tt := range map[string]struct {
		status apic.Status
		want   string
	}{
		"nothing yet":         {apic.Status{Member: "apic1"}, "apic: no session yet\n"},
		"all is well":         {apic.Status{Member: "apic1", LoggedIn: true, SocketUp: true}, "apic: session at apic1\n"},
		"no events yet":       {apic.Status{Member: "apic1", LoggedIn: true}, "apic: session at apic1, no events\n"},
		"no events":           {apic.Status{Member: "apic1", LoggedIn: true, Err: "socket: 503"}, "apic: session at apic1, no events: socket: 503\n"},
		"nobody answers":      {apic.Status{Member: "apic1", Err: "login: refused", NextLogin: soon}, "apic: no session at apic1, next login in 2m0s: login: refused\n"},
		"wrong credentials":   {apic.Status{Member: "apic1", Err: "login:\n401", Refused: true, NextLogin: soon}, "apic: apic1 refuses the credentials, next login in 2m0s or when they change: login: 401\n"},
		"wrong ones by now":   {apic.Status{Member: "apic1", LoggedIn: true, Err: "401", Refused: true, NextLogin: soon}, "apic: session at apic1, but new ones are refused, next login in 2m0s or when the credentials change: 401\n"},
		"as long as it lasts": {apic.Status{Member: "apic1", Err: "401", Refused: true, NextLogin: time.Now().Add(-time.Minute)}, "next login in 0s"},
	} {
		p := &probes{fabric: func() apic.Status { return tt.status }}
		p.leading.Store(true)
		p.synced.Store(true)
		w := httptest.NewRecorder()
		p.ready(w, nil)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), "caches: synced\n") || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	p := &probes{fabric: func() apic.Status { t.Error("asked"); return apic.Status{} }}
	w := httptest.NewRecorder()
	p.ready(w, nil)
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != "caches: not synced yet\napic: not asked: this replica does not lead\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestProbes_listen_where_they_are_told(t *testing.T) {
	t.Parallel()
	p := &probes{}
	if s, err := p.server(t.Context(), "0"); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
	first, err := p.server(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Listener.Close()
	if _, err := p.server(t.Context(), first.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "--health-probe-bind-address: ") {
		t.Errorf("the same address twice: %v", err)
	}
	w := httptest.NewRecorder()
	first.Server.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
