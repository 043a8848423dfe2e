package history_test

import (
	"flag"
	"runtime"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/test/history"
)

var storm = flag.Uint64("storm", 0, "play the storms of this seed only, and show all of it; with TestStorms")

var leader = flag.Uint64("leader", 0, "play the leaders of this seed only, and show all of it; with TestLeaders")

// TestStorms plays histories over which storms come. Nothing else runs meanwhile: else a seed would not play again
// as it did.
func TestStorms(t *testing.T) {
	simulate(t, *storm, history.GenerateStorms)
}

// TestLeaders plays histories of several replicas, by itself, too.
func TestLeaders(t *testing.T) {
	simulate(t, *leader, history.GenerateLeaders)
}

// simulate plays the histories of storms or leaders, or that of one, and prints what they took at most.
func simulate(t *testing.T, one uint64, generate func(uint64) history.History) {
	t.Helper()
	defer inOrder()()
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

// TestSeedsPlayAgain plays storms and leaders twice, and tells how many ask the same of the APIC, at the same times.
// Those that do not differ in which of several goroutines is the first that runs at one moment: where time slices
// end is the machine's doing.
func TestSeedsPlayAgain(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes goroutines run in any order")
	}
	defer inOrder()()
	const seeds = 10
	all := 0
	for name, generate := range map[string]func(uint64) history.History{"storms": history.GenerateStorms, "leaders": history.GenerateLeaders} {
		same := 0
		for seed := range uint64(seeds) {
			_, one := play(t, generate(seed+1))
			_, two := play(t, generate(seed+1))
			if one.wire.String() == two.wire.String() {
				same++
			}
		}
		t.Logf("%s: %d of %d are the same when they are played again", name, same, seeds)
		all += same
	}
	if all < seeds*2/5 {
		t.Error("hardly any is the same when it is played again: is there chance that has no seed, or the order of a map?")
	}
}

// inOrder lets goroutines run one at a time until what it returns is called, so that a seed is played again as it was.
func inOrder() func() {
	was := runtime.GOMAXPROCS(1)
	return func() { runtime.GOMAXPROCS(was) }
}
