package controller_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/memnet"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// owner is whose marks are ours.
const owner = aci.Owner("k1")

// vrfs is the fabric of every test: L3Out -> VRF, all in tenant T.
var vrfs = map[string]string{"a": "v", "b": "v", "c": "w"}

// options of a world. The zero value works.
type options struct {
	sim        apicsim.Options
	policy     func(*plan.Policy)
	resync     time.Duration
	password   string            // of the controller's user; "" is the right one
	vrfs       map[string]string // instead of vrfs
	stopped    bool              // the test calls run itself
	dry        bool              // the controller has no writer
	silent     bool              // logins do not tell what the user may read
	unrecorded bool              // records are not kept
	metrics    prometheus.Registerer
	capacity   controller.Capacity
	members    int // of the APIC cluster; 0 is one
}

// world is a fabric, a cluster and a controller between them. It lives in a bubble.
type world struct {
	t    *testing.T
	opts options
	sim  *apicsim.Sim
	net  memnet.Network

	members []*apicsim.Sim // of the cluster; sim is the first
	servers []*http.Server // of these

	objects map[desired.Ref]metav1.Object // the cluster
	age     time.Duration                 // each workload is a second younger than the one before

	loop *controller.Controller
	end  func() time.Duration // ends the controller and its client; how long the controller took
	seen int                  // sequence number of the last forgotten request

	mu sync.Mutex
	// mu guards the fields below.
	log      bytes.Buffer
	told     []string // "Reason Kind ns/name", in order
	said     []string // what these said
	records  map[aci.ExtEPG]desired.Record
	others   map[aci.ExtEPG]string // records of other clusters -> whose
	statuses map[aci.ExtEPG]desired.Status
	answers  []string
	recorded int                   // how often a record was written
	flying   map[string]int        // VRF -> POSTs being answered
	most     int                   // POSTs that were answered at the same time
	onRead   func(r *http.Request) // between the reading of an object and the answer
	first    func()                // run once, before the next POST is carried out
	late     time.Duration         // until the answer to a POST that was carried out
	deny     map[string]string     // part of a body -> what the APIC says to refuse it
	broken   []string              // laws that were
	asked    []time.Time           // when requests of clients ended
}

// bubble runs f with a fake clock, after the controller has taken control of an empty cluster.
func bubble(t *testing.T, o options, f func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(start(t, o)) })
}

// start makes the world; it ends with the test.
func start(t *testing.T, o options) *world {
	t.Helper()
	w := &world{
		t: t, opts: o, objects: map[desired.Ref]metav1.Object{}, flying: map[string]int{},
		records: map[aci.ExtEPG]desired.Record{}, statuses: map[aci.ExtEPG]desired.Status{},
	}
	if w.opts.vrfs == nil {
		w.opts.vrfs = vrfs
	}
	w.sim = apicsim.New(o.sim)
	t.Cleanup(func() {
		w.sim.Close()
		if t.Failed() {
			t.Logf("log:\n%s\nfabric:\n%s", w.logged(), w.sim.Dump("uni/tn-T"))
		}
		for _, law := range w.broken {
			t.Error(law)
		}
	})
	w.hand("uni", `{"fvTenant":{"attributes":{"name":"T"}}}`)
	for _, l := range slices.Sorted(maps.Keys(w.opts.vrfs)) {
		w.makeL3Out(l)
	}
	var wg sync.WaitGroup
	for i := range max(1, o.members) {
		m := w.sim
		if i > 0 {
			m = w.sim.Member()
			t.Cleanup(m.Close)
		}
		l, err := w.net.Listen(member(i) + ":80")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(m, rw, r) })}
		w.members, w.servers = append(w.members, m), append(w.servers, srv)
		wg.Go(func() { _ = srv.Serve(l) })
	}
	t.Cleanup(func() {
		for _, srv := range w.servers {
			_ = srv.Close()
		}
		wg.Wait()
	})
	t.Cleanup(func() {
		if w.end != nil {
			w.end()
		}
	})
	if !o.stopped {
		w.run()
		w.sleep(time.Second)
		w.forget()
	}
	return w
}

// member is the host of a member of the cluster, of which 0 is the first.
func member(i int) string { return fmt.Sprintf("apic%d", i+1) }

