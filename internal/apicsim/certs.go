package apicsim

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ParseCertificate reads the public key that signed requests are checked with from the PEM
// of a user's certificate.
func ParseCertificate(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the key of the certificate is not RSA")
	}
	return key, nil
}

// cookies reads the cookies of a request: values by name in lower case, and how often the
// token's stands there. It takes what clients are known to send: names in any case,
// attributes of Set-Cookie behind the value. Source: apic-rest.md 1.1.
func cookies(r *http.Request) (values map[string]string, tokens int) {
	values = map[string]string{}
	for _, h := range r.Header["Cookie"] {
		for part := range strings.SplitSeq(h, ";") {
			k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
			k = strings.ToLower(k)
			values[k] = v
			if k == cookieToken {
				tokens++
			}
		}
	}
	return values, tokens
}

// Cookies, in lower case.
const (
	cookieToken       = "apic-cookie"
	cookieSignature   = "apic-request-signature"
	cookieAlgorithm   = "apic-certificate-algorithm"
	cookieFingerprint = "apic-certificate-fingerprint"
	cookieCertDN      = "apic-certificate-dn"
	cookieWebToken    = "apic-websocket-session"
)

// verify checks the signature of a request and returns whose it is.
//
// The signed bytes are method, path, "?" with the query if there is one, and body. The
// query is URL-decoded, which is what makes percent-encoded filters fail for clients that
// sign them as they send them. The fingerprint must be there, and what it says is not looked at:
// clients send the word.
//
// Source: apic-rest.md 1.4. unverified: the text for an unknown certificate, another algorithm or no
// fingerprint; that refused signatures lock nobody out.
func (s *Sim) verify(r *http.Request, have map[string]string, body []byte) (*User, *wireError) {
	bad := denied(http.StatusForbidden, "bad signature")
	sig, err := base64.StdEncoding.DecodeString(have[cookieSignature])
	if err != nil {
		return nil, denied(http.StatusForbidden, "invalid padding")
	}
	name, isUser := strings.CutPrefix(have[cookieCertDN], "uni/userext/user-")
	if !isUser {
		name, isUser = strings.CutPrefix(have[cookieCertDN], "uni/userext/appuser-")
	}
	name, cert, hasCert := strings.Cut(name, "/usercert-")
	i := slices.IndexFunc(s.opts.Users, func(u User) bool { return u.Name == name })
	if !isUser || !hasCert || i < 0 || have[cookieAlgorithm] != "v1.0" || have[cookieFingerprint] == "" {
		return nil, bad
	}
	key := s.opts.Users[i].Certificates[cert]
	if key == nil {
		return nil, bad
	}
	signed := r.Method + r.URL.Path
	if q := r.URL.RawQuery; q != "" {
		decoded, err := url.PathUnescape(q) // a plus stays one
		if err != nil {
			return nil, bad
		}
		signed += "?" + decoded
	}
	sum := sha256.Sum256(append([]byte(signed), body...))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
		return nil, bad
	}
	return &s.opts.Users[i], nil
}

// signedSession is the session of a signed request: one that lasts as long as the request,
// or the one of its webtokenSession.
func (s *Sim) signedSession(r *http.Request, have map[string]string, body []byte) (*session, *wireError) {
	u, err := s.verify(r, have, body)
	if err != nil {
		return nil, err
	}
	token, lasting := have[cookieWebToken]
	if !lasting {
		return &session{user: u, userName: u.Name, signed: true}, nil
	}
	if sess := s.bearer(token); sess != nil && sess.signed && sess.userName == u.Name {
		return sess, nil
	}
	return nil, denied(http.StatusForbidden, textTokenTimeout)
}

// webToken answers webtokenSession: a token to open a socket with, for who has no login.
//
// Source: apic-rest.md 1.4. unverified: other attributes of the object, that its token
// lives as long as a session, and that a session with a login gets none.
func (s *Sim) webToken(c *call) response {
	if !c.session.signed {
		return fail(denied(http.StatusForbidden, "bad signature"))
	}
	now := time.Now()
	sess := s.newSession(c.session.user, now)
	sess.signed = true
	c.session = sess
	token := s.issue(sess, now, sess.end)
	b := appendPairs([]byte(`{"webtokenSession":{"attributes":`), []attribute{{"token", token}})
	return ok(envelope(1, "", append(b, `}}`...)))
}
