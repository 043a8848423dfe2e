package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// config is what a command is told by flags and their environment twins.
type config struct {
	kubeconfig        string
	context           string
	clusterID         string
	namespaceSelector string
	allow             []string
	expose            []string
	scope             []string
	policy            string
	epgDeletion       string
	dryRun            bool
	resyncInterval    time.Duration
	apicRate          float64
	orphanLimit       int
	capacity          []string
	leaderElect       bool
	leaderNamespace   string
	metricsAddress    string
	probeAddress      string
	pprofAddress      string
	logFormat         string
	logLevel          string
}

// addFlags adds what every command needs that looks at cluster and fabric.
func (c *config) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default KUBECONFIG, then ~/.kube/config, then in-cluster")
	f.StringVar(&c.context, "context", "", "context of the kubeconfig; default its current one")
	f.StringVar(&c.clusterID, "cluster-id", "",
		"name of this cluster in owner marks, 1 to 63 of letters, digits and _ . -; default the UID of namespace kube-system")
	f.StringVar(&c.namespaceSelector, "namespace-selector", "", "label `selector` of the namespaces whose workloads count; default all")
	f.StringSliceVar(&c.allow, "allow", nil, "`TENANT/L3OUT` patterns that may be written to; default every tenant but infra and mgmt")
	f.StringSliceVar(&c.expose, "expose", []string{"pods", "services"}, "which addresses are claimed, where an annotation does not say")
	f.StringSliceVar(&c.scope, "scope", []string{"import-security"}, "flags that every subnet has")
	f.StringVar(&c.policy, "policy", "sync", "sync, or upsert-only: delete nothing, except to move an address")
	f.StringVar(&c.epgDeletion, "epg-deletion", "unless-used",
		"unless-used, or always: delete an EPG that no workload names also with contracts and settings in it")
	f.IntVar(&c.orphanLimit, "orphan-limit", 20,
		"how many deletions that nothing explains are made without a person, or half of all objects, if that is more")
	f.Float64Var(&c.apicRate, "apic-rate", 20, "APIC requests per second; bursts may be twice that")
	f.StringVar(&c.logFormat, "log-format", "", "text or json; default text on a terminal, else json")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
}

// addRunFlags adds what only a process that stays needs.
func (c *config) addRunFlags(f *pflag.FlagSet) {
	f.BoolVar(&c.dryRun, "dry-run", false, "tell what would be written, and write nothing, neither to the APIC nor to Kubernetes")
	f.DurationVar(&c.resyncInterval, "resync-interval", 10*time.Minute, "how often everything is read again, jittered")
	f.StringSliceVar(&c.capacity, "capacity", controller.DefaultCapacity().Strings(),
		"how much the fabric has room for; 80 % of it is told, and nothing more; 0 is no limit")
	c.addLeaseFlags(f)
	f.StringVar(&c.metricsAddress, "metrics-bind-address", ":8080", "listener for Prometheus at /metrics; 0 is off")
	f.StringVar(&c.probeAddress, "health-probe-bind-address", ":8081", "listener for /healthz and /readyz; 0 is off")
	f.StringVar(&c.pprofAddress, "pprof-bind-address", "0", "listener for Go profiles at /debug/pprof/, on loopback only; 0 is off")
}

// settings are the configuration, checked.
type settings struct {
	owner    aci.Owner // empty: to be read from the cluster
	desired  desired.Options
	policy   plan.Policy
	members  []*url.URL
	username string
	apic     apic.Options
	capacity controller.Capacity // of run alone
	log      slog.Handler
	logLevel slog.Level
}

