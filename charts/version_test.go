package charts_test

import (
	"os"
	"regexp"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/charts"
)

func TestVersionIsThatOfChartAndProgramAndHasAHeading(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("aci-sync/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	v := charts.Version()
	if chart.Version != v || chart.AppVersion != v {
		t.Errorf("Version() is %q, and Chart.yaml has version %q and appVersion %q", v, chart.Version, chart.AppVersion)
	}
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(v) {
		t.Errorf("%q is no semantic version that an image can be tagged with", v)
	}
	changes, err := os.ReadFile("../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^## \[(Unreleased|` + regexp.QuoteMeta(v) + `)\]`).Match(changes) {
		t.Errorf("CHANGELOG.md has neither a heading [%s] nor [Unreleased]", v)
	}
}
