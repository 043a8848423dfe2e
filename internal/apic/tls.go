package apic

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// TLS says how the certificate of an APIC is verified: by the system roots, or by one of
// these, which exclude each other.
type TLS struct {
	CAFile             string // PEM certificates of the only roots that are trusted
	Fingerprint        string // SHA-256 of the only leaf certificates that are trusted, comma separated, in hex; colons are optional
	InsecureSkipVerify bool   // trust anybody
}

// TLSConfig builds the configuration for t. Errors name what is wrong in one line.
//
// A pinned certificate is trusted whatever its name, issuer and dates: APICs ship with
// self-signed certificates.
func TLSConfig(t TLS) (*tls.Config, error) {
	given := 0
	for _, b := range []bool{t.CAFile != "", t.Fingerprint != "", t.InsecureSkipVerify} {
		if b {
			given++
		}
	}
	if given > 1 {
		return nil, errors.New("CA file, certificate fingerprint and skipping verification exclude each other")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // asked for, warned of
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.Fingerprint != "" {
		var pins [][]byte // one for each member, and for the one that a certificate is exchanged for
		for f := range strings.SplitSeq(t.Fingerprint, ",") {
			pin, err := parseFingerprint(f)
			if err != nil {
				return nil, err
			}
			pins = append(pins, pin)
		}
		c.InsecureSkipVerify = true // VerifyConnection verifies instead
		c.VerifyConnection = func(s tls.ConnectionState) error { return checkPins(s, pins) }
	}
	return c, nil
}

func parseFingerprint(s string) ([]byte, error) {
	pin, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	if err != nil || len(pin) != sha256.Size {
		return nil, fmt.Errorf("certificate fingerprint %q is not a SHA-256 in hex (64 digits)", s)
	}
	return pin, nil
}

func checkPins(s tls.ConnectionState, pins [][]byte) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the APIC shows no certificate")
	}
	sum := sha256.Sum256(s.PeerCertificates[0].Raw)
	if !slices.ContainsFunc(pins, func(pin []byte) bool { return bytes.Equal(sum[:], pin) }) {
		return fmt.Errorf("the APIC's certificate has the SHA-256 fingerprint %x, not the pinned one", sum)
	}
	return nil
}

// unverified reports whether c trusts anybody.
func unverified(c *tls.Config) bool {
	return c != nil && c.InsecureSkipVerify && c.VerifyConnection == nil && c.VerifyPeerCertificate == nil
}
