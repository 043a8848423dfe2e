package cli

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
)

// parse reads flags and their twins as run does.
func parse(t *testing.T, flags ...string) config {
	t.Helper()
	var c config
	f := pflag.NewFlagSet("run", pflag.ContinueOnError)
	c.addFlags(f)
	c.addRunFlags(f)
	if err := f.Parse(flags); err != nil {
		t.Fatal(err)
	}
	if err := readTwins(f); err != nil {
		t.Fatal(err)
	}
	return c
}

func apicEnvironment(t *testing.T) {
	t.Setenv("ACI_APIC", "apic1.example.com, https://apic2.example.com:8443")
	t.Setenv("ACI_USERNAME", "aci-sync")
	t.Setenv("ACI_PASSWORD", "secret")
}

var defaults = config{
	expose: []string{"pods", "services"}, scope: []string{"import-security"}, policy: "sync", epgDeletion: "unless-used",
	resyncInterval: 10 * time.Minute, apicRate: 20, orphanLimit: 20,
	capacity: []string{"epgs-per-l3out=250", "epgs-per-fabric=600", "subnets-per-vrf=20000"}, leaderElect: true, leaderNamespace: "kube-system",
	metricsAddress: ":8080", probeAddress: ":8081", pprofAddress: "0", logLevel: "info",
}

// others is a configuration in which nothing has its default, as flags and by twins.
var others = []struct{ flag, twin, value string }{
	{"kubeconfig", "ACI_SYNC_KUBECONFIG", "/kube/config"},
	{"context", "ACI_SYNC_CONTEXT", "prod"},
	{"cluster-id", "ACI_SYNC_CLUSTER_ID", "blue"},
	{"namespace-selector", "ACI_SYNC_NAMESPACE_SELECTOR", "team=net"},
	{"allow", "ACI_SYNC_ALLOW", "T1/*,T2/OUT"},
	{"expose", "ACI_SYNC_EXPOSE", "services"},
	{"scope", "ACI_SYNC_SCOPE", "import-security,shared-security"},
	{"policy", "ACI_SYNC_POLICY", "upsert-only"},
	{"epg-deletion", "ACI_SYNC_EPG_DELETION", "always"},
	{"dry-run", "ACI_SYNC_DRY_RUN", "true"},
	{"resync-interval", "ACI_SYNC_RESYNC_INTERVAL", "1h"},
	{"orphan-limit", "ACI_SYNC_ORPHAN_LIMIT", "5"},
	{"capacity", "ACI_SYNC_CAPACITY", "epgs-per-l3out=100,subnets-per-vrf=0"},
	{"apic-rate", "ACI_SYNC_APIC_RATE", "2.5"},
	{"leader-elect", "ACI_SYNC_LEADER_ELECT", "false"},
	{"leader-elect-namespace", "ACI_SYNC_LEADER_ELECT_NAMESPACE", "net"},
	{"metrics-bind-address", "ACI_SYNC_METRICS_BIND_ADDRESS", "0"},
	{"health-probe-bind-address", "ACI_SYNC_HEALTH_PROBE_BIND_ADDRESS", "127.0.0.1:9"},
	{"pprof-bind-address", "ACI_SYNC_PPROF_BIND_ADDRESS", "[::1]:6060"},
	{"log-format", "ACI_SYNC_LOG_FORMAT", "text"},
	{"log-level", "ACI_SYNC_LOG_LEVEL", "debug"},
}

var othersParsed = config{
	kubeconfig: "/kube/config", context: "prod", clusterID: "blue", namespaceSelector: "team=net",
	allow: []string{"T1/*", "T2/OUT"}, expose: []string{"services"}, scope: []string{"import-security", "shared-security"},
	policy: "upsert-only", epgDeletion: "always", dryRun: true, resyncInterval: time.Hour, apicRate: 2.5, orphanLimit: 5,
	capacity: []string{"epgs-per-l3out=100", "subnets-per-vrf=0"}, leaderElect: false,
	leaderNamespace: "net", metricsAddress: "0", probeAddress: "127.0.0.1:9", pprofAddress: "[::1]:6060", logFormat: "text", logLevel: "debug",
}

func diff(want, got config) string { return cmp.Diff(want, got, cmp.AllowUnexported(config{})) }

