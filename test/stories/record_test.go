package stories_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
)

const externalEPGs = "/apis/" + v1alpha1.Group + "/" + v1alpha1.Version + "/externalepgs"

// xepgVerb looks at the ExternalEPG of an external EPG:
//
//	xepg EPG|L3OUT/EPG CONDITION...
//	xepg name VARIABLE EPG       its name, for kubectl
//	xepg none EPG                there is none
//
// Conditions are managed=true|false|unknown, owner=, paused=true, present=N, desired=N, workloads=KIND/NAME,…,
// ready=REASON and notready=REASON, and problems=REASON,…, which are all there are.
func xepgVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) < 2 && !(len(args) == 1 && args[0] != "name" && args[0] != "none") {
		return errors.New("usage: xepg EPG CONDITION...")
	}
	do := ""
	if args[0] == "name" || args[0] == "none" {
		do, args = args[0], args[1:]
	}
	epg := args[len(args)-1]
	if do == "" {
		epg = args[0]
	}
	l3out, name, ok := strings.Cut(epg, "/")
	if !ok {
		l3out, name = "OUT", epg
	}
	name = v1alpha1.Name(s.tenant, l3out, name)
	if do == "name" {
		ts.Setenv(args[0], name)
		return nil
	}
	x, err := s.record(name)
	switch {
	case do == "none" && apierrors.IsNotFound(err):
		return nil
	case do == "none" && err == nil:
		return fmt.Errorf("ExternalEPG %s is there", name)
	case err != nil:
		return err
	}
	return told(x, args[1:])
}

// record reads an ExternalEPG.
func (s *story) record(name string) (v1alpha1.ExternalEPG, error) {
	var x v1alpha1.ExternalEPG
	data, err := s.client.RESTClient().Get().AbsPath(externalEPGs, name).DoRaw(s.ctx)
	if err == nil {
		err = json.Unmarshal(data, &x)
	}
	return x, err
}

func told(x v1alpha1.ExternalEPG, conditions []string) error {
	is := map[string]string{
		"managed": "unknown", "owner": x.Spec.Owner, "paused": x.Annotations[v1alpha1.PausedAnnotation],
		"present": fmt.Sprint(x.Status.Present), "desired": fmt.Sprint(x.Status.Desired),
	}
	if x.Spec.Managed != nil {
		is["managed"] = fmt.Sprint(*x.Spec.Managed)
	}
	var workloads, problems []string
	for _, w := range x.Spec.Workloads {
		workloads = append(workloads, w.Kind+"/"+w.Name)
	}
	for _, c := range x.Status.Conditions {
		if c.Type != v1alpha1.ConditionReady {
			problems = append(problems, c.Type)
		}
	}
	is["workloads"], is["problems"] = strings.Join(workloads, ","), strings.Join(problems, ",")
	if ready := apimeta.FindStatusCondition(x.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		is[map[bool]string{true: "ready", false: "notready"}[ready.Status == "True"]] = ready.Reason
	}
	for _, c := range conditions {
		k, v, _ := strings.Cut(c, "=")
		if is[k] != v {
			return fmt.Errorf("ExternalEPG %s: %s is %q, want %q: %+v", x.Name, k, is[k], v, x.Status)
		}
	}
	return nil
}

// dropRecords deletes the ExternalEPGs of the story, which are the cluster's, not its namespace's.
func (s *story) dropRecords() error {
	ctx := context.WithoutCancel(s.ctx)
	data, err := s.client.RESTClient().Get().AbsPath(externalEPGs).DoRaw(ctx)
	var list v1alpha1.ExternalEPGList
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		return err
	}
	for _, x := range list.Items {
		if !strings.HasPrefix(x.Spec.Tenant, s.tenant) {
			continue
		}
		if err := s.client.RESTClient().Delete().AbsPath(externalEPGs, x.Name).Do(ctx).Error(); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
