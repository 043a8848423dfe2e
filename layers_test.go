package acisync_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/haystacknetworks/aci-sync"

// layer is what one package may import. What is not listed is not allowed: a new import, be
// it ours or another module's, starts with a line here that says why.
type layer struct {
	// pkg is a path below the module; "." is the root. "x/..." stands for every package below x
	// that has no row of its own.
	pkg string
	// why says what the package hides, and thereby why it needs what it imports.
	why string
	// ours are the packages of this module that it may import; "x/..." means x and all below.
	ours []string
	// others are import paths of other modules. Each allows what is below it, too.
	others []string
	// noStd are packages of the standard library that it must do without.
	noStd []string
	// tests are what its _test.go files may import besides: paths without a dot in their
	// first element are ours. Every test may also import testCommons and its own package.
	tests []string
	// words, per imported package of ours, are the only exported names of it that may be used.
	words map[string][]string
}

// impure would give a pure package a world to look at or a life of its own. The package time is
// not among them, for durations and times are values; forbidigo sees to it that nobody reads
// the clock.
var impure = []string{
	"context", "crypto/rand", "log", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec", "os/signal",
	"sync", "sync/atomic", "syscall", "testing",
}

// testCommons may be imported by the tests of every package.
var testCommons = []string{
	"github.com/google/go-cmp",        // diffs
	"github.com/rogpeppe/go-internal", // testscript, txtar
	"sigs.k8s.io/yaml",                // manifests in goldens
}

// everything of ours that a test of the whole may touch. The programs are run, not imported.
var everything = []string{"api/...", "charts", "internal/..."}

