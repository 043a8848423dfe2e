// Package v1alpha1 is the API group aci.haystacknetworks.com: ExternalEPG, which tells what
// aci-sync does in one external EPG, and remembers what must survive a restart.
//
// +kubebuilder:object:generate=true
// +groupName=aci.haystacknetworks.com
package v1alpha1
