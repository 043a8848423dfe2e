package stories_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// apicVerb is what the network team does, and what happens to an APIC:
//
//	apic post DN FILE|JSON       write, as another user
//	apic delete DN
//	apic exists DN
//	apic is DN ATTR=VALUE...     ATTR~FLAG: the flag is in the list; ATTR!FLAG: it is not
//	apic tag DN KEY VALUE        the value of a tagAnnotation; "" for none
//	apic dump DN FILE            everything at and below DN with all attributes, for cmp
//	apic owned DN CLUSTER COUNT  subnets in an EPG that bear the mark of a cluster
//	apic deleteall DN COUNT      delete so many subnets of an EPG, in one request
//	apic snapshot DN             what is configured in the external EPGs of an L3Out now
//	apic rollback DN             as it was then, with one write
//	apic orchestrate DN [BY]     set extMngdBy of an EPG, as only Nexus Dashboard Orchestrator can: msc, or nothing
//
//	apic seed JSON               write as the fabric itself: faults, and what only the APIC sets
//	apic reload                  the leafs reload, and program other prefixes where several EPGs have one
//
//	apic fault JSON|clear        see apicsim.Fault
//	apic drop COUNT REGEXP       lose events of objects whose DN matches
//	apic sockets | sessions      close all
//	apic mute                    leave all sockets open and silent
//	apic members COUNT           of the cluster, before aci-sync starts
//	apic member N VERB ARG...    the same at the Nth member: its faults, its network, its sessions
//	apic recertify               restart with a certificate that nobody knows
//	apic version VERSION         another release, as after an upgrade: all sessions end
//	apic rights all|TENANT...    what aci-sync may read and write, from its next login on, which comes now
//	apic password PASSWORD       of aci-sync's user from now on; sessions stay
//	apic certificate FILE        of aci-sync's user from now on, alone and without a password; its new key goes into FILE
//	apic locked                  too many refused logins locked aci-sync's user
//	apic wire up|refuse|hang     the network
//	apic attempts COUNT          connections since then
//	apic hold REGEXP             keep aci-sync's requests waiting from now on
//	apic held COUNT | release    how many wait; let them go on
//	apic refuse [IP TEXT]        refuse what writes the subnet of IP, with this text; without: no more
//	apic stats NAME COUNT        Sessions, Sockets, Subscriptions
func apicVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: apic VERB ARG...")
	}
	do, args := args[0], args[1:]
	need := map[string]int{
		"post": 2, "delete": 1, "exists": 1, "is": 2, "tag": 3, "dump": 2, "fault": 1, "drop": 2, "wire": 1,
		"attempts": 1, "hold": 1, "held": 1, "stats": 2, "owned": 3, "deleteall": 2, "version": 1, "rights": 1,
		"password": 1, "certificate": 1, "orchestrate": 1, "seed": 1, "snapshot": 1, "rollback": 1, "members": 1, "member": 2,
	}
	if len(args) < need[do] {
		return fmt.Errorf("apic %s takes %d arguments", do, need[do])
	}
	switch do {
	case "post":
		body := args[1]
		if !strings.HasPrefix(body, "{") {
			body = ts.ReadFile(body)
		}
		return s.netops.post(s.ctx, args[0], expand(ts, body))
	case "delete":
		return s.netops.remove(s.ctx, args[0])
	case "seed":
		return s.sim.Seed([]byte(expand(ts, args[0])))
	case "password":
		s.sim.SetUser(apicsim.User{Name: ourUser, Password: args[0]})
		return nil
	case "certificate":
		return s.newCertificate(ts.MkAbs(args[0]))
	case "locked":
		if !s.sim.Locked(ourUser) {
			return errors.New("aci-sync's user is not locked")
		}
		return nil
	case "members":
		return s.enlarge(args[0])
	case "member":
		return s.at(ts, args)
	case "recertify":
		return s.exchange()
	case "reload":
		s.sim.ReloadLeafs()
		return nil
	case "orchestrate":
		body := fmt.Sprintf(`{"l3extInstP":{"attributes":{"dn":%q,"extMngdBy":%q}}}`, args[0], strings.Join(args[1:], ""))
		return s.sim.Seed([]byte(body))
	case "snapshot", "rollback":
		o, ok, err := s.netops.tree(s.ctx, args[0])
		if err != nil || !ok {
			return fmt.Errorf("%s: there: %t, %w", args[0], ok, err)
		}
		if do == "snapshot" {
			s.snapshot = o
			return nil
		}
		body, err := json.Marshal(rollback(o, s.snapshot))
		if err != nil {
			return err
		}
		return s.netops.post(s.ctx, args[0], string(body))
	case "exists", "is", "tag", "dump", "owned", "deleteall":
		o, ok, err := s.netops.tree(s.ctx, args[0])
		if err == nil && !ok {
			err = fmt.Errorf("%s does not exist", args[0])
		}
		if err != nil {
			return err
		}
		if do == "deleteall" {
			return s.deleteSubnets(o, args[0], args[1])
		}
		return lookAt(ts, do, o, args)
	case "wire":
		s.wire.set(args[0])
		if args[0] != "up" {
			s.sim.CloseSockets()
		}
		return nil
	case "attempts":
		_, n := s.wire.counts()
		ts.Logf("# %d connections", n)
		return want(float64(n), args[0], "connections")
	case "hold":
		re, err := regexp.Compile(args[0])
		if err == nil {
			s.wire.holdBack(re)
		}
		return err
	case "held":
		n, _ := s.wire.counts()
		return want(float64(n), args[0], "requests that wait")
	case "release":
		s.wire.release()
		return nil
	case "stats":
		st := s.sim.Stats()
		n, ok := map[string]int{"Sessions": st.Sessions, "Sockets": st.Sockets, "Subscriptions": st.Subscriptions}[args[0]]
		if !ok {
			return fmt.Errorf("no count of %s", args[0])
		}
		ts.Logf("# %d %s", n, args[0])
		return want(float64(n), args[1], args[0])
	}
	return s.trouble(ts, do, args)
}

