package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/haystacknetworks/aci-sync/internal/memnet"
)

func TestDial_without_listener_is_refused(t *testing.T) {
	t.Parallel()
	var n memnet.Network
	if _, err := n.DialContext(t.Context(), "tcp", "nobody:443"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want connection refused", err)
	}
}

func TestListen_twice_then_close_frees_the_address(t *testing.T) {
	t.Parallel()
	var n memnet.Network
	l, err := n.Listen("a:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("a:1"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: got %v, want address in use", err)
	}
	c, err := n.DialContext(t.Context(), "tcp", "a:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("connection that was never accepted: got %v, want EOF", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: got %v", err)
	}
	if _, err := n.Listen("a:1"); err != nil {
		t.Errorf("listen after close: %v", err)
	}
}

func TestConn_carries_more_than_its_buffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := memnet.Pipe("a", "b")
		want := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
		var wg sync.WaitGroup
		wg.Go(func() {
			if n, err := a.Write(want); n != len(want) || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
			_ = a.Close()
		})
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d of %d bytes, %v", len(got), len(want), err)
		}
		wg.Wait()
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed end: got %v, want EPIPE", err)
		}
	})
}

func TestConn_honors_deadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := memnet.Pipe("a", "b")
		start := time.Now()
		_ = a.SetReadDeadline(start.Add(time.Minute))
		_, err := a.Read(make([]byte, 1))
		if nerr, ok := errors.AsType[net.Error](err); !ok || !nerr.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read past its deadline: %v", err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("read waited %v, want 1m", d)
		}

		// A deadline in the past wakes a read that is under way, as http.Server does it.
		_ = a.SetReadDeadline(time.Time{})
		done := make(chan error)
		go func() {
			_, err := a.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		_ = a.SetReadDeadline(time.Unix(1, 0))
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("woken read: %v", err)
		}

		_ = b.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := b.Write(make([]byte, 1<<20)); n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write to a full buffer: %d, %v", n, err)
		}
		_ = a.Close()
		_ = b.Close()
		if err := a.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("deadline of a closed connection: %v", err)
		}
	})
}

// A WebSocket over http.Server stays open for an hour of fake time, carries frames both
// ways, and leaves no goroutine behind.
func TestWebSocket_over_http_Server_for_an_hour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n memnet.Network
		l, err := n.Listen("apic1:80")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			defer c.CloseNow()
			for {
				typ, data, err := c.Read(r.Context())
				if err != nil {
					return
				}
				if err := c.Write(r.Context(), typ, data); err != nil {
					return
				}
			}
		})}
		var wg sync.WaitGroup
		wg.Go(func() { _ = srv.Serve(l) })

		tr := &http.Transport{DialContext: n.DialContext}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		c, _, err := websocket.Dial(ctx, "ws://apic1/socket", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: tr},
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for time.Since(start) < time.Hour {
			time.Sleep(time.Minute)
			if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, data, err := c.Read(ctx); err != nil || string(data) != "hello" {
				t.Fatalf("after %v: %q, %v", time.Since(start), data, err)
			}
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Errorf("close: %v", err)
		}
		tr.CloseIdleConnections()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		wg.Wait()
	})
}
