package v1alpha1_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/charts"
)

func TestName(t *testing.T) {
	t.Parallel()
	for want, in := range map[string][3]string{
		"ten-k8-c1-l3o-k8-c1-epg-k8-app-mcast-cc97f485c3":                {"TEN_K8_C1", "L3O_K8_C1", "EPG_K8_APP_MCAST"},
		"t--o-e-1-b0bbb2b679":                                            {":T:", "O", "E.1"},
		"tttttttttttttttttttttttttttttt-oooooooooooooooooooo-f02de96f09": {"TTTTTTTTTTTTTTTTTTTTTTTTTTTTTT", "OOOOOOOOOOOOOOOOOOOO", "EPG"},
	} {
		if got := v1alpha1.Name(in[0], in[1], in[2]); got != want {
			t.Errorf("%v has name %s, want %s", in, got, want)
		}
	}
	valid := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	seen := map[string][3]string{}
	for _, in := range [][3]string{
		{"T", "O", "E"},
		{"t", "o", "e"},
		{"T-O", "E", "E"},
		{"T", "O-E", "E"},
		{"...", ":::", "___"},
		{"-", "-", "-"},
		{strings.Repeat("T", 64), strings.Repeat("O", 64), strings.Repeat("E", 64)},
		{strings.Repeat("T", 64), strings.Repeat("O", 64), strings.Repeat("F", 64)},
		{strings.Repeat("T", 51) + ".", "O", "E"},
	} {
		got := v1alpha1.Name(in[0], in[1], in[2])
		if !valid.MatchString(got) {
			t.Errorf("%v has name %q, which is no label value", in, got)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%v and %v have one name", in, other)
		}
		seen[got] = in
	}
}

func TestCRD_is_the_one_that_this_package_expects(t *testing.T) {
	t.Parallel()
	var crd struct {
		Metadata struct {
			Name        string
			Annotations map[string]string
		}
		Spec struct {
			Group    string
			Scope    string
			Names    struct{ Kind string }
			Versions []struct{ Name string }
		}
	}
	if err := yaml.Unmarshal(charts.CRDs, &crd); err != nil {
		t.Fatal(err)
	}
	if crd.Metadata.Name != v1alpha1.CRDName || crd.Spec.Group != v1alpha1.Group || crd.Spec.Names.Kind != v1alpha1.Kind ||
		crd.Spec.Scope != "Cluster" || len(crd.Spec.Versions) != 1 || crd.Spec.Versions[0].Name != v1alpha1.Version {
		t.Errorf("the definition is %+v", crd)
	}
	if got := crd.Metadata.Annotations[v1alpha1.SchemaAnnotation]; got != fmt.Sprint(v1alpha1.Schema) {
		t.Errorf("its schema is %s, that of the package %d", got, v1alpha1.Schema)
	}
}