// layers is the architecture. docs/architecture.md draws it; this table is what holds.
var layers = []layer{
	{
		pkg: ".",
		why: "a package comment, and this test",
	},
	{
		pkg:  "cmd/aci-sync",
		why:  "signals in, exit code out; everything else is testable code in cli",
		ours: []string{"internal/cli"},
		others: []string{
			"golang.org/x/crypto/x509roots/fallback", // the image has no certificates of CAs; to have them is up to main, says the package
		},
	},
	{
		pkg:  "cmd/apic-sim",
		why:  "the simulator as a program; it must start without anything of the controller",
		ours: []string{"internal/apicsim"},
	},
	{
		pkg: "api/v1alpha1",
		why: "the types of the CRD; others may import them, so they drag in nothing but their kind's machinery",
		others: []string{
			"k8s.io/apimachinery/pkg/apis/meta/v1",
			"k8s.io/apimachinery/pkg/runtime",
			"k8s.io/apimachinery/pkg/types",
		},
		tests: []string{"charts"}, // the generated definition says what the types say
	},
	{
		pkg: "charts",
		why: "what is installed into a cluster, as it is; it can only be embedded from above the chart. Its tests hold the roles " +
			"against the rights that are asked for, and the values against the flags that there are",
		tests: []string{"internal/cli", "internal/kube"},
	},
	{
		pkg: "internal/aci",
		why: "pure: the vocabulary that all others share, so it can depend on none of them; log/slog only so " +
			"that secrets can redact themselves",
		noStd: impure,
	},
	{
		pkg:  "internal/desired",
		why:  "pure: who claims which address; hides the ways from a Kubernetes object to a place in the fabric",
		ours: []string{"internal/aci"},
		others: []string{
			"k8s.io/api",
			"k8s.io/apimachinery/pkg/apis/meta/v1",
			"k8s.io/apimachinery/pkg/labels",
			"k8s.io/apimachinery/pkg/types",
		},
		noStd: append([]string{"log/slog"}, impure...),
		tests: []string{"k8s.io/apimachinery"},
	},
	{
		pkg:   "internal/observed",
		why:   "pure: what the fabric holds; hides reads, events and their order",
		ours:  []string{"internal/aci"},
		noStd: append([]string{"log/slog"}, impure...),
	},
	{
		pkg:   "internal/plan",
		why:   "pure: what to change and why; the one place that decides, so that plan and run cannot differ",
		ours:  []string{"internal/aci", "internal/desired", "internal/observed"},
		noStd: append([]string{"log/slog"}, impure...),
		tests: []string{"k8s.io/api", "k8s.io/apimachinery"}, // goldens start from a cluster.yaml
	},
	{
		pkg:    "internal/apic",
		why:    "hides sessions, subscriptions and wire formats; knows nothing of Kubernetes",
		ours:   []string{"internal/aci"},
		others: []string{"github.com/coder/websocket", "golang.org/x/time/rate"},
		tests:  []string{"internal/apicsim", "internal/memnet"},
	},
	{
		pkg:  "internal/kube",
		why:  "hides caches, watches and writes to the API server; knows nothing of the APIC",
		ours: []string{"api/v1alpha1", "internal/aci", "internal/desired"},
		others: []string{
			"golang.org/x/sync/errgroup", // two dozen questions at once, before anything starts
			"k8s.io/api",
			"k8s.io/apimachinery",
			"k8s.io/client-go",
			"sigs.k8s.io/controller-runtime",
		},
		// Its suite gets a real API server from test/labctl by way of the environment, so it
		// does not import lab; caches live on goroutines that no bubble can hold.
		tests: []string{"charts", "go.uber.org/goleak"},
	},
	{
		pkg: "internal/controller",
		why: "the loop; it sees cluster and APIC through interfaces of its own, so that a test can stand in for " +
			"either",
		ours: []string{"internal/aci", "internal/desired", "internal/observed", "internal/plan"},
		others: []string{
			"github.com/prometheus/client_golang",
			"golang.org/x/sync/errgroup",           // what Run starts ends with it
			"k8s.io/apimachinery/pkg/apis/meta/v1", // metav1.Object, which desired folds
			"k8s.io/client-go/util/workqueue",      // the queue in controller-runtime's signatures
			"sigs.k8s.io/controller-runtime",
		},
		// The real client against the simulated fabric, in one bubble; Kubernetes objects are made by hand.
		tests: []string{"internal/apic", "internal/apicsim", "internal/memnet", "k8s.io/api", "k8s.io/apimachinery"},
	},
	{
		pkg:  "internal/web",
		why:  "hides HTML; it reads what the controller publishes and can change nothing",
		ours: []string{"internal/aci", "internal/controller", "internal/plan"},
	},
	{
		pkg: "internal/apicsim",
		why: "a second, independent reading of the APIC's documents: were it to share the codec, a mistake in it " +
			"would cancel out and no test would see it",
		ours:   []string{"internal/aci"},
		others: []string{"github.com/coder/websocket"},
		tests:  []string{"internal/memnet"},
		words: map[string][]string{
			"internal/aci": {
				"DN", "ParseDN",
				"ClassTenant", "ClassVRF", "ClassL3Out", "ClassRsEctx", "ClassExtEPG", "ClassSubnet",
				"ClassTagAnnotation", "ClassRsProv", "ClassRsCons", "ClassRsCustQosPol",
			},
		},
	},
	{
		pkg:    "internal/lab",
		why:    "hides how a Kubernetes control plane is built and started; never kube, which is tested on it",
		others: []string{"k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go", "sigs.k8s.io/yaml"},
		tests:  []string{"go.uber.org/goleak"},
	},
	{
		pkg:   "internal/memnet",
		why:   "connections that a synctest bubble can see through; for tests only, so nothing but the standard library",
		tests: []string{"github.com/coder/websocket"}, // what it is to carry
	},
	{
		pkg: "internal/cli",
		why: "puts the parts together; the simulators and the lab are no part of what we ship",
		ours: []string{
			"api/v1alpha1", "charts", "internal/aci", "internal/apic", "internal/controller", "internal/desired",
			"internal/kube", "internal/observed", "internal/plan", "internal/web",
		},
		others: []string{
			"github.com/go-logr/logr",                        // slog is what we log with; the framework wants logr
			"github.com/prometheus/client_golang/prometheus", // counts what the APIC client reports by its hook
			"github.com/spf13/cobra",
			"github.com/spf13/pflag", // cobra's flag sets: every flag has a twin in the environment
			"golang.org/x/sync/errgroup",
			"golang.org/x/term", // whether somebody can be asked
			"k8s.io/api",
			"k8s.io/apimachinery",
			"k8s.io/client-go",               // loading a kubeconfig
			"k8s.io/klog/v2",                 // what client-go logs goes the same way as ours
			"sigs.k8s.io/controller-runtime", // the manager
		},
		tests: []string{"internal/apicsim"},
	},
	{
		pkg:  "test/labctl",
		why:  "lends one lab to many test processes; knows no more of the project than that",
		ours: []string{"internal/lab"},
	},
	{
		pkg:  "test/bench",
		why:  "what the built program costs, seen from outside: of ours it imports what stands around that",
		ours: []string{"charts", "internal/apicsim", "internal/lab"},
		others: []string{
			"golang.org/x/sync/errgroup", // many requests at once, and the first error
			"golang.org/x/sys/unix",      // the CPU clock of another process
			"k8s.io/api",
			"k8s.io/apimachinery",
			"k8s.io/client-go",
		},
	},
	{
		pkg: "test/history",
		why: "histories, and what SPEC.md promises of each, told anew: of ours it imports nothing, for a mistake in what " +
			"decides must not be made twice; its tests play them",
		others: []string{"k8s.io/api", "k8s.io/apimachinery"},
		tests: []string{
			"internal/aci", "internal/apic", "internal/apicsim", "internal/controller", "internal/desired", "internal/memnet", "internal/plan",
			"internal/kube",    // the lease
			"k8s.io/client-go", // the elector
			"k8s.io/klog",      // what it logs, to nowhere
		},
	},
	{
		pkg: "test/mutants",
		why: "whether the tests bite: it patches copies of the source and builds and runs tests on them, and imports none of it",
	},
	{
		pkg:    "test/...",
		why:    "the whole, seen from outside: stories, demo, simulation",
		ours:   everything,
		others: []string{"k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go", "sigs.k8s.io/controller-runtime", "sigs.k8s.io/yaml"},
		tests:  []string{"internal/memnet", "test/history"},
	},
}