// newCertificate gives our user a certificate in place of all that he had, and keeps its key.
func (s *story) newCertificate(file string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	s.sim.SetUser(apicsim.User{Name: ourUser, Certificates: map[string]*rsa.PublicKey{certName: &key.PublicKey}})
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// certName is the name of the certificate of our user.
const certName = "aci-sync.crt"

// trouble makes things go wrong.
func (s *story) trouble(ts *testscript.TestScript, do string, args []string) error {
	switch do {
	case "fault":
		if args[0] == "clear" {
			s.sim.ClearFaults()
			return nil
		}
		var f apicsim.Fault
		if err := json.Unmarshal([]byte(args[0]), &f); err != nil {
			return err
		}
		return s.sim.AddFault(f)
	case "drop":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return s.sim.DropEvents(n, args[1])
	case "refuse":
		s.sim.ClearFaults()
		if len(args) < 2 {
			s.wire.refuse("")
			return nil
		}
		s.wire.refuse(args[0])
		return s.sim.AddFault(apicsim.Fault{Match: refused, Times: -1, Status: 400, Code: "1", Text: expand(ts, args[1])})
	case "sockets":
		s.sim.CloseSockets()
		return nil
	case "mute":
		s.sim.MuteSockets()
		return nil
	case "version":
		s.sim.SetVersion(args[0])
	case "rights":
		u := apicsim.User{Name: ourUser, Password: password, Tenants: args}
		if args[0] == "all" {
			u.Tenants = nil
		}
		s.sim.SetUser(u)
	case "sessions":
	default:
		return fmt.Errorf("apic does not know %q", do)
	}
	s.sim.ExpireSessions()
	return nil
}

func want(n float64, condition, of string) error {
	ok, err := compare(n, condition)
	if err == nil && !ok {
		err = fmt.Errorf("%v %s, want %s", n, of, condition)
	}
	return err
}

func lookAt(ts *testscript.TestScript, do string, o object, args []string) error {
	switch do {
	case "is":
		for _, c := range args[1:] {
			i := strings.IndexAny(c, "=~!")
			if i < 0 {
				return fmt.Errorf("%q is no condition", c)
			}
			k, v, is := c[:i], c[i+1:], o.attrs[c[:i]]
			has := slices.Contains(strings.Split(is, ","), v)
			if c[i] == '=' && is != v || c[i] == '~' && !has || c[i] == '!' && has {
				return fmt.Errorf("%s: %s is %q, want %s", args[0], k, is, c)
			}
		}
	case "tag":
		if got := o.tag(args[1]); got != args[2] {
			return fmt.Errorf("%s: tag %s is %q, want %q", args[0], args[1], got, args[2])
		}
	case "owned":
		n := 0
		for _, c := range o.children {
			if c.class == "l3extSubnet" && c.tag("aci-sync") == args[1]+" "+args[0]+"/extsubnet-["+c.attrs["ip"]+"]" {
				n++
			}
		}
		return want(float64(n), args[2], "subnets of "+args[1])
	case "dump":
		var b strings.Builder
		o.dump(&b, "")
		return os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o600)
	}
	return nil
}

// configurable are the attributes that a snapshot has, of the classes that it has.
var configurable = map[string][]string{
	"l3extOut":      {"name"},
	"l3extInstP":    {"name", "annotation"},
	"l3extSubnet":   {"ip", "name", "annotation", "scope"},
	"tagAnnotation": {"key", "value"},
}

