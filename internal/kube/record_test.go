package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/charts"
	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// withCRD installs the CustomResourceDefinition, as others may have done already.
func (s server) withCRD(t *testing.T) client.Client {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(s.cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(charts.CRDs, &crd.Object); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(crd), client.FieldOwner("test"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return c.List(t.Context(), &v1alpha1.ExternalEPGList{}) })
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		var list v1alpha1.ExternalEPGList
		if err := c.List(ctx, &list); err != nil {
			t.Error(err)
		}
		for _, x := range list.Items {
			if x.Spec.Tenant == s.ns {
				if err := client.IgnoreNotFound(c.Delete(ctx, &x)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	return c
}

func (s server) epg(name string) aci.ExtEPG {
	return aci.ExtEPG{L3Out: aci.L3Out{Tenant: s.ns, Name: "O"}, Name: name}
}

func TestCheckCRD(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.withCRD(t)
	if err := CheckCRD(t.Context(), c); err != nil {
		t.Error(err)
	}
	for _, e := range []struct {
		name        string
		annotations map[string]string
		err         error
		want        error
	}{
		{"absent", nil, apierrors.NewNotFound(v1alpha1.GroupVersion().WithResource("x").GroupResource(), "x"), ErrNoCRD},
		{"older", map[string]string{v1alpha1.SchemaAnnotation: fmt.Sprint(v1alpha1.Schema - 1)}, nil, ErrOldCRD},
		{"of nobody knows when", nil, nil, ErrOldCRD},
		{"newer", map[string]string{v1alpha1.SchemaAnnotation: fmt.Sprint(v1alpha1.Schema + 1)}, nil, nil},
	} {
		if err := CheckCRD(t.Context(), definition{annotations: e.annotations, err: e.err}); !errors.Is(err, e.want) {
			t.Errorf("%s: %v, want %v", e.name, err, e.want)
		}
	}
	cfg := rest.CopyConfig(s.cfg)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:authenticated"}}
	nobody, err := client.New(cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCRD(t.Context(), nobody); !apierrors.IsForbidden(err) {
		t.Errorf("of a user without the right: %v", err)
	}
}

// definition is what the cluster answers to who asks for a definition that the tests cannot have
// there, because they share the real one.
type definition struct {
	client.Reader
	annotations map[string]string
	err         error
}

func (d definition) Get(_ context.Context, _ types.NamespacedName, obj client.Object, _ ...client.GetOption) error {
	obj.SetAnnotations(d.annotations)
	return d.err
}

func TestRecords_are_written_read_and_forgotten(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.withCRD(t)
	r := NewRecords(c, "c1")
	e := s.epg("E")
	rec := desired.Record{EPG: e, Managed: new(true), Owner: "c1", Members: []desired.Member{
		{Ref: desired.Ref{Kind: desired.KindDeployment, Namespace: "shop", Name: "web"}, UID: "u1", Expose: &desired.Expose{Pods: true}},
		{Ref: desired.Ref{Kind: desired.KindService, Namespace: "shop", Name: "vip"}, UID: "u2"},
	}}
	st := desired.Status{
		Desired: 4, Present: 3, Synced: time.Now(), Ready: desired.Condition{Reason: "Paused", Message: "m"},
		Problems: []desired.Condition{{Reason: "Paused", Message: "m", True: true}},
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func() *v1alpha1.ExternalEPG {
		t.Helper()
		obj := &v1alpha1.ExternalEPG{}
		must(c.Get(t.Context(), types.NamespacedName{Name: nameOf(e)}, obj))
		return obj
	}
	must(r.Record(t.Context(), rec, st))
	obj := read()
	if got, ok := recordOf(obj, "c1"); !ok || !got.Equal(rec) {
		t.Errorf("read back %v (-want +got)\n%s", ok, cmp.Diff(rec, got))
	}
	if obj.Status.Desired != 4 || obj.Status.Present != 3 || obj.Status.Workloads != 2 || obj.Status.LastSync == nil ||
		obj.Status.ObservedGeneration != obj.Generation {
		t.Errorf("status %+v", obj.Status)
	}
	ready := apimeta.FindStatusCondition(obj.Status.Conditions, "Ready")
	paused := apimeta.FindStatusCondition(obj.Status.Conditions, "Paused")
	if ready == nil || paused == nil || ready.Status != metav1.ConditionFalse || ready.Reason != "Paused" || paused.Status != metav1.ConditionTrue {
		t.Errorf("conditions %+v", obj.Status.Conditions)
	}

	// What is the same is not written; what a person added stays.
	obj.Annotations = map[string]string{"team": "net"}
	must(c.Update(t.Context(), obj))
	version := read().ResourceVersion
	must(r.Record(t.Context(), rec, st))
	if obj := read(); obj.ResourceVersion != version {
		t.Error("written although nothing differs")
	}
	st.Ready, st.Problems = desired.Condition{Reason: "InSync", True: true}, nil
	rec.Members, rec.Paused = rec.Members[:1], true
	must(r.Record(t.Context(), rec, st))
	obj = read()
	if got, _ := recordOf(obj, "c1"); !got.Equal(rec) || obj.Annotations["team"] != "net" {
		t.Errorf("read back (-want +got)\n%s", cmp.Diff(rec, got))
	}
	if len(obj.Status.Conditions) != 1 || obj.Status.Conditions[0].Status != metav1.ConditionTrue || obj.Status.ObservedGeneration != obj.Generation {
		t.Errorf("status %+v", obj.Status)
	}

	// What an ExternalEPG is about cannot be changed.
	obj.Spec.EPG = "F"
	if err := c.Update(t.Context(), obj); err == nil || !strings.Contains(err.Error(), "cannot be changed") {
		t.Errorf("changing the EPG: %v", err)
	}

	must(r.Forget(t.Context(), e))
	must(r.Forget(t.Context(), e))
	if err := c.Get(t.Context(), types.NamespacedName{Name: nameOf(e)}, obj); !apierrors.IsNotFound(err) {
		t.Errorf("it is there: %v", err)
	}
}

func TestWatch_tells_of_records_before_any_object_and_as_they_change(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.withCRD(t)
	r := NewRecords(c, "c1")
	s.deployment(t, 0)
	e := s.epg("E")
	if err := r.Record(t.Context(), desired.Record{EPG: e}, desired.Status{Ready: desired.Condition{Reason: "Syncing"}}); err != nil {
		t.Fatal(err)
	}
	// One that somebody made by hand, under another name, is nobody's record.
	other := &v1alpha1.ExternalEPG{
		ObjectMeta: metav1.ObjectMeta{Name: s.ns},
		Spec:       v1alpha1.ExternalEPGSpec{Cluster: "c1", Tenant: s.ns, L3Out: "O", EPG: "F"},
	}
	if err := c.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	// Neither is that of another aci-sync, which nobody else touches.
	theirs := NewRecords(c, "c2")
	f := s.epg("F")
	if err := theirs.Record(t.Context(), desired.Record{EPG: f}, desired.Status{Ready: desired.Condition{Reason: "Syncing"}}); err != nil {
		t.Fatal(err)
	}
	err := r.Record(t.Context(), desired.Record{EPG: f}, desired.Status{})
	if !errors.Is(err, desired.ErrOtherRecord) || !strings.Contains(err.Error(), "--cluster-id=c2") {
		t.Errorf("writing the record of another aci-sync: %v", err)
	}
	if err := r.Forget(t.Context(), f); err != nil {
		t.Error(err)
	}
	if err := c.Get(t.Context(), types.NamespacedName{Name: nameOf(f)}, &v1alpha1.ExternalEPG{}); err != nil {
		t.Errorf("the record of another aci-sync: %v", err)
	}
	v := &first{view: newView(s.ns)}
	if err := s.watch(t.Context(), t, v, "c1"); err != nil {
		t.Fatal(err)
	}
	if v.late || len(v.records) != 1 {
		t.Errorf("records %v, after an object: %v", v.records, v.late)
	}
	if err := r.Record(t.Context(), desired.Record{EPG: e, Managed: new(false)}, desired.Status{Ready: desired.Condition{Reason: "Syncing"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if m := v.records[e].Managed; m == nil || *m {
			return fmt.Errorf("record is %+v", v.records[e])
		}
		return nil
	})
	if err := r.Forget(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.records) != 0 {
			return fmt.Errorf("records are %+v", v.records)
		}
		return nil
	})
}

// first notes whether a record comes after an object.
type first struct {
	*view
	late bool
}

func (f *first) Recorded(e aci.ExtEPG, rec *desired.Record) {
	f.mu.Lock()
	f.late = f.late || e.Tenant == f.ns && len(f.synced) == 0 && len(f.now) > 0
	f.mu.Unlock()
	f.view.Recorded(e, rec)
}

// elsewhere is a client beside which somebody else writes what was just read, as often as it says.
type elsewhere struct {
	client.Client
	times int
}

func (c *elsewhere) Get(ctx context.Context, key types.NamespacedName, obj client.Object, o ...client.GetOption) error {
	if err := c.Client.Get(ctx, key, obj, o...); err != nil || c.times == 0 {
		return err
	}
	c.times--
	theirs := obj.DeepCopyObject().(client.Object)
	theirs.SetLabels(map[string]string{"left": fmt.Sprint(c.times)})
	return c.Update(ctx, theirs)
}

// Whoever leads writes the record all the time, and must not get in the way of who approves something.
func TestRecords_approve_what_somebody_else_writes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.withCRD(t)
	e := s.epg("E")
	if err := NewRecords(c, "c1").Record(t.Context(), desired.Record{EPG: e}, desired.Status{Ready: desired.Condition{Reason: "Syncing"}}); err != nil {
		t.Fatal(err)
	}
	busy := &elsewhere{Client: c, times: 2}
	r := NewRecords(busy, "c1")
	if err := r.Approve(t.Context(), e, "prune x"); err != nil || busy.times != 0 {
		t.Fatalf("%v, with %d writes of others to come", err, busy.times)
	}
	obj := &v1alpha1.ExternalEPG{}
	if err := c.Get(t.Context(), types.NamespacedName{Name: nameOf(e)}, obj); err != nil {
		t.Fatal(err)
	}
	if rec, ok := recordOf(obj, "c1"); !ok || rec.Approved != "prune x" || obj.Labels["left"] != "0" {
		t.Errorf("approved %q, labels %v", rec.Approved, obj.Labels)
	}

	// It gives up some time, and at once where waiting is of no use.
	busy.times = 1000
	if err := r.Approve(t.Context(), e, "prune y"); !apierrors.IsConflict(err) {
		t.Errorf("against who never stops writing: %v", err)
	}
	busy.times = 0
	if err := NewRecords(busy, "c2").Approve(t.Context(), e, "prune z"); err == nil || !strings.Contains(err.Error(), "--cluster-id=c1") {
		t.Errorf("in the record of another aci-sync: %v", err)
	}
	if err := r.Approve(t.Context(), s.epg("F"), "prune z"); !apierrors.IsNotFound(err) {
		t.Errorf("without a record: %v", err)
	}
}
