package history_test

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/test/history"
)

var storm = flag.Uint64("storm", 0, "play the storms of this seed only, and show all of it; with TestStorms")

var leader = flag.Uint64("leader", 0, "play the leaders of this seed only, and show all of it; with TestLeaders")

// TestStorms plays histories over which storms come.
func TestStorms(t *testing.T) {
	t.Parallel()
	simulate(t, *storm, history.GenerateStorms)
}

// TestLeaders plays histories of several replicas.
func TestLeaders(t *testing.T) {
	t.Parallel()
	simulate(t, *leader, history.GenerateLeaders)
}

// simulate plays the histories of fixed seeds and, as long as there is time, of fresh ones; or that of one.
func simulate(t *testing.T, one uint64, generate func(uint64) history.History) {
	t.Helper()
	if one != 0 {
		h := generate(one)
		t.Logf("seed %d:\n%s", one, h)
		report(t, h, fmt.Sprintf("seed %d", one))
		return
	}
	var (
		began    = time.Now()
		fresh    = uint64(began.UnixNano() / 1000)
		next     atomic.Uint64
		failures atomic.Int32

		mu        sync.Mutex
		histories int
		steps     int
		simulated time.Duration
		most      = newStats()
	)
	t.Logf("seeds 1 to %d, then from %d on", fixedStorms, fresh)
	t.Run("workers", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for failures.Load() < maxFailures && time.Since(began) < *budget/2 {
					n := next.Add(1)
					if n > fixedStorms {
						n = fresh + n - fixedStorms
					}
					h := generate(n)
					bad, w := play(t, h)
					mu.Lock()
					histories, steps, simulated = histories+1, steps+w.steps, simulated+w.lasted
					most.add(w.storms.stats)
					mu.Unlock()
					if len(bad) > 0 {
						failures.Add(1)
						if report(t, h, fmt.Sprintf("seed %d", n)); !t.Failed() {
							t.Errorf("seed %d failed, but does not always:\n%s\n%s", n, h, strings.Join(bad, "\n"))
						}
					}
				}
			})
		}
	})
	t.Logf("%d histories, %d steps, %v simulated, in %v", histories, steps, simulated.Round(time.Minute), time.Since(began).Round(time.Second))
	t.Logf("after all storms: session and socket within %v, right within %v of that; at most %d requests a minute, %d are allowed; %v",
		most.reached, most.right.Round(time.Second), most.minute, aMinute, most.storms)
}

// fixedStorms is how many seeds are always the same.
const fixedStorms = 40

func (s *stats) add(o *stats) {
	s.reached, s.right, s.minute = max(s.reached, o.reached), max(s.right, o.right), max(s.minute, o.minute)
	for k, n := range o.storms {
		s.storms[k] += n
	}
}
