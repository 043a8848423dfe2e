package apicsim

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const usage = `apic-sim is a simulated Cisco APIC: login, queries, writes, subscriptions over a
WebSocket, for the classes that L3Outs and external EPGs need. It keeps everything in
memory, starts with an empty fabric, and is stricter than a real APIC where the truth is
not known. What it models: go doc github.com/haystacknetworks/aci-sync/internal/apicsim

Usage:
  apic-sim [flags]

Try it:
  apic-sim --listen 127.0.0.1:8443 --ca-file /tmp/ca.pem --seed fabric.json &
  APIC=https://127.0.0.1:8443; alias c='curl -sS --cacert /tmp/ca.pem -b /tmp/jar -c /tmp/jar'

  # log in; the cookie APIC-cookie goes into the jar
  c $APIC/api/aaaLogin.json -d '{"aaaUser":{"attributes":{"name":"admin","pwd":"apic-sim"}}}'

  # read: an object, a class, a filtered page of a subtree
  c $APIC/api/mo/uni/tn-common.json
  c "$APIC/api/class/fvTenant.json?order-by=fvTenant.name|asc"
  c -g "$APIC/api/mo/uni/tn-T/out-O.json?query-target=subtree&target-subtree-class=l3extSubnet&page=0&page-size=100&order-by=l3extSubnet.dn"

  # write: a tenant with an L3Out, an external EPG with a subnet, then delete it
  c $APIC/api/mo/uni.json -d '{"fvTenant":{"attributes":{"name":"T"},"children":[
      {"fvCtx":{"attributes":{"name":"V"}}},
      {"l3extOut":{"attributes":{"name":"O"},"children":[
        {"l3extRsEctx":{"attributes":{"tnFvCtxName":"V"}}}]}}]}}'
  c $APIC/api/mo/uni/tn-T/out-O.json -d '{"l3extInstP":{"attributes":{"name":"E"},"children":[
      {"l3extSubnet":{"attributes":{"ip":"10.1.2.3/32"}}}]}}'
  c -g -X DELETE "$APIC/api/mo/uni/tn-T/out-O/instP-E/extsubnet-[10.1.2.3/32].json"

  # subscribe: open wss://127.0.0.1:8443/socket{token} first, then
  c "$APIC/api/class/l3extSubnet.json?subscription=yes"
  c "$APIC/api/subscriptionRefresh.json?id={subscriptionId}"

A seed file is a JSON array of such bodies (or one body), each placed by its dn or below uni.
It may hold what no user may write: objects that only the fabric makes, such as the state of
BGP sessions, and read-only attributes.
  [{"bgpPeerEntry":{"attributes":{"operSt":"established",
    "dn":"topology/pod-1/node-101/sys/bgp/inst/dom-T:V/peer-[10.0.0.0/24]/ent-[10.0.0.11]"}}},
   {"faultInst":{"attributes":{"lc":"raised","severity":"major","descr":"80 number of Prefix failed on leaf1",
    "dn":"topology/pod-1/node-101/sys/actrl/dbgStatsReport/fault-F3544"}}},
   {"l3extInstP":{"attributes":{"configSt":"failed-to-apply","dn":"uni/tn-T/out-O/instP-E"}}}]

With --control-listen 127.0.0.1:9443 a script makes things go wrong, over plain HTTP:
  curl -X POST http://127.0.0.1:9443/sockets/close
  curl -X POST http://127.0.0.1:9443/sockets/mute         # open, but nothing comes any more
  curl -X POST http://127.0.0.1:9443/sessions/expire
  curl -X POST http://127.0.0.1:9443/subscriptions/expire
  curl -X POST 'http://127.0.0.1:9443/events/drop?n=5&match=extsubnet'
  curl http://127.0.0.1:9443/faults -d '{"match":"^POST /api/mo/","times":3,"status":503}'
  curl -X DELETE http://127.0.0.1:9443/faults
  curl http://127.0.0.1:9443/seed -d @more.json   # as --seed
  curl http://127.0.0.1:9443/users -d '{"name":"admin","password":"other"}'   # another password; see go doc
  curl -X POST http://127.0.0.1:9443/leafs/reload   # another EPG wins where several share a prefix
  curl http://127.0.0.1:9443/dump/uni        # the tree, sorted
  curl http://127.0.0.1:9443/requests        # what was asked so far, a JSON object a line
  curl http://127.0.0.1:9443/stats
In a cluster that is the first member; /node/2/… is the second one, which this takes down:
  curl http://127.0.0.1:9443/node/2/faults -d '{"times":-1,"hangup":true}'
  curl -X POST http://127.0.0.1:9443/node/2/sockets/close
A fault has: match (regular expression on "METHOD /path?query"), skip, times (0 is one,
negative is all), rate (let so many pass each second and take the others, with 503 unless
it says otherwise), delay ("1.5s"), body (as long between the halves of the answer), status,
code and text (an error object; without them HTML, as from the web server), after (do it,
then answer so), hangup, hang (no answer ever), empty (totalCount without objects), and
closeSockets, muteSockets, expireSubscriptions, expireSessions before it is looked at.
--fault arms one from the start; a few more:
  {"rate":5}                                                    a throttle of 5 requests a second
  {"match":"aaaLogin","rate":1}                                 one of logins
  {"match":"^GET /api/mo","empty":true}                         overload: a total, and no objects
  {"match":"^POST /api/mo","hangup":true,"after":true}          a write is done, its answer is lost
  {"match":"^POST /api/mo","status":202}                        accepted, and not done
  {"match":"query-target","status":400,"code":"1","text":"Unable to process the query, result dataset is too big"}
  {"match":"subscriptionRefresh","expireSubscriptions":true}    400, as after a refresh that came too late
  {"match":"subscription=yes","closeSockets":true}              405, without a socket
/stats counts the requests that faults took, the events that were lost, and what was cut.

Environment:
  APIC_SIM_PASSWORD   password of --user, unless --password-file is given

Flags:
`

