package stories_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
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

func newForeigner(w *wire, ca []byte) (*foreigner, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &foreigner{base: w.url(), http: &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		Jar:       jar,
		Timeout:   20 * time.Second,
	}}, nil
}

// do makes a request and logs in when the APIC wants that.
func (f *foreigner) do(ctx context.Context, method, path, body string) ([]object, error) {
	data, status, err := f.once(ctx, method, path, body)
	if err == nil && status == http.StatusForbidden {
		login := fmt.Sprintf(`{"aaaUser":{"attributes":{"name":%q,"pwd":"other"}}}`, otherUser)
		if data, status, err = f.once(ctx, http.MethodPost, "/api/aaaLogin.json", login); err == nil && status == http.StatusOK {
			data, status, err = f.once(ctx, method, path, body)
		}
	}
	if err != nil {
		return nil, err
	}
	var reply struct {
		Imdata []json.RawMessage `json:"imdata"`
	}
	if err := json.Unmarshal(data, &reply); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("%s %s: status %d: %s", method, path, status, data)
	}
	var list []object
	for _, raw := range reply.Imdata {
		var o object
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		list = append(list, o)
	}
	return list, nil
}

func (f *foreigner) once(ctx context.Context, method, path, body string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, f.base+path, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("User-Agent", otherUser)
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return data, resp.StatusCode, err
}

// moPath is where an object is, with its brackets and slashes escaped as curl -g leaves them.
func moPath(dn string) string {
	return "/api/mo/" + (&url.URL{Path: dn}).EscapedPath() + ".json"
}

func (f *foreigner) post(ctx context.Context, dn, body string) error {
	_, err := f.do(ctx, http.MethodPost, moPath(dn), body)
	return err
}

func (f *foreigner) remove(ctx context.Context, dn string) error {
	_, err := f.do(ctx, http.MethodDelete, moPath(dn), "")
	return err
}

// tree returns the object dn and all below it, nested; false when it is absent.
func (f *foreigner) tree(ctx context.Context, dn string) (object, bool, error) {
	list, err := f.do(ctx, http.MethodGet, moPath(dn)+"?rsp-subtree=full", "")
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

// dump writes all there is to know about o and what is below, a line each.
func (o object) dump(b *strings.Builder, at string) {
	if at != "" {
		at += "/"
	}
	at += cmp.Or(o.attrs["rn"], o.attrs["dn"])
	fmt.Fprintf(b, "%s %s", at, o.class)
	for _, k := range slices.Sorted(maps.Keys(o.attrs)) {
		if k != "rn" && k != "dn" {
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
