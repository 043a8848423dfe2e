package controller_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// TestAChangeCostsTheSameWhateverIsThere counts what the controller allocates for single changes,
// which is flat when it looks at nothing but what they touch. It is not parallel: others allocate, too.
func TestAChangeCostsTheSameWhateverIsThere(t *testing.T) {
	few, many := allocated(t, 10, 100), allocated(t, 1000, 10_000)
	t.Logf("bytes a change: %d with few EPGs and subnets, %d with many", few, many)
	if many > few+few/10 {
		t.Errorf("a change allocates %d bytes beside 1000 EPGs and 10,000 subnets, %d beside a hundredth of that", many, few)
	}
}

// allocated is how many bytes a change allocates beside so many EPGs and subnets.
func allocated(t *testing.T, epgs, subnets int) (perChange uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMirror(epgs, subnets)
		loop := controller.New(m, m, silent{}, controller.Options{
			Desired: desired.Options{Expose: desired.Expose{Pods: true, Services: true}},
			Policy:  plan.Policy{Owner: owner, Scope: aci.Scope{"import-security"}},
			Logger:  slog.New(slog.DiscardHandler), ResyncInterval: time.Hour, Records: true,
		})
		for r, obj := range m.cluster {
			loop.Fold(r, obj)
		}
		loop.Synced()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- loop.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if m.posts != 0 {
			t.Errorf("%d POSTs with everything in sync", m.posts)
		}
		const changes = 500 // under the race detector pools forget at random, which evens out
		var before, after runtime.MemStats
		for i := range 2 * changes {
			if i == changes { // all that grows once has grown
				runtime.ReadMemStats(&before)
			}
			r, obj := mirrored(0, 1<<20)
			if i%2 == 1 {
				obj = nil
			}
			loop.Fold(r, obj)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		runtime.ReadMemStats(&after)
		if m.posts != 2*changes {
			t.Errorf("%d POSTs for %d changes", m.posts, 2*changes)
		}
		perChange = (after.TotalAlloc - before.TotalAlloc) / changes
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return perChange
}

// silent is a Cluster without people.
type silent struct{}

func (silent) Note(desired.Ref, bool, string, string)                       {}
func (silent) Record(context.Context, desired.Record, desired.Status) error { return nil }
func (silent) Forget(context.Context, aci.ExtEPG) error                     { return nil }
func (silent) Answer(context.Context, aci.ExtEPG, string) error             { return nil }

// mirror is an APIC that does at once what it is told, and announces it. What it costs itself does
// not depend on what it holds, unlike the simulator.
type mirror struct {
	objects []aci.MO // of the only L3Out
	updates chan aci.Update
	posts   int

	cluster map[desired.Ref]metav1.Object // that wants just this
}

// Login is of a user who may do everything.
func (m *mirror) Login() (aci.Login, bool) {
	return aci.Login{Version: "6.0(9c)", Domains: []string{"all"}}, true
}

// newMirror makes a fabric with what a cluster wants: EPGs with equal shares of the subnets.
func newMirror(epgs, subnets int) *mirror {
	m := &mirror{updates: make(chan aci.Update, 1), cluster: map[desired.Ref]metav1.Object{}}
	put := func(class string, dn aci.DN, attrs map[string]string, marked bool) {
		m.objects = append(m.objects, aci.MO{Class: class, DN: dn, Attrs: attrs})
		if marked {
			m.objects = append(m.objects, aci.MO{
				Class: aci.ClassTagAnnotation, DN: dn.Child(aci.TagRN(aci.OwnerKey)),
				Attrs: map[string]string{"key": aci.OwnerKey, "value": owner.Mark(dn)},
			})
		}
	}
	l := aci.L3Out{Tenant: "T", Name: "a"}
	put(aci.ClassL3Out, l.DN(), map[string]string{"name": l.Name}, false)
	put(aci.ClassRsEctx, l.DN().Child("rsectx"), map[string]string{"tDn": "uni/tn-T/ctx-v", "state": "formed"}, false)
	for i := range epgs {
		name := fmt.Sprintf("web%d", i)
		put(aci.ClassExtEPG, aci.ExtEPG{L3Out: l, Name: name}.DN(), map[string]string{"name": name, "annotation": owner.Annotation()}, true)
		r, obj := mirroredWorkload(name)
		m.cluster[r] = obj
	}
	for i := range subnets {
		epg := i % epgs
		r, obj := mirrored(epg, i)
		m.cluster[r] = obj
		e := aci.ExtEPG{L3Out: l, Name: fmt.Sprintf("web%d", epg)}
		put(aci.ClassSubnet, e.SubnetDN(mirroredPrefix(i)), map[string]string{
			"ip": mirroredPrefix(i).String(), "name": "shop::" + r.Name, "scope": "import-security", "annotation": owner.Annotation(),
		}, true)
	}
	return m
}

// mirroredWorkload is a StatefulSet that names an EPG of its name.
func mirroredWorkload(name string) (desired.Ref, metav1.Object) {
	r := desired.Ref{Kind: desired.KindStatefulSet, Namespace: "shop", Name: name}
	meta := meta(name)
	meta.Annotations = map[string]string{desired.Annotation: fmt.Sprintf(`{"tenant":"T","l3out":"a","epg":%q}`, name)}
	return r, &appsv1.StatefulSet{ObjectMeta: meta}
}

// mirrored is the Pod i, which belongs to such a StatefulSet.
func mirrored(epg, i int) (desired.Ref, metav1.Object) {
	name := fmt.Sprintf("pod%d", i)
	return desired.Ref{Kind: desired.KindPod, Namespace: "shop", Name: name}, &corev1.Pod{
		ObjectMeta: owned(name, desired.KindStatefulSet, fmt.Sprintf("web%d", epg)),
		Status:     corev1.PodStatus{PodIP: mirroredPrefix(i).Addr().String()},
	}
}

func mirroredPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

func (m *mirror) full(root aci.DN) aci.Update {
	return aci.Update{Kind: aci.FullRead, Root: root, Objects: m.objects}
}

func (m *mirror) Read(_ context.Context, l aci.L3Out) (aci.Update, error) { return m.full(l.DN()), nil }

func (m *mirror) Marks(context.Context, aci.Owner) ([]aci.DN, error) {
	return []aci.DN{m.objects[0].DN}, nil
}

func (m *mirror) Updates() <-chan aci.Update { return m.updates }
func (*mirror) Connected() <-chan struct{}   { return nil }

func (m *mirror) PauseTags(context.Context, aci.L3Out) ([]aci.DN, error) { return nil, nil }

func (m *mirror) Forget(aci.DN) {}

// CountEPGs is not asked.
func (m *mirror) CountEPGs(context.Context) (int, error) { return 0, nil }

func (m *mirror) ReadFaults(context.Context) (aci.Update, error) {
	return aci.Update{Kind: aci.FullRead, Root: aci.Topology}, nil
}

func (m *mirror) ReadRelations(context.Context) (aci.Update, error) {
	return aci.Update{Kind: aci.FullRead, Root: aci.Universe}, nil
}

// Post announces the subnets of the body.
func (m *mirror) Post(_ context.Context, under aci.DN, epg aci.MO) error {
	m.posts++
	dn := under.Child("instP-" + epg.Attrs["name"])
	for _, n := range epg.Children {
		m.updates <- aci.Update{Kind: aci.Event, Root: under, Objects: []aci.MO{
			{Class: n.Class, DN: dn.Child(aci.SubnetRN(n.Attrs["ip"])), Attrs: n.Attrs},
		}}
	}
	return nil
}

// The rest is not asked for.

func (m *mirror) ReadEPG(context.Context, aci.ExtEPG) (aci.Update, error) {
	panic("an EPG is read")
}

func (m *mirror) ReadObjects(context.Context, []aci.DN) ([]aci.MO, error) {
	panic("objects are read")
}
