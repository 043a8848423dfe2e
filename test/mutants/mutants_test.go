// Package mutants_test shows that the tests bite. testdata holds mutants: small patches of the source, each
// a slip that a good engineer could make. Each is applied to a copy, and the test that is named for it
// must fail, for the reason that is named, and pass without the patch.
package mutants_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	random = flag.Duration("random", 0, "find each mutant by fresh random histories, for so long at most")
	update = flag.Bool("update", false, "write the list of mutants into docs/testing.md")
)

const (
	page = "../../docs/testing.md"
	// patience is how long one run of a test may take. It is for mutants that hang.
	patience = 2 * time.Minute
)

// mutant is a patch with what is to catch it, which lines in front of the diff say:
//
//	histories: NUMBER    one of the first so many random histories that test/history plays
//	storms: NUMBER       the same of storms
//	leaders: NUMBER      the same of leaders
//	history: TEXT        the history NAME.txt beside the patch; the oracle says TEXT
//	test: PACKAGE TEST   a test, by its path below the module and the pattern of go test -run
//
// What stands before those lines is for people: a sentence on the bug, and after an empty line how it would show.
type mutant struct {
	name, patch    string
	bug, shows     string
	catches        []catch
	caughtRandomly bool // by histories of any kind, or a history
}

// catch is one way to catch a mutant.
type catch struct {
	how, text string // the words before and after the colon
	pkg, run  string // what that means for go test
}

// seeds are the kinds of histories that test/history makes from seeds: what they are called, the test that plays
// them, and the flag by which it plays one.
var seeds = map[string]struct{ name, run, flag string }{
	"histories": {"random histories", "TestHistories$", "-seed"},
	"storms":    {"random storms", "TestStorms$", "-storm"},
	"leaders":   {"random leaders", "TestLeaders$", "-leader"},
}

// read reads all mutants.
func read(t *testing.T) []mutant {
	t.Helper()
	files, err := filepath.Glob("testdata/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutants: %v", err)
	}
	var out []mutant
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(strings.TrimSuffix(filepath.Base(file), ".patch"), string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		out = append(out, m)
	}
	return out
}

func parse(name, text string) (mutant, error) {
	head, _, found := strings.Cut(text, "\n--- ")
	if !found {
		return mutant{}, errors.New("holds no diff")
	}
	m := mutant{name: name, patch: text}
	var prose []string
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		how, text, _ := strings.Cut(line, ": ")
		c := catch{how: how, text: text, pkg: "test/history"}
		switch how {
		case "histories", "storms", "leaders":
			c.run = seeds[how].run
		case "history":
			c.run = "TestScripts$"
		case "test":
			c.pkg, c.run, _ = strings.Cut(text, " ")
		default:
			prose = append(prose, line)
			continue
		}
		if text == "" || c.run == "" {
			return mutant{}, fmt.Errorf("%q says too little", line)
		}
		m.catches = append(m.catches, c)
		m.caughtRandomly = m.caughtRandomly || how != "test"
	}
	m.bug, m.shows, _ = strings.Cut(strings.TrimSpace(strings.Join(prose, "\n")), "\n\n")
	m.bug, m.shows = strings.ReplaceAll(m.bug, "\n", " "), strings.ReplaceAll(m.shows, "\n", " ")
	if m.bug == "" || m.shows == "" || len(m.catches) == 0 {
		return mutant{}, errors.New("does not say what the bug is, how it would show, and what catches it")
	}
	return m, nil
}

