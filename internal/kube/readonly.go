package kube

import (
	"errors"
	"net/http"

	"k8s.io/client-go/rest"
)

// ReadOnly makes every client of cfg one that cannot write: its connections carry nothing but GET,
// which is all that get, list and watch need.
func ReadOnly(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return readOnly{rt} })
	return cfg
}

// errReadOnly is what comes of every attempt to write through readOnly.
var errReadOnly = errors.New("this is a dry run: nothing is written to Kubernetes")

// readOnly passes only what cannot write.
type readOnly struct{ http.RoundTripper }

// RoundTrip refuses every request that is not a GET.
func (t readOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errReadOnly
	}
	return t.RoundTripper.RoundTrip(r)
}
