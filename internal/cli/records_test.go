package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// definition is what an API server says to who asks for the definition of ExternalEPG.
type definition struct {
	client.Reader
	schema string
	err    error
}

func (d definition) Get(_ context.Context, _ types.NamespacedName, obj client.Object, _ ...client.GetOption) error {
	obj.SetAnnotations(map[string]string{"aci.haystacknetworks.com/schema": d.schema})
	return d.err
}

// In a cluster nothing runs without records; outside it does, with a warning. One that is too old
// stops the start anywhere.
func TestRecords_are_needed_in_a_cluster(t *testing.T) {
	t.Parallel()
	resource := schema.GroupResource{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}
	absent := apierrors.NewNotFound(resource, "externalepgs.aci.haystacknetworks.com")
	forbidden := apierrors.NewForbidden(resource, "externalepgs.aci.haystacknetworks.com", errors.New("no"))
	const install = "aci-sync crds | kubectl apply --server-side --force-conflicts -f -"
	for name, c := range map[string]struct {
		is              definition
		inside, outside string // what the error says; "" for none
		recorder        string // of both, where there is no error
	}{
		"installed": {is: definition{schema: "1"}, recorder: "blue"},
		"newer":     {is: definition{schema: "99"}, recorder: "blue"},
		"old":       {is: definition{schema: "0"}, inside: "update it with: " + install, outside: "update it with: " + install},
		"absent":    {is: definition{err: absent}, inside: "is not installed; install it with: " + install},
		"forbidden": {is: definition{err: forbidden}, inside: "forbidden"},
	} {
		for where, want := range map[bool]string{true: c.inside, false: c.outside} {
			var log strings.Builder
			got, err := recorderFor(t.Context(), slog.New(slog.NewTextHandler(io.Writer(&log), nil)), c.is, "blue", where)
			switch {
			case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s, in a cluster %t: %v, want %q", name, where, err, want)
			case err == nil && string(got) != c.recorder:
				t.Errorf("%s, in a cluster %t: recorder %q, want %q", name, where, got, c.recorder)
			case err == nil && got == "" && !strings.Contains(log.String(), install):
				t.Errorf("%s, in a cluster %t: no warning: %s", name, where, log.String())
			}
		}
	}
	if inCluster(&rest.Config{}) || inCluster(&rest.Config{BearerTokenFile: "/home/me/token"}) ||
		!inCluster(&rest.Config{BearerTokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token"}) {
		t.Error("it does not know where it runs")
	}
}

// /dev/null is a character device, as a terminal is.
func TestNobody_to_ask_means_no(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, stdin := range map[string]io.Reader{"a pipe": strings.NewReader("y\n"), os.DevNull: null} {
		var stderr strings.Builder
		if confirmed("Delete them?", stdin, &stderr) {
			t.Errorf("%s: it was taken for a yes", name)
		}
		if got := stderr.String(); strings.Contains(got, "?") || !strings.Contains(got, "--yes") {
			t.Errorf("%s: it says %q", name, got)
		}
	}
}
