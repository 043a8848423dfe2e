package history_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/test/history"
)

const (
	// stormRate is --apic-rate of an aci-sync in storms: so low that it matters.
	stormRate = 4
	// aMinute is how many requests there may be in one: the rate and its burst. Sockets are not counted.
	aMinute = 60*stormRate + 2*stormRate
	// reachable is how long after all storms it may take until session and socket are there again: the longest
	// backoff of both, one after the other, and what was on its way.
	reachable = 2 * time.Minute
	// refusedFor is the same after credentials or sessions were refused: the longest backoff of that.
	refusedFor = 38*time.Minute + reachable
	// right is how long it may take from then until the last write: what waits, and what only a read tells.
	right = 2*time.Minute + resync + resync/10
	// rightUnread is the same where nothing is read periodically: what was lost is known to be, and read at once, but for
	// the backoff of what failed before.
	rightUnread = time.Minute
)

// storms are what goes wrong on the APIC and the network before it, for a while each. A nil one is fair
// weather for ever.
type storms struct {
	world *world
	flow  *flow

	refuses bool // since all was at rest: some backoff may be long
	calmed  time.Time
	reached time.Time

	mu sync.Mutex
	// mu guards the fields below.
	on       []*blowing
	minute   int64 // since 1970
	requests int   // in it
	stats    *stats
}

// stats are what is printed of histories.
type stats struct {
	reached, right time.Duration // the longest it took
	minute         int           // the most requests in one
	storms         map[string]int
}

func newStats() *stats { return &stats{storms: map[string]int{}} }

type blowing struct {
	history.Storm
	timer *time.Timer
}

func (s *storms) rate() float64 {
	if s == nil {
		return 0
	}
	return stormRate
}

// count counts a request, and complains about too many.
func (s *storms) count(r *http.Request) {
	if s == nil || strings.HasPrefix(r.URL.Path, "/socket") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := time.Now().Unix() / 60; m != s.minute {
		s.minute, s.requests = m, 0
	}
	if s.requests++; s.requests == aMinute+1 {
		s.world.complain(fmt.Sprintf("%s more than %d requests in a minute", clock(), aMinute))
	}
	s.stats.minute = max(s.stats.minute, s.requests)
}

// begin begins a storm that ends after d.
func (s *storms) begin(storm history.Storm, d time.Duration) {
	if s == nil || d <= 0 {
		return
	}
	w := s.world
	w.exact = false
	w.lost = w.lost || storm.Lossy
	s.refuses = s.refuses || storm.Refuses
	b := &blowing{Storm: storm}
	s.mu.Lock()
	s.stats.storms[storm.Name]++
	s.on = append(s.on, b)
	b.timer = time.AfterFunc(d, func() { s.end(b) })
	s.blow()
	s.mu.Unlock()
	switch storm.Name {
	case "password":
		w.sim.SetUser(apicsim.User{Name: "admin", Password: "another"})
		w.sim.ExpireSessions()
	case "socketless":
		w.sim.CloseSockets()
	case "refused":
		w.cut()
	case "stalled":
		s.flow.stop()
	}
}

// end ends one storm.
func (s *storms) end(b *blowing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.on, b)
	if i < 0 {
		return
	}
	b.timer.Stop()
	s.on = slices.Delete(s.on, i, i+1)
	s.blow()
	switch b.Name {
	case "password":
		if !s.has("password") {
			s.world.sim.SetUser(apicsim.User{Name: "admin", Password: "apic-sim"})
		}
	case "stalled":
		s.flow.goOn()
	}
}

func (s *storms) has(name string) bool {
	return slices.ContainsFunc(s.on, func(b *blowing) bool { return b.Name == name })
}

// blow makes the faults of the simulator those of the storms that are on. s.mu is held.
func (s *storms) blow() {
	sim := s.world.sim
	sim.ClearFaults()
	for _, b := range s.on {
		f, ok := faults[b.Name]
		if !ok {
			continue
		}
		f.Times = -1
		if err := sim.AddFault(f); err != nil {
			s.world.complain(err.Error())
		}
	}
	if s.has("silent") {
		if err := sim.DropEvents(-1, ""); err != nil {
			s.world.complain(err.Error())
		}
	}
}

const (
	reads  = "^GET /api/(class|mo)/"
	writes = "^POST /api/mo/"
)

