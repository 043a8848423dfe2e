package history_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/memnet"
	"github.com/haystacknetworks/aci-sync/internal/plan"
	"github.com/haystacknetworks/aci-sync/test/history"
)

const (
	// resync is short, for what nobody announces is to be noticed while a history settles.
	resync = 50 * time.Second
	// restful is after how long without a POST all has come to rest: longer than a resync with its jitter,
	// and than an L3Out or a deletion that waits is looked at again.
	restful = 65 * time.Second
	// longest is how long it may take until nothing is written any more: an object that was put back a
	// few times in a row waits ten minutes.
	longest = 15 * time.Minute
)

// world is a fabric, a cluster and a controller between them. It lives in a bubble.
type world struct {
	t    *testing.T
	with map[string]bool
	sim  *apicsim.Sim
	net  memnet.Network

	cluster  *history.Cluster
	told     map[history.Ref]metav1.Object // as the controller was told last
	mind     *history.Mind
	deaf     bool
	run      *run // nil while aci-sync is down
	snapshot history.Fabric
	shuffle  *rand.Rand // tells objects in any order; nil: sorted

	last     history.Fabric // when all had come to rest
	was      map[string]history.Record
	touched  map[string]time.Time // paths that people touched since, by what is announced
	stripped map[string]time.Time // those that they took the mark off
	lost     bool                 // events may have been lost since
	aged     bool                 // what was paused since was so for a while before anything else
	since    int                  // steps since
	exact    bool                 // no time passed since

	steps   int           // done
	guarded int           // how often the orphan guard had to hold
	lasted  time.Duration // at the end
	dump    string        // of the fabric, at the end

	storms  *storms  // nil in plain histories
	leaders *leaders // nil where one aci-sync runs without a lease

	fabric sync.Mutex // held while somebody writes the fabric

	mu sync.Mutex
	// mu guards the fields below.
	records  map[aci.ExtEPG]desired.Record
	statuses map[aci.ExtEPG]desired.Status
	posts    int
	posted   time.Time // when the last one came
	kill     string    // "before" or "after": what to do at the next POST
	broken   []string
	log      bytes.Buffer
}

// run is one aci-sync, from its start to its end.
type run struct {
	*world
	loop   *controller.Controller
	client *apic.Client
	end    func()

	replica *replica // nil for one without a lease

	mu     sync.Mutex
	dead   bool
	begun  bool // it said that it is in control
	conns  []net.Conn
	flying map[string]int // VRF -> POSTs being answered

	made map[string]bool // EPGs that it made, which it knows before they can be recorded; world.fabric guards it
}

// clock is the time since the bubble began.
func clock() time.Duration {
	return time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Round(time.Millisecond)
}

func begin(t *testing.T, with []string) *world {
	w := &world{
		t: t, with: map[string]bool{}, cluster: history.NewCluster(), exact: true,
		records: map[aci.ExtEPG]desired.Record{}, statuses: map[aci.ExtEPG]desired.Status{},
	}
	for _, s := range with {
		w.with[s] = true
	}
	if w.with["storms"] || replicas(w.with) > 0 {
		w.storms = &storms{world: w, flow: newFlow(), stats: newStats()}
	}
	if n := replicas(w.with); n > 0 {
		w.leaders = newLeaders(w, n)
	}
	w.sim = apicsim.New(apicsim.Options{ObserveTags: w.with["tags"], ModifyCreates: w.with["modified"]})
	w.rested(nil)
	w.edit(history.SetUp())
	w.rested(w.look())
	l, err := w.net.Listen("apic1:80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(w.serve)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		w.sim.Close()
		_ = srv.Close()
		wg.Wait()
	})
	return w
}

func (w *world) close() {
	w.dump, w.lasted = w.sim.Dump("uni"), clock()
	if w.leaders != nil {
		w.leaders.close()
		return
	}
	if w.run != nil {
		w.run.end()
	}
}

func (w *world) sleep(d time.Duration) {
	if w.leaders != nil {
		w.leaders.sleep(d)
		return
	}
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) look() history.Fabric { return history.ParseDump(w.sim.Dump("uni")) }

func (w *world) complain(list ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, list...)
}

// The APIC.