// command is the configuration of the program.
type command struct {
	listen, control, user, loginDomain, passwordFile string
	seed, logFile, caFile, urlFile, names            string
	certFiles                                        []string
	anyAddress, plain                                bool
	faults                                           []Fault
	drops                                            []string
	options                                          Options
}

func (c *command) flags(stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("apic-sim", flag.ContinueOnError)
	fs.SetOutput(stderr)
	o := &c.options
	fs.StringVar(&c.listen, "listen", "127.0.0.1:8443", "`address` of the APIC, or several, comma separated, of the members of a cluster; "+
		"port 0 takes a free one and prints it")
	fs.BoolVar(&c.anyAddress, "allow-remote", false, "let --listen be an address other than loopback")
	fs.BoolVar(&c.plain, "plain-http", false, "no TLS")
	fs.StringVar(&c.control, "control-listen", "", "loopback `address` of the control port; empty is none")
	fs.StringVar(&c.user, "user", "admin", "`name` of the user; login domains before it are accepted")
	fs.StringVar(&c.loginDomain, "login-domain", "", "`name` of the login domain that logins must name, as in apic:DOMAIN\\user")
	fs.StringVar(&c.passwordFile, "password-file", "", "`file` with the password; else APIC_SIM_PASSWORD, else apic-sim")
	fs.Func("user-cert", "`NAME=FILE`: PEM certificate of --user for signed requests, usercert-NAME; may be repeated", func(v string) error {
		c.certFiles = append(c.certFiles, v)
		return nil
	})
	fs.StringVar(&c.seed, "seed", "", "JSON `file` that is posted at start")
	fs.StringVar(&c.logFile, "request-log", "", "`file` to append a JSON line per request to; - is stdout")
	fs.StringVar(&c.caFile, "ca-file", "", "`file` to write the certificate to, for clients to trust")
	fs.StringVar(&c.urlFile, "url-file", "", "`file` to write the URL to once it is served")
	fs.StringVar(&c.names, "tls-names", "", "further host `names` or addresses of the certificate, comma separated")
	fs.StringVar(&o.Version, "apic-version", "6.0(9c)", "`version` that logins, firmwareCtrlrRunning and topSystem show")
	fs.DurationVar(&o.TokenLife, "token-lifetime", 600*time.Second, "lifetime of a token that is not refreshed")
	fs.DurationVar(&o.SessionLife, "session-lifetime", 24*time.Hour, "life of a session from login, whatever is refreshed")
	fs.DurationVar(&o.SubscriptionLife, "subscription-lifetime", 60*time.Second, "lifetime of a subscription without refresh-timeout")
	fs.IntVar(&o.LoginRate, "login-rate", 0, "logins and refreshes per second before 503; 0 is no limit (a real APIC: 2)")
	fs.IntVar(&o.LockAfter, "lock-after", 0, "refused logins within 5 minutes that lock the user for an hour; 0 never does "+
		"(a real APIC: 5, once that is enabled)")
	fs.DurationVar(&o.Latency, "latency", 0, "added to every request")
	fs.DurationVar(&o.EventDelay, "event-delay", 0, "between a write and its events")
	fs.DurationVar(&o.DeployDelay, "deploy-delay", 200*time.Millisecond, "until a new external EPG is configSt=applied; negative is never")
	fs.Func("leafs", "`ids` of leafs, comma separated, that raise F0467 where EPGs of a VRF share a prefix; an L3Out with "+
		"node profiles is deployed on their nodes, one without on all", func(v string) error {
		for id := range strings.SplitSeq(v, ",") {
			n, err := strconv.Atoi(id)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is not the id of a leaf", id)
			}
			o.Leafs = append(o.Leafs, n)
		}
		return nil
	})
	fs.BoolVar(&o.OpaqueTokens, "opaque-tokens", false, "tokens as of APIC 4: base64 with + / = instead of a JWT")
	fs.BoolVar(&o.RefreshRevokes, "refresh-revokes", false, "a refresh ends the tokens before it; else they live to their own expiry")
	fs.BoolVar(&o.NoRefreshTimeout, "no-refresh-timeout", false, "ignore refresh-timeout, as before APIC 4.0")
	fs.BoolVar(&o.ModifyCreates, "modify-creates", false, "status=modified on an absent object creates it; else error 102")
	fs.BoolVar(&o.ObserveTags, "observe-tags", false, "push changes of tagAnnotation and tagTag to subscriptions")
	fs.Func("fault", "`JSON` of a fault, as for the control port, armed from the start; may be repeated", func(v string) error {
		var f Fault
		if err := json.Unmarshal([]byte(v), &f); err != nil {
			return err
		}
		c.faults = append(c.faults, f)
		return nil
	})
	fs.Func("drop-events", "`regexp` of DNs whose events are lost without a word; may be repeated", func(v string) error {
		c.drops = append(c.drops, v)
		return nil
	})
	fs.IntVar(&o.MaxResult, "max-result", 100_000, "objects in an answer before \"dataset is too big\"")
	fs.IntVar(&o.SocketQueue, "socket-queue", 200_000, "events that wait for a slow reader before its socket is closed")
	fs.Usage = func() {
		fmt.Fprint(stderr, usage)
		fs.VisitAll(func(f *flag.Flag) {
			kind, text := flag.UnquoteUsage(f)
			fmt.Fprintf(stderr, "  --%s", f.Name)
			if kind != "" {
				fmt.Fprintf(stderr, " %s", kind)
			}
			fmt.Fprintf(stderr, "\n        %s", text)
			if f.DefValue != "" && f.DefValue != "false" {
				fmt.Fprintf(stderr, " (default %s)", f.DefValue)
			}
			fmt.Fprintln(stderr)
		})
	}
	return fs
}

