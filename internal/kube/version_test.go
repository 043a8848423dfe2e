package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

func TestTooOld(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{
		"v1.33.2+rke2r1": false, "1.30+": false, "v1.31.0-eks-a5565ad": false, "v1.30.0": false, "v1.30.0-alpha.1": false,
		"v1.30.14-gke.1": false, "v1.100.0": false, "v2.0.0": false, "1.37": false,
		"v1.29.15": true, "1.29+": true, "v1.9.11": true, "v1.29.0-eks-a5565ad": true, "v0.99.0": true,
		"": false, "dev": false, "v1": false, // not known
	} {
		if got := TooOld(v); got != want {
			t.Errorf("%q is too old: %v", v, got)
		}
	}
	if !TooOld("1.29.99") || TooOld(MinVersion) {
		t.Errorf("%s is not where it changes", MinVersion)
	}
}

// Whatever a distribution hangs behind, the numbers decide.
func FuzzTooOld(f *testing.F) {
	f.Add(uint16(30), "rke2r1")
	f.Add(uint16(9), "")
	f.Fuzz(func(t *testing.T, minor uint16, behind string) {
		if strings.Contains(behind, "\n") {
			return
		}
		for _, v := range []string{fmt.Sprintf("v1.%d+%s", minor, behind), fmt.Sprintf("1.%d-%s", minor, behind)} {
			if got, want := TooOld(v), minor < 30; got != want {
				t.Errorf("%q is too old: %v", v, got)
			}
		}
	})
}

// answering is a transport that lets the API server call its version something else.
type answering struct {
	http.RoundTripper
	status              int
	major, minor, named string
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(r)
	if err != nil || r.URL.Path != "/version" {
		return resp, err
	}
	defer resp.Body.Close()
	var info map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		return nil, err
	}
	info["gitVersion"], info["major"], info["minor"] = a.named, a.major, a.minor
	body, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength, resp.StatusCode = io.NopCloser(bytes.NewReader(body)), int64(len(body)), a.status
	return resp, nil
}

func TestVersion(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if v, err := Version(t.Context(), s.cfg); err != nil || TooOld(v) || v == "" {
		t.Errorf("of the lab: %q, %v", v, err)
	}
	nowhere := &rest.Config{Host: "https://127.0.0.1:1"}
	if v, err := Version(t.Context(), nowhere); err == nil || errors.Is(err, ErrVersion) {
		t.Errorf("where nobody listens: %q, %v", v, err)
	}
	for name, c := range map[string]struct {
		answer answering
		want   string // "" is an error
	}{
		"a release":          {answering{status: 200, named: "v1.33.2+rke2r1", major: "1", minor: "33"}, "v1.33.2+rke2r1"},
		"an odd name":        {answering{status: 200, named: "hypershift", major: "1", minor: "30+"}, "1.30+"},
		"an old one":         {answering{status: 200, named: "", major: "1", minor: "29"}, "1.29"},
		"nothing":            {answering{status: 200}, ""},
		"no right to ask it": {answering{status: 403}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := rest.CopyConfig(s.cfg)
			cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
				c.answer.RoundTripper = rt
				return c.answer
			})
			v, err := Version(t.Context(), cfg)
			if v != c.want || errors.Is(err, ErrVersion) != (c.want == "") {
				t.Errorf("%q, %v", v, err)
			}
		})
	}
}
