package cli_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/cli"
)

// Whoever is told to end before it came to work ends in good order, whatever it waits for.
func TestToldToEndDuringTheStart(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		end() // as SIGTERM does
		<-r.Context().Done()
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := strings.Replace(kubeconfig, "https://127.0.0.1:1", server.URL, 1)
	if config == kubeconfig {
		t.Fatal("the kubeconfig names another address")
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"ACI_APIC": "apic.invalid", "ACI_USERNAME": "aci-sync", "ACI_PASSWORD": secret} {
		t.Setenv(name, value)
	}
	var stdout, stderr bytes.Buffer
	began := time.Now()
	code := cli.Main(ctx, []string{"run", "--kubeconfig=" + file, "--log-format=text"}, &stdout, &stderr)
	if took := time.Since(began); code != 0 || took > 5*time.Second {
		t.Errorf("it ended after %v with exit code %d: %s", took, code, &stderr)
	}
	if !strings.Contains(stderr.String(), "msg=stopped") {
		t.Errorf("it says %s", &stderr)
	}
}