// Main is the program apic-sim: it serves until ctx ends and returns the exit code. What
// a script needs (URL, fingerprint) goes to stdout as NAME=value lines, words to stderr.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c command
	// Help was asked for and is data; after a mistake it is words.
	fs := c.flags(stderr)
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "-help") {
		fs = c.flags(stdout)
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 1
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "apic-sim: unexpected argument %q\n", fs.Arg(0))
		return 1
	}
	if err := c.run(ctx, stdout); err != nil {
		fmt.Fprintf(stderr, "apic-sim: %v\n", err)
		return 1
	}
	return 0
}

func (c *command) run(ctx context.Context, stdout io.Writer) error {
	password, err := c.password()
	if err != nil {
		return err
	}
	certs, err := c.certificates()
	if err != nil {
		return err
	}
	c.options.Users = []User{{Name: c.user, Password: password, LoginDomain: c.loginDomain, Certificates: certs}}
	if c.options.DeployDelay == 0 {
		c.options.DeployDelay = 1 // Options read 0 as its default
	}
	closeLog, err := c.openLog(stdout)
	if err != nil {
		return err
	}
	defer closeLog()
	sim := New(c.options)
	defer sim.Close()
	if c.seed != "" {
		data, err := os.ReadFile(c.seed)
		if err != nil {
			return err
		}
		if err := sim.Seed(data); err != nil {
			return fmt.Errorf("%s: %w", c.seed, err)
		}
	}
	for _, f := range c.faults {
		if err := sim.AddFault(f); err != nil {
			return fmt.Errorf("--fault: %w", err)
		}
	}
	for _, match := range c.drops {
		if err := sim.DropEvents(-1, match); err != nil {
			return fmt.Errorf("--drop-events: %w", err)
		}
	}
	var servers []func() error
	if c.control != "" {
		l, err := listen(ctx, c.control, false)
		if err != nil {
			return fmt.Errorf("control port: %w", err)
		}
		fmt.Fprintf(stdout, "APIC_SIM_CONTROL=http://%s\n", l.Addr())
		servers = append(servers, serve(ctx, l, sim.Control()))
	}
	var urls []string
	members := []*Sim{sim}
	cert, err := c.certificate()
	if err != nil {
		return err
	}
	for i, address := range strings.Split(c.listen, ",") {
		if i > 0 {
			m := sim.Member()
			defer m.Close()
			members = append(members, m)
		}
		l, err := listen(ctx, address, c.anyAddress)
		if err != nil {
			return err
		}
		url := "http://" + l.Addr().String()
		if !c.plain {
			l = tls.NewListener(l, &tls.Config{
				Certificates: []tls.Certificate{cert.TLS},
				MinVersion:   tls.VersionTLS12,
				NextProtos:   []string{"http/1.1"}, // WebSockets need it
			})
			url = "https://" + l.Addr().String()
		}
		urls = append(urls, url)
		servers = append(servers, serve(ctx, l, members[i]))
	}
	if !c.plain {
		fmt.Fprintf(stdout, "APIC_SIM_FINGERPRINT=%s\n", cert.Fingerprint)
	}
	all := strings.Join(urls, ",")
	fmt.Fprintf(stdout, "APIC_SIM_URL=%s\n", all)
	if c.urlFile != "" {
		if err := os.WriteFile(c.urlFile, []byte(all+"\n"), 0o644); err != nil {
			return err
		}
	}
	<-ctx.Done()
	for _, m := range members {
		m.Close() // sockets are not the server's to close
	}
	var errs []error
	for _, wait := range servers {
		errs = append(errs, wait())
	}
	return errors.Join(errs...)
}