// vrf is the VRF of l; an L3Out that a test made itself has one of its own.
func (w *world) vrf(l aci.L3Out) string {
	if vrf, ok := w.opts.vrfs[l.Name]; ok {
		return vrf
	}
	return string(l.DN())
}

// serve lets a simulator answer and watches over two laws: one writer per VRF, and no
// address of ours in two EPGs of a VRF.
func (w *world) serve(sim *apicsim.Sim, rw http.ResponseWriter, r *http.Request) {
	if w.opts.silent && r.URL.Path == "/api/aaaLogin.json" {
		answer := httptest.NewRecorder()
		sim.ServeHTTP(answer, r)
		head, _, _ := strings.Cut(answer.Body.String(), `,"children":`)
		_, _ = io.WriteString(rw, head+"}}]}")
		return
	}
	l, ok := aci.L3OutOf(aci.DN(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/mo/"), ".json")))
	if !ok || r.Method != http.MethodPost {
		w.mu.Lock()
		h := w.onRead
		w.mu.Unlock()
		if h != nil && r.Method == http.MethodGet {
			answer := httptest.NewRecorder()
			sim.ServeHTTP(answer, r)
			h(r) // the answer is as of before
			maps.Copy(rw.Header(), answer.Header())
			rw.WriteHeader(answer.Code)
			_, _ = rw.Write(answer.Body.Bytes())
			return
		}
		sim.ServeHTTP(rw, r)
		return
	}
	vrf := w.vrf(l)
	w.mu.Lock()
	if w.flying[vrf]++; w.flying[vrf] > 1 {
		w.broken = append(w.broken, "two POSTs at a time to VRF "+vrf)
	}
	sum := 0
	for _, n := range w.flying {
		sum += n
	}
	w.most = max(w.most, sum)
	w.mu.Unlock()
	defer func() { // also when the simulator hangs up
		w.mu.Lock()
		w.flying[vrf]--
		w.mu.Unlock()
		w.checkUnique()
	}()
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	first, late := w.first, w.late
	w.first = nil
	for part, text := range w.deny {
		if strings.Contains(string(body), part) {
			w.fault(apicsim.Fault{Match: "^POST " + r.URL.Path, Status: 400, Code: "120", Text: strings.ReplaceAll(text, "$COOKIE", r.Header.Get("Cookie"))})
			break
		}
	}
	w.mu.Unlock()
	if first != nil {
		first()
	}
	if late == 0 {
		sim.ServeHTTP(rw, r)
		return
	}
	answer := httptest.NewRecorder()
	sim.ServeHTTP(answer, r)
	time.Sleep(late)
	rw.WriteHeader(answer.Code)
	_, _ = rw.Write(answer.Body.Bytes())
}

// whenRead runs f between the reading of an object and the answer.
func (w *world) whenRead(f func(r *http.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onRead = f
}

// refuse makes the APIC refuse bodies that contain part, saying text; "" relents. $COOKIE in it is that of the request.
func (w *world) refuse(part, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deny == nil {
		w.deny = map[string]string{}
	}
	if w.deny[part] = text; text == "" {
		delete(w.deny, part)
	}
}

func (w *world) checkUnique() {
	dump := w.sim.Dump("uni/tn-T")
	w.mu.Lock()
	defer w.mu.Unlock()
	at := map[string]aci.ExtEPG{}
	for line := range strings.Lines(dump) {
		bearer, mark, ok := strings.Cut(line, "/annotationKey-[aci-sync] ")
		e, rest, _ := aci.ExtEPGOf(aci.DN(bearer))
		ip, isSubnet := aci.SubnetIP(rest)
		if !ok || !isSubnet || !strings.Contains(mark, `value="`+string(owner)+` `) {
			continue
		}
		key := w.vrf(e.L3Out) + " " + ip
		if other, twice := at[key]; twice {
			w.broken = append(w.broken, fmt.Sprintf("%s of VRF %s is in %s and %s at %s", ip, w.vrf(e.L3Out), other, e, clock()))
		}
		at[key] = e
	}
}

// run starts a client and a controller that is told of all that the cluster holds.
func (w *world) run() {
	w.connect()
	w.remind(w.loop)
	for _, r := range slices.SortedFunc(maps.Keys(w.objects), desired.Ref.Compare) {
		w.loop.Fold(r, w.objects[r])
	}
	w.loop.Synced()
}

// build makes a client and a controller; once, if it only looks once.
func (w *world) build(once bool) (*apic.Client, *controller.Controller) {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var members []*url.URL
	for i := range w.members {
		members = append(members, &url.URL{Scheme: "http", Host: member(i)})
	}
	client, err := apic.New(members, "admin", apic.Options{
		OnRequest: func(string, int, time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked = append(w.asked, time.Now())
		},
		Password:    aci.Secret(cmp.Or(w.opts.password, "apic-sim")),
		DialContext: w.net.DialContext, Logger: log, ReadOnce: once,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	policy := plan.Policy{Owner: owner, Scope: aci.Scope{"import-security"}}
	if w.opts.policy != nil {
		w.opts.policy(&policy)
	}
	var writer controller.Writer = client
	if w.opts.dry {
		writer = nil
	}
	loop := controller.New(client, writer, w, controller.Options{
		Desired: desired.Options{Expose: desired.Expose{Pods: true, Services: true}},
		Records: !w.opts.unrecorded, Policy: policy, ResyncInterval: w.opts.resync, Logger: log, Metrics: w.opts.metrics,
		Capacity: w.opts.capacity,
	})
	return client, loop
}

// remind tells a controller of all records.
func (w *world) remind(loop *controller.Controller) {
	for _, e := range slices.SortedFunc(maps.Keys(w.records), aci.ExtEPG.Compare) {
		rec := w.records[e]
		loop.Recorded(e, &rec)
	}
}

// connect is run without a word of the cluster.
func (w *world) connect() {
	w.t.Helper()
	client, loop := w.build(false)
	ctx, cancel := context.WithCancel(w.t.Context())
	session, logout := context.WithCancel(context.WithoutCancel(ctx))
	ran, closed := make(chan error), make(chan error)
	go func() { ran <- loop.Run(ctx) }()
	go func() { closed <- client.Run(session) }()
	w.loop = loop
	w.end = func() time.Duration {
		w.end = nil
		began := time.Now()
		cancel()
		if err := <-ran; err != nil {
			w.t.Errorf("run: %v", err)
		}
		took := time.Since(began)
		logout()
		if err := <-closed; err != nil {
			w.t.Errorf("client: %v", err)
		}
		return took
	}
}

// another makes a controller with a client of its own, beside the one that runs, and tells it all that the
// cluster holds. The function ends its session.
func (w *world) another(once bool) (*controller.Controller, func()) {
	w.t.Helper()
	client, loop := w.build(once)
	session, logout := context.WithCancel(w.t.Context())
	closed := make(chan error)
	go func() { closed <- client.Run(session) }()
	w.remind(loop)
	for _, r := range slices.SortedFunc(maps.Keys(w.objects), desired.Ref.Compare) {
		loop.Fold(r, w.objects[r])
	}
	loop.Synced()
	return loop, func() {
		logout()
		if err := <-closed; err != nil {
			w.t.Errorf("client: %v", err)
		}
	}
}

// preview looks once, with a controller and a client of its own.
func (w *world) preview() (controller.Preview, error) {
	w.t.Helper()
	loop, end := w.another(true)
	defer end()
	return loop.Plan(w.t.Context())
}

// restart ends the controller and starts another one.
func (w *world) restart() {
	w.end()
	w.run()
}

// sleep lets time pass, and all that it brings about come to rest.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Write takes the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// Note makes world a Cluster.
func (w *world) Note(to desired.Ref, _ bool, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, reason+" "+to.Name)
	w.said = append(w.said, message)
}

// Record keeps a record as the cluster does, and tells of it.
func (w *world) Record(_ context.Context, rec desired.Record, st desired.Status) error {
	w.mu.Lock()
	if whose := w.others[rec.EPG]; whose != "" {
		w.mu.Unlock()
		return fmt.Errorf("%w: %s", desired.ErrOtherRecord, whose)
	}
	was, had := w.records[rec.EPG]
	rec.Approved = was.Approved
	if !had || !was.Equal(rec) || !reflect.DeepEqual(w.statuses[rec.EPG], st) {
		w.recorded++
	}
	w.records[rec.EPG], w.statuses[rec.EPG] = rec, st
	w.mu.Unlock()
	if !had || !was.Equal(rec) {
		w.loop.Recorded(rec.EPG, &rec)
	}
	return nil
}

// Answer keeps what became of an approval.
func (w *world) Answer(_ context.Context, e aci.ExtEPG, answer string) error {
	w.mu.Lock()
	w.answers = append(w.answers, answer)
	rec := w.records[e]
	rec.Approved = ""
	w.records[e] = rec
	w.mu.Unlock()
	w.loop.Recorded(e, &rec)
	return nil
}

// Forget deletes a record.
func (w *world) Forget(_ context.Context, e aci.ExtEPG) error {
	w.mu.Lock()
	delete(w.records, e)
	delete(w.statuses, e)
	w.mu.Unlock()
	w.loop.Recorded(e, nil)
	return nil
}

// extEPG is that of a path such as "a/web".
func extEPG(path string) aci.ExtEPG {
	l3out, name, _ := strings.Cut(path, "/")
	return aci.ExtEPG{L3Out: aci.L3Out{Tenant: "T", Name: l3out}, Name: name}
}

// record is that of an EPG such as "a/web" with its status, as lines.
func (w *world) record(epg string) string {
	e := extEPG(epg)
	w.mu.Lock()
	defer w.mu.Unlock()
	rec, ok := w.records[e]
	if !ok {
		return "none"
	}
	var b strings.Builder
	if rec.Managed != nil {
		fmt.Fprintf(&b, "managed=%t ", *rec.Managed)
	}
	if rec.Owner != "" {
		fmt.Fprintf(&b, "owner=%s ", rec.Owner)
	}
	if rec.Paused {
		b.WriteString("paused ")
	}
	for _, m := range rec.Members {
		b.WriteString(m.Ref.Name + " ")
	}
	st := w.statuses[e]
	fmt.Fprintf(&b, "%d/%d %s", st.Present, st.Desired, st.Ready.Reason)
	for _, q := range st.Problems {
		b.WriteString(" " + q.Reason)
	}
	return b.String()
}

// notes are the Events since the last forget, as "Reason workload", without those of success.
func (w *world) notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.told), func(s string) bool { return strings.HasPrefix(s, controller.ReasonSynced) })
}

// The cluster.

// fold puts an object into the cluster, or takes it out, and tells the controller.
func (w *world) fold(kind, name string, obj metav1.Object) {
	r := desired.Ref{Kind: kind, Namespace: "shop", Name: name}
	if w.objects[r] = obj; obj == nil {
		delete(w.objects, r)
	}
	if w.end != nil {
		w.loop.Fold(r, obj)
	}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)}
}

