// Package memnet is a network in memory, for tests inside testing/synctest bubbles.
//
// A goroutine that waits on a real socket never counts as durably blocked, so that the
// fake clock of a bubble would stand still. The connections here block on sync.Cond only.
// They are buffered and honor deadlines, which net/http needs to hand over a connection,
// as at the start of a WebSocket; net.Pipe is synchronous and can deadlock one.
//
// It is imported by tests only.
package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Network is a set of listeners by address. The zero value is ready for use; it is safe
// for concurrent use.
type Network struct {
	mu sync.Mutex
	// mu guards the field below.
	listeners map[string]*listener
}

// Listen opens addr, such as "apic1:443". It returns an error when addr is in use.
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Addr: address(addr), Err: syscall.EADDRINUSE}
	}
	l := &listener{network: n, addr: address(addr)}
	l.cond.L = &l.mu
	if n.listeners == nil {
		n.listeners = map[string]*listener{}
	}
	n.listeners[addr] = l
	return l, nil
}

// DialContext connects to the listener at addr, or is refused when there is none. It fits
// http.Transport.DialContext; network is ignored.
func (n *Network) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: address(addr), Err: err}
	}
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l != nil {
		client, server := Pipe("client of "+addr, addr)
		if l.enqueue(server) {
			return client, nil
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "mem", Addr: address(addr), Err: syscall.ECONNREFUSED}
}

// listener is one open address of a Network.
type listener struct {
	network *Network
	addr    address

	mu   sync.Mutex
	cond sync.Cond
	// mu guards the fields below.
	backlog []net.Conn
	closed  bool
}

func (l *listener) enqueue(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.backlog = append(l.backlog, c)
	l.cond.Signal()
	return true
}

// Accept waits for the next connection; net.ErrClosed after Close.
func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.backlog) == 0 && !l.closed {
		l.cond.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "mem", Addr: l.addr, Err: net.ErrClosed}
	}
	c := l.backlog[0]
	l.backlog = slices.Delete(l.backlog, 0, 1)
	return c, nil
}

// Close frees the address, wakes Accept and closes what was not accepted yet.
func (l *listener) Close() error {
	l.mu.Lock()
	backlog := l.backlog
	l.backlog, l.closed = nil, true
	l.cond.Broadcast()
	l.mu.Unlock()
	for _, c := range backlog {
		_ = c.Close()
	}
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	if l.network.listeners[string(l.addr)] == l {
		delete(l.network.listeners, string(l.addr))
	}
	return nil
}

// Addr is the address that Listen was given.
func (l *listener) Addr() net.Addr { return l.addr }

type address string

func (address) Network() string  { return "mem" }
func (a address) String() string { return string(a) }

// Pipe returns the two ends of a connection. Each direction holds up to 256 KiB.
func Pipe(a, b string) (net.Conn, net.Conn) {
	ab, ba := newStream(), newStream()
	return &conn{in: ba, out: ab, local: address(a), remote: address(b)},
		&conn{in: ab, out: ba, local: address(b), remote: address(a)}
}

// conn is one end of a connection.
type conn struct {
	in, out       *stream
	local, remote address
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.wrap("write", err)
}

// wrap gives err its operation, as package net does; io.EOF stays as it is.
func (c *conn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "mem", Source: c.local, Addr: c.remote, Err: err}
}

// Close ends both directions: the other end reads what is buffered and then io.EOF, and
// its writes fail.
func (c *conn) Close() error {
	c.in.closeReader()
	c.out.closeWriter()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.in.setReadDeadline(t))
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.out.setWriteDeadline(t))
}