// serve lets the simulator answer, and judges each POST of the controller.
func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.storms.count(r)
	l3out := history.Path(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/mo/"), ".json"))
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/api/mo/") {
		if !w.storms.delay(r.Context()) {
			panic(http.ErrAbortHandler)
		}
		w.sim.ServeHTTP(rw, r)
		return
	}
	if l3out == "" || strings.Contains(l3out, "/") {
		w.complain("POST to " + r.URL.Path + ", which is no L3Out")
	}
	arrived := time.Now()
	body, _ := io.ReadAll(r.Body) // before the locks: nobody may wait for one while time passes
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.fabric.Lock()
	vrf, _ := w.look().VRF(l3out)
	fresh := w.fresh(l3out)
	w.fabric.Unlock()

	from := w.from(r)
	w.mu.Lock()
	w.posts++
	w.posted = time.Now()
	kill := w.kill
	w.kill = ""
	w.mu.Unlock()
	if from.fly(vrf, 1) > 1 && !fresh {
		w.complain("two POSTs at a time to " + vrf)
	}
	defer from.fly(vrf, -1) // also when the simulator hangs up
	if w.with["slow"] {
		time.Sleep(300 * time.Millisecond)
	}
	if !w.storms.delay(r.Context()) {
		panic(http.ErrAbortHandler)
	}
	if kill == "before" {
		from.die()
	}
	if from.isDead() {
		panic(http.ErrAbortHandler)
	}
	w.fabric.Lock()
	defer w.fabric.Unlock()
	w.leaders.judge(from)
	before, seen := w.look(), w.sim.Stats().ConflictsSeen
	defer func() {
		t := history.Transaction{
			Before: before, After: w.look(), Modified: w.with["modified"], Policies: w.with,
			Fresh: w.fresh,
			UnderWay: func(path string) bool {
				at, touched := w.touched[path]
				return touched && !at.Before(arrived)
			},
			Stripped: func(path string) bool {
				at, stripped := w.stripped[path]
				silent := w.touched[path].Before(at) && !w.with["tags"]
				return stripped && (silent || w.fresh(path))
			},
			Recorded: func(epg string) bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				rec := w.records[extEPG(epg)]
				return from.made[epg] || rec.Managed != nil && *rec.Managed
			},
		}
		bad := t.Written()
		for _, p := range history.Paths() {
			if strings.Count(p, "/") == 1 && t.After.Ours(p) && before[history.DN(p)] == "" {
				from.made[p] = true
			}
		}
		if n := w.sim.Stats().ConflictsSeen - seen; n > 0 && onlyCreates(body) && !slices.ContainsFunc(history.Paths(), w.fresh) {
			bad = append(bad, fmt.Sprintf("F0467, %d times", n))
		}
		if len(bad) > 0 {
			w.complain(fmt.Sprintf("%s POST %s %s", clock(), r.URL.Path, body))
			w.complain(bad...)
		}
	}()
	if kill == "after" {
		w.sim.ServeHTTP(discard{}, r)
		from.die()
		panic(http.ErrAbortHandler)
	}
	w.sim.ServeHTTP(rw, r)
}

// onlyCreates reports whether a body puts no flag back on what was there: that may bring back a conflict that
// began beside it.
func onlyCreates(body []byte) bool {
	return bytes.Count(body, []byte(`"status":"modified"`)) <= 1 // that of the external EPG around them
}

// discard is an answer that nobody gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// edit does what people do on the APIC.
func (w *world) edit(edits []history.Edit) {
	w.fabric.Lock()
	defer w.fabric.Unlock()
	for _, e := range edits {
		var err error
		switch {
		case e.Body == "":
			err = w.sim.Delete(e.DN)
		case e.Seed:
			err = w.sim.Seed([]byte(e.Body))
		default:
			err = w.sim.Post(e.DN, e.Body)
		}
		if err != nil {
			w.complain("a person cannot " + err.Error())
		}
		w.touch(e)
	}
}