func TestFlags_and_their_twins_say_the_same(t *testing.T) {
	if d := diff(defaults, parse(t)); d != "" {
		t.Errorf("defaults (-want +got)\n%s", d)
	}
	var flags, bothFlags []string
	for _, o := range others {
		flags = append(flags, "--"+o.flag+"="+o.value)
	}
	if d := diff(othersParsed, parse(t, flags...)); d != "" {
		t.Errorf("by flags (-want +got)\n%s", d)
	}
	var c config
	f := pflag.NewFlagSet("run", pflag.ContinueOnError)
	c.addFlags(f)
	c.addRunFlags(f)
	known := map[string]bool{}
	for _, o := range others {
		t.Setenv(o.twin, o.value)
		known[o.flag] = true
	}
	f.VisitAll(func(f *pflag.Flag) {
		if !known[f.Name] {
			t.Errorf("--%s is not tested", f.Name)
		}
		if f.Name != "allow" && f.DefValue != "" {
			bothFlags = append(bothFlags, "--"+f.Name+"="+trimBrackets(f.DefValue))
		}
	})
	if d := diff(othersParsed, parse(t)); d != "" {
		t.Errorf("by twins (-want +got)\n%s", d)
	}
	got := parse(t, bothFlags...)
	want := defaults
	want.kubeconfig, want.context, want.clusterID = othersParsed.kubeconfig, othersParsed.context, othersParsed.clusterID
	want.namespaceSelector, want.allow, want.logFormat = othersParsed.namespaceSelector, othersParsed.allow, othersParsed.logFormat
	if d := diff(want, got); d != "" {
		t.Errorf("a flag does not beat its twin (-want +got)\n%s", d)
	}
	for _, o := range others {
		t.Setenv(o.twin, "")
	}
	if d := diff(defaults, parse(t)); d != "" {
		t.Errorf("empty twins (-want +got)\n%s", d)
	}
}

func trimBrackets(s string) string {
	if len(s) > 1 && s[0] == '[' {
		return s[1 : len(s)-1]
	}
	return s
}

func TestSettings_follow_the_configuration(t *testing.T) {
	apicEnvironment(t)
	c := defaults
	s, err := c.check(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.policy.UpsertOnly || s.policy.DeleteUsed || s.owner != "" || s.desired.Namespaces != nil || len(s.policy.Allow) != 0 {
		t.Errorf("defaults give %+v", s)
	}
	if got := s.policy.Scope.String(); got != "import-security" {
		t.Errorf("scope is %s", got)
	}
	if len(s.members) != 2 || s.members[1].Host != "apic2.example.com:8443" || s.username != "aci-sync" || s.apic.Password != aci.Secret("secret") {
		t.Errorf("the APIC is %v as %s", s.members, s.username)
	}
	o := othersParsed
	if s, err = o.check(io.Discard); err != nil {
		t.Fatal(err)
	}
	if !s.policy.UpsertOnly || !s.policy.DeleteUsed || s.owner != "blue" || s.desired.Namespaces.String() != "team=net" || s.apic.Rate != 2.5 ||
		s.desired.Expose.Pods || !s.desired.Expose.Services {
		t.Errorf("others give %+v", s)
	}
	for l, want := range map[aci.L3Out]bool{{Tenant: "T1", Name: "X"}: true, {Tenant: "T2", Name: "OUT"}: true, {Tenant: "T2", Name: "X"}: false} {
		if got := s.policy.Allow.Allows(l); got != want {
			t.Errorf("allows %s: %v", l, got)
		}
	}
}

func TestSettings_take_the_ways_to_trust_an_APIC(t *testing.T) {
	apicEnvironment(t)
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ACI_PASSWORD", "")
	t.Setenv("ACI_PASSWORD_FILE", password)
	t.Setenv("ACI_CERT_FINGERPRINT", "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF")
	c := defaults
	s, err := c.check(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.apic.PasswordFile != password || s.apic.Password != "" {
		t.Errorf("password file %q, password %q", s.apic.PasswordFile, s.apic.Password)
	}
	if s.apic.TLS.VerifyConnection == nil {
		t.Error("the fingerprint is not verified")
	}
	t.Setenv("ACI_CERT_FINGERPRINT", "")
	t.Setenv("ACI_INSECURE_SKIP_VERIFY", "true")
	if s, err = c.check(io.Discard); err != nil {
		t.Fatal(err)
	}
	if !s.apic.TLS.InsecureSkipVerify {
		t.Error("verifies all the same")
	}
	t.Setenv("ACI_INSECURE_SKIP_VERIFY", "false")
	if s, err = c.check(io.Discard); err != nil {
		t.Fatal(err)
	}
	if s.apic.TLS.InsecureSkipVerify {
		t.Error("does not verify")
	}
	if _, err := apic.New(s.members, s.username, s.apic); err != nil {
		t.Error(err)
	}
}

func TestLogs_have_their_format_and_level(t *testing.T) {
	for name, tt := range map[string]struct{ format, level, want string }{
		"json where it is no terminal": {"", "info", `{"level":"INFO","msg":"did","dur":"1.5s"}` + "\n" + `{"level":"WARN","msg":"failed"}` + "\n"},
		"json":                         {"json", "warn", `{"level":"WARN","msg":"failed"}` + "\n"},
		"text":                         {"text", "debug", "level=DEBUG msg=looked\nlevel=INFO msg=did dur=1.5s\nlevel=WARN msg=failed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			h, level, err := logHandler(tt.format, tt.level, &b)
			if err != nil || !strings.EqualFold(level.String(), tt.level) {
				t.Fatalf("level %v, %v", level, err)
			}
			log := slog.New(h)
			log.Debug("looked")
			log.Info("did", "dur", 1500*time.Millisecond)
			log.Warn("failed")
			got := regexp.MustCompile(`"time":"[^"]*",|time=\S+ `).ReplaceAllString(b.String(), "")
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
