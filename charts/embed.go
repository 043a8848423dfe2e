// Package charts holds what is installed into a cluster: the Helm chart, and in it the
// CustomResourceDefinition. The chart's version is that of all of aci-sync.
package charts

import (
	_ "embed" // for CRDs and the version
	"strings"
)

// CRDs is the YAML of the CustomResourceDefinitions.
//
//go:embed aci-sync/crds/aci.haystacknetworks.com_externalepgs.yaml
var CRDs []byte

//go:embed aci-sync/Chart.yaml
var chart string

// Version is the version of aci-sync, such as 0.1.0: the last one that was released, or the one that is to be released next.
func Version() string {
	for line := range strings.Lines(chart) {
		if v, ok := strings.CutPrefix(line, "version:"); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return "unknown"
}