// touch notes that people touched an object, with all that is in it. What they write below an L3Out
// does not touch that, but for its VRF.
func (w *world) touch(e history.Edit) {
	now := time.Now()
	if dn, ok := strings.CutSuffix(e.DN, "/annotationKey-[aci-sync]"); ok && e.Body == "" {
		w.stripped[history.Path(dn)] = now
		if !w.with["tags"] {
			return
		}
	}
	for d := e.DN; ; d = d[:strings.LastIndexByte(d, '/')] {
		if p := history.Path(d); p != "" {
			if d == e.DN || strings.Contains(p, "/") || strings.HasSuffix(e.DN, "/rsectx") {
				w.touched[p] = now
			}
			break
		}
		if !strings.Contains(d, "/") {
			break
		}
	}
	for _, p := range history.Paths() {
		if strings.HasPrefix(history.DN(p), e.DN+"/") {
			w.touched[p] = now
		}
	}
}

func (w *world) fault(what string) {
	w.lost = w.lost || slices.Contains([]string{"reads", "events", "sessions", "sockets"}, what)
	const post = "^POST /api/mo/"
	var err error
	switch what {
	case "503":
		err = w.sim.AddFault(apicsim.Fault{Match: post, Status: 503})
	case "before":
		err = w.sim.AddFault(apicsim.Fault{Match: post, Hangup: true})
	case "after":
		err = w.sim.AddFault(apicsim.Fault{Match: post, Hangup: true, After: true})
	case "202":
		err = w.sim.AddFault(apicsim.Fault{Match: post, Status: 202})
	case "reads":
		err = w.sim.AddFault(apicsim.Fault{Match: "^GET /api/", Status: 503, Times: 3})
	case "events":
		err = w.sim.DropEvents(4, "")
	case "sessions":
		w.sim.ExpireSessions()
	case "sockets":
		w.sim.CloseSockets()
	}
	if err != nil {
		w.t.Error(err)
	}
}

// aci-sync.

// start starts a controller that is told all that the cluster holds.
func (w *world) start() {
	if w.leaders != nil {
		w.leaders.begin()
		return
	}
	if w.run != nil {
		return
	}
	r := w.build(false)
	w.run = r
	ctx, cancel := context.WithCancel(w.t.Context())
	session, logout := context.WithCancel(context.WithoutCancel(ctx))
	ran, closed := make(chan error), make(chan error)
	go func() { ran <- r.loop.Run(ctx) }()
	go func() { closed <- r.client.Run(session) }()
	r.end = func() {
		cancel()
		if err := <-ran; err != nil {
			w.t.Errorf("run: %v", err)
		}
		logout()
		if err := <-closed; err != nil {
			w.t.Errorf("client: %v", err)
		}
		w.run = nil
	}
	w.deaf = false
	mind := w.newMind()
	if w.mind != nil {
		mind.Follow(w.mind)
	}
	w.mind = mind
	w.mind.Hear(w.cluster.Clone())
	w.inform(r.loop)
}

// inform tells a controller of all that there is.
func (w *world) inform(loop *controller.Controller) {
	w.mu.Lock()
	records := maps.Clone(w.records)
	w.mu.Unlock()
	for _, e := range slices.SortedFunc(maps.Keys(records), aci.ExtEPG.Compare) {
		rec := records[e]
		loop.Recorded(e, &rec)
	}
	w.told = w.cluster.Objects()
	for _, r := range w.refs(w.told) {
		loop.Fold(desired.Ref(r), w.told[r])
	}
	loop.Synced()
}

// refs are the names of objects in the order in which they are told.
func (w *world) refs(objects map[history.Ref]metav1.Object) []history.Ref {
	list := slices.SortedFunc(maps.Keys(objects), func(a, b history.Ref) int { return desired.Ref(a).Compare(desired.Ref(b)) })
	if w.shuffle != nil {
		w.shuffle.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	return list
}

// newMind is what a controller that starts now finds in the cluster's records.
func (w *world) newMind() *history.Mind {
	return history.NewMind(w.members())
}

// members are the workloads in the records.
func (w *world) members() []history.Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	var members []history.Member
	for _, e := range slices.SortedFunc(maps.Keys(w.records), aci.ExtEPG.Compare) {
		for _, m := range w.records[e].Members {
			x := desired.Expose{Pods: true, Services: true}
			if m.Expose != nil {
				x = *m.Expose
			}
			members = append(members, history.Member{UID: m.UID, EPG: path(e), Pods: x.Pods, Services: x.Services})
		}
	}
	return members
}

func path(e aci.ExtEPG) string { return e.L3Out.Name + "/" + e.Name }

