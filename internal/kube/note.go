package kube

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// Notes records Kubernetes Events.
type Notes struct {
	objects  client.Reader
	recorder events.EventRecorder
}

// NewNotes returns Notes that look objects up in a cache, for an Event names its object's UID.
func NewNotes(objects client.Reader, recorder events.EventRecorder) *Notes {
	return &Notes{objects, recorder}
}

// maxNote is how long the note of an Event may be, in bytes.
const maxNote = 1024

// Note records an Event on the workload to; on one that is gone it records nothing. Equal
// Events are counted, not repeated, by the recorder. It does not block.
func (n *Notes) Note(to desired.Ref, warning bool, reason, message string) {
	if to.Kind != desired.KindDeployment {
		return
	}
	var d appsv1.Deployment
	if n.objects.Get(context.Background(), types.NamespacedName{Namespace: to.Namespace, Name: to.Name}, &d) != nil {
		return
	}
	regarding := &corev1.ObjectReference{
		APIVersion: appsv1.SchemeGroupVersion.String(), Kind: to.Kind, Namespace: to.Namespace, Name: to.Name, UID: d.UID,
	}
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	n.recorder.Eventf(regarding, nil, kind, reason, "Sync", "%s", message[:min(len(message), maxNote)])
}
