package acisync_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	metricsPage   = "docs/reference/metrics.md" // made from the registry: see internal/cli
	runbookPage   = "docs/runbook.md"
	runbookURL    = "https://github.com/haystacknetworks/aci-sync/blob/main/" + runbookPage
	alertsFile    = "charts/aci-sync/files/alerts.yaml"
	alertTests    = "charts/aci-sync/files/alerts_test.yaml"
	dashboardFile = "charts/aci-sync/files/dashboard.json"
)

// metric is a row of the page of metrics.
type metric struct {
	kind   string
	labels []string
}

var metricRow = regexp.MustCompile("(?m)^\\| `(acisync_[a-z0-9_]+)` \\| (counter|gauge|histogram) \\| ([^|]+) \\|")

// metricsIn are the metrics of the page by the names that a query has for them.
func metricsIn(page string) map[string]metric {
	out := map[string]metric{}
	for _, m := range metricRow.FindAllStringSubmatch(page, -1) {
		var labels []string
		for _, l := range quoted.FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, l[1])
		}
		if m[2] != "histogram" {
			out[m[1]] = metric{m[2], labels}
			continue
		}
		out[m[1]+"_sum"], out[m[1]+"_count"] = metric{"counter", labels}, metric{"counter", labels}
		out[m[1]+"_bucket"] = metric{"counter", append(slices.Clip(labels), "le")}
	}
	return out
}

func knownMetrics(t *testing.T) map[string]metric {
	t.Helper()
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	known := metricsIn(string(page))
	if len(known) < 20 {
		t.Fatalf("%s has %d metrics", metricsPage, len(known))
	}
	return known
}

// targetLabels are what Prometheus adds to whatever it scrapes.
var targetLabels = []string{"job", "instance", "namespace", "pod", "node"}