func owned(name, kind, by string) metav1.ObjectMeta {
	m := meta(name)
	m.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: by, UID: types.UID("uid-" + by), Controller: new(true)}}
	return m
}

// deploy makes a Deployment for an EPG such as "a/web", or changes it, and Pods for ips.
func (w *world) deploy(name, epg string, ips ...string) {
	l3out, e, _ := strings.Cut(epg, "/")
	w.annotate(name, fmt.Sprintf(`{"tenant":"T","l3out":%q,"epg":%q}`, l3out, e))
	w.pods(name, ips...)
}

// annotate makes or changes a Deployment; "" is no annotation.
func (w *world) annotate(name, annotation string) {
	d := &appsv1.Deployment{ObjectMeta: meta(name)}
	if old := w.objects[desired.Ref{Kind: desired.KindDeployment, Namespace: "shop", Name: name}]; old != nil {
		d.CreationTimestamp = old.GetCreationTimestamp()
	} else {
		w.age += time.Second
		d.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0).Add(w.age))
	}
	d.Spec.Template.Labels = map[string]string{"app": name}
	if annotation != "" {
		d.Annotations = map[string]string{desired.Annotation: annotation}
	}
	w.fold(desired.KindDeployment, name, d)
	w.fold(desired.KindReplicaSet, name+"-rs", &metav1.PartialObjectMetadata{ObjectMeta: owned(name+"-rs", desired.KindDeployment, name)})
}