func (c *command) password() (string, error) {
	if c.passwordFile == "" {
		return cmp.Or(os.Getenv("APIC_SIM_PASSWORD"), "apic-sim"), nil
	}
	b, err := os.ReadFile(c.passwordFile)
	if err != nil {
		return "", err
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", fmt.Errorf("%s: empty password", c.passwordFile)
	}
	return p, nil
}

func (c *command) certificates() (map[string]*rsa.PublicKey, error) {
	keys := map[string]*rsa.PublicKey{}
	for _, given := range c.certFiles {
		name, file, ok := strings.Cut(given, "=")
		if !ok {
			return nil, fmt.Errorf("--user-cert %s is not NAME=FILE", given)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if keys[name], err = ParseCertificate(data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return keys, nil
}

func (c *command) openLog(stdout io.Writer) (closeLog func(), err error) {
	switch c.logFile {
	case "":
	case "-":
		c.options.RequestLog = stdout
	default:
		f, err := os.OpenFile(c.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		c.options.RequestLog = f
		return func() { _ = f.Close() }, nil
	}
	return func() {}, nil
}

func (c *command) certificate() (Certificate, error) {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	for address := range strings.SplitSeq(c.listen, ",") {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
			hosts = append(hosts, host)
		}
	}
	if c.names != "" {
		hosts = append(hosts, strings.Split(c.names, ",")...)
	}
	cert, err := NewCertificate(hosts...)
	if err != nil {
		return Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	if c.caFile == "" {
		return cert, nil
	}
	return cert, os.WriteFile(c.caFile, cert.PEM, 0o644)
}

// listen opens a TCP listener, on loopback unless any address will do.
func listen(ctx context.Context, address string, anywhere bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); !anywhere && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address (--allow-remote lets --listen have it)", address)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// serve answers on l until ctx ends. The function it returns waits for the end.
func serve(ctx context.Context, l net.Listener, h http.Handler) (wait func() error) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second}
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed = err
		}
	})
	return func() error {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		err := srv.Shutdown(grace)
		wg.Wait()
		return errors.Join(failed, err)
	}
}