// reserved are packages that only some may import, whatever their rows say.
var reserved = []struct {
	pkg, why string
	tests    bool // true: _test.go files, of any package
	below    []string
}{
	{pkg: "internal/memnet", why: "it is for _test.go files only", tests: true},
	{pkg: "internal/lab", why: "it is for test/ only", below: []string{"test/..."}},
	{pkg: "internal/apicsim", why: "we do not ship it", tests: true, below: []string{"cmd/apic-sim", "test/..."}},
}

// goPackage is the part of the output of go list that matters here.
type goPackage struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	CgoFiles     []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// path is where p is below the module.
func (p goPackage) path() string { return ours(p.ImportPath) }

// ours is where an import path is below the module; "." for its root, "" if it is not ours.
func ours(path string) string {
	if path == module {
		return "."
	}
	rel, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return rel
}

// standard tells a package of the standard library. Not the two that leave the language.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && path != "C" && path != "unsafe"
}

// matches reports whether path is one of patterns, where "x/..." is x and all below it.
func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		root, tree := strings.CutSuffix(pattern, "/...")
		return path == root || tree && strings.HasPrefix(path, root+"/")
	})
}

// below reports whether path is one of roots or lies below one.
func below(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// layerOf finds the row for a package; a row of its own goes before one with "...".
func layerOf(table []layer, pkg string) (layer, bool) {
	for _, exact := range []bool{true, false} {
		for _, l := range table {
			if exact && l.pkg == pkg || !exact && strings.HasSuffix(l.pkg, "/...") && matches(pkg, []string{l.pkg}) {
				return l, true
			}
		}
	}
	return layer{}, false
}

// objection says why l does not allow an import, or "".
func (l layer) objection(path string, test bool) string {
	rel := ours(path)
	if test {
		if rel == l.pkg || rel != "" && matches(rel, l.tests) {
			return ""
		}
		if below(path, testCommons) || below(path, l.tests) || standard(path) {
			return ""
		}
	}
	switch {
	case rel != "":
		if !matches(rel, l.ours) {
			return "not in its row"
		}
	case standard(path):
		if slices.Contains(l.noStd, path) {
			return "it is pure, and does without"
		}
	default:
		if !below(path, l.others) {
			return "no other module of that name in its row"
		}
	}
	return ""
}

// importViolations checks what pkgs import against table and reserved.
func importViolations(table []layer, pkgs []goPackage) []string {
	var out []string
	for _, p := range pkgs {
		self := p.path()
		l, ok := layerOf(table, self)
		if !ok {
			out = append(out, fmt.Sprintf("%s: has no row; say what it hides and what it may import", self))
			continue
		}
		check := func(imports []string, test bool) {
			for _, path := range imports {
				// A package's external tests import it, also where a row stands for many.
				if test && path == p.ImportPath {
					continue
				}
				kind := "import"
				if test {
					kind = "test import"
				}
				why := l.objection(path, test)
				for _, r := range reserved {
					if ours(path) == r.pkg && self != r.pkg && !(test && r.tests) && !matches(self, r.below) {
						why = r.why
					}
				}
				if why != "" {
					out = append(out, fmt.Sprintf("%s: %s of %s: %s", self, kind, path, why))
				}
			}
		}
		check(p.Imports, false)
		check(p.TestImports, true)
		check(p.XTestImports, true)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wordViolations checks, for the packages whose row limits it, which names of an imported
// package their files use. Tests are free: they compare the two sides.
func wordViolations(l layer, files map[string]*ast.File) []string {
	var out []string
	for name, f := range files {
		for _, spec := range f.Imports {
			path := ours(strings.Trim(spec.Path.Value, `"`))
			allowed, limited := l.words[path]
			if !limited {
				continue
			}
			local := path[strings.LastIndex(path, "/")+1:]
			if spec.Name != nil {
				local = spec.Name.Name
			}
			if local == "." {
				out = append(out, fmt.Sprintf("%s: dot import of %s hides which names it uses", name, path))
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && !slices.Contains(allowed, sel.Sel.Name) {
					out = append(out, fmt.Sprintf("%s: uses %s.%s: of %s it may use only names, never the codec",
						name, local, sel.Sel.Name, path))
				}
				return true
			})
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// commented lists those of files that carry a package comment.
func commented(files map[string]*ast.File) []string {
	var out []string
	for name, f := range files {
		if f.Doc != nil && strings.TrimSpace(f.Doc.Text()) != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// list runs go list on the whole module.
func list(t *testing.T) []goPackage {
	t.Helper()
	// A pass is cached until something that the test itself opened changes. What go list read
	// does not count, so open every directory: a listing holds names, sizes and times.
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || path == "bin") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json", "./...")
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// parse reads files of a package, names relative to the module.
func parse(t *testing.T, p goPackage, mode parser.Mode, names ...string) map[string]*ast.File {
	t.Helper()
	files := make(map[string]*ast.File)
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, mode)
		if err != nil {
			t.Fatal(err)
		}
		files[p.path()+"/"+name] = f
	}
	return files
}

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	pkgs := list(t)
	for _, v := range importViolations(layers, pkgs) {
		t.Error(v)
	}
	for _, p := range pkgs {
		l, _ := layerOf(layers, p.path())
		if l.words == nil {
			continue
		}
		for _, v := range wordViolations(l, parse(t, p, parser.SkipObjectResolution, p.GoFiles...)) {
			t.Error(v)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		names := slices.Concat(p.GoFiles, p.CgoFiles)
		if len(names) == 0 {
			names = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
		switch with := commented(parse(t, p, parser.PackageClauseOnly|parser.ParseComments, names...)); len(with) {
		case 0:
			t.Errorf("%s: no file has a package comment", p.path())
		case 1:
		default:
			t.Errorf("%s: more than one package comment: %s", p.path(), strings.Join(with, ", "))
		}
	}
}

func TestModuleReplacesNothing(t *testing.T) {
	t.Parallel()
	// With a replace directive, go install …@latest refuses to work.
	data, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Module  struct{ Path string }
		Replace []struct {
			Old, New struct{ Path, Version string }
		}
	}
	if err := json.Unmarshal(data, &mod); err != nil {
		t.Fatal(err)
	}
	if mod.Module.Path != module {
		t.Errorf("module is %q, this test checks %q", mod.Module.Path, module)
	}
	for _, r := range mod.Replace {
		t.Errorf("go.mod replaces %s by %s", r.Old.Path, r.New.Path)
	}
}

// The table itself can be wrong, too.
func TestTableIsSound(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, l := range layers {
		if seen[l.pkg] {
			t.Errorf("%s: two rows", l.pkg)
		}
		seen[l.pkg] = true
		if l.why == "" {
			t.Errorf("%s: no reason", l.pkg)
		}
		for pkg := range l.words {
			if !matches(pkg, l.ours) {
				t.Errorf("%s: names of %s are limited, but it may not be imported", l.pkg, pkg)
			}
		}
	}
	for _, l := range layers {
		for _, path := range slices.Concat(l.ours, l.tests) {
			if root, tree := strings.CutSuffix(path, "/..."); !tree && !seen[root] && !strings.Contains(path, ".") {
				t.Errorf("%s: may import %s, which has no row", l.pkg, path)
			}
		}
	}
}

func TestImportViolations(t *testing.T) {
	t.Parallel()
	table := []layer{
		{pkg: "internal/words"},
		{pkg: "internal/pure", ours: []string{"internal/words"}, noStd: []string{"context"}},
		{pkg: "internal/io", others: []string{"example.com/ws"}, tests: []string{"internal/pure", "example.com/leak"}},
		{pkg: "internal/memnet"},
		{pkg: "internal/lab"},
		{pkg: "internal/greedy", ours: []string{"internal/...", "internal/lab", "internal/memnet"}},
		{pkg: "test/ctl", ours: []string{"internal/lab"}},
		{pkg: "test/...", ours: []string{"internal/..."}},
	}
	for _, test := range []struct {
		name string
		pkg  string
		imps []string
		tst  []string
		xtst []string
		want []string // substrings, one per violation
	}{
		{name: "a package without a row", pkg: "internal/util", want: []string{"internal/util: has no row"}},
		{name: "a package that may import nothing", pkg: "internal/words", imps: []string{"strings", "net/netip"}},
		{name: "a listed import", pkg: "internal/pure", imps: []string{module + "/internal/words"}},
		{
			name: "an import of ours that is not listed", pkg: "internal/words",
			imps: []string{module + "/internal/pure"}, want: []string{"internal/pure: not in its row"},
		},
		{
			name: "the root is not a listed import either", pkg: "internal/words",
			imps: []string{module}, want: []string{"not in its row"},
		},
		{
			name: "a part of the standard library that is kept out", pkg: "internal/pure",
			imps: []string{"context"}, want: []string{"context: it is pure"},
		},
		{name: "but not out of tests", pkg: "internal/pure", tst: []string{"context"}},
		{name: "another module", pkg: "internal/io", imps: []string{"example.com/ws", "example.com/ws/internal"}},
		{
			name: "another module that is not listed", pkg: "internal/io",
			imps: []string{"example.com/wsx"}, want: []string{"example.com/wsx: no other module"},
		},
		{
			name: "unsafe and cgo are not standard", pkg: "internal/io",
			imps: []string{"C", "unsafe"}, want: []string{"of C:", "of unsafe:"},
		},
		{
			name: "what its tests may import", pkg: "internal/io",
			tst:  []string{"testing", "github.com/google/go-cmp/cmp", "example.com/ws"},
			xtst: []string{module + "/internal/io", module + "/internal/pure", "example.com/leak"},
		},
		{
			name: "is not what it may import itself", pkg: "internal/io",
			imps: []string{module + "/internal/pure", "example.com/leak", "github.com/google/go-cmp/cmp"},
			want: []string{"import of example.com/leak", "import of github.com/google", "internal/pure: not in its row"},
		},
		{
			name: "what its tests may not import", pkg: "internal/io",
			tst: []string{"github.com/stretchr/testify"}, xtst: []string{module + "/internal/words"},
			want: []string{"test import of github.com/haystack", "test import of github.com/stretchr"},
		},
		{
			name: "memnet and lab, although a row lists them", pkg: "internal/greedy",
			imps: []string{module + "/internal/lab", module + "/internal/memnet"},
			tst:  []string{module + "/internal/lab", module + "/internal/memnet"},
			want: []string{
				"import of " + module + "/internal/lab: it is for test/ only",
				"import of " + module + "/internal/memnet: it is for _test.go files only",
				"test import of " + module + "/internal/lab: it is for test/ only",
			},
		},
		{name: "their own tests", pkg: "internal/lab", xtst: []string{module + "/internal/lab"}},
		{name: "a row for many", pkg: "test/stories", imps: []string{module + "/internal/lab"}},
		{name: "and their own tests", pkg: "test/stories", xtst: []string{module + "/test/stories"}},
		{
			name: "a row of its own goes first", pkg: "test/ctl",
			imps: []string{module + "/internal/words"}, want: []string{"not in its row"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := importViolations(table, []goPackage{{
				ImportPath: module + "/" + test.pkg, Imports: test.imps, TestImports: test.tst, XTestImports: test.xtst,
			}})
			if len(got) != len(test.want) {
				t.Fatalf("got %d violations, want %d:\n%s", len(got), len(test.want), strings.Join(got, "\n"))
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want it to contain %q", got[i], want)
				}
			}
		})
	}
}

func TestWordViolations(t *testing.T) {
	t.Parallel()
	l := layer{words: map[string][]string{"internal/words": {"DN", "ParseDN"}}}
	for _, test := range []struct {
		name, src string
		want      []string
	}{
		{
			name: "names are free", src: `import "` + module + `/internal/words"
				var d words.DN
				var e, _ = words.ParseDN("uni")`,
		},
		{
			name: "the codec is not", src: `import "` + module + `/internal/words"
				var r, _ = words.DecodeReply(nil)
				var m = words.MO{}`,
			want: []string{"uses words.DecodeReply", "uses words.MO"},
		},
		{
			name: "under no other name", src: `import w "` + module + `/internal/words"
				var m w.MO`,
			want: []string{"uses w.MO"},
		},
		{
			name: "nor without one", src: `import . "` + module + `/internal/words"
				var m MO`,
			want: []string{"dot import"},
		},
		{
			name: "other packages are not limited", src: `import "` + module + `/internal/other"
				var m other.MO`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\n"+test.src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			got := wordViolations(l, map[string]*ast.File{"x.go": f})
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %d violations", got, len(test.want))
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want it to contain %q", got[i], want)
				}
			}
		})
	}
}

func TestCommented(t *testing.T) {
	t.Parallel()
	files := make(map[string]*ast.File)
	for name, src := range map[string]string{
		"doc.go":       "// Package x does.\npackage x\n",
		"directive.go": "//go:build linux\n\npackage x\n",
		"tool.go":      "//go:generate true\npackage x\n",
		"detached.go":  "// Copyright.\n\npackage x\n",
		"plain.go":     "package x\n",
	} {
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	if got, want := commented(files), []string{"doc.go"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
