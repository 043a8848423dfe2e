package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// MinVersion is the oldest Kubernetes that aci-sync works with.
const MinVersion = "1.30"

// versionTimeout bounds the question for the version, which holds up the start.
const versionTimeout = 10 * time.Second

// ErrVersion is returned when an API server answers and its version is not known all the same.
var ErrVersion = errors.New("the version is not known")

// Version asks the API server for its version, such as "v1.33.2+rke2r1". It returns ErrVersion when
// the answer is not understood or is a refusal, and another error when there is none.
func Version(ctx context.Context, cfg *rest.Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	c, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return "", err
	}
	info, err := c.ServerVersionWithContext(ctx)
	if _, answered := errors.AsType[*apierrors.StatusError](err); answered {
		return "", fmt.Errorf("%w: %w", ErrVersion, err)
	}
	if err != nil {
		return "", err
	}
	// Some distributions write what they like into the one, or a sign behind the other: "30+".
	for _, v := range []string{info.GitVersion, info.Major + "." + info.Minor} {
		if _, err := version.ParseGeneric(v); err == nil {
			return v, nil
		}
	}
	return "", fmt.Errorf("%w: it is called %q", ErrVersion, info.GitVersion)
}

// TooOld reports whether a version that Version returned is below MinVersion.
func TooOld(v string) bool {
	is, err := version.ParseGeneric(v)
	return err == nil && is.LessThan(version.MajorMinor(1, 30))
}
