package history_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/test/history"
)

var (
	seed   = flag.Uint64("seed", 0, "play the history of this seed only, and show all of it; with TestHistories")
	script = flag.String("script", "", "play the history in this file only, and show all of it; with TestScripts")
	budget = flag.Duration("budget", map[bool]time.Duration{true: 8 * time.Second, false: 20 * time.Second}[raceDetector],
		"how long to play random histories")
	fixed = flag.Uint64("fixed", math.MaxUint64, "after so many seeds, which are always the same, come fresh ones")
	most  = flag.Uint64("most", 0, "how many histories to play at most; 0 is as many as there is time for")
	asIs  = flag.Bool("as-is", false, "end with the first history that fails, and do not shrink it; for test/mutants")
)

// TestHistories plays random histories. One that fails is printed with its seed, and shrunk.
func TestHistories(t *testing.T) {
	t.Parallel()
	playSeeds(t, *seed, *budget, func(n uint64) history.History { return history.Generate(n, history.Limits{}) }, func(*world) {})
}

// playSeeds plays the histories of the seeds from 1 on, and after *fixed of them fresh ones, until the time is over;
// or that of one, if it is not 0. Each world is handed to note when its history is over.
func playSeeds(t *testing.T, one uint64, budget time.Duration, generate func(uint64) history.History, note func(*world)) {
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
		histories uint64
		steps     int
		guarded   int
		simulated time.Duration
	)
	t.Run("workers", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for failures.Load() < enough() && time.Since(began) < budget {
					n := next.Add(1)
					if *most > 0 && n > *most {
						return
					}
					if n > *fixed {
						n = fresh + n - *fixed
					}
					h := generate(n)
					bad, w := play(t, h)
					mu.Lock()
					histories, steps, guarded, simulated = histories+1, steps+w.steps, guarded+w.guarded, simulated+w.lasted
					note(w)
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
	if histories > *fixed {
		t.Logf("the seeds after the first %d are from %d on", *fixed, fresh+1)
	}
	t.Logf("%d histories, %d steps, the guard held %d times, %v simulated, in %v", histories, steps, guarded, simulated.Round(time.Minute), time.Since(began).Round(time.Second))
}

// maxFailures is how many histories may fail before it is enough.
const maxFailures = 4

func enough() int32 {
	if *asIs {
		return 1
	}
	return maxFailures
}

// report shrinks a history that fails, and prints what is left of it.
func report(t *testing.T, h history.History, name string) {
	t.Helper()
	bad, w := play(t, h)
	if len(bad) == 0 {
		return
	}
	if !*asIs {
		h, bad, w = shrink(t, h, bad, w)
	}
	t.Errorf("%s fails. Play it again with: go test ./test/history -run TestScripts -script FILE\n\n%s\n%s", name, h, strings.Join(bad, "\n"))
	if *script != "" {
		t.Logf("log:\n%s\nfabric:\n%s", w.log.String(), w.dump)
	}
}

// shrink returns a short history that fails, of one that does, with what was wrong and where.
func shrink(t *testing.T, h history.History, bad []string, w *world) (history.History, []string, *world) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	small := history.Shrink(h, func(h history.History) bool {
		if time.Now().After(deadline) {
			return false
		}
		bad, _ := play(t, h)
		return len(bad) > 0
	})
	if b, v := play(t, small); len(b) > 0 {
		return small, b, v
	}
	return h, bad, w
}

// TestScripts plays the histories in testdata: those that once failed, and a few that everybody expects to hold.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if *script != "" {
		files = []string{*script}
	}
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h, err := history.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			report(t, h, file)
		})
	}
}

