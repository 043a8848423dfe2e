package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/kube"
)

// shutdownTimeout is how long the parts have to end after SIGTERM, and releaseTimeout how long it
// may take to give up the lease afterwards; 5 s are promised in all.
const (
	shutdownTimeout = 4 * time.Second
	releaseTimeout  = time.Second
)

func newRun(stderr io.Writer) *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Keep the fabric in step until stopped",
		Long: `Keep the fabric in step with the cluster until stopped by SIGTERM or Ctrl-C.

` + environmentHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readTwins(cmd.Flags()); err != nil {
				return err
			}
			s, err := c.check(stderr)
			if err == nil {
				err = c.checkRun(&s)
			}
			if err != nil {
				return err
			}
			return run(cmd.Context(), c, s)
		},
	}
	c.addFlags(cmd.Flags())
	c.addRunFlags(cmd.Flags())
	addTwins(cmd.Flags())
	return cmd
}

// environmentHelp is what every command says that reaches the APIC.
const environmentHelp = `The APIC is reached as the environment says:

  ACI_APIC                  one or several cluster members, comma separated: host, host:port or https URL
  ACI_USERNAME              the user; of a login domain: apic:DOMAIN\user
  ACI_PASSWORD              its password, or
  ACI_PASSWORD_FILE         a file that holds it, read again at every login, or
  ACI_CERT_NAME             the name of its certificate at the APIC, to sign requests instead of logging in, and
  ACI_PRIVATE_KEY_FILE      the private key of that: RSA, PEM, not encrypted; read again at every new session
  ACI_CA_FILE               PEM file of the CA that the APIC's certificate must come from, or
  ACI_CERT_FINGERPRINT      SHA-256 of the certificate itself, or several; without either the system's roots decide
  ACI_INSECURE_SKIP_VERIFY  true: trust any certificate (warns)

Every flag has an environment twin, named behind it; a flag beats its twin, and an empty twin is none.`

// run puts the parts together and runs them. Whoever is told to end while they are put together ends in good order.
func run(ctx context.Context, c config, s settings) error {
	log := slog.New(s.log)
	start, err := assemble(ctx, log, c, s)
	if err == nil {
		err = start(ctx)
	} else if ctx.Err() != nil {
		err = nil
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// assemble puts the parts together, and returns what runs them.
func assemble(ctx context.Context, log *slog.Logger, c config, s settings) (start func(context.Context) error, err error) {
	theirs := frameworkLog(s)
	cfg, err := kubeConfig(c.kubeconfig, c.context)
	if err != nil {
		return nil, err
	}
	if err := checkKubernetes(ctx, log, cfg); err != nil {
		return nil, err
	}
	if c.dryRun {
		log.Info("dry run: nothing is written, neither to the APIC nor to Kubernetes")
		cfg, s.apic.Gate, c.leaderElect = kube.ReadOnly(cfg), apic.ReadOnly, false
	}
	var lease *kube.Lease
	if c.leaderElect {
		if lease, err = kube.NewLease(cfg, c.leaderNamespace); err != nil {
			return nil, err
		}
		s.apic.Gate = lease.MayWrite
	}
	mgr, err := newManager(cfg, c, lease, theirs)
	if err != nil {
		return nil, err
	}
	if s.owner == "" {
		if s.owner, err = kube.ClusterID(ctx, mgr.GetAPIReader()); err != nil {
			return nil, err
		}
	}
	s.policy.Owner = s.owner

	m := newMetrics(ctrlmetrics.Registry)
	m.count(&s.apic)
	fabric, err := apic.New(s.members, s.username, s.apic)
	if err != nil {
		return nil, err
	}
	probe := &probes{fabric: fabric.Status}
	m.tell(ctrlmetrics.Registry, fabric.Status, func() bool { return probe.leading.Load() && holds(lease) })
	notes, err := kube.NewNotes(cfg, mgr.GetClient())
	if err != nil {
		return nil, err
	}
	recorder, err := recorderFor(ctx, log, mgr.GetAPIReader(), s.owner, inCluster(cfg))
	if err != nil {
		return nil, err
	}
	needs := kube.Needs{ClusterID: c.clusterID == "", Records: recorder != "", DryRun: c.dryRun}
	if c.leaderElect {
		needs.LeaseNamespace = c.leaderNamespace
	}
	if err := checkRights(ctx, log, cfg, kube.Rights(needs)); err != nil {
		return nil, err
	}
	var writer controller.Writer = fabric
	var cluster controller.Cluster = struct {
		*kube.Notes
		*kube.Records
	}{notes, kube.NewRecords(mgr.GetClient(), s.owner)}
	if c.dryRun {
		writer, cluster = nil, silent{}
	}
	loop := controller.New(fabric, writer, cluster, controller.Options{
		Desired: s.desired, Policy: s.policy, Records: recorder != "", ResyncInterval: c.resyncInterval, Capacity: s.capacity,
		Logger: log, Metrics: ctrlmetrics.Registry,
	})
	if lease != nil {
		if err := mgr.Add(leader(lease.Run)); err != nil {
			return nil, err
		}
	}
	server, err := probe.server(ctx, c.probeAddress)
	if err != nil {
		return nil, err
	}
	if server != nil {
		if err := mgr.Add(server); err != nil {
			return nil, err
		}
	}
	source, err := kube.NewSource(cfg, mgr.GetCache(), client.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
	})
	if err != nil {
		return nil, err
	}
	var finished atomic.Bool
	if err := errors.Join(
		mgr.Add(follower(func(ctx context.Context) error {
			err := source.Watch(ctx, synced{loop, &probe.synced}, recorder)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to end before the caches were synced
			}
			return err
		})),
		mgr.Add(follower(notes.Run)),
		mgr.Add(leader(func(ctx context.Context) error {
			probe.leading.Store(true)
			err := lead(ctx, log, fabric, loop)
			probe.leading.Store(false)
			finished.Store(true)
			return err
		})),
	); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		log.Info("starting", "version", versionLine(), "cluster", s.owner, "apic", s.members[0].Host)
		err := mgr.Start(ctx)
		if lease != nil {
			if why := lease.Lost(); err != nil && why != nil && !errors.Is(err, why) {
				err = fmt.Errorf("%w: %w", err, why)
			}
			if finished.Load() {
				stepDown(ctx, log, lease, fabric.Settled())
			}
		}
		return err
	}, nil
}