// rollback is what makes now what it was then: everything of then, and deletions of what is new.
func rollback(now, then object) map[string]any {
	attrs := map[string]string{}
	for _, k := range configurable[then.class] {
		attrs[k] = then.attrs[k]
	}
	children := []any{}
	was := map[string]bool{}
	for _, c := range then.children {
		if configurable[c.class] == nil {
			continue
		}
		was[c.attrs["rn"]] = true
		i := slices.IndexFunc(now.children, func(n object) bool { return n.attrs["rn"] == c.attrs["rn"] })
		is := object{}
		if i >= 0 {
			is = now.children[i]
		}
		children = append(children, rollback(is, c))
	}
	for _, c := range now.children {
		if configurable[c.class] != nil && !was[c.attrs["rn"]] {
			children = append(children, map[string]any{c.class: map[string]any{"attributes": map[string]string{"rn": c.attrs["rn"], "status": "deleted"}}})
		}
	}
	return map[string]any{then.class: map[string]any{"attributes": attrs, "children": children}}
}

func (s *story) deleteSubnets(epg object, dn, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var gone []string
	for _, c := range epg.children {
		if c.class == "l3extSubnet" && len(gone) < n {
			gone = append(gone, fmt.Sprintf(`{"l3extSubnet":{"attributes":{"ip":%q,"status":"deleted"}}}`, c.attrs["ip"]))
		}
	}
	if len(gone) < n {
		return fmt.Errorf("%s has not so many subnets: %d too few", dn, n-len(gone))
	}
	return s.netops.post(s.ctx, dn, fmt.Sprintf(`{"l3extInstP":{"attributes":{},"children":[%s]}}`, strings.Join(gone, ",")))
}

// holdsVerb checks that an EPG is as aci-sync promises and holds exactly the subnets of what is
// named: holds [-foreign|-revived] [-cluster ID] [[TENANT/]L3OUT/]EPG [KEY=VALUE|svc/NAME|+PREFIX]... The Pods
// with a label, a Service, and a subnet of somebody else, which somebody here may claim, too. With -foreign the EPG is not ours; with
// -revived it may lack the annotation, for a write that meant to modify it has made it.
func holdsVerb(s *story, ts *testscript.TestScript, args []string) error {
	by, foreign, revived := s.cluster, false, false
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-foreign":
			foreign, args = true, args[1:]
		case args[0] == "-revived":
			revived, args = true, args[1:]
		case args[0] == "-cluster" && len(args) > 1:
			by, args = args[1], args[2:]
		default:
			return fmt.Errorf("holds does not know %s", args[0])
		}
	}
	if len(args) == 0 {
		return errors.New("usage: holds [-foreign] [-cluster ID] EPG [KEY=VALUE|svc/NAME|+PREFIX]...")
	}
	path := append([]string{s.tenant, "OUT"}[:max(0, 2-strings.Count(args[0], "/"))], strings.Split(args[0], "/")...)
	if len(path) != 3 {
		return fmt.Errorf("%s is no EPG", args[0])
	}
	dn := fmt.Sprintf("uni/tn-%s/out-%s/instP-%s", path[0], path[1], path[2])
	named := map[string][]string{} // prefix -> what its subnet may be called
	others := map[string]bool{}
	for _, what := range args[1:] {
		if prefix, ok := strings.CutPrefix(what, "+"); ok {
			others[prefix] = true
			continue
		}
		list, err := s.bearers(what)
		if err != nil {
			return err
		}
		for _, b := range list {
			p := netip.PrefixFrom(b.ip, b.ip.BitLen()).String()
			named[p] = append(named[p], b.name)
		}
	}
	epg, ok, err := s.netops.tree(s.ctx, dn)
	if err == nil && !ok {
		err = fmt.Errorf("%s does not exist", dn)
	}
	if err != nil {
		return err
	}
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	switch mark := epg.tag("aci-sync"); {
	case foreign && mark == by+" "+dn:
		complain("%s bears our mark", dn)
	case !foreign && mark != by+" "+dn:
		complain("%s: mark %q", dn, mark)
	case !foreign && !(revived && epg.attrs["annotation"] == "") && epg.attrs["annotation"] != "orchestrator:aci-sync:"+by:
		complain("%s: annotation %q", dn, epg.attrs["annotation"])
	}
	for _, c := range epg.children {
		if c.class != "l3extSubnet" {
			continue
		}
		ip := c.attrs["ip"]
		at := dn + "/extsubnet-[" + ip + "]"
		if others[ip] {
			delete(others, ip)
			delete(named, ip)
			if c.tag("aci-sync") == by+" "+at {
				complain("%s bears our mark", ip)
			}
			continue
		}
		names, claimed := named[ip]
		if delete(named, ip); !claimed {
			complain("%s (%s) is there and nobody claims it", ip, c.attrs["name"])
			continue
		}
		if !slices.Contains(names, c.attrs["name"]) {
			complain("%s: name %q, want one of %q", ip, c.attrs["name"], names)
		}
		if m := c.tag("aci-sync"); m != by+" "+at {
			complain("%s: mark %q", ip, m)
		}
		if a := c.attrs["annotation"]; a != "orchestrator:aci-sync:"+by {
			complain("%s: annotation %q", ip, a)
		}
		if !slices.Contains(strings.Split(c.attrs["scope"], ","), "import-security") {
			complain("%s: scope %q", ip, c.attrs["scope"])
		}
	}
	for ip, names := range named {
		complain("%s of %q is missing", ip, names)
	}
	for ip := range others {
		complain("%s, not ours, is missing", ip)
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	if len(wrong) > 10 {
		wrong = append(wrong[:10], fmt.Sprintf("and %d more", len(wrong)-10))
	}
	return errors.New(strings.Join(wrong, "\n"))
}