// check turns the configuration and the APIC's environment variables into settings. Errors
// are one line that names the flag or variable.
func (c *config) check(stderr io.Writer) (settings, error) {
	var s settings
	var err error
	if s.log, s.logLevel, err = logHandler(c.logFormat, c.logLevel, stderr); err != nil {
		return s, err
	}
	if c.clusterID != "" {
		if s.owner, err = aci.ParseOwner(c.clusterID); err != nil {
			return s, fmt.Errorf("--cluster-id: %w", err)
		}
	}
	if c.namespaceSelector != "" {
		if s.desired.Namespaces, err = labels.Parse(c.namespaceSelector); err != nil {
			return s, fmt.Errorf("--namespace-selector: %w", err)
		}
	}
	if s.desired.Expose, err = desired.ParseExpose(c.expose); err != nil {
		return s, fmt.Errorf("--expose: %w", err)
	}
	if s.policy.Allow, err = plan.ParseAllow(c.allow); err != nil {
		return s, fmt.Errorf("--allow: %w", err)
	}
	s.policy.Scope = aci.ParseScope(strings.Join(c.scope, ","))
	if err := aci.CheckScope(s.policy.Scope); err != nil {
		return s, fmt.Errorf("--scope: %w", err)
	}
	if s.policy.UpsertOnly, err = oneOf("--policy", c.policy, "sync", "upsert-only"); err != nil {
		return s, err
	}
	if s.policy.DeleteUsed, err = oneOf("--epg-deletion", c.epgDeletion, "unless-used", "always"); err != nil {
		return s, err
	}
	if c.orphanLimit < 0 {
		return s, fmt.Errorf("--orphan-limit: %d is less than 0", c.orphanLimit)
	}
	s.policy.Guard = plan.Guard{On: true, Limit: c.orphanLimit}
	if !(c.apicRate > 0) || math.IsInf(c.apicRate, 0) { // NaN is neither
		return s, fmt.Errorf("--apic-rate: %v is not a rate", c.apicRate)
	}
	s.apic.Rate = c.apicRate
	s.apic.Logger = slog.New(s.log)
	return s, s.readEnv()
}

// addLeaseFlags adds what everybody needs who may write.
func (c *config) addLeaseFlags(f *pflag.FlagSet) {
	f.BoolVar(&c.leaderElect, "leader-elect", true, "let one of several replicas lead, by a Lease")
	f.StringVar(&c.leaderNamespace, "leader-elect-namespace", "kube-system", "namespace of that Lease")
}

// checkRun checks what addRunFlags added.
func (c *config) checkRun(s *settings) error {
	if c.resyncInterval < 10*time.Second {
		return fmt.Errorf("--resync-interval: %v is less than 10s, which would load the APIC for nothing", c.resyncInterval)
	}
	var err error
	if s.capacity, err = controller.ParseCapacity(c.capacity); err != nil {
		return fmt.Errorf("--capacity: %w", err)
	}
	if err := checkListener("--metrics-bind-address", c.metricsAddress); err != nil {
		return err
	}
	if err := checkListener("--health-probe-bind-address", c.probeAddress); err != nil {
		return err
	}
	return checkLoopback("--pprof-bind-address", c.pprofAddress)
}

// oneOf reports whether value is the second of two choices.
func oneOf(flag, value, first, second string) (bool, error) {
	if value != first && value != second {
		return false, fmt.Errorf("%s: %q is neither %s nor %s", flag, value, first, second)
	}
	return value == second, nil
}

// checkListener checks what can be told of an address before it is listened on.
func checkListener(flag, address string) error {
	if address == "0" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s: %q is neither 0 nor an address such as :8080 or 127.0.0.1:8080", flag, address)
	}
	return nil
}

// checkLoopback is checkListener for what is nobody else's business: a profile tells what a process has in memory.
func checkLoopback(flag, address string) error {
	if err := checkListener(flag, address); err != nil || address == "0" {
		return err
	}
	host, _, _ := net.SplitHostPort(address)
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("%s: %q is not a loopback address such as 127.0.0.1:6060", flag, address)
	}
	return nil
}

