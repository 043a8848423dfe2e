package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

// The system's roots are looked for once, at start, so the test that has none runs in a process of its own.
func TestThereAreRootsWhereTheSystemHasNone(t *testing.T) {
	const none = "/nonexistent"
	if os.Getenv("SSL_CERT_FILE") != none {
		t.Parallel()
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		child.Env = append(os.Environ(), "SSL_CERT_FILE="+none, "SSL_CERT_DIR="+none)
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("without roots of the system: %v\n%s", err, out)
		}
		return
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	if roots.Equal(x509.NewCertPool()) {
		t.Error("nobody is trusted")
	}
}
