package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// Errors of CheckCRD.
var (
	ErrNoCRD  = errors.New("the CustomResourceDefinition " + v1alpha1.CRDName + " is not installed")
	ErrOldCRD = errors.New("the CustomResourceDefinition " + v1alpha1.CRDName + " is older than this aci-sync")
)

// CheckCRD returns ErrNoCRD or ErrOldCRD when the cluster cannot hold the records of this
// version, and another error when that cannot be told.
func CheckCRD(ctx context.Context, c client.Reader) error {
	crd := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}}
	err := c.Get(ctx, types.NamespacedName{Name: v1alpha1.CRDName}, crd)
	if apierrors.IsNotFound(err) {
		return ErrNoCRD
	}
	if err != nil {
		return fmt.Errorf("read the CustomResourceDefinition %s: %w", v1alpha1.CRDName, err)
	}
	if n, err := strconv.Atoi(crd.Annotations[v1alpha1.SchemaAnnotation]); err != nil || n < v1alpha1.Schema {
		return ErrOldCRD
	}
	return nil
}

// Records keeps what is to be remembered in ExternalEPG objects, those of one aci-sync. Safe for
// concurrent use, one call at a time for each external EPG.
type Records struct {
	client client.Client
	owner  aci.Owner
}

// NewRecords returns the Records of owner; c may read from a cache.
func NewRecords(c client.Client, owner aci.Owner) *Records { return &Records{c, owner} }

// Record writes rec and st, where they differ from what is there. It does not retry: the caller
// comes again after an error, also after a conflict, and after desired.ErrOtherRecord.
func (r *Records) Record(ctx context.Context, rec desired.Record, st desired.Status) error {
	name := nameOf(rec.EPG)
	have := &v1alpha1.ExternalEPG{}
	err := r.client.Get(ctx, types.NamespacedName{Name: name}, have)
	absent := apierrors.IsNotFound(err)
	if err != nil && !absent {
		return fmt.Errorf("read ExternalEPG %s: %w", name, err)
	}
	if !absent && have.Spec.Cluster != string(r.owner) {
		return errOther(have)
	}
	obj := have.DeepCopy()
	obj.Name, obj.Spec = name, r.specOf(rec)
	if rec.Paused {
		metav1.SetMetaDataAnnotation(&obj.ObjectMeta, v1alpha1.PausedAnnotation, "true")
	}
	switch {
	case absent:
		obj.TypeMeta = metav1.TypeMeta{}
		err = r.client.Create(ctx, obj)
	case !apiequality.Semantic.DeepEqual(have.Spec, obj.Spec) || !apiequality.Semantic.DeepEqual(have.Annotations, obj.Annotations):
		err = r.client.Update(ctx, obj)
	}
	if err != nil {
		return fmt.Errorf("write ExternalEPG %s: %w", name, err)
	}
	was := obj.Status.DeepCopy()
	setStatus(obj, rec, st)
	if apiequality.Semantic.DeepEqual(*was, obj.Status) {
		return nil
	}
	if err := r.client.Status().Update(ctx, obj); err != nil {
		return fmt.Errorf("write the status of ExternalEPG %s: %w", name, err)
	}
	return nil
}

// errOther is the desired.ErrOtherRecord of x.
func errOther(x *v1alpha1.ExternalEPG) error {
	return fmt.Errorf("ExternalEPG %s is %w, with --cluster-id=%s; if that is no more, delete it", x.Name, desired.ErrOtherRecord, x.Spec.Cluster)
}

// Answer replaces what was approved for e by what became of it.
func (r *Records) Answer(ctx context.Context, e aci.ExtEPG, answer string) error {
	obj := &v1alpha1.ExternalEPG{}
	name := nameOf(e)
	err := r.client.Get(ctx, types.NamespacedName{Name: name}, obj)
	if err == nil {
		obj = obj.DeepCopy()
		delete(obj.Annotations, v1alpha1.ApprovedAnnotation)
		metav1.SetMetaDataAnnotation(&obj.ObjectMeta, v1alpha1.AnswerAnnotation, answer)
		err = r.client.Update(ctx, obj)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("answer in ExternalEPG %s: %w", name, err)
	}
	return nil
}

// Approve tells the leader what a person approved for e. After a conflict it tries again, a few times:
// the leader may be writing the record, and nobody comes again for a person.
func (r *Records) Approve(ctx context.Context, e aci.ExtEPG, approval string) error {
	name := nameOf(e)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		obj := &v1alpha1.ExternalEPG{}
		if err := r.client.Get(ctx, types.NamespacedName{Name: name}, obj); err != nil {
			return err
		}
		if obj.Spec.Cluster != string(r.owner) {
			return errOther(obj) // whoever leads would not look at it
		}
		obj = obj.DeepCopy()
		delete(obj.Annotations, v1alpha1.AnswerAnnotation)
		metav1.SetMetaDataAnnotation(&obj.ObjectMeta, v1alpha1.ApprovedAnnotation, approval)
		return r.client.Update(ctx, obj)
	})
	if err != nil {
		return fmt.Errorf("approve in ExternalEPG %s: %w", name, err)
	}
	return nil
}