func extEPG(path string) aci.ExtEPG {
	e, _, _ := aci.ExtEPGOf(aci.DN(history.DN(path)))
	return e
}

func (w *world) build(once bool) *run {
	return w.buildOf(&run{world: w, flying: map[string]int{}, made: map[string]bool{}}, once)
}

func (w *world) buildOf(r *run, once bool) *run {
	log := slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	r.client, err = apic.New([]*url.URL{{Scheme: "http", Host: "apic1"}}, "admin", apic.Options{
		Password: aci.Secret("apic-sim"), DialContext: r.dial, Logger: log, ReadOnce: once, Rate: w.storms.rate(), Gate: r.replica.gate(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	policy := plan.Policy{
		Owner: history.Owner, Scope: aci.Scope{"import-security"}, Guard: plan.Guard{On: true, Limit: w.limit()},
		UpsertOnly: w.with["upsert"], DeleteUsed: w.with["always"],
	}
	if w.with["allow"] {
		if policy.Allow, err = plan.ParseAllow(history.Allowed); err != nil {
			w.t.Fatal(err)
		}
	}
	var writer controller.Writer = r.client
	if r.replica.isDry() {
		writer = nil
	}
	var cluster controller.Cluster = r
	if r.replica.isDry() {
		cluster = silent{r}
	}
	r.loop = controller.New(r.client, writer, cluster, controller.Options{
		Desired: desired.Options{Expose: desired.Expose{Pods: true, Services: true}},
		Records: true, Policy: policy, ResyncInterval: resync, Logger: log,
	})
	return r
}

// limit is that of the orphan guard.
func (w *world) limit() int {
	if w.with["guard"] {
		return 2
	}
	return 20
}

func (r *run) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := r.storms.travel(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead {
		return nil, errDead
	}
	c, err := r.net.DialContext(ctx, network, r.replica.way(addr))
	if err == nil {
		c = r.replica.outgoing(r.storms.over(c))
		r.conns = append(r.conns, c)
	}
	return c, err
}

var errDead = errors.New("this aci-sync is dead")

// fly counts the POSTs of r to a VRF that are under way.
func (r *run) fly(vrf string, n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flying[vrf] += n
	return r.flying[vrf]
}

// die cuts all connections of r, and takes nothing from it any more: what it does until it has
// ended reaches nobody.
func (r *run) die() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = true
	for _, c := range r.conns {
		_ = c.Close()
	}
}

func (r *run) isDead() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead
}

// Write takes the log.
func (r *run) Write(p []byte) (int, error) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	if r.isDead() {
		return len(p), nil
	}
	r.mu.Lock()
	r.begun = r.begun || bytes.Contains(p, []byte(`msg="in control"`))
	r.mu.Unlock()
	fmt.Fprintf(&r.log, "%s ", clock())
	return r.log.Write(p)
}

// Note makes run a Cluster.
func (r *run) Note(desired.Ref, bool, string, string) {}

// Record keeps a record as the cluster does, and tells of it.
func (r *run) Record(ctx context.Context, rec desired.Record, st desired.Status) error {
	if r.isDead() {
		return errDead
	}
	if err := r.replica.reach(ctx); err != nil {
		return err
	}
	r.world.mu.Lock()
	was, had := r.records[rec.EPG]
	fmt.Fprintf(&r.log, "%s record %s %s\n", clock(), rec.EPG, printed(rec, st))
	r.records[rec.EPG], r.statuses[rec.EPG] = rec, st
	r.world.mu.Unlock()
	if !had || !was.Equal(rec) {
		r.recorded(rec.EPG, &rec)
	}
	return nil
}

func printed(rec desired.Record, st desired.Status) string {
	managed := "unknown"
	if rec.Managed != nil {
		managed = fmt.Sprint(*rec.Managed)
	}
	return fmt.Sprintf("managed %s owner %q paused %t members %v, %d of %d, %s", managed, rec.Owner, rec.Paused, rec.Members, st.Present, st.Desired, st.Ready.Reason)
}

// Answer is for approvals, and there are none.
func (r *run) Answer(context.Context, aci.ExtEPG, string) error { return nil }

