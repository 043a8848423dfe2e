package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// Group of the API.
	Group = "aci.haystacknetworks.com"
	// Version of the API.
	Version = "v1alpha1"
	// Kind is the kind of ExternalEPG.
	Kind = "ExternalEPG"
	// CRDName is the name of the CustomResourceDefinition.
	CRDName = "externalepgs." + Group

	// SchemaAnnotation, on the CustomResourceDefinition, is the number of its schema.
	SchemaAnnotation = Group + "/schema"
	// Schema is the number of the schema that this package was generated with. It grows with each
	// change that aci-sync depends on, so that an older one in a cluster is noticed.
	Schema = 1

	// PausedAnnotation, on an ExternalEPG or a workload, stops all writes there when it is "true".
	PausedAnnotation = Group + "/paused"

	// ApprovedAnnotation, on an ExternalEPG, is what a person approved by aci-sync prune or adopt, with a
	// hash of what it is about; the leader plans anew, compares, and acts if it is the same.
	ApprovedAnnotation = Group + "/approved"
	// AnswerAnnotation, on an ExternalEPG, is what became of it.
	AnswerAnnotation = Group + "/answer"
)

// ConditionReady says whether every claimed address is where it is to be, and nothing stands in
// the way. The types of the other conditions are the reasons of problems; they are there as long
// as the problem is.
const ConditionReady = "Ready"

// GroupVersion is the group and version of this package.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: Version} }

// AddToScheme makes the types of this package known to s.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &ExternalEPG{}, &ExternalEPGList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}

// ExternalEPG is an external EPG of the fabric (l3extInstP) that workloads of this cluster name, or
// that aci-sync manages. aci-sync writes it; deleting it makes aci-sync forget what it remembers
// here, and changes nothing on the fabric.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=externalepgs,singular=externalepg,shortName=xepg
// +kubebuilder:metadata:annotations="aci.haystacknetworks.com/schema=1"
// +kubebuilder:printcolumn:name="Tenant",type=string,JSONPath=`.spec.tenant`
// +kubebuilder:printcolumn:name="L3Out",type=string,JSONPath=`.spec.l3out`
// +kubebuilder:printcolumn:name="EPG",type=string,JSONPath=`.spec.epg`
// +kubebuilder:printcolumn:name="Managed",type=boolean,JSONPath=`.spec.managed`
// +kubebuilder:printcolumn:name="Present",type=integer,JSONPath=`.status.present`,description="claimed subnets that are on the APIC"
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.status.desired`,description="subnets that are claimed"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Workloads",type=integer,priority=1,JSONPath=`.status.workloads`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalEPG struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ExternalEPGSpec `json:"spec"`
	// +optional
	Status ExternalEPGStatus `json:"status,omitzero"`
}

// ExternalEPGSpec is what aci-sync remembers.
type ExternalEPGSpec struct {
	// Tenant that the external EPG is in.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is what the object is about and cannot be changed"
	Tenant string `json:"tenant"`
	// L3Out that the external EPG is in.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is what the object is about and cannot be changed"
	L3Out string `json:"l3out"`
	// EPG is the name of the external EPG.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is what the object is about and cannot be changed"
	EPG string `json:"epg"`
	// Cluster is the --cluster-id of the aci-sync whose record this is; no other one touches it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Cluster string `json:"cluster"`
	// Managed is true when aci-sync made the external EPG or adopted it, and false when it is
	// somebody else's. It is not set while the external EPG was never seen.
	// +optional
	Managed *bool `json:"managed,omitempty"`
	// Owner is the cluster whose owner mark the external EPG bears, as --cluster-id names it there.
	// +optional
	Owner string `json:"owner,omitempty"`
	// Workloads whose last valid target this is.
	// +optional
	// +listType=atomic
	Workloads []Workload `json:"workloads,omitempty"`
}

// Workload is a workload whose last valid target an ExternalEPG is.
type Workload struct {
	// Kind is Deployment, StatefulSet, DaemonSet or Service.
	Kind string `json:"kind"`
	// Namespace of the workload.
	Namespace string `json:"namespace"`
	// Name of the workload.
	Name string `json:"name"`
	// UID tells it from another workload of the same name.
	UID types.UID `json:"uid"`
	// Expose is what its target says about pods and services; empty for the configured default.
	// +optional
	// +listType=atomic
	Expose []string `json:"expose,omitempty"`
}

// ExternalEPGStatus is how things stand. It follows what happens with a delay of seconds.
type ExternalEPGStatus struct {
	// ObservedGeneration is the generation of spec that the status was written for.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Desired is how many subnets are claimed.
	Desired int32 `json:"desired"`
	// Present is how many of them are on the APIC, whoever made them.
	Present int32 `json:"present"`
	// Workloads is how many workloads name the external EPG.
	Workloads int32 `json:"workloads"`
	// LastSync is when the APIC last told of something that aci-sync wrote here.
	// +optional
	LastSync *metav1.Time `json:"lastSync,omitempty"`
	// Conditions are Ready, and one for each kind of problem that there is.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ExternalEPGList is a list of them.
//
// +kubebuilder:object:root=true
type ExternalEPGList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ExternalEPG `json:"items"`
}

// maxSlug leaves room for the hash in a name that is also a label value.
const maxSlug = 52

// Name is the name of the ExternalEPG of an external EPG: a slug of tenant, L3Out and EPG for
// people, and 10 hex digits of the SHA-256 of "tenant/l3out/epg" to tell those apart that have the
// same slug.
func Name(tenant, l3out, epg string) string {
	slug := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(tenant+"-"+l3out+"-"+epg))
	slug = strings.Trim(slug[:min(len(slug), maxSlug)], "-")
	sum := sha256.Sum256([]byte(tenant + "/" + l3out + "/" + epg))
	return strings.TrimPrefix(slug+"-"+hex.EncodeToString(sum[:])[:10], "-")
}
