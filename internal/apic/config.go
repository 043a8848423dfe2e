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
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Options are what New can do without. The zero value works.
type Options struct {
	Password     aci.Secret // ignored when PasswordFile is set
	PasswordFile string     // read at every login; one line end at its end is ignored

	// With these, in place of a password, requests are signed. The certificate of that name is the
	// local user's at the APIC, and the file holds its private key: RSA, PEM, PKCS #1 or #8. It is
	// read at every new session.
	CertName, PrivateKeyFile string

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

	// OnWait is told how long each request waited because of Rate, or because logins are paced. As
	// OnRequest.
	OnWait func(dur time.Duration)

	// OnLoginFailure is told of each login that failed: refused is for the credentials. As OnRequest.
	OnLoginFailure func(refused bool)

	// OnFailover is told of each session that begins at another member than the one before. It must
	// not block.
	OnFailover func()

	// Random is what jitter is made of: numbers in [0, 1). nil is the one of math/rand/v2. It may be
	// called concurrently.
	Random func() float64

	// DialContext opens the connections; nil dials TCP.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// credential reads what proves the user as it is now: the password, or the PEM of the private key.
func (o *Options) credential() (aci.Secret, error) {
	switch {
	case o.PrivateKeyFile != "":
		key, err := readSecret(o.PrivateKeyFile)
		if err != nil {
			return "", fmt.Errorf("private key file: %w", err)
		}
		return key, nil
	case o.PasswordFile != "":
		s, err := readSecret(o.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("password file: %w", err)
		}
		return aci.Secret(strings.TrimSuffix(strings.TrimSuffix(string(s), "\n"), "\r")), nil
	}
	return o.Password, nil
}

// byFile reports whether the credential can change.
func (o *Options) byFile() bool { return o.PrivateKeyFile != "" || o.PasswordFile != "" }

// check returns what is wrong with the credentials, as far as can be told without a file.
func (o *Options) check() error {
	signs, logsIn := o.CertName != "" || o.PrivateKeyFile != "", o.Password != "" || o.PasswordFile != ""
	switch {
	case signs && logsIn:
		return errors.New("a password and a user certificate for the APIC exclude each other")
	case signs && (o.CertName == "" || o.PrivateKeyFile == ""):
		return errors.New("a user certificate for the APIC takes its name and a private key file")
	case !signs && !logsIn:
		return errors.New("no password and no user certificate for the APIC")
	}
	return nil
}

// CheckUser returns what is wrong with the name of a user who logs in: the documented form with a login
// domain is apic:DOMAIN\user, and in JSON its backslash is doubled, which is often copied.
//
// Source: apic-rest.md 1.1.
func CheckUser(name string) error {
	rest, ofDomain := strings.CutPrefix(name, "apic:")
	if !ofDomain {
		rest, ofDomain = strings.CutPrefix(name, "apic#")
	}
	domain, user, ok := strings.Cut(rest, `\`)
	switch {
	case strings.Contains(name, `\\`):
		return fmt.Errorf(`%q: write one backslash between login domain and user`, name)
	case ofDomain && (!ok || domain == "" || user == ""):
		return fmt.Errorf(`%q is not of the form apic:DOMAIN\user`, name)
	}
	return nil
}

var accountRule = regexp.MustCompile(`^[a-zA-Z0-9_.@:-]{1,64}$`)

// CheckCertificateUser returns what is wrong with a user and the name of his certificate. Only users
// that are local to the APIC have one.
//
// Source: apic-rest.md 1.4. unverified: what these names may hold; refused is what would mean something
// else in a DN or a cookie.
func CheckCertificateUser(name, cert string) error {
	switch {
	case strings.HasPrefix(name, "apic:") || strings.HasPrefix(name, "apic#") || strings.Contains(name, `\`):
		return fmt.Errorf("%q is of a login domain, and a certificate is that of a local user: give its name alone", name)
	case !accountRule.MatchString(name):
		return fmt.Errorf("%q is not the name of a local user", name)
	case !accountRule.MatchString(cert):
		return fmt.Errorf("%q is not the name of a certificate, as in uni/userext/user-%s/usercert-NAME", cert, name)
	}
	return nil
}

// CheckPasswordFile returns what is wrong with a password file.
func CheckPasswordFile(file string) error {
	_, err := readSecret(file)
	return err
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
	if strings.Contains(m, "@") { // however the rest reads: what stands before it may be a password
		return nil, errors.New("an APIC must not carry a user: name it by host, host:port or an https URL")
	}
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