var patched = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)`)

// overlay applies the patch to a copy of the files that it is about, and returns what go build -overlay wants.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for _, f := range patched.FindAllStringSubmatch(m.patch, -1) {
		source, err := os.ReadFile(filepath.Join(root, f[1]))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, f[1])
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, source, 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, f[1])] = file
	}
	cmd := exec.CommandContext(t.Context(), "git", "apply", "-")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(m.patch)
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)) // the copy is in no repository
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("testdata/%s.patch does not apply any more: make the same slip in today's source, and replace the diff by that "+
			"of git diff; if it cannot be made any more, delete the file\n%s", m.name, out)
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// build builds the tests of a package; overlay may be "". It fails when that does: no mutant is caught by the compiler.
func build(t *testing.T, dir, pkg, overlay string) (binary string) {
	t.Helper()
	binary = filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test")
	// What is not needed costs time: each mutant is linked anew.
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./"+pkg)...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("does not build:\n%s", out)
	}
	return binary
}

// verdict is how a run of tests ended.
type verdict string

const (
	passed   verdict = "passed"
	failed   verdict = "failed" // something was not as a test asks for
	panicked verdict = "panicked"
	hung     verdict = "hung"
	nothing  verdict = "ran no test"
)

// play runs tests that were built.
func play(ctx context.Context, binary, pkg string, args ...string) (verdict, string) {
	ctx, cancel := context.WithTimeout(ctx, patience+*random+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"-test.timeout", (patience + *random).String()}, args...)...)
	cmd.Dir = filepath.Join("../..", pkg)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // seeds are played one after the other
	text, err := cmd.CombinedOutput()
	out := string(text)
	switch {
	case ctx.Err() != nil, strings.Contains(out, "panic: test timed out"):
		return hung, out
	case strings.Contains(out, "\npanic: "), strings.HasPrefix(out, "panic: "), strings.Contains(out, "fatal error: "):
		return panicked, out
	case strings.Contains(out, "no tests to run"):
		return nothing, out
	case err != nil && strings.Contains(out, "--- FAIL: "):
		return failed, out
	case err != nil:
		return panicked, out
	}
	return passed, out
}

// failure is what test/history says of the history of a seed that fails.
var failure = regexp.MustCompile(`seed (\d+) fail`)

// played is how many histories it says that it played.
var played = regexp.MustCompile(`(\d+) histories, `)

// TestMutants is the test of the tests. With -v it prints what caught what, and how soon.
func TestMutants(t *testing.T) {
	t.Parallel()
	sound := newSound(t)
	var table table
	t.Cleanup(func() { t.Logf("\n%s", table.String()) })
	for _, m := range read(t) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			overlay, binaries := m.overlay(t), map[string]string{}
			for i, c := range m.catches {
				if *random > 0 && (c.how == "test" || i > 0) {
					continue // one search is enough
				}
				if binaries[c.pkg] == "" {
					binaries[c.pkg] = build(t, t.TempDir(), c.pkg, overlay)
				}
				began := time.Now()
				histories := m.caught(t, c, binaries[c.pkg], sound)
				table.add(m.name, c, histories, time.Since(began))
			}
		})
	}
}

// caught checks that a mutant is caught, and that its test passes without it. It returns how many histories
// that took, "" for other tests.
func (m mutant) caught(t *testing.T, c catch, binary string, sound *sound) (histories string) {
	t.Helper()
	args := []string{"-test.v", "-test.run", c.run}
	switch {
	case *random > 0:
		args = []string{"-test.v", "-test.run", cmp.Or(seeds[c.how].run, "TestHistories$"), "-as-is", "-fixed", "0", "-budget", random.String()}
	case seeds[c.how].run != "":
		args = append(args, "-as-is", "-most", c.text, "-fixed", c.text, "-budget", patience.String())
	case c.how == "history":
		file, err := filepath.Abs("testdata/" + m.name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-as-is", "-script", file)
	}
	v, out := play(t.Context(), binary, c.pkg, args...)
	if n := played.FindStringSubmatch(out); n != nil {
		histories = n[1]
	}
	switch {
	case v == passed:
		t.Errorf("%s: %s survives %s: nobody would see this bug. Is it one? Then teach the tests to see it.\n%s", m.name, c.how, c.text, m.bug)
		return histories
	case v != failed:
		t.Errorf("%s: %s with it: %s\n%s", m.name, c.text, v, tail(out))
		return histories
	case c.how == "history" && !strings.Contains(out, c.text) && *random == 0:
		t.Errorf("%s: fails, but does not say %q:\n%s", m.name, c.text, tail(out))
	}
	if seed := failure.FindStringSubmatch(out); seed != nil { // and not because of this history
		args = []string{"-test.v", "-test.run", cmp.Or(seeds[c.how].run, "TestHistories$"), "-as-is", cmp.Or(seeds[c.how].flag, "-seed"), seed[1]}
	}
	if v, out := sound.play(t, c.pkg, args...); v != passed {
		t.Errorf("%s: without it: %s %s\n%s", m.name, v, args, tail(out))
	}
	return histories
}

// tail is the end of what a test prints.
func tail(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// sound are the tests as they are, built once, each played once with the same arguments.
type sound struct {
	dir string
	mu  sync.Mutex
	// mu guards the fields below.
	binaries map[string]string
	played   map[string]func() (verdict, string)
}

func newSound(t *testing.T) *sound {
	t.Helper()
	return &sound{dir: t.TempDir(), binaries: map[string]string{}, played: map[string]func() (verdict, string){}}
}

func (s *sound) play(t *testing.T, pkg string, args ...string) (verdict, string) {
	t.Helper()
	s.mu.Lock()
	if s.binaries[pkg] == "" {
		s.binaries[pkg] = build(t, s.dir, pkg, "")
	}
	binary, key := s.binaries[pkg], pkg+" "+strings.Join(args, " ")
	if s.played[key] == nil {
		s.played[key] = sync.OnceValues(func() (verdict, string) { return play(context.WithoutCancel(t.Context()), binary, pkg, args...) })
	}
	f := s.played[key]
	s.mu.Unlock()
	return f()
}

// table is what caught what.
type table struct {
	mu   sync.Mutex
	rows []string
}

func (t *table) add(name string, c catch, histories string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	by := cmp.Or(seeds[c.how].name, map[string]string{"history": "a history", "test": c.text}[c.how])
	t.rows = append(t.rows, fmt.Sprintf("%s\t%s\t%s\t%v", name, by, histories, took.Round(100*time.Millisecond)))
}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mutant\tcaught by\tafter histories\tin")
	for _, r := range slices.Sorted(slices.Values(t.rows)) {
		fmt.Fprintln(w, r)
	}
	_ = w.Flush()
	return b.String()
}

// TestTheMutantsAreListed compares the list in docs/testing.md with testdata.
func TestTheMutantsAreListed(t *testing.T) {
	t.Parallel()
	const heading, foot = "| mutant | the slip | how it would show | caught by |\n| --- | --- | --- | --- |\n", "\n\n"
	var rows []string
	scripts := map[string]bool{}
	for _, m := range read(t) {
		var by []string
		for _, c := range m.catches {
			switch c.how {
			case "histories", "storms", "leaders":
				by = append(by, seeds[c.how].name)
			case "history":
				scripts["testdata/"+m.name+".txt"] = true
				by = append(by, "[a history](../test/mutants/testdata/"+m.name+".txt)")
			default:
				by = append(by, "`"+c.text+"`")
			}
		}
		rows = append(rows, fmt.Sprintf("| [`%s`](../test/mutants/testdata/%s.patch) | %s | %s | %s |", m.name, m.name, m.bug, m.shows, strings.Join(by, ", ")))
		if !m.caughtRandomly && !strings.Contains(m.shows, "No history") {
			t.Errorf("%s: no history catches it, and it does not say why", m.name)
		}
	}
	want := strings.Join(rows, "\n")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), heading)
	list, after, _ := strings.Cut(rest, foot)
	if !found {
		t.Fatalf("%s has no table of mutants", page)
	}
	if list != want && *update {
		if err := os.WriteFile(page, []byte(before+heading+want+foot+after), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if list != want {
		t.Errorf("%s does not list the mutants as they are; write them there with: go test ./test/mutants -run Listed -update", page)
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !scripts[f] {
			t.Errorf("%s: no mutant is caught by it", f)
		}
		delete(scripts, f)
	}
	for f := range maps.Keys(scripts) {
		t.Errorf("%s is not there", f)
	}
}