// AnswerGone is what Answered returns when the record is gone: there is nothing of ours left.
const AnswerGone = "gone"

// Answered returns what became of what was approved for e; "" while that is not known.
func (r *Records) Answered(ctx context.Context, e aci.ExtEPG, approval string) (string, error) {
	obj := &v1alpha1.ExternalEPG{}
	err := r.client.Get(ctx, types.NamespacedName{Name: nameOf(e)}, obj)
	if apierrors.IsNotFound(err) {
		return AnswerGone, nil
	}
	if err != nil {
		return "", fmt.Errorf("read ExternalEPG %s: %w", nameOf(e), err)
	}
	answer, ok := strings.CutPrefix(obj.Annotations[v1alpha1.AnswerAnnotation], approval+": ")
	if !ok {
		return "", nil
	}
	return answer, nil
}

// Forget deletes the record of e; that it is gone already is no error.
func (r *Records) Forget(ctx context.Context, e aci.ExtEPG) error {
	obj := &v1alpha1.ExternalEPG{}
	name := nameOf(e)
	err := r.client.Get(ctx, types.NamespacedName{Name: name}, obj)
	if err == nil && obj.Spec.Cluster == string(r.owner) {
		err = r.client.Delete(ctx, obj, client.Preconditions{UID: new(obj.UID)})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ExternalEPG %s: %w", name, err)
	}
	return nil
}

func nameOf(e aci.ExtEPG) string { return v1alpha1.Name(e.Tenant, e.L3Out.Name, e.Name) }

func (r *Records) specOf(rec desired.Record) v1alpha1.ExternalEPGSpec {
	spec := v1alpha1.ExternalEPGSpec{
		Cluster: string(r.owner), Tenant: rec.EPG.Tenant, L3Out: rec.EPG.L3Out.Name, EPG: rec.EPG.Name, Managed: rec.Managed, Owner: string(rec.Owner),
	}
	for _, m := range rec.Members {
		w := v1alpha1.Workload{Kind: m.Ref.Kind, Namespace: m.Ref.Namespace, Name: m.Ref.Name, UID: m.UID}
		if m.Expose != nil {
			w.Expose = m.Expose.List()
		}
		spec.Workloads = append(spec.Workloads, w)
	}
	return spec
}

// recordOf reads obj; false when it is no record of owner: that of another aci-sync, or made by
// hand under another name. Members that nobody can understand, written by a newer version or by hand,
// are left out.
func recordOf(obj *v1alpha1.ExternalEPG, owner aci.Owner) (desired.Record, bool) {
	e := aci.ExtEPG{L3Out: aci.L3Out{Tenant: obj.Spec.Tenant, Name: obj.Spec.L3Out}, Name: obj.Spec.EPG}
	rec := desired.Record{
		EPG: e, Managed: obj.Spec.Managed, Owner: aci.Owner(obj.Spec.Owner),
		Paused: obj.Annotations[v1alpha1.PausedAnnotation] == "true", Approved: obj.Annotations[v1alpha1.ApprovedAnnotation],
	}
	for _, w := range obj.Spec.Workloads {
		m := desired.Member{Ref: desired.Ref{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name}, UID: w.UID}
		if len(w.Expose) > 0 {
			x, err := desired.ParseExpose(w.Expose)
			if err != nil {
				continue
			}
			m.Expose = &x
		}
		rec.Members = append(rec.Members, m)
	}
	slices.SortFunc(rec.Members, desired.Member.Compare)
	return rec, obj.Name == nameOf(e) && obj.Spec.Cluster == string(owner)
}

func setStatus(obj *v1alpha1.ExternalEPG, rec desired.Record, st desired.Status) {
	s := &obj.Status
	s.ObservedGeneration = obj.Generation
	s.Desired, s.Present, s.Workloads = int32(st.Desired), int32(st.Present), int32(len(rec.Members)) //nolint:gosec // counts
	if !st.Synced.IsZero() {
		s.LastSync = &metav1.Time{Time: st.Synced}
	}
	set := func(kind string, c desired.Condition) {
		status := metav1.ConditionFalse
		switch {
		case c.Unknown:
			status = metav1.ConditionUnknown
		case c.True:
			status = metav1.ConditionTrue
		}
		apimeta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: status, ObservedGeneration: obj.Generation, Reason: c.Reason, Message: cut(c.Message, maxMessage),
		})
	}
	set(v1alpha1.ConditionReady, st.Ready)
	there := map[string]bool{v1alpha1.ConditionReady: true}
	for _, c := range st.Problems {
		set(c.Reason, c)
		there[c.Reason] = true
	}
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c metav1.Condition) bool { return !there[c.Type] })
}

// maxMessage is what the API takes for the message of a condition, in bytes.
const maxMessage = 32 << 10

// cut shortens s to n bytes at most.
func cut(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }
