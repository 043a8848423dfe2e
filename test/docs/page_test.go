// Package docs_test follows pages of docs as their readers would: it executes every command of a page, in order, on a
// Kubernetes control plane of its own and a simulated APIC, and compares what the commands print with what the page
// shows.
package docs_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// step is a command of the page, or a Ctrl-C to what runs, with what is printed.
type step struct {
	line        int    // of the page, from 1; the last one of the command
	end         int    // the line behind the last one that is shown
	command     string // "" for a Ctrl-C alone; lines behind the first one begin with "> " on the page
	shown       string
	interrupted bool   // by Ctrl-C, after what is shown
	after       string // what is printed after that
	mayFail     bool   // the next command shows the exit code
}

const fence = "```"

// parse takes the commands out of a page. All of them must be in blocks of the language console, behind
// a "$ "; a command that the text names must be one of them.
func parse(page string) ([]step, error) {
	var steps []step
	lines := strings.Split(page, "\n")
	inside := false
	var text []string
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, fence):
			if !inside && line != fence+"console" {
				return nil, fmt.Errorf("line %d: a block that is not of the language console is not executed", i+1)
			}
			inside = !inside
			if inside && (i+1 == len(lines) || !strings.HasPrefix(lines[i+1], "$ ") && lines[i+1] != "^C") {
				return nil, fmt.Errorf("line %d: the block does not begin with a command", i+1)
			}
		case !inside:
			if strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "~~~") ||
				strings.Contains(line, fence) {
				return nil, fmt.Errorf("line %d: a block that is not fenced as the others are is not executed", i+1)
			}
			text = append(text, line)
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: i + 1, end: i + 1, command: line[2:]})
		case line == "^C":
			if n := len(steps); lines[i-1] == fence+"console" {
				steps = append(steps, step{line: i + 1})
			} else if !strings.HasPrefix(steps[n-1].command, "aci-sync run") || steps[n-1].interrupted {
				return nil, fmt.Errorf("line %d: nothing runs there", i+1)
			}
			last := &steps[len(steps)-1]
			last.interrupted, last.end = true, i+1
		case (line == ">" || strings.HasPrefix(line, "> ")) && len(steps) > 0 && steps[len(steps)-1].line == i: // the command goes on
			last := &steps[len(steps)-1]
			last.command += "\n" + strings.TrimPrefix(line[1:], " ")
			last.line, last.end = i+1, i+1
		default:
			last := &steps[len(steps)-1]
			if last.end = i + 1; last.interrupted {
				last.after += line + "\n"
			} else {
				last.shown += line + "\n"
			}
		}
	}
	if inside {
		return nil, fmt.Errorf("the last block is not closed")
	}
	for i := range steps {
		steps[i].mayFail = i+1 < len(steps) && steps[i+1].command == "echo $?"
	}
	for _, m := range named.FindAllStringSubmatch(strings.Join(text, "\n"), -1) {
		if !slices.ContainsFunc(steps, func(s step) bool { return strings.HasPrefix(s.command, m[1]) }) {
			return nil, fmt.Errorf("the text names a command that is not executed: %s", m[1])
		}
	}
	return steps, nil
}

// named are commands in the text.
var named = regexp.MustCompile("`((?:kubectl|aci-sync|curl|make) [^`]*)`")

// rewrite puts what the steps have to show into the page.
func rewrite(page string, steps []step) string {
	lines := strings.Split(page, "\n")
	var out []string
	next := 0
	for _, s := range steps {
		out = append(out, lines[next:s.line]...)
		out = append(out, split(s.shown)...)
		if s.interrupted && s.command != "" {
			out = append(out, "^C")
		}
		out = append(out, split(s.after)...)
		next = s.end
	}
	return strings.Join(append(out, lines[next:]...), "\n")
}