// TestAHistoryIsReadAsItIsPrinted checks the text form of generated histories.
func TestAHistoryIsReadAsItIsPrinted(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for seed := range uint64(300) {
		h := history.Generate(seed, history.Limits{})
		again, err := history.Parse(h.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(h.String(), again.String()); diff != "" {
			t.Fatalf("seed %d (-generated +parsed)\n%s", seed, diff)
		}
		for _, s := range slices.Concat(h.Steps, history.GenerateStorms(seed).Steps, history.GenerateLeaders(seed).Steps) {
			used[s.Verb] = true
		}
	}
	for _, v := range history.Verbs {
		if !used[v.Name] {
			t.Errorf("%s is never generated", v.Name)
		}
	}
}

// TestShrink leaves what it takes to fail, and no more.
func TestShrink(t *testing.T) {
	t.Parallel()
	h := history.Generate(3, history.Limits{})
	has := func(h history.History, verb string) bool {
		return slices.ContainsFunc(h.Steps, func(s history.Step) bool { return s.Verb == verb })
	}
	small := history.Shrink(h, func(h history.History) bool { return has(h, "target") && has(h, "sleep") })
	if len(small.Steps) != 2 || len(small.With) != 0 || small.Steps[1].String() != "sleep 1s" {
		t.Errorf("shrunk to\n%s", small)
	}
}

// TestOrderDoesNotMatter tells the same objects, beside the same fabric without anything of ours, in different
// orders: to an aci-sync that starts, to one that runs, and to one that dies at its first write and is
// followed by another. It must end in the same fabric, which the oracle knows.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	failures := 0
	began, sets := time.Now(), 0
	for seed := uint64(1); time.Since(began) < *budget/4 && failures < maxFailures; seed++ {
		h := history.GenerateSet(seed)
		sets++
		if bad := playOrders(t, h, seed); len(bad) > 0 {
			failures++
			h = history.Shrink(h, func(h history.History) bool { return len(playOrders(t, h, seed)) > 0 })
			t.Errorf("set %d:\n%s\n%s", seed, h, strings.Join(playOrders(t, h, seed), "\n"))
		}
	}
	t.Logf("%d sets in %v", sets, time.Since(began).Round(time.Second))
}

// playOrders has the objects of a history told in several orders, and returns what was wrong or differs.
func playOrders(t *testing.T, h history.History, seed uint64) []string {
	t.Helper()
	var first string
	for n := range uint64(6) {
		var dump string
		var bad []string
		synctest.Test(t, func(t *testing.T) {
			w := begin(t, h.With)
			defer func() { w.close() }()
			w.shuffle = rand.New(rand.NewPCG(seed, n))
			for _, s := range h.Steps {
				w.do(s)
			}
			how := []string{"at its start", "while it runs", "and it dies at its first write"}[n%3]
			switch n % 3 {
			case 1:
				all := w.cluster
				w.cluster = history.NewCluster()
				w.start()
				w.sleep(time.Second)
				w.cluster = all
			case 2:
				w.kill = "before"
				w.start()
				w.sleep(time.Second)
				w.buried()
			}
			w.settle()
			if dump, bad = w.sim.Dump("uni"), w.broken; len(bad) > 0 {
				bad = append(bad, fmt.Sprintf("told in order %d, %s", n, how))
			}
		})
		if len(bad) > 0 {
			return bad
		}
		if first == "" {
			first = dump
		} else if diff := gocmp.Diff(strings.Split(first, "\n"), strings.Split(dump, "\n")); diff != "" {
			return []string{fmt.Sprintf("order 0 and order %d differ (-0 +%d)\n%s", n, n, diff)}
		}
	}
	return nil
}

// play plays a history in a bubble of its own, and returns what was not as SPEC.md says.
func play(t *testing.T, h history.History) (bad []string, w *world) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%v in\n%s", p, h)
			panic(p)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = begin(t, h.With)
		defer w.close()
		w.start()
		w.sleep(time.Second)
		for i, s := range h.Steps {
			if w.do(s); len(w.broken) > 0 {
				bad = append(bad, fmt.Sprintf("After step %d, %s, at %s:", i+1, s, clock()))
				break
			}
		}
		if len(bad) == 0 {
			if w.settle(); len(w.broken) == 0 {
				w.finish()
			}
			if len(w.broken) > 0 {
				bad = append(bad, fmt.Sprintf("At the end, at %s:", clock()))
			}
		}
		bad = append(bad, w.broken...)
	})
	return bad, w
}
