package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// A list that does not have an object any more tells that it is gone, which is something else than
// to see it go; and that the initial state is known, only once.
func TestStream_tells_of_objects_that_a_list_misses(t *testing.T) {
	t.Parallel()
	pod := func(name string, uid types.UID) any {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: uid, Labels: map[string]string{"app": name}},
			Spec:       corev1.PodSpec{NodeName: "n1"},
		}
	}
	ref := func(name string) desired.Ref {
		return desired.Ref{Kind: desired.KindPod, Namespace: "ns", Name: name}
	}
	var sink recorder
	s := &stream{desired.KindPod, &sink, map[types.NamespacedName]struct{}{}, make(chan struct{})}
	for _, step := range []struct {
		what string
		do   func() error
		want []recorded
	}{
		{
			"the initial state", func() error { return s.Replace([]any{pod("a", "1"), pod("b", "2")}, "5") },
			[]recorded{{Ref: ref("a"), UID: "1"}, {Ref: ref("b"), UID: "2"}},
		},
		{"a change", func() error { return s.Update(pod("a", "1")) }, []recorded{{Ref: ref("a"), UID: "1"}}},
		{"one more", func() error { return s.Add(pod("c", "3")) }, []recorded{{Ref: ref("c"), UID: "3"}}},
		{"one less", func() error { return s.Delete(pod("b", "2")) }, []recorded{{Ref: ref("b")}}},
		{
			"a list without one, and with another of the same name", func() error { return s.Replace([]any{pod("c", "4")}, "9") },
			[]recorded{{Ref: ref("c"), UID: "4"}, {Ref: ref("a"), Missed: true}},
		},
		{"the same list", func() error { return s.Replace([]any{pod("c", "4")}, "9") }, []recorded{{Ref: ref("c"), UID: "4"}}},
		{"an empty list", func() error { return s.Replace(nil, "12") }, []recorded{{Ref: ref("c"), Missed: true}}},
	} {
		sink.list = nil
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		if d := cmp.Diff(step.want, sink.list); d != "" {
			t.Errorf("%s (-want +got)\n%s", step.what, d)
		}
		if !closed(s.synced) {
			t.Errorf("%s: not synced", step.what)
		}
	}
}
