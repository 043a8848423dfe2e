package kube

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// transform is strip for an informer. What is no object, such as a tombstone, passes.
func transform(obj any) (any, error) {
	strip(obj)
	return obj, nil
}

// strip takes out of an object all that claims do not depend on; out of one of another kind, what
// nobody reads. Doing it twice changes nothing.
func strip(obj any) {
	switch o := obj.(type) {
	case *corev1.Pod:
		*o = *stripPod(o)
	case *corev1.Service:
		*o = *stripService(o)
	case *appsv1.Deployment:
		*o = *stripDeployment(o)
	case *appsv1.StatefulSet:
		*o = *stripStatefulSet(o)
	case *appsv1.DaemonSet:
		*o = *stripDaemonSet(o)
	case *metav1.PartialObjectMetadata: // of ReplicaSets and Namespaces
		*o = *stripMeta(o)
	case metav1.Object:
		o.SetManagedFields(nil)
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
		ObjectMeta: workloadMeta(s.ObjectMeta),
		Spec:       corev1.ServiceSpec{Type: s.Spec.Type, Selector: s.Spec.Selector},
		Status:     corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
}

func stripDeployment(d *appsv1.Deployment) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: workloadMeta(d.ObjectMeta), Spec: appsv1.DeploymentSpec{Template: stripTemplate(d.Spec.Template)},
	}
}

func stripStatefulSet(s *appsv1.StatefulSet) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: workloadMeta(s.ObjectMeta), Spec: appsv1.StatefulSetSpec{Template: stripTemplate(s.Spec.Template)},
	}
}

func stripDaemonSet(d *appsv1.DaemonSet) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: workloadMeta(d.ObjectMeta), Spec: appsv1.DaemonSetSpec{Template: stripTemplate(d.Spec.Template)},
	}
}

func stripTemplate(t corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: t.Labels}}
}

func stripMeta(m *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	meta := annotated(m.ObjectMeta, desired.DefaultAnnotation)
	meta.Labels = m.Labels // of namespaces; those of ReplicaSets are few
	return &metav1.PartialObjectMetadata{TypeMeta: m.TypeMeta, ObjectMeta: meta}
}

func workloadMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return annotated(m, desired.Annotation, desired.IgnoreAnnotation, desired.PausedAnnotation)
}

// annotated is what identifies an object, with these of its annotations.
func annotated(m metav1.ObjectMeta, keys ...string) metav1.ObjectMeta {
	kept := keep(m)
	for _, k := range keys {
		if v, ok := m.Annotations[k]; ok {
			metav1.SetMetaDataAnnotation(&kept, k, v)
		}
	}
	return kept
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