func split(text string) []string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// masks are what differs from run to run.
var masks = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`\bversion="[^"]*"`), "VERSION"},
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UID"},
	{regexp.MustCompile(`\b(mcast|aci-sync)-[0-9a-z]{6,10}-[0-9a-z]{5}\b`), "POD"},
	{regexp.MustCompile(`\b[0-9a-f]{1,4}(:[0-9a-f]{0,4}){2,7}`), "IPV6"},
	{regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}\b`), "IPV4"},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(ms|s|m|h))+\b`), "AGE"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// masked is a line without what differs from run to run.
func masked(line string) string {
	for _, m := range masks {
		line = m.what.ReplaceAllString(line, m.as)
	}
	return strings.TrimRight(line, " ")
}

// fits reports whether what was printed is what is shown, where a line "..." stands for any lines.
func fits(shown, printed string) bool {
	want, got := split(shown), split(printed)
	for i := range want {
		want[i] = masked(want[i])
	}
	for i := range got {
		got[i] = masked(got[i])
	}
	return fit(want, got)
}

func fit(want, got []string) bool {
	switch {
	case len(want) == 0:
		return len(got) == 0
	case want[0] == "...":
		for i := range len(got) + 1 {
			if fit(want[1:], got[i:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && want[0] == got[0] && fit(want[1:], got[1:])
}

func TestFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shown, printed string
		want           bool
	}{
		{"", "", true},
		{"", "x\n", false},
		{"x\n", "", false},
		{"x\n", "x\ny\n", false},
		{"x\n...\n", "x\ny\nz\n", true},
		{"...\nz\n", "x\ny\nz\n", true},
		{"...\ny\n", "x\ny\nz\n", false},
		{"+ 10.0.0.1/32   Claimed  Pod media/mcast-7d5c9b8f6d-x2lkq\n", "+ 10.64.100.1/32  Claimed  Pod media/mcast-abcdefabc-yyyyy\n", true},
		{"+ 10.0.0.1/32 Claimed\n", "- 10.0.0.1/32 Claimed\n", false},
		{"+ fd00::1/128 Claimed\n", "+ fd00:10:64::a/128 Claimed\n", true},
		{"+ fd00::1/128 Claimed\n", "+ 10.0.0.1/32 Claimed\n", false},
		{"5  5  True  10s\n", "5     5    True  1m20s\n", true},
		{"5  5  True  10s\n", "5  4  True  10s\n", false},
	} {
		if got := fits(c.shown, c.printed); got != c.want {
			t.Errorf("fits(%q, %q) is %v", c.shown, c.printed, got)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const page = "# P\n\n```console\n$ cat <<EOF\n> x\n>\n> EOF\nx\n$ aci-sync plan\nNothing\n$ echo $?\n2\n```\ntext `aci-sync plan`\n```console\n$ aci-sync run\nleads\n^C\nstopped\n```\n"
	steps, err := parse(page)
	if err != nil {
		t.Fatal(err)
	}
	want := []step{
		{line: 7, end: 8, command: "cat <<EOF\nx\n\nEOF", shown: "x\n"},
		{line: 9, end: 10, command: "aci-sync plan", shown: "Nothing\n", mayFail: true},
		{line: 11, end: 12, command: "echo $?", shown: "2\n"},
		{line: 16, end: 19, command: "aci-sync run", shown: "leads\n", interrupted: true, after: "stopped\n"},
	}
	if diff := cmp.Diff(want, steps, cmp.AllowUnexported(step{})); diff != "" {
		t.Error(diff)
	}
	if got := rewrite(page, steps); got != page {
		t.Errorf("it becomes\n%s", got)
	}
	for name, page := range map[string]string{
		"another language":     "```sh\nkubectl get pods\n```\n",
		"no language":          "```\n$ kubectl get pods\n```\n",
		"indented":             "text\n\n    kubectl get pods\n",
		"no prompt":            "```console\nkubectl get pods\n```\n",
		"not closed":           "```console\n$ kubectl get pods\n",
		"named in the text":    "text `kubectl delete xepg --all`\n",
		"Ctrl-C to what ended": "```console\n$ kubectl get pods\n^C\n```\n",
	} {
		if steps, err := parse(page); err == nil {
			t.Errorf("%s: %+v", name, steps)
		}
	}
}