// faults are what storms are to the simulator; the others are no faults of requests.
var faults = map[string]apicsim.Fault{
	"down":       {Status: http.StatusServiceUnavailable},
	"writes":     {Match: writes, Status: http.StatusServiceUnavailable},
	"reads":      {Match: reads, Status: http.StatusServiceUnavailable},
	"logins":     {Match: "^POST /api/aaa", Status: http.StatusServiceUnavailable},
	"hangup":     {Match: "/api/", Hangup: true},
	"mute":       {Match: writes, Hangup: true, After: true},
	"late":       {Match: writes, Status: http.StatusGatewayTimeout, After: true},
	"accepted":   {Match: writes, Status: http.StatusAccepted},
	"empty":      {Match: reads, Empty: true},
	"big":        {Match: reads, Status: http.StatusBadRequest, Code: "1", Text: "Unable to process the query, result dataset is too big"},
	"tokens":     {Match: "^[A-Z]+ /api/(class|mo|subscriptionRefresh|aaaRefresh)", Status: http.StatusForbidden, Code: "403", Text: "Token was invalid (Error: Token timeout)"},
	"sessions":   {Match: writes, ExpireSessions: true},
	"sockets":    {Match: reads, CloseSockets: true},
	"socketless": {Match: "^GET /socket", Status: http.StatusServiceUnavailable},
	"unlocated": {
		Match: "subscription=yes", Status: http.StatusMethodNotAllowed, Code: "405",
		Text: "Subscription request failed, unable to locate opened web socket. Please re-login to the application",
	},
	"expired":   {Match: "^GET /api/subscriptionRefresh", Status: http.StatusBadRequest, Code: "400", Text: "Subscription refresh timeout"},
	"forgotten": {Match: "^GET /api/subscriptionRefresh", Status: http.StatusOK},
}

// delay lets the time pass that an answer takes, before any lock is held: nobody may wait for one while time passes.
// It returns false when the client gave up meanwhile.
func (s *storms) delay(ctx context.Context) bool {
	if s == nil {
		return true
	}
	var d time.Duration
	s.mu.Lock()
	for _, b := range s.on {
		d = max(d, map[string]time.Duration{"slow": 3 * time.Second, "crawl": 20 * time.Second}[b.Name])
	}
	s.mu.Unlock()
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// calm ends all storms.
func (s *storms) calm() {
	if s == nil {
		return
	}
	s.mu.Lock()
	on := slices.Clone(s.on)
	s.mu.Unlock()
	for _, b := range on {
		s.end(b)
	}
	s.calmed = time.Now()
}

// recover waits until session and socket are there again.
func (s *storms) recover() {
	if s == nil {
		return
	}
	w := s.world
	bound := reachable
	if s.refuses {
		bound = refusedFor
	}
	for !w.run.client.Healthy() {
		if time.Since(s.calmed) > bound {
			w.complain(fmt.Sprintf("%s no session or socket %v after all storms: %+v", clock(), bound, w.run.client.Status()))
			return
		}
		w.sleep(time.Second)
		w.buried()
	}
	s.reached = time.Now()
	s.stats.reached = max(s.stats.reached, s.reached.Sub(s.calmed))
}

// judge tells, when all is at rest, how long it took until then.
func (s *storms) judge() {
	if s == nil {
		return
	}
	w := s.world
	w.mu.Lock()
	took := w.posted.Sub(s.reached)
	fight := bytes.Contains(w.log.Bytes(), []byte("DriftFight"))
	w.mu.Unlock()
	s.refuses = false
	if fight {
		return // what others undo comes back ever more slowly
	}
	s.stats.right = max(s.stats.right, took)
	bound := right
	if w.with["unread"] {
		bound = rightUnread
	}
	if took > bound {
		w.complain(fmt.Sprintf("%s the last write came %v after the APIC could be reached", clock(), took))
	}
}

// probe has a person change one of ours, now that all is at rest: if that is put back at all, then at once, and not
// by the next read. So all subscriptions are there.
func (s *storms) probe() {
	if s == nil || len(s.world.broken) > 0 {
		return
	}
	w := s.world
	w.mu.Lock()
	fight := bytes.Contains(w.log.Bytes(), []byte("DriftFight"))
	w.mu.Unlock()
	var ours []string
	for _, p := range history.Paths() {
		if strings.Count(p, "/") == 2 && w.last.Ours(p) {
			ours = append(ours, p)
		}
	}
	if fight || len(ours) == 0 {
		return
	}
	p := ours[int(s.calmed.Unix())%len(ours)]
	w.edit(w.look().Edits(history.Step{Verb: "edit", Args: []string{p, "name"}}, nil))
	w.sleep(atOnce)
	soon := w.look()
	w.sleep(2 * resync)
	if w.with["unread"] {
		w.sim.CloseSockets() // what was not heard of is read now
		w.sleep(2 * resync)
	}
	w.buried()
	if later := w.look(); later.Ours(p) && soon.Name(p) != later.Name(p) {
		w.complain(fmt.Sprintf("%s the name of %s is not put back within %v, and is later", clock(), p, atOnce))
	}
	w.rested(w.look())
}

// fair lets nothing happen for longer than tokens and subscriptions live: what is refreshed in time needs no other
// login, no other socket, and no word in the log.
func (s *storms) fair() {
	if s == nil || !s.world.with["unread"] || time.Since(s.world.run.client.Status().Since) > 20*time.Hour {
		return // a session ends after a day
	}
	w := s.world
	w.mu.Lock()
	logged := w.log.Len()
	w.mu.Unlock()
	asked := len(w.wire.String())
	w.sleep(fairFor)
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.log.String()[logged:]) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			w.broken = append(w.broken, "in fair weather: "+line)
		}
	}
	for line := range strings.Lines(w.wire.String()[asked:]) {
		if strings.Contains(line, "/api/aaaLogin") || strings.Contains(line, "/socket") || strings.Contains(line, "subscription=yes") {
			w.broken = append(w.broken, "in fair weather: "+line)
		}
	}
	w.broken = w.broken[:min(len(w.broken), 10)]
}

