package apic_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

var errShut = errors.New("the gate is shut")

// gate is open until a moment; before it, leave is given for ahead.
type gate struct {
	shut  time.Time
	ahead time.Duration
}

func (g gate) ask() (time.Time, error) {
	if now := time.Now(); now.Before(g.shut) {
		return now.Add(g.ahead), nil
	}
	return time.Time{}, errShut
}

var epg = aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}}

// posts counts the writes since the last call of requests.
func (w *world) posts() int { return count(w.requests(), "POST /api/mo/") }

func TestGate_withholds_writes_and_nothing_else(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := &gate{}
		var told []string
		w.sim("apic1", apicsim.Options{})
		w.sim("apic2", apicsim.Options{})
		w.connect(apic.Options{
			ReadOnce: true, Gate: func() (time.Time, error) { return g.ask() },
			OnRequest: func(op string, code int, _ time.Duration) { told = append(told, fmt.Sprint(op, " ", code)) },
		}, "apic1", "apic2")
		w.read()
		told = nil
		if err := w.client.Post(t.Context(), wan.DN(), epg); !errors.Is(err, errShut) {
			t.Errorf("Post returned %v", err)
		}
		if len(told) != 0 {
			t.Errorf("told of requests: %v", told)
		}
		w.read()
		if n := w.posts(); n != 0 {
			t.Errorf("%d writes were sent", n)
		}
		if !w.client.Settled() {
			t.Error("what was not sent is not settled")
		}
		if m := w.client.Status().Member; m != "apic1" {
			t.Errorf("it speaks to %s now", m)
		}

		// It opens, and all is as ever.
		*g = gate{time.Now().Add(time.Minute), time.Minute}
		if err := w.client.Post(t.Context(), wan.DN(), epg); err != nil {
			t.Error(err)
		}
		if n := w.posts(); n != 1 || !w.client.Settled() {
			t.Errorf("%d writes were sent, settled: %v", n, w.client.Settled())
		}
		if m := w.client.Status().Member; m != "apic1" {
			t.Errorf("it speaks to %s now", m)
		}
	})
}

// The gate shuts while a write is on its way to the wire.
func TestGate_is_asked_at_the_last_moment(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, w *world, o *apic.Options){
		"after the login": func(t *testing.T, w *world, _ *apic.Options) {
			arm(t, w.sim("apic1", apicsim.Options{}), apicsim.Fault{Match: "aaaLogin", Times: 1, Delay: 5 * time.Second})
		},
		"after the rate limit": func(_ *testing.T, w *world, o *apic.Options) {
			w.sim("apic1", apicsim.Options{})
			o.Rate = 0.2 // the login goes at once, the write five seconds later
		},
		"after the connection": func(_ *testing.T, w *world, o *apic.Options) {
			s := apicsim.New(apicsim.Options{})
			w.t.Cleanup(s.Close)
			w.serve("apic1", s).SetKeepAlivesEnabled(false) // so that each request has a connection of its own
			var dials atomic.Int32
			o.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if dials.Add(1) > 1 {
					time.Sleep(5 * time.Second)
				}
				return w.net.DialContext(ctx, network, addr)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				g := gate{time.Now().Add(3 * time.Second), time.Minute}
				o := apic.Options{ReadOnce: true, Gate: g.ask}
				prepare(t, w, &o)
				w.connect(o, "apic1")
				start := time.Now()
				if err := w.client.Post(t.Context(), wan.DN(), epg); !errors.Is(err, errShut) {
					t.Errorf("Post returned %v", err)
				}
				if took := time.Since(start); took != 5*time.Second {
					t.Errorf("it took %v", took)
				}
				for _, r := range w.requests() {
					if strings.Contains(r, "l3extInstP") {
						t.Errorf("sent: %s", r)
					}
				}
				if !w.client.Settled() {
					t.Error("what was not sent is not settled")
				}
			})
		})
	}
}

