package stories_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// foreigner is another client of the APIC: what the network team has, with nothing of ours in it.
type foreigner struct {
	base string
	http *http.Client
}

// object is what the APIC tells of a managed object.
type object struct {
	class    string
	attrs    map[string]string
	children []object
}

func newForeigner(w *wire, ca []byte) *foreigner {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &foreigner{base: w.url(), http: &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		Timeout:   20 * time.Second,
	}}
}

// otherCert is the user certificate with which the story signs its requests.
const otherCert = "uni/userext/user-" + otherUser + "/usercert-story"

// do makes a request. It is signed, so it needs no session: those that end in a story are
// aci-sync's.
func (f *foreigner) do(ctx context.Context, method, path, query, body string) ([]object, error) {
	u := url.URL{Path: path, RawQuery: query}
	req, err := http.NewRequestWithContext(ctx, method, f.base+u.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	message := method + path
	if query != "" {
		message += "?" + query
	}
	sum := sha256.Sum256([]byte(message + body))
	signature, err := rsa.SignPKCS1v15(rand.Reader, shared.key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, err
	}
	req.Header.Set("Cookie", "APIC-Request-Signature="+base64.StdEncoding.EncodeToString(signature)+
		"; APIC-Certificate-Algorithm=v1.0; APIC-Certificate-Fingerprint=fingerprint; APIC-Certificate-DN="+otherCert)
	req.Header.Set("User-Agent", otherUser)
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var reply struct {
		Imdata []object `json:"imdata"`
	}
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, data)
	}
	if err == nil {
		err = json.Unmarshal(data, &reply)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return reply.Imdata, nil
}

// moPath is where an object is. The word node changes nothing for the APIC; it tells the story's
// requests from aci-sync's, so that a fault for the latter does not take the former.
func moPath(dn string) string { return "/api/node/mo/" + dn + ".json" }

func (f *foreigner) post(ctx context.Context, dn, body string) error {
	_, err := f.do(ctx, http.MethodPost, moPath(dn), "", body)
	return err
}

func (f *foreigner) remove(ctx context.Context, dn string) error {
	_, err := f.do(ctx, http.MethodDelete, moPath(dn), "", "")
	return err
}

// tree returns the object dn and all below it, nested; false when it is absent.
func (f *foreigner) tree(ctx context.Context, dn string) (object, bool, error) {
	list, err := f.do(ctx, http.MethodGet, moPath(dn), "rsp-subtree=full", "")
	if err != nil || len(list) == 0 {
		return object{}, false, err
	}
	return list[0], true, nil
}

// UnmarshalJSON reads {"class": {"attributes": {...}, "children": [...]}}.
func (o *object) UnmarshalJSON(data []byte) error {
	var outer map[string]struct {
		Attributes map[string]string `json:"attributes"`
		Children   []object          `json:"children"`
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&outer); err != nil {
		return err
	}
	for class, inner := range outer {
		*o = object{class, inner.Attributes, inner.Children}
	}
	return nil
}

// tag is the value of the tagAnnotation with key, "" without one.
func (o object) tag(key string) string {
	for _, c := range o.children {
		if c.class == "tagAnnotation" && c.attrs["key"] == key {
			return c.attrs["value"]
		}
	}
	return ""
}

// dump writes all there is to know about o and what is below, a line each, but configSt: that follows by
// itself what is configured, some time later.
func (o object) dump(b *strings.Builder, at string) {
	if at != "" {
		at += "/"
	}
	at += cmp.Or(o.attrs["rn"], o.attrs["dn"])
	fmt.Fprintf(b, "%s %s", at, o.class)
	for _, k := range slices.Sorted(maps.Keys(o.attrs)) {
		if k != "rn" && k != "dn" && k != "configSt" {
			fmt.Fprintf(b, " %s=%q", k, o.attrs[k])
		}
	}
	b.WriteByte('\n')
	children := slices.SortedFunc(slices.Values(o.children), func(x, y object) int {
		return strings.Compare(x.attrs["rn"], y.attrs["rn"])
	})
	for _, c := range children {
		c.dump(b, at)
	}
}