var (
	selector = regexp.MustCompile(`\b(acisync_[a-zA-Z0-9_]*)\s*(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	rated    = regexp.MustCompile(`\b(?:rate|increase|irate)\s*\(\s*(acisync_[a-zA-Z0-9_]*)`)
)

// misuses says what a query asks for that does not exist.
func misuses(known map[string]metric, expr string) []string {
	var bad []string
	labels := slices.Clone(targetLabels)
	used := selector.FindAllStringSubmatch(expr, -1)
	if len(used) == 0 {
		bad = append(bad, "it asks for nothing of aci-sync")
	}
	for _, s := range used {
		m, ok := known[s[1]]
		if !ok {
			bad = append(bad, "there is no metric "+s[1])
			continue
		}
		labels = append(labels, m.labels...)
		for _, l := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(m.labels, l[1]) && !slices.Contains(targetLabels, l[1]) {
				bad = append(bad, s[1]+" has no label "+l[1])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			if l = strings.TrimSpace(l); l != "" && !slices.Contains(labels, l) {
				bad = append(bad, "nothing in it has a label "+l)
			}
		}
	}
	for _, r := range rated.FindAllStringSubmatch(expr, -1) {
		if m, ok := known[r[1]]; ok && m.kind != "counter" {
			bad = append(bad, r[1]+" is no counter")
		}
	}
	return bad
}

// What the checks below would let pass shows here.
func TestMisuses(t *testing.T) {
	t.Parallel()
	known := metricsIn("| metric | type | labels |\n| `acisync_a_total` | counter | `x`, `y` |\n| `acisync_b_seconds` | histogram | – | z |\n| `acisync_c` | gauge | – | z |\n")
	for expr, want := range map[string]int{
		`acisync_c`: 0,
		`acisync_c{job=~"$job"} > 1 or vector(0)`:                                   0,
		`sum by (x) (rate(acisync_a_total{y!="1"}[5m]))`:                            0,
		`histogram_quantile(0.9, sum by (le) (rate(acisync_b_seconds_bucket[5m])))`: 0,
		`acisync_b_seconds`:                      1,
		`acisync_d`:                              1,
		`acisync_c{x="1"}`:                       1,
		`acisync_c{pod="1", x=~"1", y!~"2"}`:     2,
		`sum by (z) (acisync_a_total)`:           1,
		`acisync_c / on (x) acisync_c`:           1,
		`sum without (instance, le) (acisync_c)`: 1,
		`rate(acisync_c[5m])`:                    1,
		`up`:                                     1,
	} {
		if got := misuses(known, expr); len(got) != want {
			t.Errorf("%s: %q", expr, got)
		}
	}
}

// rule is an alerting rule.
type rule struct {
	Alert         string            `json:"alert"`
	Expr          string            `json:"expr"`
	For           string            `json:"for"`
	KeepFiringFor string            `json:"keep_firing_for,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

func readStrict(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.UnmarshalStrict(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var rules struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	}
	readStrict(t, alertsFile, &rules)
	var out []rule
	for _, g := range rules.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

// Every alert asks for what exists, says in words what is the matter, and has a section of the runbook with
// all that such a section has; and there is no other section.
func TestAlertsHaveTheirRunbook(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(runbookPage)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for i, s := range strings.Split(string(page), "\n## ") {
		if name, text, _ := strings.Cut(s, "\n"); i > 0 {
			sections[name] = text
		}
	}
	known := knownMetrics(t)
	sentence := regexp.MustCompile(`^([A-Z{]|aci-sync ).*\.$`)
	var names []string
	for _, r := range alerts(t) {
		names = append(names, r.Alert)
		for _, bad := range misuses(known, r.Expr) {
			t.Errorf("%s: %s", r.Alert, bad)
		}
		if r.For == "" || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: for %q, severity %q", r.Alert, r.For, r.Labels["severity"])
		}
		if want := runbookURL + "#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url is %s, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		for _, a := range []string{"summary", "description"} {
			if !sentence.MatchString(r.Annotations[a]) {
				t.Errorf("%s: %s is no sentence: %q", r.Alert, a, r.Annotations[a])
			}
		}
	}
	if d := cmp.Diff(slices.Sorted(slices.Values(names)), slices.Sorted(maps.Keys(sections))); d != "" {
		t.Errorf("alerts (-) and sections of %s (+) differ:\n%s", runbookPage, d)
	}
	for name, text := range sections {
		at := -1
		for _, part := range []string{"**It means**", "**Users notice**", "**Look**", "**Do**"} {
			next := strings.Index(text, part)
			if next <= at {
				t.Errorf("%s: section %s has no %s, or in another order", runbookPage, name, part)
			}
			at = next
		}
		_, look, _ := strings.Cut(text, "**Look**")
		if look, _, _ = strings.Cut(look, "**Do**"); !strings.Contains(look, "\n    ") {
			t.Errorf("%s: section %s has no command", runbookPage, name)
		}
		for _, m := range regexp.MustCompile(`\(#([^)]*)\)`).FindAllStringSubmatch(text, -1) {
			if !slices.ContainsFunc(names, func(n string) bool { return strings.ToLower(n) == m[1] }) {
				t.Errorf("%s: section %s points to %s, which is not there", runbookPage, name, m[1])
			}
		}
	}
	// What the page tells people to grep for exists, too.
	for _, m := range regexp.MustCompile("(?m)^ {4}metrics '?([a-z_|]+)").FindAllStringSubmatch(string(page), -1) {
		for name := range strings.SplitSeq(m[1], "|") {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(k string) bool { return strings.HasPrefix(k, "acisync_"+name) }) {
				t.Errorf("%s looks for the metric acisync_%s, which does not exist", runbookPage, name)
			}
		}
	}
}

// promtool runs the tool of Prometheus that checks and tests rules. It is a module of its own, for it drags in
// more than all else.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "-modfile=tools/promtool/go.mod", "promtool"}, args...)...)
	cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -tags=remove_all_sd", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Every alert fires in one of its tests, and is silent in another, in which it could.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var suite struct {
		RuleFiles          []string `json:"rule_files"`
		EvaluationInterval string   `json:"evaluation_interval"`
		Tests              []struct {
			Name        string `json:"name"`
			Interval    string `json:"interval"`
			InputSeries []struct {
				Series string `json:"series"`
				Values string `json:"values"`
			} `json:"input_series"`
			AlertRuleTest []struct {
				EvalTime  string `json:"eval_time"`
				Alertname string `json:"alertname"`
				ExpAlerts []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	readStrict(t, alertTests, &suite)
	known := knownMetrics(t)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range suite.Tests {
		for _, s := range test.InputSeries {
			for _, bad := range misuses(known, s.Series) {
				t.Errorf("%s: %s: %s", alertTests, test.Name, bad)
			}
		}
		for _, a := range test.AlertRuleTest {
			fires[a.Alertname] = fires[a.Alertname] || len(a.ExpAlerts) > 0
			silent[a.Alertname] = silent[a.Alertname] || len(a.ExpAlerts) == 0
		}
	}
	for _, r := range alerts(t) {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: the tests show that it fires: %t, and that it does not: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
	promtool(t, "check", "rules", alertsFile)
	promtool(t, "test", "rules", alertTests)
}

// panel is one of the dashboard.
type panel struct {
	ID          int             `json:"id"`
	Type        string          `json:"type"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	Datasource  json.RawMessage `json:"datasource"`
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
}

// The dashboard asks for what exists, in queries that Prometheus understands, and every panel says what it shows.
func TestDashboard(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title         string  `json:"title"`
		UID           string  `json:"uid"`
		SchemaVersion int     `json:"schemaVersion"`
		Panels        []panel `json:"panels"`
		Templating    struct {
			List []struct {
				Name  string          `json:"name"`
				Type  string          `json:"type"`
				Query json.RawMessage `json:"query"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	if board.Title == "" || board.UID == "" || board.SchemaVersion < 39 {
		t.Errorf("title %q, uid %q, schema %d", board.Title, board.UID, board.SchemaVersion)
	}
	if v := board.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" {
		t.Errorf("variables %v do not begin with the data source", v)
	}
	known := knownMetrics(t)
	ids, shown := map[int]bool{}, map[string]bool{}
	var rowsOf []string
	var queries strings.Builder
	queries.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is there twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("%s: it is at %v", p.Title, p.GridPos)
		}
		if p.Type == "row" {
			rowsOf = append(rowsOf, p.Title)
			continue
		}
		if p.Title == "" || p.FieldConfig.Defaults.Unit == "" || !strings.HasSuffix(p.Description, ".") || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: unit %q, description %q, %d queries", p.ID, p.Title, p.FieldConfig.Defaults.Unit, p.Description, len(p.Targets))
		}
		if !strings.Contains(string(p.Datasource), `"${datasource}"`) {
			t.Errorf("%s: the data source is %s", p.Title, p.Datasource)
		}
		for i, q := range p.Targets {
			for _, bad := range misuses(known, q.Expr) {
				t.Errorf("%s: %s: %s", p.Title, q.Expr, bad)
			}
			for _, l := range regexp.MustCompile(`\{\{\s*([a-z_0-9]+)\s*\}\}`).FindAllStringSubmatch(q.LegendFormat, -1) {
				if !regexp.MustCompile(`by \([^)]*\b` + l[1] + `\b`).MatchString(q.Expr) {
					t.Errorf("%s: the legend has %s, which %s does not keep", p.Title, l[1], q.Expr)
				}
			}
			for _, s := range selector.FindAllStringSubmatch(q.Expr, -1) {
				shown[s[1]] = true
			}
			expr := strings.ReplaceAll(q.Expr, "$__rate_interval", "5m")
			fmt.Fprintf(&queries, "      - record: panel:%d:%d\n        expr: %q\n", p.ID, i, expr)
		}
	}
	if d := cmp.Diff([]string{"Health", "Convergence", "Changes", "Drift", "APIC", "Capacity"}, rowsOf); d != "" {
		t.Errorf("rows (-want +got)\n%s", d)
	}
	for name := range known {
		if !shown[name] && !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") && !strings.HasSuffix(name, "_bucket") {
			t.Errorf("no panel shows %s", name)
		}
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, []byte(queries.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
