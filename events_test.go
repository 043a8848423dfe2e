package acisync_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const eventsPage = "docs/reference/events.md"

// reasons are the values of the constants Reason… of a package, by name, and the names of those
// that its function remark names.
func reasons(t *testing.T, dir string) (values map[string]string, remarks []string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	values = map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if fn, ok := n.(*ast.FuncDecl); ok && fn.Name.Name == "remark" {
				remarks = append(remarks, named(fn)...)
			}
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				if i >= len(spec.Values) || !strings.HasPrefix(name.Name, "Reason") {
					continue
				}
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok { // else the same as another one
					if values[name.Name], err = strconv.Unquote(lit.Value); err != nil {
						t.Fatal(err)
					}
				}
			}
			return true
		})
	}
	return values, remarks
}

// named are the reasons that a function names.
func named(fn *ast.FuncDecl) []string {
	var out []string
	ast.Inspect(fn, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && strings.HasPrefix(id.Name, "Reason") {
			out = append(out, id.Name)
		}
		return true
	})
	return out
}

// told is a row of the page.
type told struct{ section, event, ready string }

var reasonRow = regexp.MustCompile("^\\| `([A-Za-z0-9]+)` \\| (Normal|Warning|none) \\| (True|False|Unknown|–) \\| ([^|]+\\.) \\| ([^|]+\\.) \\|$")

// tellings are the rows of the page by reason, and the rows that are not as they must be.
func tellings(document string) (rows map[string]told, bad []string) {
	rows = map[string]told{}
	section := ""
	for line := range strings.Lines(document) {
		line = strings.TrimSpace(line)
		m := reasonRow.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "## "):
			section = line[3:]
		case !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| reason |") || strings.HasPrefix(line, "| ---"):
		case m == nil:
			bad = append(bad, line)
		default:
			if _, again := rows[m[1]]; again {
				bad = append(bad, line)
			}
			rows[m[1]] = told{section, m[2], m[3]}
		}
	}
	return rows, bad
}

// Every reason that the program knows is in the page, and no other one; problems make an
// ExternalEPG not ready, except those that the program calls remarks.
func TestEventsPageNamesEveryReason(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(eventsPage)
	if err != nil {
		t.Fatal(err)
	}
	rows, bad := tellings(string(data))
	for _, line := range bad {
		t.Errorf("%s: not a row of the form that it must have, or one that is there twice: %s", eventsPage, line)
	}
	exist := map[string]string{} // by name of the constant
	var remarks []string
	for _, dir := range []string{"internal/desired", "internal/plan", "internal/controller"} {
		values, here := reasons(t, dir)
		if len(values) == 0 {
			t.Errorf("%s has no reasons", dir)
		}
		maps.Copy(exist, values)
		remarks = append(remarks, here...)
	}
	names := slices.Sorted(maps.Values(exist))
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(rows))); diff != "" {
		t.Errorf("%s tells of other reasons (+) than the program has (-):\n%s", eventsPage, diff)
	}
	if len(remarks) == 0 {
		t.Error("the function remark names no reason: was it renamed?")
	}
	for _, name := range remarks {
		if r := rows[exist[name]]; r.ready != "–" {
			t.Errorf("%s: %s does not stand in the way, but the page says that Ready is %s", eventsPage, exist[name], r.ready)
		}
	}
	for reason, r := range rows {
		remark := slices.ContainsFunc(remarks, func(name string) bool { return exist[name] == reason })
		if r.section == "Problems" && (r.event != "Warning" || !remark && r.ready != "False") {
			t.Errorf("%s: %s is a problem, but its row says %s, Ready %s", eventsPage, reason, r.event, r.ready)
		}
	}
}

// What the check above would let pass shows here.
func TestTellings(t *testing.T) {
	t.Parallel()
	const head = "## One\n\n| reason | event | Ready | what it means | what to do |\n| --- | --- | --- | --- | --- |\n"
	for name, c := range map[string]struct {
		line string
		rows int
		bad  int
	}{
		"a row":          {"| `X` | Warning | False | It is. | Do. |", 1, 0},
		"another type":   {"| `X` | Error | False | It is. | Do. |", 0, 1},
		"nothing to do":  {"| `X` | Warning | False | It is. | |", 0, 1},
		"no code":        {"| X | Warning | False | It is. | Do. |", 0, 1},
		"twice":          {"| `X` | none | – | It is. | Do. |\n| `X` | none | – | It is. | Do. |", 1, 1},
		"not in a table": {"X", 0, 0},
	} {
		if rows, bad := tellings(head + c.line + "\n"); len(rows) != c.rows || len(bad) != c.bad {
			t.Errorf("%s: rows %v, bad %q", name, rows, bad)
		}
	}
}