// readEnv reads how the APIC is reached, which is never a flag: flags show in process lists.
func (s *settings) readEnv() error {
	var err error
	if os.Getenv("ACI_APIC") == "" {
		return errors.New("ACI_APIC is not set: name the APIC, or several members separated by commas, such as apic1.example.com")
	}
	if s.members, err = apic.ParseMembers(os.Getenv("ACI_APIC")); err != nil {
		return fmt.Errorf("ACI_APIC: %w", err)
	}
	if err := s.readCredentials(); err != nil {
		return err
	}
	skip := false
	if v := os.Getenv("ACI_INSECURE_SKIP_VERIFY"); v != "" {
		if skip, err = strconv.ParseBool(v); err != nil {
			return fmt.Errorf("ACI_INSECURE_SKIP_VERIFY: %q is neither true nor false", v)
		}
	}
	s.apic.TLS, err = apic.TLSConfig(apic.TLS{
		CAFile: os.Getenv("ACI_CA_FILE"), Fingerprint: os.Getenv("ACI_CERT_FINGERPRINT"), InsecureSkipVerify: skip,
	})
	if err != nil {
		return fmt.Errorf("ACI_CA_FILE, ACI_CERT_FINGERPRINT, ACI_INSECURE_SKIP_VERIFY: %w", err)
	}
	return nil
}

// readCredentials reads who the user is, and by what that is proved.
func (s *settings) readCredentials() error {
	if s.username = os.Getenv("ACI_USERNAME"); s.username == "" {
		return errors.New("ACI_USERNAME is not set: name the APIC user")
	}
	o := &s.apic
	o.Password, o.PasswordFile = aci.Secret(os.Getenv("ACI_PASSWORD")), os.Getenv("ACI_PASSWORD_FILE")
	o.CertName, o.PrivateKeyFile = os.Getenv("ACI_CERT_NAME"), os.Getenv("ACI_PRIVATE_KEY_FILE")
	signs := o.CertName != "" || o.PrivateKeyFile != ""
	switch {
	case signs && o.Password != "":
		return errors.New("ACI_PASSWORD and ACI_CERT_NAME or ACI_PRIVATE_KEY_FILE are both set: give a password or a user certificate")
	case signs && o.PasswordFile != "":
		return errors.New("ACI_PASSWORD_FILE and ACI_CERT_NAME or ACI_PRIVATE_KEY_FILE are both set: give a password or a user certificate")
	case signs && o.CertName == "":
		return errors.New("ACI_PRIVATE_KEY_FILE is set, and ACI_CERT_NAME is not: name the certificate of the APIC user")
	case signs && o.PrivateKeyFile == "":
		return errors.New("ACI_CERT_NAME is set, and ACI_PRIVATE_KEY_FILE is not: name the file with the private key of the certificate")
	case signs:
		if err := apic.CheckCertificateUser(s.username, o.CertName); err != nil {
			return fmt.Errorf("ACI_USERNAME, ACI_CERT_NAME: %w", err)
		}
		if err := apic.CheckPrivateKey(o.PrivateKeyFile); err != nil {
			return fmt.Errorf("ACI_PRIVATE_KEY_FILE: %w", err)
		}
		return nil
	case o.Password == "" && o.PasswordFile == "":
		return errors.New("neither ACI_PASSWORD nor ACI_PASSWORD_FILE is set: give the password of the APIC user, " +
			"or its certificate by ACI_CERT_NAME and ACI_PRIVATE_KEY_FILE")
	case o.Password != "" && o.PasswordFile != "":
		return errors.New("ACI_PASSWORD and ACI_PASSWORD_FILE are both set: give one")
	}
	if err := apic.CheckUser(s.username); err != nil {
		return fmt.Errorf("ACI_USERNAME: %w", err)
	}
	if o.PasswordFile != "" {
		if err := apic.CheckPasswordFile(o.PasswordFile); err != nil {
			return fmt.Errorf("ACI_PASSWORD_FILE: %w", err)
		}
	}
	return nil
}

func logHandler(format, level string, w io.Writer) (slog.Handler, slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, 0, fmt.Errorf("--log-level: %q is not debug, info, warn or error", level)
	}
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				format = "text"
			}
		}
	}
	o := &slog.HandlerOptions{Level: l, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would have it in nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	switch format {
	case "text":
		return slog.NewTextHandler(w, o), l, nil
	case "json":
		return slog.NewJSONHandler(w, o), l, nil
	}
	return nil, 0, fmt.Errorf("--log-format: %q is neither text nor json", format)
}
