package acisync_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The documents whose tables say, in a last column "shown by", what shows each row:
//
//	`name`                        a golden of internal/desired
//	`plan/name`                   a golden of another package
//	`story/name`                  a story
//	`controller/TestName`         a test
//	`docs/TestName`           a test of test/docs; of test/history and test/stories, by history/ and stories/
//	`controller/TestName/a case`  a case of its table, or a subtest, by its name
//	not yet                       nothing: the row is promised and not built
const (
	annotationsPage = "docs/reference/annotations.md"
	behaviorPage    = "docs/reference/behaviour.md"
	faultsPage      = "docs/reference/faults.md"
)

const notYet = "not yet"

// row is one line of a table.
type row struct{ text, shownBy string }

// shownRows are the rows of all tables of a document that have a column "shown by".
func shownRows(document string) []row {
	var rows []row
	shown := false
	for line := range strings.Lines(document) {
		line = strings.TrimSpace(line)
		cells := strings.Split(strings.Trim(line, "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			shown = false
		case last == "shown by":
			shown = true
		case shown && !strings.HasPrefix(line, "| ---"):
			rows = append(rows, row{line, last})
		}
	}
	return rows
}

var quoted = regexp.MustCompile("`([^`]*)`")

// names are what a row says that it is shown by; none when that is not yet.
func (r row) names() ([]string, error) {
	if r.shownBy == notYet {
		return nil, nil
	}
	var out []string
	for _, m := range quoted.FindAllStringSubmatch(r.shownBy, -1) {
		out = append(out, m[1])
	}
	if rest := strings.Trim(quoted.ReplaceAllString(r.shownBy, ""), ", "); len(out) == 0 || rest != "" {
		return nil, fmt.Errorf("%q is neither names in backquotes nor %q: %s", r.shownBy, notYet, r.text)
	}
	return out, nil
}

// source is the file of a golden or a story, or the directory of a test with its name.
func source(name string) (file, test string) {
	pkg, rest, ok := strings.Cut(name, "/")
	switch {
	case !ok:
		return "internal/desired/testdata/" + name + ".txtar", ""
	case pkg == "story":
		return "test/stories/testdata/" + rest + ".txtar", ""
	case pkg == "docs", pkg == "history", pkg == "stories":
		return "test/" + pkg, rest
	case strings.HasPrefix(rest, "Test"), strings.HasPrefix(rest, "Fuzz"):
		return "internal/" + pkg, rest
	}
	return "internal/" + pkg + "/testdata/" + rest + ".txtar", ""
}

// tests are the tests of a directory as name, and as name/case for all that could be a case.
func tests(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(dir + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				found[fn.Name.Name] = true
				for _, c := range cases(fn) {
					found[fn.Name.Name+"/"+c] = true
				}
			}
		}
	}
	return found
}

// cases are the keys of the tables in a test and the names of its subtests.
func cases(fn *ast.FuncDecl) []string {
	var out []string
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, s)
			}
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			add(n.Key)
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Run" && len(n.Args) == 2 {
				add(n.Args[0])
			}
		}
		return true
	})
	return out
}

func TestReferenceNamesWhatExists(t *testing.T) {
	t.Parallel()
	byDir := map[string]map[string]bool{}
	named := map[string]bool{}
	for page, least := range map[string]int{annotationsPage: 40, behaviorPage: 40, faultsPage: 10} {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		waiting := 0
		rows := shownRows(string(data))
		if len(rows) < least {
			t.Errorf("%s: only %d rows were found", page, len(rows))
		}
		for _, r := range rows {
			names, err := r.names()
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if names == nil {
				waiting++
			}
			for _, name := range names {
				file, test := source(name)
				named[file] = true
				if test != "" && byDir[file] == nil {
					byDir[file] = tests(t, file)
				}
				if _, err := os.Stat(file); err != nil || test != "" && !byDir[file][test] {
					t.Errorf("%s: there is no %s: %s", page, name, r.text)
				}
			}
		}
		t.Logf("%s: %d rows, of which %d are not yet shown", page, len(rows), waiting)
	}
	// A golden stands for a row.
	for _, dir := range []string{"internal/desired", "internal/plan"} {
		files, err := filepath.Glob(dir + "/testdata/*.txtar")
		if err != nil || len(files) == 0 {
			t.Fatal("no goldens", err)
		}
		for _, file := range files {
			if !named[filepath.ToSlash(file)] {
				t.Errorf("%s shows no row: name it in %s or %s", file, behaviorPage, path.Base(annotationsPage))
			}
		}
	}
}

// What the check above would let pass shows here.
func TestReferenceRows(t *testing.T) {
	t.Parallel()
	const page = "# A page\n\n| a | b |\n| --- | --- |\n| none of these | `x` |\n\ntext\n| a | shown by |\n| --- | --- |\n" +
		"| one | `x`, `plan/y` |\n| | not yet |\n| three | `x` and more |\n| four | |\n| five | not yet, `x` |\n"
	rows := shownRows(page)
	var got []string
	for _, r := range rows {
		names, err := r.names()
		got = append(got, fmt.Sprint(names, " ", err != nil))
	}
	want := "[x plan/y] false; [] false; [] true; [] true; [] true"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	for name, want := range map[string]string{
		"x": "internal/desired/testdata/x.txtar ", "plan/y": "internal/plan/testdata/y.txtar ",
		"story/z": "test/stories/testdata/z.txtar ", "docs/TestA": "test/docs TestA", "aci/TestA/b c": "internal/aci TestA/b c",
	} {
		file, test := source(name)
		if got := file + " " + test; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	const code = `package p
func TestA(t *T) {
	t.Run("one", nil)
	for name := range map[string]int{"two": 2} { t.Log("three", name) }
}`
	f, err := parser.ParseFile(token.NewFileSet(), "", code, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(cases(f.Decls[0].(*ast.FuncDecl)), " "); got != "one two" {
		t.Errorf("cases are %q", got)
	}
}