// countVerb counts requests from here on.
func countVerb(s *story, ts *testscript.TestScript, _ []string) error {
	s.since, s.sinceAt, s.arrival = 0, time.Now(), 0
	if all := s.sim.Requests(0); len(all) > 0 {
		s.since = all[len(all)-1].Seq
	}
	return nil
}

// requestsVerb checks how many requests aci-sync made since count: requests REGEXP COUNT, where
// the expression is on "METHOD /path?query".
func requestsVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: requests REGEXP COUNT")
	}
	re, err := regexp.Compile(args[0])
	if err != nil {
		return err
	}
	var lines []string
	for _, r := range s.asked(s.since) {
		if line := requestLine(r); r.User != otherUser && re.MatchString(line) {
			lines = append(lines, line)
		}
	}
	took := time.Since(s.sinceAt)
	ts.Logf("# %d requests %s in %v", len(lines), args[0], took.Round(time.Millisecond))
	if err := want(float64(len(lines)), args[1], "requests "+args[0]); err != nil {
		return fmt.Errorf("%w:\n%s", err, lastLines(strings.Join(lines, "\n"), 30))
	}
	return nil
}

// arrivalVerb notes that what was to come since count is there now.
func arrivalVerb(s *story, _ *testscript.TestScript, _ []string) error {
	s.arrival = time.Since(s.sinceAt)
	return nil
}

// writesVerb checks that N things that arrived between count and arrival took no more than N/500
// writes, and three for each second: writes N.
func writesVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 || s.arrival == 0 {
		return errors.New("usage: count; arrival; writes N")
	}
	things, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return err
	}
	n := 0
	for _, r := range s.sim.Requests(s.since) {
		if r.User != otherUser && r.Method != "GET" && isWrite(r) {
			n++
		}
	}
	limit := things/500 + 3*s.arrival.Seconds()
	s.t.Logf("%.0f arrived within %v: %d writes, %.1f are allowed", things, s.arrival.Round(time.Millisecond), n, limit)
	ts.Logf("# %d writes, %.1f are allowed", n, limit)
	return want(float64(n), fmt.Sprintf("<=%f", limit), "writes")
}

// wroteVerb checks the body of the last write of aci-sync: wrote JSON.
func wroteVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: wrote JSON")
	}
	var wanted, got any
	if err := json.Unmarshal([]byte(expand(ts, args[0])), &wanted); err != nil {
		return err
	}
	for _, r := range s.sim.Requests(s.since) {
		if r.User != otherUser && r.Method == "POST" && isWrite(r) {
			if err := json.Unmarshal(r.Body, &got); err != nil {
				return err
			}
		}
	}
	if d := cmp.Diff(wanted, got); d != "" {
		return fmt.Errorf("the last write differs (-want +got):\n%s", d)
	}
	return nil
}

func requestLine(r apicsim.Request) string {
	line := r.Method + " " + r.Path
	if r.Query != "" {
		line += "?" + r.Query
	}
	return line
}

func requestLines(list []apicsim.Request) string {
	var b strings.Builder
	for _, r := range list {
		body := string(r.Body)
		if len(body) > 300 {
			body = body[:300] + "..."
		}
		fmt.Fprintf(&b, "%d %s %s %s -> %d %s %s returned=%d %s\n", r.Seq, r.Time.Format("05.000"), r.User,
			requestLine(r), r.Status, r.Code, r.Text, r.Returned, body)
	}
	return b.String()
}
