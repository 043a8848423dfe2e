package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxBuffered bounds what one direction holds before writers wait.
const maxBuffered = 256 << 10

// stream is one direction of a connection.
type stream struct {
	mu   sync.Mutex
	cond sync.Cond // broadcast at every change of the fields below
	// mu guards the fields below.
	buf          []byte
	readerClosed bool
	writerClosed bool
	readBy       deadline
	writeBy      deadline
}

func newStream() *stream {
	s := &stream{}
	s.cond.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerClosed:
			return 0, net.ErrClosed
		case s.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			s.cond.Broadcast()
			return n, nil
		case s.writerClosed:
			return 0, io.EOF
		}
		s.cond.Wait()
	}
}

func (s *stream) write(p []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writerClosed:
			return written, net.ErrClosed
		case s.readerClosed:
			return written, syscall.EPIPE
		case s.writeBy.passed():
			return written, os.ErrDeadlineExceeded
		case len(p) == 0:
			return written, nil
		case len(s.buf) < maxBuffered:
			n := min(len(p), maxBuffered-len(s.buf))
			s.buf = append(s.buf, p[:n]...)
			p, written = p[n:], written+n
			s.cond.Broadcast()
			continue
		}
		s.cond.Wait()
	}
}

func (s *stream) closeReader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readerClosed = true
	s.readBy.stop()
	s.cond.Broadcast()
}

func (s *stream) closeWriter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writerClosed = true
	s.writeBy.stop()
	s.cond.Broadcast()
}

func (s *stream) setReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readerClosed {
		return net.ErrClosed
	}
	s.readBy.set(t, s)
	return nil
}

func (s *stream) setWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writerClosed {
		return net.ErrClosed
	}
	s.writeBy.set(t, s)
	return nil
}

// deadline is a point in time that wakes those who wait on a stream; the zero value is
// never. The mutex of the stream guards it.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(t time.Time, s *stream) {
	d.stop()
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(max(0, time.Until(t)), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cond.Broadcast()
		})
	}
	s.cond.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