// pods makes Pods of a Deployment, named after their addresses.
func (w *world) pods(deployment string, ips ...string) {
	for _, ip := range ips {
		w.podNamed(deployment, "pod-"+ip, ip)
	}
}

func (w *world) podNamed(deployment, name, ip string) {
	p := &corev1.Pod{ObjectMeta: owned(name, desired.KindReplicaSet, deployment+"-rs")}
	p.UID += types.UID("-" + deployment)
	p.Status.PodIPs = []corev1.PodIP{{IP: ip}}
	w.fold(desired.KindPod, name, p)
}

// unpod deletes Pods.
func (w *world) unpod(ips ...string) {
	for _, ip := range ips {
		w.fold(desired.KindPod, "pod-"+ip, nil)
	}
}

// undeploy deletes a Deployment and its Pods.
func (w *world) undeploy(name string, ips ...string) {
	w.fold(desired.KindDeployment, name, nil)
	w.unpod(ips...)
}

// addrs are n addresses.
func addrs(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("10.%d.%d.%d", 1+i/62500, i/250%250, 1+i%250)
	}
	return out
}

// The fabric.

// dn is the DN of "a", "a/web" or "a/web/10.0.0.1" in tenant T.
func dn(path string) string {
	p := strings.SplitN(path, "/", 3)
	d := "uni/tn-T/out-" + p[0]
	if len(p) > 1 {
		d += "/instP-" + p[1]
	}
	if len(p) > 2 {
		d += "/extsubnet-[" + p[2] + "/32]"
	}
	return d
}