func TestGate_lets_a_write_in_hand_go_on_for_two_seconds_after_it_shut(t *testing.T) {
	for name, c := range map[string]struct {
		answer, shut, want time.Duration // from the start
		ok                 bool
	}{
		"it is answered in time":         {answer: 11 * time.Second, shut: 10 * time.Second, want: 11 * time.Second, ok: true},
		"it is not":                      {answer: 13 * time.Second, shut: 10 * time.Second, want: 12 * time.Second},
		"leave is given again meanwhile": {answer: 40 * time.Second, shut: 50 * time.Second, want: 40 * time.Second, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := w.sim("apic1", apicsim.Options{})
				g := gate{ahead: 10 * time.Second}
				w.connect(apic.Options{ReadOnce: true, Gate: func() (time.Time, error) { return g.ask() }}, "apic1")
				w.read()
				arm(t, s, apicsim.Fault{Match: "POST", Times: 1, Delay: c.answer})
				start := time.Now()
				g.shut = start.Add(c.shut)
				err := w.client.Post(t.Context(), wan.DN(), epg)
				if took := time.Since(start); took != c.want {
					t.Errorf("it took %v, want %v", took, c.want)
				}
				if (err == nil) != c.ok || err != nil && !errors.Is(err, errShut) {
					t.Errorf("Post returned %v", err)
				}
				if _, answered := errors.AsType[*aci.Error](err); answered {
					t.Errorf("as if the APIC had said it: %v", err)
				}
				if w.client.Settled() != c.ok {
					t.Errorf("settled: %v", w.client.Settled())
				}
			})
		})
	}
}

func TestSettled_waits_for_what_the_APIC_may_carry_out_yet(t *testing.T) {
	for name, c := range map[string]struct {
		fault apicsim.Fault
		want  bool
	}{
		"answered":                       {apicsim.Fault{}, true},
		"refused":                        {apicsim.Fault{Status: 400, Code: "1"}, true},
		"throttled":                      {apicsim.Fault{Status: 503}, true},
		"accepted":                       {apicsim.Fault{Status: 202}, false},
		"no answer, says the web server": {apicsim.Fault{Status: 504}, false},
		"no answer":                      {apicsim.Fault{Hangup: true}, false},
		"given up":                       {apicsim.Fault{Delay: time.Hour}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := w.sim("apic1", apicsim.Options{})
				w.connect(apic.Options{ReadOnce: true}, "apic1")
				w.read()
				c.fault.Match, c.fault.Times = "POST", 1
				arm(t, s, c.fault)
				done := make(chan error)
				go func() { done <- w.client.Post(t.Context(), wan.DN(), epg) }()
				time.Sleep(time.Millisecond)
				if c.fault.Delay > 0 && w.client.Settled() {
					t.Error("settled while it is under way")
				}
				err := <-done
				if got := w.client.Settled(); got != c.want {
					t.Errorf("settled: %v, after %v", got, err)
				}
				time.Sleep(90 * time.Second)
				if !w.client.Settled() {
					t.Error("not settled after all the time that an APIC takes")
				}
			})
		})
	}
}

// A write that was given up must not arrive later: what the kernel has not delivered by then goes
// with the connection. The network is a real one, and the APIC reads nothing for a while.
func TestPost_that_is_given_up_does_not_arrive_later(t *testing.T) {
	t.Parallel()
	const window = 4096 // bytes that the receiver takes unread, roughly
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, window)
		}), err)
	}}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, resume := make(chan struct{}), make(chan struct{})
	arrived := make(chan int64, 1)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				b := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(b)
					if err != nil {
						return
					}
					if r.URL.Path != "/api/aaaLogin.json" {
						close(begun)
						<-resume
						n, _ := io.Copy(io.Discard, r.Body)
						arrived <- n
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					const reply = `{"totalCount":"1","imdata":[{"aaaLogin":{"attributes":{"token":"t","refreshTimeoutSeconds":"600"}}}]}`
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(reply), reply)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	ctx, cancel := context.WithCancel(t.Context())
	c, err := apic.New([]*url.URL{{Scheme: "http", Host: l.Addr().String()}}, user, apic.Options{Password: password, ReadOnce: true})
	if err != nil {
		t.Fatal(err)
	}
	big := aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web", "descr": strings.Repeat("x", 40*window)}}
	failed := make(chan error)
	go func() { failed <- c.Post(ctx, wan.DN(), big) }()
	<-begun
	cancel() // the write has two seconds more
	if err := <-failed; err == nil {
		t.Fatal("Post succeeded")
	}
	close(resume)
	if n := <-arrived; n >= 40*window {
		t.Errorf("all %d bytes arrived after the write was given up", n)
	}
}
