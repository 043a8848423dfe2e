package stories_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/lab"
)

const (
	ourUser   = "aci-sync" // as whom aci-sync logs in, unless it may be elected
	otherUser = "netops"   // as whom the story does, to change and to assert
	password  = "s3cret-of-the-story"
)

// fabric is what is there before aci-sync comes. Every simulator is its story's own, so all could
// use the same names; but ExternalEPGs are named after tenant, L3Out and EPG, and the cluster is
// shared. So TEN, here and in scripts, stands for a tenant of the story's own, and blue for the
// --cluster-id of its aci-sync.
const fabric = `{"fvTenant":{"attributes":{"name":"TEN"},"children":[
	{"fvCtx":{"attributes":{"name":"VRF"}}},
	{"vzBrCP":{"attributes":{"name":"WEB"}}},
	{"l3extOut":{"attributes":{"name":"OUT"},"children":[
		{"l3extRsEctx":{"attributes":{"tnFvCtxName":"VRF"}}}]}},
	{"l3extOut":{"attributes":{"name":"OUT2"},"children":[
		{"l3extRsEctx":{"attributes":{"tnFvCtxName":"VRF"}}}]}}]}}`

// story is what one script works on. Its methods are called by one goroutine.
type story struct {
	t          testing.TB
	ctx        context.Context
	ns         string
	tenant     string
	cluster    string // --cluster-id, unless a story says otherwise
	dir        string
	kubeconfig string // of who may do anything
	account    string // kubeconfig of aci-sync's ServiceAccount
	client     *kubernetes.Clientset

	sim         *apicsim.Sim
	wire        *wire
	others      []*member // of the APIC cluster; none unless a script asks for them
	theirs      *member   // through which the story itself works then; aci-sync does not know it
	cert        apicsim.Certificate
	link        *link // nil before it is used
	caFile      string
	fingerprint string // of the certificate
	netops      *foreigner

	way      *way // another way to the API server; nil unless a script opens one
	procs    map[string]*process
	since    int           // request log entries up to here are not counted by requests
	sinceAt  time.Time     // when that was
	arrival  time.Duration // from then until all that was waited for had come
	lawsOff  map[string]bool
	snapshot object // what apic rollback goes back to
}

func newStory(t testing.TB, e *testscript.Env) (*story, error) {
	s := &story{
		t: t, ctx: t.Context(), dir: e.WorkDir, kubeconfig: filepath.Join(e.WorkDir, "kubeconfig"),
		procs: map[string]*process{}, lawsOff: map[string]bool{}, sinceAt: time.Now(),
	}
	if err := s.startCluster(e.Getenv("TESTSCRIPT_NAME")); err != nil {
		return nil, err
	}
	if err := s.startAccount(); err != nil {
		return nil, err
	}
	if err := s.startAPIC(e.Getenv(modifiedCreates) != ""); err != nil {
		return nil, err
	}
	e.Setenv("NS", s.ns)
	e.Setenv("O", s.l3out("OUT"))
	e.Setenv("O2", s.l3out("OUT2"))
	e.Setenv("FINGERPRINT", s.fingerprint)
	return s, nil
}