// Forget deletes a record.
func (r *run) Forget(ctx context.Context, e aci.ExtEPG) error {
	if r.isDead() {
		return errDead
	}
	if err := r.replica.reach(ctx); err != nil {
		return err
	}
	r.world.mu.Lock()
	fmt.Fprintf(&r.log, "%s forget %s\n", clock(), e)
	delete(r.records, e)
	delete(r.statuses, e)
	r.world.mu.Unlock()
	r.recorded(e, nil)
	return nil
}

// buried ends an aci-sync that died, and starts another one.
func (w *world) buried() {
	if w.leaders != nil {
		w.leaders.look()
		return
	}
	if w.run != nil && w.run.isDead() {
		old := w.mind
		defer func() { w.exact = w.exact && w.mind.Same(old) }() // what it did last, the next one might not have done
		w.run.end()
		w.start()
	}
}

// The steps.

// do does one step.
func (w *world) do(s history.Step) {
	w.steps++
	w.buried()
	w.mu.Lock()
	fmt.Fprintf(&w.log, "%s ===== %s\n", clock(), s)
	w.mu.Unlock()
	switch s.Verb {
	case "snapshot":
		w.snapshot = w.look()
	case "stop":
		if w.run != nil {
			w.run.end()
		}
	case "start":
		w.start()
	case "kill":
		if w.run == nil {
			break
		}
		if s.Args[0] == "now" {
			w.run.die()
			w.buried()
			break
		}
		w.mu.Lock()
		w.kill = s.Args[0]
		w.mu.Unlock()
	case "unwatch":
		w.deaf = true
	case "relist":
		w.relist(w.cluster)
	case "miss":
		w.relist(w.cluster.Without(s.Args[0]))
	case "lift":
		w.lift(extEPG(s.Args[0]))
	case "fault":
		w.fault(s.Args[0])
	case "storm":
		w.storms.begin(s.Storm())
	case "replica":
		w.leaders.hurt(s)
	case "sleep":
		if d, err := time.ParseDuration(s.Args[0]); err == nil {
			w.sleep(d)
			w.exact = false
		}
	case "rest":
		w.rest()
	case "settle":
		w.settle()
	default:
		if !w.cluster.Apply(s) {
			if w.edit(w.look().Edits(s, w.snapshot)); s.Verb == "hold" && w.since == 0 {
				w.sleep(6 * time.Second) // all is at rest, and nobody announces a tag: nothing happens
				w.aged = true
			} else if s.Verb == "hold" {
				w.aged = false
			}
		} else if w.leaders != nil {
			w.leaders.tell()
		} else if w.run != nil && !w.deaf {
			w.tell(w.cluster, w.run.loop.Fold, func(r desired.Ref) { w.run.loop.Fold(r, nil) })
		}
	}
	synctest.Wait()
	w.buried()
	if s.Verb != "settle" && s.Verb != "rest" {
		w.since++
	}
}

// relist tells the controller what a list holds and what it misses.
func (w *world) relist(c *history.Cluster) {
	if w.run != nil {
		w.fold(c, w.run.loop.Fold, w.run.loop.Missed)
		w.mind.HearList(c.Clone())
		w.deaf = false
	}
}

// tell tells the controller what differs from what it was told.
func (w *world) tell(c *history.Cluster, fold func(desired.Ref, metav1.Object), gone func(desired.Ref)) {
	w.fold(c, fold, gone)
	w.mind.Hear(c.Clone())
}

func (w *world) fold(c *history.Cluster, fold func(desired.Ref, metav1.Object), gone func(desired.Ref)) {
	now := c.Objects()
	for _, r := range w.refs(w.told) {
		if now[r] == nil {
			gone(desired.Ref(r))
		}
	}
	for _, r := range w.refs(now) {
		if !reflect.DeepEqual(w.told[r], now[r]) {
			fold(desired.Ref(r), now[r])
		}
	}
	w.told = now
	w.run.mu.Lock()
	if w.run.begun {
		w.mind.Begin()
	}
	w.run.mu.Unlock()
}

// lift ends a pause that is kept in a record, as a person does who edits it.
func (w *world) lift(e aci.ExtEPG) {
	w.mu.Lock()
	rec, ok := w.records[e]
	rec.Paused = false
	if ok {
		w.records[e] = rec
	}
	w.mu.Unlock()
	if ok && w.run != nil {
		w.run.loop.Recorded(e, &rec)
	}
	w.touched[path(e)] = time.Now()
}

