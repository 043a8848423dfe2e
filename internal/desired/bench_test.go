package desired_test

import (
	"fmt"
	"net/netip"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// BenchmarkState_Fold is what the news of one Pod costs that gets its address, and of its end, beside
// many of the same Deployment.
func BenchmarkState_Fold(b *testing.B) {
	ref := func(kind, name string) desired.Ref { return desired.Ref{Kind: kind, Namespace: "shop", Name: name} }
	meta := func(name, ownerKind, owner string) metav1.ObjectMeta {
		m := metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)}
		if owner != "" {
			m.OwnerReferences = []metav1.OwnerReference{{Kind: ownerKind, Name: owner, UID: types.UID(owner), Controller: new(true)}}
		}
		return m
	}
	pod := func(i int) (desired.Ref, *corev1.Pod) {
		name := fmt.Sprintf("pod%d", i)
		ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		return ref(desired.KindPod, name), &corev1.Pod{
			ObjectMeta: meta(name, desired.KindReplicaSet, "rs"),
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
		}
	}
	for _, n := range []int{100, 1_000, 10_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := desired.NewState(desired.Options{Expose: desired.Expose{Pods: true}})
			d := &appsv1.Deployment{ObjectMeta: meta("web", "", "")}
			d.Annotations = map[string]string{desired.Annotation: `{"tenant":"T","l3out":"O","epg":"E"}`}
			s.Fold(ref(desired.KindDeployment, "web"), d)
			s.Fold(ref(desired.KindReplicaSet, "rs"), &metav1.PartialObjectMetadata{ObjectMeta: meta("rs", desired.KindDeployment, "web")})
			for i := range n {
				r, p := pod(i)
				s.Fold(r, p)
			}
			r, p := pod(n)
			b.ReportAllocs()
			for b.Loop() {
				if there, gone := s.Fold(r, p), s.Fold(r, nil); len(there.Places) != 1 || len(gone.Places) != 1 {
					b.Fatal(there.Places, gone.Places)
				}
			}
		})
	}
}