// alone is a story on an API server of its own, in which nothing is. must ends the test after an error.
func alone(t *testing.T) (s *story, l *lab.Lab, must func(error)) {
	t.Helper()
	must = func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.Start(t.Context(), lab.Options{Bare: true})
	must(err)
	t.Cleanup(func() {
		if err := l.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	s = &story{
		t: t, ctx: t.Context(), dir: t.TempDir(), kubeconfig: l.Kubeconfig(), ns: "default", tenant: "TEN", cluster: "blue",
		procs: map[string]*process{}, lawsOff: map[string]bool{}, sinceAt: time.Now(),
	}
	s.client, err = kubernetes.NewForConfig(l.RESTConfig())
	must(err)
	must(applyRole(t.Context(), l))
	must(s.startAccount())
	must(s.startAPIC(false))
	return s, l, must
}

func (s *story) startCluster(name string) error {
	ns, drop, err := shared.lab.Namespace(s.ctx, "story-"+filepath.Base(s.t.Name())+name)
	if err != nil {
		return err
	}
	s.t.Cleanup(func() {
		if err := drop(context.WithoutCancel(s.ctx)); err != nil {
			s.t.Error(err)
		}
	})
	s.ns = ns
	suffix := "_" + ns[strings.LastIndexByte(ns, '-')+1:]
	s.tenant, s.cluster = "TEN"+suffix, "blue"+suffix
	cfg, err := clientcmd.LoadFromFile(shared.lab.Kubeconfig())
	if err != nil {
		return err
	}
	cfg.Contexts[cfg.CurrentContext].Namespace = ns
	if err := clientcmd.WriteToFile(*cfg, s.kubeconfig); err != nil {
		return err
	}
	s.client, err = kubernetes.NewForConfig(shared.lab.RESTConfig())
	return err
}

// l3out is the DN of an L3Out of the story's tenant.
func (s *story) l3out(name string) string { return "uni/tn-" + s.tenant + "/out-" + name }

var ownWords = regexp.MustCompile(`\b(TEN|blue)\b`)

// own puts the story's own names where a script says TEN and blue; told is its inverse, for what
// scripts compare.
func (s *story) own(text string) string {
	return ownWords.ReplaceAllStringFunc(text, func(word string) string {
		return map[string]string{"TEN": s.tenant, "blue": s.cluster}[word]
	})
}

func (s *story) told(text string) string {
	return strings.NewReplacer(s.tenant, "TEN", s.cluster, "blue").Replace(text)
}

func (s *story) startAPIC(modifyCreates bool) error {
	s.sim = apicsim.New(apicsim.Options{
		Users: append(electedUsers(),
			apicsim.User{Name: ourUser, Password: password},
			apicsim.User{Name: otherUser, Certificates: map[string]*rsa.PublicKey{"story": &shared.key.PublicKey}},
		),
		ModifyCreates: modifyCreates,
		LockAfter:     5,
		Leafs:         []int{101, 102},
	})
	s.t.Cleanup(s.sim.Close)
	if err := s.sim.Seed([]byte(s.own(fabric))); err != nil {
		return err
	}
	cert, err := apicsim.NewCertificate("127.0.0.1")
	if err != nil {
		return err
	}
	s.cert, s.fingerprint = cert, cert.Fingerprint
	s.caFile = filepath.Join(s.dir, "ca.pem")
	if err := os.WriteFile(s.caFile, cert.PEM, 0o600); err != nil {
		return err
	}
	if s.wire, err = serve(s.ctx, s.sim, cert.TLS); err != nil {
		return err
	}
	s.t.Cleanup(s.wire.close)
	s.netops = newForeigner(s.wire, cert.PEM)
	return nil
}

// end stops what runs and checks what holds for every story.
func (s *story) end() {
	s.wire.release()
	for _, m := range s.others {
		m.wire.release()
	}
	for _, p := range s.procs {
		if p.running() {
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			if err := p.stop(); err != nil {
				s.t.Errorf("at the end of the story: %v", err)
			}
		}
	}
	s.checkLaws()
	if err := s.dropRecords(); err != nil {
		s.t.Error(err)
	}
	if !s.t.Failed() {
		return
	}
	keep := func(name string, data []byte) {
		file := filepath.Join(s.t.ArtifactDir(), name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			s.t.Error(err)
		}
	}
	keep("fabric.txt", []byte(s.sim.Dump("uni")))
	keep("requests.txt", []byte(requestLines(s.everything())))
	s.t.Logf("the fabric at the end:\n%s", s.sim.Dump("uni/tn-"+s.tenant))
	s.t.Logf("the last requests:\n%s", lastLines(requestLines(s.everything()), 40))
	for name, p := range s.procs {
		log := p.log.String()
		keep("aci-sync-"+name+".log", []byte(log))
		s.t.Logf("the end of the log of %s:\n%s", name, lastLines(log, 60))
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// verb is a command of the scripts.
type verb func(s *story, ts *testscript.TestScript, args []string) error

func verbs() map[string]verb {
	return map[string]verb{
		"kube":       kubeVerb,
		"deploy":     deployVerb,
		"expose":     exposeVerb,
		"pods":       podsVerb,
		"addr":       addrVerb,
		"event":      eventVerb,
		"xepg":       xepgVerb,
		"moves":      movesVerb,
		"robot":      robotVerb,
		"called":     calledVerb,
		"acisync":    acisyncVerb,
		"apic":       apicVerb,
		"holds":      holdsVerb,
		"requests":   requestsVerb,
		"count":      countVerb,
		"arrival":    arrivalVerb,
		"writes":     writesVerb,
		"wrote":      wroteVerb,
		"leaders":    leadersVerb,
		"link":       linkVerb,
		"law":        lawVerb,
		"eventually": eventuallyVerb,
		"always":     alwaysVerb,
	}
}

// eventuallyVerb tries a verb until it succeeds: eventually SECONDS [!] VERB ARG...
func eventuallyVerb(s *story, ts *testscript.TestScript, args []string) error {
	d, try, err := repeated(s, ts, args)
	if err != nil {
		return err
	}
	start := time.Now()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 320*time.Millisecond) {
		err := try()
		if err == nil {
			ts.Logf("# after %v", time.Since(start).Round(time.Millisecond))
			return nil
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("not within %v: %w", d, err)
		case <-time.After(pause):
		}
	}
}

// alwaysVerb tries a verb for a while, and it must succeed each time: always SECONDS [!] VERB
// ARG...
func alwaysVerb(s *story, ts *testscript.TestScript, args []string) error {
	d, try, err := repeated(s, ts, args)
	if err != nil {
		return err
	}
	start := time.Now()
	for time.Since(start) < d {
		if err := try(); err != nil {
			return fmt.Errorf("after %v: %w", time.Since(start).Round(time.Millisecond), err)
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return try()
}

func repeated(s *story, ts *testscript.TestScript, args []string) (time.Duration, func() error, error) {
	if len(args) < 2 {
		return 0, nil, errors.New("usage: eventually|always SECONDS [!] VERB ARG...")
	}
	n, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return 0, nil, err
	}
	args = args[1:]
	neg := args[0] == "!"
	if neg {
		args = args[1:]
	}
	v := verbs()[args[0]]
	if v == nil || slices.Contains([]string{"eventually", "always"}, args[0]) {
		return 0, nil, fmt.Errorf("%q cannot be repeated", args[0])
	}
	return time.Duration(n * float64(time.Second)), func() error {
		err := v(s, ts, args[1:])
		if !neg {
			return err
		}
		if err == nil {
			return fmt.Errorf("%s succeeded", strings.Join(args, " "))
		}
		return nil
	}, nil
}

// compare checks a number against a condition such as <=5, >=1 or 3.
func compare(n float64, condition string) (bool, error) {
	op := strings.TrimRight(condition, "0123456789.")
	limit, err := strconv.ParseFloat(condition[len(op):], 64)
	if err != nil {
		return false, fmt.Errorf("%q is no condition such as <=5", condition)
	}
	switch op {
	case "", "=":
		return n == limit, nil
	case "<=":
		return n <= limit, nil
	case ">=":
		return n >= limit, nil
	}
	return false, fmt.Errorf("%q is neither =, <= nor >=", op)
}