// settle tells all that there is, lets all come to rest, and checks it.
func (w *world) settle() {
	if w.leaders == nil && w.run != nil {
		w.relist(w.cluster)
	}
	w.rest()
}

// rest lets all come to rest, and checks it.
func (w *world) rest() {
	if w.leaders != nil {
		w.leaders.heal()
	} else if w.run == nil {
		w.start()
	}
	before := w.look()
	w.sim.ClearFaults()
	w.storms.calm()
	w.sleep(2 * time.Second)
	w.mu.Lock()
	armed := w.kill != ""
	w.kill = ""
	w.mu.Unlock()
	if armed {
		w.run.die()
	}
	w.buried()
	w.leaders.await()
	w.storms.recover()
	for began := time.Now(); ; {
		w.mu.Lock()
		posts, run := w.posts, w.run
		w.mu.Unlock()
		w.sleep(restful)
		w.buried() // it may have died of what it wrote last
		w.mu.Lock()
		quiet := posts == w.posts && run == w.run
		w.mu.Unlock()
		if quiet {
			break
		}
		if time.Since(began) > longest {
			w.complain("it does not come to rest")
			return
		}
	}
	w.storms.judge()
	after := w.look()
	is := w.recordsOf()
	w.mind.Thaw(func(epg, ip string) bool { return before.Has(epg + "/" + ip) })
	s := history.Settled{
		Before: before, After: after, Last: w.last, Mind: w.mind, Was: w.was, Is: is, Exact: w.exact, Aged: w.aged, Guard: w.limit(),
		Lost: w.lost, Vague: w.leaders != nil || w.storms != nil, Policies: w.with,
		Touched: func(p string) bool { _, ok := w.touched[p]; return ok },
	}
	if w.complain(s.Check()...); s.Guarded() {
		w.guarded++
	}
	w.mind.Thaw(func(epg, ip string) bool { return after.Has(epg + "/" + ip) })
	w.mind.Rest(after, s.Touched)
	w.rested(after)
	w.storms.probe()
}

// rested notes how things were when all had come to rest.
func (w *world) rested(f history.Fabric) {
	w.last, w.was, w.exact, w.lost, w.aged, w.since = f, w.recordsOf(), true, false, false, 0
	w.touched, w.stripped = map[string]time.Time{}, map[string]time.Time{}
}

// fresh reports whether people touched a path so lately that the controller need not have heard of it.
func (w *world) fresh(path string) bool {
	at, touched := w.touched[path]
	return touched && (w.lost || time.Since(at) < announced)
}

// announced is how long it takes at most until an event is heard and what was under way is done.
const announced = 2 * time.Second

// recordsOf are the records by path.
func (w *world) recordsOf() map[string]history.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]history.Record{}
	for e, rec := range w.records {
		r := history.Record{
			Managed: rec.Managed, Owner: string(rec.Owner), Paused: rec.Paused,
			Desired: w.statuses[e].Desired, Present: w.statuses[e].Present,
		}
		for _, m := range rec.Members {
			r.Members = append(r.Members, m.UID)
		}
		out[path(e)] = r
	}
	return out
}

// finish checks that there is nothing left to do: by a plan, in a resync, and after a restart.
func (w *world) finish() {
	if w.leaders != nil {
		w.leaders.finish()
		return
	}
	next := w.newMind()
	if next.Hear(w.cluster.Clone()); !next.Same(w.mind) { // then a restart may leave something to do
		w.run.end()
		if w.settle(); len(w.broken) > 0 {
			return
		}
	}
	r := w.build(true)
	session, logout := context.WithCancel(w.t.Context())
	closed := make(chan error)
	go func() { closed <- r.client.Run(session) }()
	w.inform(r.loop)
	preview, err := r.loop.Plan(w.t.Context())
	logout()
	if err := errors.Join(err, <-closed); err != nil {
		w.complain("plan: " + err.Error())
	}
	for _, c := range preview.Changes {
		w.complain("a second plan is not empty: " + c.String())
	}
	posts := w.count()
	w.run.end()
	w.start()
	w.sleep(2 * resync)
	if n := w.count() - posts; n > 0 {
		w.complain(fmt.Sprintf("%d POSTs after a restart", n))
	}
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.posts
}
