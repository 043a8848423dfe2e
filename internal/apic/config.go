package apic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Options are what New can do without. The zero value works.
type Options struct {
	Password     aci.Secret // ignored when PasswordFile is set
	PasswordFile string     // read at every login; one line end at its end is ignored

	TLS  *tls.Config // nil verifies by the system roots; see TLSConfig
	Rate float64     // requests per second, with a burst of twice that; 0 means 20

	// ReadOnce makes Read a plain read: no WebSocket, no subscriptions. For commands that
	// look once.
	ReadOnce bool

	// Gate is asked at the last moment before a write is sent, and says until when writes may begin;
	// zero means for ever. Its error withholds the write, and is what the caller gets. What is under
	// way 2 s after that time is cut off, unless the gate, asked again, is open. nil lets everything
	// pass. It must not block and may be called concurrently.
	Gate func() (until time.Time, err error)

	Logger *slog.Logger // nil discards

	// OnRequest is told of each request once it is answered; op as in aci.Error. code is
	// the HTTP status, 0 when no answer came. It must not block and may be called
	// concurrently.
	OnRequest func(op string, code int, dur time.Duration)

	// OnFailover is told of each session that begins at another member than the one before. It must
	// not block.
	OnFailover func()

	// DialContext opens the connections; nil dials TCP.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// password reads the password as it is now.
func (o *Options) password() (aci.Secret, error) {
	if o.PasswordFile == "" {
		return o.Password, nil
	}
	b, err := os.ReadFile(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("password file %s is empty", o.PasswordFile)
	}
	return aci.Secret(s), nil
}

// ParseMembers reads the APIC cluster members of ACI_APIC, comma separated: host,
// host:port or an https URL without a path. Plain http is refused: it would carry the
// password in the clear.
func ParseMembers(s string) ([]*url.URL, error) {
	var members []*url.URL
	for m := range strings.SplitSeq(s, ",") {
		if m = strings.TrimSpace(m); m == "" {
			continue
		}
		u, err := parseMember(m)
		if err != nil {
			return nil, err
		}
		for _, other := range members {
			if other.Host == u.Host {
				return nil, fmt.Errorf("APIC %q is named twice", m)
			}
		}
		members = append(members, u)
	}
	if len(members) == 0 {
		return nil, errors.New("no APIC is named")
	}
	return members, nil
}

func parseMember(m string) (*url.URL, error) {
	s := m
	if a, err := netip.ParseAddr(m); err == nil && a.Is6() {
		s = "[" + m + "]"
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		// The text of url.Parse repeats its input, which may hold a password.
		return nil, errors.New("an APIC is neither host, host:port nor an https URL")
	case u.User != nil:
		return nil, fmt.Errorf("APIC %q: the URL must not carry a user", u.Host)
	case u.Scheme != "https":
		return nil, fmt.Errorf("APIC %q: only https is spoken", m)
	case u.Hostname() == "":
		return nil, fmt.Errorf("APIC %q names no host", m)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("APIC %q: the URL must end with the host", m)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("APIC %q: %q is not a port", m, p)
		}
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}
