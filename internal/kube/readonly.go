package kube

import (
	"errors"
	"net/http"

	"k8s.io/client-go/rest"
)

// ReadOnly makes every client of cfg one that cannot write: its connections carry nothing but GET,
// which is all that get, list and watch need, and the question for our own rights, which stores nothing.
func ReadOnly(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return readOnly{rt} })
	return cfg
}

// errReadOnly is what comes of every attempt to write through readOnly.
var errReadOnly = errors.New("this is a dry run: nothing is written to Kubernetes")

// accessReviews is where Missing asks.
const accessReviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

// readOnly passes only what cannot write.
type readOnly struct{ http.RoundTripper }

// RoundTrip refuses every request that may write.
func (t readOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && (r.Method != http.MethodPost || r.URL.Path != accessReviews) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errReadOnly
	}
	return t.RoundTripper.RoundTrip(r)
}
