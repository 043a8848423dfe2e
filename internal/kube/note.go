package kube

import (
	"context"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// Notes records Kubernetes Events. Equal ones are counted; many similar ones become one.
//
// It uses the core Events of client-go's recorder: the newer API merges Events of one reason
// whatever they say, so that a second, other mistake in an annotation would show as the first.
type Notes struct {
	objects     client.Reader
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	sink        record.EventSink

	mu    sync.RWMutex
	ended bool // Run is over: there is nobody to write any more
}

// NewNotes returns Notes that look objects up in a cache, for an Event names its object's UID.
func NewNotes(cfg *rest.Config, objects client.Reader) (*Notes, error) {
	core, err := typedcorev1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for Events: %w", err)
	}
	b := record.NewBroadcaster()
	return &Notes{
		objects: objects, broadcaster: b, sink: &typedcorev1.EventSinkImpl{Interface: core.Events("")},
		recorder: b.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "aci-sync"}),
	}, nil
}

// Run writes what is noted to the API server until ctx ends. What is noted before or after that is lost.
func (n *Notes) Run(ctx context.Context) error {
	n.broadcaster.StartRecordingToSink(n.sink)
	<-ctx.Done()
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	n.broadcaster.Shutdown()
	return nil
}

// maxNote is how long the message of an Event may be, in bytes.
const maxNote = 1024

// Note records an Event on to, a workload or an ExternalEPG; on one that is gone it records nothing. It does
// not block.
func (n *Notes) Note(to desired.Ref, warning bool, reason, message string) {
	obj, version := newObject(to.Kind)
	if parts := strings.Split(to.Name, "/"); to.Kind == desired.KindExternalEPG && len(parts) == 3 {
		to.Name = v1alpha1.Name(parts[0], parts[1], parts[2]) // see desired.RefOf
	}
	if obj == nil ||
		n.objects.Get(context.Background(), types.NamespacedName{Namespace: to.Namespace, Name: to.Name}, obj) != nil {
		return
	}
	regarding := &corev1.ObjectReference{
		APIVersion: version, Kind: to.Kind, Namespace: to.Namespace, Name: to.Name, UID: obj.GetUID(),
	}
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	// The write in hand is finished after Run has ended; the recorder would log that as an error.
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.ended {
		return
	}
	n.recorder.Event(regarding, kind, reason, cut(message, maxNote))
}