// hand writes a body on the APIC as a person does.
func (w *world) hand(at, body string) {
	w.t.Helper()
	if err := w.sim.Post(at, body); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) makeL3Out(l string) {
	w.hand("uni/tn-T", fmt.Sprintf(`{"fvCtx":{"attributes":{"name":%q}}}`, w.opts.vrfs[l]))
	w.hand("uni/tn-T", fmt.Sprintf(`{"l3extOut":{"attributes":{"name":%q},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":%q}}}]}}`,
		l, w.opts.vrfs[l]))
}

// set makes the EPG or address at path, and the EPG around it, if need be, and sets attributes
// written as `"k":"v"`.
func (w *world) set(path, attrs string) {
	w.t.Helper()
	p := strings.SplitN(path, "/", 3)
	body := fmt.Sprintf(`{"l3extInstP":{"attributes":{"name":%q,%s}}}`, p[1], attrs)
	if len(p) == 3 {
		body = fmt.Sprintf(`{"l3extInstP":{"attributes":{"name":%q},"children":[{"l3extSubnet":{"attributes":{"ip":"%s/32",%s}}}]}}`,
			p[1], p[2], attrs)
	}
	w.hand(dn(p[0]), body)
}

// child makes a child of the object at path.
func (w *world) child(path, class, attrs string) {
	w.t.Helper()
	w.hand(dn(path), fmt.Sprintf(`{%q:{"attributes":{%s}}}`, class, attrs))
}

func (w *world) tag(path, key, value string) {
	w.t.Helper()
	w.child(path, "tagAnnotation", fmt.Sprintf(`"key":%q,"value":%q`, key, value))
}

func (w *world) untag(path, key string) {
	w.t.Helper()
	w.remove(dn(path) + "/annotationKey-[" + key + "]")
}

// ours makes an EPG and addresses in it as an earlier run of ours left them.
func (w *world) ours(epg string, ips ...string) {
	w.t.Helper()
	w.set(epg, `"annotation":"`+owner.Annotation()+`"`)
	w.tag(epg, aci.OwnerKey, owner.Mark(aci.DN(dn(epg))))
	for _, ip := range ips {
		path := epg + "/" + ip
		w.set(path, `"name":"shop::pod-`+ip+`","scope":"import-security","annotation":"`+owner.Annotation()+`"`)
		w.tag(path, aci.OwnerKey, owner.Mark(aci.DN(dn(path))))
	}
}

