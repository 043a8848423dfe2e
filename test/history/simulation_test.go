package history_test

import (
	"flag"
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

// simulate plays the histories of storms or leaders, or that of one, and prints what they took at most.
func simulate(t *testing.T, one uint64, generate func(uint64) history.History) {
	t.Helper()
	most := newStats()
	playSeeds(t, one, *budget/2, generate, func(w *world) { most.add(w.storms.stats) })
	t.Logf("after all storms: session and socket within %v, right within %v of that; at most %d requests a minute, %d are allowed; %v",
		most.reached, most.right.Round(time.Second), most.minute, aMinute, most.storms)
}

func (s *stats) add(o *stats) {
	s.reached, s.right, s.minute = max(s.reached, o.reached), max(s.right, o.right), max(s.minute, o.minute)
	for k, n := range o.storms {
		s.storms[k] += n
	}
}