// synced is a sink with what is to be known when all has been told.
type synced struct {
	kube.Sink
	done *atomic.Bool
}

// Synced tells the sink.
func (s synced) Synced() {
	s.Sink.Synced()
	s.done.Store(true)
}

// holds reports whether the lease is held, or none is needed.
func holds(lease *kube.Lease) bool {
	if lease == nil {
		return true
	}
	_, err := lease.MayWrite()
	return err == nil
}

// stepDown gives the lease up, after the last write. While the APIC may yet carry one out, nobody
// else may write: then the lease is left to run out.
func stepDown(ctx context.Context, log *slog.Logger, lease *kube.Lease, settled bool) {
	if !settled {
		log.Warn("a write was left without an answer: the lease runs out by itself, so that nobody else writes yet")
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := lease.Release(ctx); err != nil {
		log.Warn("the lease runs out by itself", "err", err)
	}
}

// frameworkLog passes on what the libraries have to say. At Info that is of no use to users of
// aci-sync.
func frameworkLog(s settings) logr.Logger {
	level := max(s.logLevel, slog.LevelWarn)
	if s.logLevel <= slog.LevelDebug {
		level = s.logLevel
	}
	theirs := logr.FromSlogHandler(&framework{s.log, level})
	ctrl.SetLogger(theirs)
	klog.SetLogger(theirs)
	return theirs
}

// silent is a cluster in which nobody is told anything.
type silent struct{}

// Note tells nobody.
func (silent) Note(desired.Ref, bool, string, string) {}

// Record writes nothing.
func (silent) Record(context.Context, desired.Record, desired.Status) error { return nil }

// Forget deletes nothing.
func (silent) Forget(context.Context, aci.ExtEPG) error { return nil }

// Answer tells nobody.
func (silent) Answer(context.Context, aci.ExtEPG, string) error { return nil }

// installCRD is the command that installs or updates what a cluster needs to keep records. Who installed it may have been
// Helm, which leaves its fields to nobody else unless they are taken by force.
const installCRD = "aci-sync crds | kubectl apply --server-side --force-conflicts -f -"

// recorderFor is as whom records are kept: owner, or nobody when the cluster cannot keep them. In a
// cluster it must, and nowhere may it hold a definition that is older than this program.
func recorderFor(ctx context.Context, log *slog.Logger, c client.Reader, owner aci.Owner, inCluster bool) (aci.Owner, error) {
	switch err := kube.CheckCRD(ctx, c); {
	case err == nil:
		return owner, nil
	case errors.Is(err, kube.ErrOldCRD):
		return "", fmt.Errorf("%w; update it with: %s", err, installCRD)
	case errors.Is(err, kube.ErrNoCRD) && inCluster:
		return "", fmt.Errorf("%w; install it with: %s", err, installCRD)
	case inCluster:
		return "", err
	default:
		log.Warn("without ExternalEPG objects nothing is remembered across a restart", "err", err, "action", installCRD)
		return "", nil
	}
}

// inCluster reports whether cfg is that of a Pod's ServiceAccount.
func inCluster(cfg *rest.Config) bool {
	return cfg.BearerTokenFile == "/var/run/secrets/kubernetes.io/serviceaccount/token"
}

// lead talks to the APIC and writes, until ctx ends; then the write in hand is finished before
// the session ends.
func lead(ctx context.Context, log *slog.Logger, fabric *apic.Client, loop *controller.Controller) error {
	log.Info("leading")
	session, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var g errgroup.Group
	g.Go(func() error { return fabric.Run(session) })
	err := loop.Run(ctx)
	end()
	return errors.Join(err, g.Wait())
}

// leader runs on the elected replica only; follower on all of them.
type (
	leader   func(context.Context) error
	follower func(context.Context) error
)

func (f leader) Start(ctx context.Context) error   { return f(ctx) }
func (leader) NeedLeaderElection() bool            { return true }
func (f follower) Start(ctx context.Context) error { return f(ctx) }
func (follower) NeedLeaderElection() bool          { return false }

// newManager makes what runs the parts; lease is nil where nobody is elected.
func newManager(cfg *rest.Config, c config, lease *kube.Lease, log logr.Logger) (manager.Manager, error) {
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, err
	}
	o := ctrl.Options{
		Scheme:                  scheme,
		Cache:                   kube.CacheOptions(),
		Logger:                  log,
		Metrics:                 metricsserver.Options{BindAddress: c.metricsAddress},
		HealthProbeBindAddress:  "0", // see probes
		PprofBindAddress:        c.pprofAddress,
		GracefulShutdownTimeout: new(shutdownTimeout),
	}
	if lease != nil {
		o.LeaderElection, o.LeaderElectionResourceLockInterface = true, lease
		o.LeaseDuration, o.RenewDeadline, o.RetryPeriod = new(kube.LeaseDuration), new(kube.RenewDeadline), new(kube.RetryPeriod)
	}
	mgr, err := ctrl.NewManager(cfg, o)
	if err != nil {
		return nil, fmt.Errorf("set up for the cluster at %s: %w", cfg.Host, err)
	}
	return mgr, nil
}

