package kube

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// strip makes a transform of f, which replaces an object by what is kept of it. Objects of
// other types, such as tombstones, pass.
func strip[T any](f func(*T) *T) toolscache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(*T); ok {
			return f(o), nil
		}
		return obj, nil
	}
}

func stripPod(p *corev1.Pod) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: keep(p.ObjectMeta),
		Spec:       corev1.PodSpec{HostNetwork: p.Spec.HostNetwork},
		Status:     corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs},
	}
}

func stripService(s *corev1.Service) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: keep(s.ObjectMeta),
		Spec:       corev1.ServiceSpec{Type: s.Spec.Type, Selector: s.Spec.Selector},
		Status:     corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
}

func stripDeployment(d *appsv1.Deployment) *appsv1.Deployment {
	meta := keep(d.ObjectMeta)
	if v, ok := d.Annotations[desired.Annotation]; ok {
		meta.Annotations = map[string]string{desired.Annotation: v}
	}
	return &appsv1.Deployment{
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: d.Spec.Template.Labels},
		}},
	}
}

func stripMeta(m *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	meta := keep(m.ObjectMeta)
	meta.Labels = m.Labels // of namespaces; those of ReplicaSets are few
	return &metav1.PartialObjectMetadata{TypeMeta: m.TypeMeta, ObjectMeta: meta}
}

// keep is what identifies an object and its controller.
func keep(m metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
	for _, o := range m.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			kept.OwnerReferences = []metav1.OwnerReference{o}
		}
	}
	return kept
}
