package apicsim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// TestProgram runs apic-sim as a script would: wait for its URL, trust its certificate,
// log in with a password from a file, find the seed, look at the log, end it.
func TestProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		if content != "" {
			if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	var stderr bytes.Buffer
	var running sync.WaitGroup
	code := -1
	running.Go(func() {
		code = apicsim.Main(ctx, []string{
			"--listen", "127.0.0.1:0,127.0.0.1:0", "--control-listen", "127.0.0.1:0",
			"--user", "ops", "--password-file", file("password", "s3cret\n"),
			"--seed", file("seed.json", "["+fabricT+"]"), "--ca-file", file("ca.pem", ""),
			"--request-log", file("log", ""), "--url-file", file("url", ""), "--apic-version", "5.2(7f)",
			"--fault", `{"match":"fvCtx","status":503}`, "--fault", `{"match":"vzAny","status":502}`, "--drop-events", "tn-T",
		}, in, &stderr)
		_ = in.Close()
	})
	said := map[string]string{}
	for said["APIC_SIM_URL"] == "" {
		b := make([]byte, 4096)
		n, err := out.Read(b)
		if err != nil {
			t.Fatalf("%v: %s", err, &stderr)
		}
		for line := range strings.Lines(string(b[:n])) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			said[k] = v
		}
	}
	urls := strings.Split(said["APIC_SIM_URL"], ",")
	if len(urls) != 2 {
		t.Fatalf("two members have URLs %v", urls)
	}
	pem, err := os.ReadFile(file("ca.pem", ""))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	ask := func(method, url, body, cookie string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if cookie != "" {
			req.Header.Set("Cookie", cookie)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	resp, body := ask("POST", urls[0]+"/api/aaaLogin.json", `{"aaaUser":{"attributes":{"name":"ops","pwd":"s3cret"}}}`, "")
	if resp.StatusCode != 200 || !strings.Contains(body, `"version":"5.2(7f)"`) {
		t.Fatalf("login: %s", body)
	}
	sum := sha256.Sum256(resp.TLS.PeerCertificates[0].Raw)
	if got := hex.EncodeToString(sum[:]); got != said["APIC_SIM_FINGERPRINT"] {
		t.Errorf("fingerprint %s was announced, %s shown", said["APIC_SIM_FINGERPRINT"], got)
	}
	if _, body = ask("GET", urls[0]+"/api/mo/uni/tn-T/out-O.json", "", resp.Header.Get("Set-Cookie")); !strings.HasPrefix(body, `{"totalCount":"1"`) {
		t.Errorf("the seed is not there: %s", body)
	}
	for _, class := range []string{"firmwareCtrlrRunning", "topSystem"} {
		if _, body = ask("GET", urls[0]+"/api/class/"+class+".json", "", resp.Header.Get("Set-Cookie")); strings.Count(body, `"version":"5.2(7f)"`) != 2 {
			t.Errorf("the version is not that of both members: %s", body)
		}
	}
	if _, body = ask("GET", said["APIC_SIM_CONTROL"]+"/stats", "", ""); !strings.Contains(body, `"Sessions":1`) {
		t.Errorf("stats: %s", body)
	}
	if resp, _ = ask("GET", urls[1]+"/api/class/fvTenant.json", "", resp.Header.Get("Set-Cookie")); resp.StatusCode != 403 {
		t.Errorf("the second member took the first one's token: %d", resp.StatusCode)
	}
	if _, body = ask("GET", said["APIC_SIM_CONTROL"]+"/node/2/stats", "", ""); !strings.Contains(body, `"Sessions":0`) {
		t.Errorf("stats of the second member: %s", body)
	}
	for class, status := range map[string]int{"fvCtx": http.StatusServiceUnavailable, "vzAny": http.StatusBadGateway} {
		if resp, _ = ask("GET", urls[0]+"/api/class/"+class+".json", "", ""); resp.StatusCode != status {
			t.Errorf("a fault from the command line: %d, want %d", resp.StatusCode, status)
		}
	}
	if _, body = ask("GET", said["APIC_SIM_CONTROL"]+"/stats", "", ""); !strings.Contains(body, `"Faults":2,`) {
		t.Errorf("stats after the faults: %s", body)
	}
	if url, err := os.ReadFile(file("url", "")); err != nil || strings.TrimSpace(string(url)) != said["APIC_SIM_URL"] {
		t.Errorf("url file holds %q (%v)", url, err)
	}
	stop()
	running.Wait()
	if code != 0 {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	if log, err := os.ReadFile(file("log", "")); err != nil || strings.Count(string(log), "\n") != 7 {
		t.Errorf("request log (%v):\n%s", err, log)
	}
}

func TestProgramRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", "0.0.0.0:0"}, "0.0.0.0:0 is not a loopback address"},
		{[]string{"--listen", "127.0.0.1:0", "--control-listen", ":0"}, ":0 is not a loopback address"},
		{[]string{"--listen", "nonsense"}, "missing port"},
		{[]string{"--nonsense"}, "flag provided but not defined"},
		{[]string{"--fault", "{"}, "unexpected end of JSON"},
		{[]string{"--fault", `{"match":"("}`, "--listen", "127.0.0.1:0"}, "--fault: error parsing regexp"},
		{[]string{"--fault", `{"mash":"x"}`}, "unknown field"},
		{[]string{"--drop-events", "(", "--listen", "127.0.0.1:0"}, "--drop-events: error parsing regexp"},
		{[]string{"extra"}, "unexpected argument"},
		{[]string{"--password-file", empty}, "empty password"},
		{[]string{"--seed", empty, "--listen", "127.0.0.1:0"}, "malformed JSON"},
		{[]string{"--user-cert", "ops.crt"}, "ops.crt is not NAME=FILE"},
		{[]string{"--user-cert", "ops.crt=" + empty}, "no certificate in PEM form"},
		{[]string{"--user-cert", "ops.crt=/does/not/exist"}, "no such file"},
		{[]string{"--seed", "/does/not/exist"}, "no such file"},
	} {
		var stdout, stderr bytes.Buffer
		code := apicsim.Main(t.Context(), tc.args, &stdout, &stderr)
		if code != 1 || !strings.Contains(stderr.String(), tc.want) {
			t.Errorf("%v: exit code %d, %q", tc.args, code, stderr.String())
		}
	}
}

func TestHelpNamesEveryFlagWithItsDefault(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := apicsim.Main(t.Context(), []string{"--help"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit code %d, %s", code, &stderr)
	}
	help := stdout.String()
	for _, want := range []string{"aaaLogin.json", "--listen address", "(default 10m0s)", "APIC_SIM_PASSWORD", "subscriptionRefresh"} {
		if !strings.Contains(help, want) {
			t.Errorf("help does not mention %q", want)
		}
	}
	for _, used := range regexp.MustCompile(`apic-sim (--[a-z-]+)`).FindAllStringSubmatch(help, -1) {
		if !strings.Contains(help, "\n  "+used[1]) {
			t.Errorf("%s is used but not explained", used[1])
		}
	}
}