// fairFor is longer than a subscription lives, and several times as long as a token.
const fairFor = 45 * time.Minute

// atOnce is within what time a change is put back that was announced.
const atOnce = 5 * time.Second

// cut cuts all connections to the APIC.
func (w *world) cut() {
	runs := []*run{w.run}
	if w.leaders != nil {
		runs = w.leaders.runs()
	}
	for _, r := range runs {
		if r == nil {
			continue
		}
		r.mu.Lock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.conns = nil
		r.mu.Unlock()
	}
}

// travel is the way of a connection that is to be made.
func (s *storms) travel(ctx context.Context) error {
	if s == nil {
		return nil
	}
	if err := s.flow.wait(ctx.Done()); err != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has("refused") {
		return &net.OpError{Op: "dial", Net: "mem", Err: syscall.ECONNREFUSED}
	}
	return nil
}

// over is a connection whose client is beyond the storms.
func (s *storms) over(c net.Conn) net.Conn {
	if s == nil {
		return c
	}
	return &held{Conn: c, flow: s.flow, closed: make(chan struct{})}
}

// flow lets pass, or holds up, what a process sends and gets.
type flow struct {
	mu sync.Mutex
	// mu guards the fields below.
	stops int
	open  chan struct{} // closed while it flows
}

func newFlow() *flow {
	f := &flow{open: make(chan struct{})}
	close(f.open)
	return f
}

func (f *flow) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stops++; f.stops == 1 {
		f.open = make(chan struct{})
	}
}

func (f *flow) goOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stops == 0 {
		return // flushed meanwhile
	}
	if f.stops--; f.stops == 0 {
		close(f.open)
	}
}

// flush lets all pass.
func (f *flow) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stops > 0 {
		f.stops = 0
		close(f.open)
	}
}

func (f *flow) flows() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stops == 0
}

// wait waits while it is held up; net.ErrClosed when done comes first.
func (f *flow) wait(done <-chan struct{}) error {
	for {
		f.mu.Lock()
		open := f.open
		f.mu.Unlock()
		select {
		case <-open:
			return nil
		default:
		}
		select {
		case <-open:
		case <-done:
			return net.ErrClosed
		}
	}
}

// held is a connection whose traffic is held up at times: by the network, and by a process that does not run.
type held struct {
	net.Conn
	flow   *flow
	halt   *flow // of the process; nil for one that always runs
	once   sync.Once
	closed chan struct{}
}

func (c *held) wait() error {
	if c.halt != nil {
		if err := c.halt.wait(c.closed); err != nil {
			return err
		}
	}
	return c.flow.wait(c.closed)
}

func (c *held) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if held := c.wait(); held != nil {
		return 0, held
	}
	return n, err
}

func (c *held) Write(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close ends reading and writing. Of a process that does not run the other end hears only afterwards.
func (c *held) Close() error {
	c.once.Do(func() { close(c.closed) })
	if c.halt != nil && !c.halt.flows() {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // who reads is waited for
		go func() {
			_ = c.halt.wait(nil)
			_ = c.Conn.Close()
		}()
		return nil
	}
	return c.Conn.Close()
}