// kubeConfig finds the cluster as kubectl does, in a cluster by the ServiceAccount.
func kubeConfig(file, context string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	cfg.UserAgent = "aci-sync"
	return cfg, nil
}

// checkKubernetes refuses a cluster that is too old. Unlike an APIC it is not waited for: nothing
// of it could be relied on until then, and what is told by Events would not reach anybody.
func checkKubernetes(ctx context.Context, log *slog.Logger, cfg *rest.Config) error {
	v, err := kube.Version(ctx, cfg)
	switch {
	case errors.Is(err, kube.ErrVersion):
		log.Warn("the version of Kubernetes is not known, taking it for new enough", "err", err)
	case err != nil:
		return fmt.Errorf("ask the cluster at %s for its version: %w", cfg.Host, err)
	case kube.TooOld(v):
		return fmt.Errorf("the cluster at %s runs Kubernetes %s, and aci-sync needs %s or newer", cfg.Host, v, kube.MinVersion)
	}
	return nil
}

// checkRights names what the API server does not let aci-sync do, which otherwise showed one by one, and as
// lists that never come. Without what is needed it does not start.
func checkRights(ctx context.Context, log *slog.Logger, cfg *rest.Config, rights []kube.Right) error {
	missing, err := kube.Missing(ctx, cfg, rights)
	if err != nil {
		log.Warn("it is not known whether all rights in the cluster are there", "err", err)
		return nil
	}
	var needed []string
	for _, r := range missing {
		if r.Optional {
			log.Warn("without a right in the cluster nobody is told by Events", "reason", "may not "+r.String())
		} else {
			needed = append(needed, r.String())
		}
	}
	if len(needed) == 0 {
		return nil
	}
	return fmt.Errorf("the cluster at %s does not let it: %s; grant it what the ClusterRole and the Role of the Helm chart do", cfg.Host, strings.Join(needed, "; "))
}

// framework passes on what controller-runtime and client-go have to say at a minimum level.
type framework struct {
	slog.Handler
	level slog.Level
}

// Enabled reports whether l is at least the level.
func (h *framework) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}

// Handle leaves out the one error that every orderly end of a leader logs: it gave up its lease
// because it was told to stop.
func (h *framework) Handle(ctx context.Context, r slog.Record) error {
	routine := false
	r.Attrs(func(a slog.Attr) bool {
		routine = routine || r.Message == "error received after stop sequence was engaged" && a.Value.String() == "leader election lost"
		return !routine
	})
	if routine {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the level.
func (h *framework) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &framework{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup keeps the level.
func (h *framework) WithGroup(name string) slog.Handler {
	return &framework{h.Handler.WithGroup(name), h.level}
}
