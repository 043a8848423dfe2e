package apic

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// signer signs requests with the private key of a user certificate, which takes the place of a
// login. It is never changed; sessions keep the one that they were made with.
type signer struct {
	dn  aci.DN // of the certificate
	key *rsa.PrivateKey
}

// certificateDN is where the APIC keeps the certificate name of a local user.
func certificateDN(user, name string) aci.DN {
	return aci.DN("uni/userext/user-" + user + "/usercert-" + name)
}

// cookie signs one request: path and query as they are sent, and a body or nil. token is that of
// the session, empty for the request that asks for it.
//
// Signed are the method, the path, "?" with the query if there is one, and the body, the query as
// it reads once it is decoded.
//
// Source: apic-rest.md 1.4. unverified: that the path is verified decoded as well; ours has nothing
// to decode.
func (s *signer) cookie(method, path, query string, body []byte, token aci.Secret) (string, error) {
	target := path
	if query != "" {
		target += "?" + query
	}
	signed, err := url.PathUnescape(target)
	if err != nil {
		return "", errors.New("sign: the request is not encoded well")
	}
	sum := sha256.Sum256(append([]byte(method+signed), body...))
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	cookie := "APIC-Request-Signature=" + base64.StdEncoding.EncodeToString(sig) +
		"; APIC-Certificate-Algorithm=v1.0; APIC-Certificate-Fingerprint=fingerprint; APIC-Certificate-DN=" + string(s.dn)
	if token != "" {
		cookie += "; APIC-WebSocket-Session=" + string(token)
	}
	return cookie, nil
}

// CheckPrivateKey returns what is wrong with the private key in a PEM file, in one line that names
// the file and holds nothing of what is in it.
func CheckPrivateKey(file string) error {
	data, err := readSecret(file)
	if err == nil {
		_, err = parseKey(data)
	}
	if err != nil {
		return fmt.Errorf("private key file: %w", err)
	}
	return nil
}

// minKeyBits is the least length of a key that signs. Go makes no signatures with less.
const minKeyBits = 1024

// parseKey reads an RSA private key, PKCS #1 or #8, from the PEM of a file. A certificate that
// stands in the same file must be that of the key. The APIC verifies RSA with SHA-256 and
// nothing else. Source: apic-rest.md 1.4.
func parseKey(data aci.Secret) (*rsa.PrivateKey, error) {
	var key *rsa.PrivateKey
	var cert *x509.Certificate
	for rest := []byte(data); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		var err error
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, errors.New("the key is encrypted: nobody is there to give its passphrase")
		case block.Type == "CERTIFICATE":
			if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, errors.New("the certificate beside the key cannot be read")
			}
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && key != nil:
			return nil, errors.New("there are several keys")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if key, err = parseBlock(block); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case key == nil && cert != nil:
		return nil, errors.New("there is a certificate, and no private key")
	case key == nil:
		return nil, errors.New("there is no private key in PEM form")
	case cert != nil && !key.PublicKey.Equal(cert.PublicKey):
		return nil, errors.New("the certificate beside the key is that of another key")
	}
	return key, nil
}

// parseBlock reads a key. What goes wrong is told in words of our own: those of the parsers may
// hold numbers of the key.
func parseBlock(block *pem.Block) (*rsa.PrivateKey, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default: // EC, DSA, OPENSSH
		return nil, fmt.Errorf("there is a key of type %q, and the APIC takes RSA only, as PKCS #1 or #8", block.Type)
	}
	if err != nil {
		return nil, errors.New("the key cannot be read")
	}
	k, ok := key.(*rsa.PrivateKey)
	switch {
	case !ok:
		return nil, errors.New("the key is not RSA, and the APIC takes nothing else")
	case k.N.BitLen() < minKeyBits:
		return nil, fmt.Errorf("the key has %d bits, less than %d", k.N.BitLen(), minKeyBits)
	}
	return k, nil
}

// maxSecretBytes bounds a file with a password or key.
const maxSecretBytes = 1 << 20

// readSecret reads a file whose content is secret.
func readSecret(file string) (aci.Secret, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxSecretBytes {
		return "", fmt.Errorf("%s exceeds %d bytes", file, maxSecretBytes)
	}
	if strings.TrimSpace(string(b)) == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return aci.Secret(b), nil
}

// refusesSignature reports whether the APIC refused a request for what it was signed with.
//
// Source: apic-rest.md 1.3. unverified: that there are no other words for it.
func refusesSignature(err error) bool {
	e, ok := errors.AsType[*aci.Error](err)
	return ok && (strings.Contains(e.Text, "signature") || strings.Contains(e.Text, "padding") || strings.Contains(e.Text, "token"))
}
