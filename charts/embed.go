// Package charts holds what is installed into a cluster: the Helm chart, and in it the
// CustomResourceDefinition.
package charts

import _ "embed" // for CRDs

// CRDs is the YAML of the CustomResourceDefinitions.
//
//go:embed aci-sync/crds/aci.haystacknetworks.com_externalepgs.yaml
var CRDs []byte