// remove deletes an object as a person does.
func (w *world) remove(dn string) {
	w.t.Helper()
	if err := w.sim.Delete(dn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) fault(f apicsim.Fault) {
	w.t.Helper()
	if err := w.sim.AddFault(f); err != nil {
		w.t.Fatal(err)
	}
}

// failing is a fault of all full reads of an L3Out, named as in its DN.
func failing(rn string) apicsim.Fault {
	return apicsim.Fault{Match: "GET .*/" + rn + `\.json.*page=0`, Times: -1, Status: 503}
}

// postFault arms a fault of POSTs to L3Outs, of all of them when times is negative.
func (w *world) postFault(times int, f apicsim.Fault) {
	w.t.Helper()
	f.Match, f.Times = `^POST /api/mo/uni`, times
	w.fault(f)
}

// drop loses the events of all objects whose DN fits match.
func (w *world) drop(match string) {
	w.t.Helper()
	if err := w.sim.DropEvents(-1, match); err != nil {
		w.t.Fatal(err)
	}
}

var dumpLine = regexp.MustCompile(`^uni/tn-T/out-(\w+)/instP-(\w+)(?:/extsubnet-\[([^]]+)\])?(/annotationKey-\[aci-sync\])? (\w+)(.*)$`)

// fabric lists the external EPGs with their addresses, one EPG a line: "a/web*: 10.0.0.1*".
// The star is our mark.
func (w *world) fabric() string {
	type epg struct {
		marked bool
		ips    map[string]bool // address -> marked
	}
	epgs := map[string]*epg{}
	for line := range strings.Lines(w.sim.Dump("uni/tn-T")) {
		m := dumpLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		name, ip := m[1]+"/"+m[2], strings.TrimSuffix(m[3], "/32")
		e := epgs[name]
		if e == nil {
			e = &epg{ips: map[string]bool{}}
			epgs[name] = e
		}
		bearer, _, _ := strings.Cut(line, "/annotationKey-")
		ours := m[4] != "" && strings.Contains(m[6], `value="`+owner.Mark(aci.DN(bearer))+`"`)
		switch {
		case ip == "":
			e.marked = e.marked || ours
		case m[5] == "l3extSubnet" || m[4] != "":
			e.ips[ip] = e.ips[ip] || ours
		}
	}
	star := map[bool]string{true: "*"}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(epgs)) {
		b.WriteString(name + star[epgs[name].marked] + ":")
		for _, ip := range slices.Sorted(maps.Keys(epgs[name].ips)) {
			b.WriteString(" " + ip + star[epgs[name].ips[ip]])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// want compares the fabric with lines.
func (w *world) want(lines ...string) {
	w.t.Helper()
	want := ""
	if len(lines) > 0 {
		want = strings.Join(lines, "\n") + "\n"
	}
	if diff := gocmp.Diff(want, w.fabric()); diff != "" {
		w.t.Fatalf("fabric after %s (-want +got):\n%s", clock(), diff)
	}
}

// clock is the time since the bubble began.
func clock() time.Duration {
	return time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Round(time.Millisecond)
}

// Requests.

// forget makes posts, reads, requests and notes begin from here.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told, w.most = nil, 0
	w.seen = 0
	if all := w.sim.Requests(0); len(all) > 0 {
		w.seen = all[len(all)-1].Seq
	}
}

// requests are those since the last forget.
func (w *world) requests() []apicsim.Request { return w.sim.Requests(w.seen) }

// posts are the writes among the requests.
func (w *world) posts() []apicsim.Request {
	return slices.DeleteFunc(w.requests(), func(r apicsim.Request) bool {
		return r.Method != http.MethodPost || !strings.HasPrefix(r.Path, "/api/mo/")
	})
}

// reads are the reads of policy whose path and query contain part.
func (w *world) reads(part string) int {
	n := 0
	for _, r := range w.requests() {
		q, _ := url.QueryUnescape(r.Query)
		if r.Method == http.MethodGet && strings.Contains(r.Path+"?"+q, part) {
			n++
		}
	}
	return n
}

// wantPosts fails unless there were n writes since the last forget.
func (w *world) wantPosts(n int) {
	w.t.Helper()
	if got := w.posts(); len(got) != n {
		w.t.Fatalf("%d POSTs at %s, want %d:\n%s", len(got), clock(), n, bodies(got))
	}
}

// answerLate delays the answers to POSTs by d, after they were carried out.
func (w *world) answerLate(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = d
}

// beforePost runs f when the next POST has come, before it is carried out.
func (w *world) beforePost(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first = f
}

// bodies prints requests for people.
func bodies(list []apicsim.Request) string {
	var b strings.Builder
	for _, r := range list {
		fmt.Fprintf(&b, "%s %s %d %s\n", r.Time.Format("04:05.000"), r.Path, r.Status, r.Body[:min(len(r.Body), 600)])
	}
	return b.String()
}

var _ io.Writer = (*world)(nil)
