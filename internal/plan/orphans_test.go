package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// small is a cluster and a fabric in few words.
type small struct{ *golden }

func newSmall() *small { return &small{newCase()} }

// fabric says what is there: "O/web* 1* 2 3=prototype 4=k2". All is in tenant T and one VRF; the star is
// our mark, a name behind = the mark of another cluster, and numbers are the last of 10.0.0.n.
func (s *small) fabric(lines ...string) {
	s.truth = nil
	outs := map[string]bool{}
	for _, line := range lines {
		words := strings.Fields(line)
		l3out, _, _ := strings.Cut(words[0], "/")
		dn := aci.L3Out{Tenant: "T", Name: l3out}.DN()
		if !outs[l3out] {
			outs[l3out] = true
			s.truth = append(s.truth, aci.MO{Class: aci.ClassL3Out, DN: dn}, aci.MO{
				Class: aci.ClassRsEctx, DN: dn.Child("rsectx"), Attrs: map[string]string{"tDn": "uni/tn-T/ctx-V", "state": "formed"},
			})
		}
		var epg aci.DN
		for i, w := range words {
			w, ours := strings.CutSuffix(w, "*")
			w, by, _ := strings.Cut(w, "=")
			class, at := aci.ClassExtEPG, epg
			if i == 0 {
				_, name, _ := strings.Cut(w, "/")
				epg = dn.Child("instP-" + name)
				at = epg
			} else {
				class, at = aci.ClassSubnet, epg.Child(aci.SubnetRN("10.0.0."+w+"/32"))
			}
			attrs := map[string]string{"scope": "import-security", "name": "shop::" + "svc-" + w}
			mark := ""
			switch {
			case ours:
				mark, attrs["annotation"] = us.Mark(at), us.Annotation()
			case by == "prototype":
				attrs["annotation"] = plan.PrototypeAnnotation
			case by != "":
				mark = aci.Owner(by).Mark(at)
			}
			s.truth = append(s.truth, aci.MO{Class: class, DN: at, Attrs: attrs})
			if mark != "" {
				s.truth = append(s.truth, aci.MO{
					Class: aci.ClassTagAnnotation, DN: at.Child(aci.TagRN(aci.OwnerKey)),
					Attrs: map[string]string{"key": aci.OwnerKey, "value": mark},
				})
			}
		}
	}
	s.readAll()
}

func ref(kind, name string) desired.Ref {
	return desired.Ref{Kind: kind, Namespace: "shop", Name: name}
}

// claim makes a Deployment for an EPG, and a Service of it with these addresses.
func (s *small) claim(epg string, addrs ...string) {
	l3out, name, _ := strings.Cut(epg, "/")
	s.want.Fold(ref(desired.KindDeployment, name), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(name),
			Annotations: map[string]string{desired.Annotation: fmt.Sprintf(`{"tenant":"T","l3out":%q,"epg":%q}`, l3out, name)},
		},
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}}},
	})
	for _, a := range addrs {
		s.want.Fold(ref(desired.KindService, "svc-"+a), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "svc-" + a, UID: types.UID("svc-" + a)},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": name}},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
				Ingress: []corev1.LoadBalancerIngress{{IP: "10.0.0." + a}},
			}},
		})
	}
}

// bare makes a Pod of nobody with an address.
func (s *small) bare(addr string) {
	s.want.Fold(ref(desired.KindPod, "pod-"+addr), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "pod-" + addr, UID: types.UID("pod-" + addr)},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0." + addr}}},
	})
}

func short(d aci.DN) string {
	return strings.NewReplacer("uni/tn-T/out-", "", "instP-", "", "extsubnet-[10.0.0.", "", "/32]", "").Replace(string(d))
}

// compare says what the plan deletes, adopts and holds: "- O/web/1", "~ O/web/2", "held O/web/3".
func (s *small) compare(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, domain := range domains(s.want, s.have) {
		var p plan.Plan
		for range 5 {
			p = plan.Diff(s.want, s.have, s.policy, domain, everywhere(s.want, s.have))
			for _, d := range p.Reads {
				s.have.Fold(read(s.truth, d))
			}
		}
		if len(p.Reads) > 0 {
			t.Errorf("asks for %v again and again", p.Reads)
		}
		for _, ch := range p.Changes {
			if ch.Action != plan.Create {
				out = append(out, ch.Action.String()+" "+short(ch.DN))
			}
		}
		for _, h := range p.Held {
			out = append(out, "held "+short(h.DN))
		}
	}
	slices.Sort(out)
	return out
}

// The guard holds deletions that nothing explains when they are many: more than its limit, and more
// than half of all that bear our mark.
func TestGuard(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit int
		do    func(s *small)
		want  []string
	}{
		"no more than the limit go": {limit: 3, do: func(s *small) { s.fabric("O/web* 1* 2*") }, want: []string{"- O/web"}},
		"more than the limit wait": {
			limit: 2, do: func(s *small) { s.fabric("O/web* 1* 2*") },
			want: []string{"held O/web", "held O/web/1", "held O/web/2"},
		},
		"so many are in several EPGs and L3Outs": {
			limit: 2, do: func(s *small) { s.fabric("O/a* 1*", "P/b* 2*") },
			want: []string{"held O/a", "held O/a/1", "held P/b", "held P/b/2"},
		},
		"no more than half of ours go": {
			limit: 0, do: func(s *small) { s.fabric("O/web* 1* 2*", "O/old* 3* 4*"); s.claim("O/web", "1", "2") },
			want: []string{"- O/old"},
		},
		"more than half of ours wait": {
			limit: 0, do: func(s *small) { s.fabric("O/web* 1*", "O/old* 3* 4*"); s.claim("O/web", "1") },
			want: []string{"held O/old", "held O/old/3", "held O/old/4"},
		},
		"what others marked is not counted": {
			limit: 0, do: func(s *small) { s.fabric("O/web* 1*", "O/old* 3* 4* 5 6 7=k2 8=k2"); s.claim("O/web", "1") },
			want: []string{"held O/old", "held O/old/3", "held O/old/4"},
		},
		"off, all go": {limit: -1, do: func(s *small) { s.fabric("O/web* 1* 2*") }, want: []string{"- O/web"}},
		"an address that is claimed elsewhere is no orphan": {
			limit: 1, do: func(s *small) { s.fabric("O/old* 1* 2*", "O/web*"); s.claim("O/web", "1", "2") },
			want: []string{"- O/old"},
		},
		"an address that another live Pod has is no orphan": {
			limit: 1, do: func(s *small) { s.fabric("O/old* 1* 2* 3*"); s.bare("1"); s.bare("2"); s.bare("3") },
			want: []string{"- O/old"},
		},
		"an address that the Pod has for which its subnet was made is one": {
			limit: 1, do: func(s *small) {
				s.fabric("O/old* 1* 2* 3*")
				for i := range s.truth {
					if a := s.truth[i].Attrs; s.truth[i].Class == aci.ClassSubnet {
						a["name"] = strings.Replace(a["name"], "svc-", "pod-", 1)
					}
				}
				s.readAll()
				s.bare("1")
				s.bare("2")
				s.bare("3")
			},
			want: []string{"held O/old", "held O/old/1", "held O/old/2", "held O/old/3"},
		},
		"stale addresses beside at least half as many others are none": {
			limit: 0, do: func(s *small) { s.fabric("O/web* 1* 2* 3* 4*"); s.claim("O/web", "1", "9") },
			want: []string{"- O/web/2", "- O/web/3", "- O/web/4"},
		},
		"stale addresses beside too few others wait": {
			limit: 0, do: func(s *small) { s.fabric("O/web* 1* 2* 3* 4*"); s.claim("O/web", "1") },
			want: []string{"held O/web/2", "held O/web/3", "held O/web/4"},
		},
		"a change that was seen is always done": {
			limit: 0, do: func(s *small) {
				s.claim("O/web", "1", "2", "3")
				s.fabric("O/web* 1* 2* 3*")
				s.want.Begin()
				s.want.Fold(ref(desired.KindDeployment, "web"), nil)
			},
			want: []string{"- O/web"},
		},
		"what a list missed was not seen to go": {
			limit: 0, do: func(s *small) {
				s.claim("O/web", "1", "2", "3")
				s.fabric("O/web* 1* 2* 3*")
				s.want.Begin()
				s.want.Missed(ref(desired.KindDeployment, "web"))
			},
			want: []string{"held O/web", "held O/web/1", "held O/web/2", "held O/web/3"},
		},
		"what a list missed and has again": {
			limit: 0, do: func(s *small) {
				s.claim("O/web", "1", "2", "3")
				s.fabric("O/web* 1* 2* 3*")
				s.want.Begin()
				s.want.Missed(ref(desired.KindDeployment, "web"))
				s.claim("O/web", "1", "2", "3")
			},
		},
		"what had gone and is there again, as after a roll-back": {
			limit: 0, do: func(s *small) {
				s.claim("O/web", "1", "2", "3")
				s.fabric("O/web* 1* 2* 3*")
				s.want.Begin()
				s.want.Fold(ref(desired.KindDeployment, "web"), nil)
				s.fabric()
				for p := range 4 {
					e := aci.ExtEPG{L3Out: aci.L3Out{Tenant: "T", Name: "O"}, Name: "web"}
					place := aci.Place{ExtEPG: e}
					if p > 0 {
						place.Prefix = netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/32", p))
					}
					s.want.Left(place)
				}
				s.fabric("O/web* 1* 2* 3*")
			},
			want: []string{"held O/web", "held O/web/1", "held O/web/2", "held O/web/3"},
		},
		"what a person has approved goes, the rest waits": {
			limit: 0, do: func(s *small) {
				s.fabric("O/a* 1* 2*", "O/b* 3* 4*")
				s.policy.Approved = map[aci.DN]bool{}
				for _, d := range []string{"", "/extsubnet-[10.0.0.1/32]", "/extsubnet-[10.0.0.2/32]"} {
					s.policy.Approved[aci.DN("uni/tn-T/out-O/instP-a"+d)] = true
				}
			},
			want: []string{"- O/a", "held O/b", "held O/b/3", "held O/b/4"},
		},
		"drift, moves and new addresses are not held up": {
			limit: 0, do: func(s *small) {
				s.fabric("O/old* 1* 2* 3*", "P/web* 4*")
				s.claim("O/new", "4")
			},
			want: []string{"- P/web/4", "held O/old", "held O/old/1", "held O/old/2", "held O/old/3", "held P/web"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSmall()
			s.policy.Guard = plan.Guard{On: c.limit >= 0, Limit: c.limit}
			c.do(s)
			if diff := cmp.Diff(c.want, s.compare(t)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Adoption takes what a live claim names and is of the source, and nothing else.
func TestFindAdoption(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from string
		epg  bool
		do   func(s *small)
		take []string
		left []string
	}{
		"the prototype's": {
			from: "prototype",
			do: func(s *small) {
				s.fabric("O/web=prototype 1=prototype 2=prototype 3 4=k2 5*")
				s.claim("O/web", "1", "3", "4", "5")
			},
			take: []string{"O/web/1"},
			left: []string{
				"O/web: is adopted with --epg only", "O/web/2: no workload claims it", "O/web/3: is not of prototype", "O/web/4: is not of prototype",
			},
		},
		"the prototype's, and its EPG": {
			from: "prototype", epg: true, do: func(s *small) { s.fabric("O/web=prototype 1=prototype"); s.claim("O/web", "1") },
			take: []string{"O/web", "O/web/1"},
		},
		"an EPG that no workload names": {
			from: "prototype", epg: true, do: func(s *small) { s.fabric("O/web=prototype 1=prototype", "O/x*"); s.claim("O/x", "1") },
			left: []string{"O/web: no workload names it", "O/web/1: no workload claims it"},
		},
		"another cluster's": {
			from: "cluster:k2", epg: true, do: func(s *small) { s.fabric("O/web=k2 1=k2 2=k3 3 4=prototype"); s.claim("O/web", "1", "2", "3", "4") },
			take: []string{"O/web", "O/web/1"},
			left: []string{"O/web/2: is not of cluster:k2", "O/web/3: is not of cluster:k2", "O/web/4: is not of cluster:k2"},
		},
		"what bears no mark": {
			from: "unmanaged", do: func(s *small) { s.fabric("O/web* 1 2=prototype 3=k2 4 5*"); s.claim("O/web", "1", "2", "3", "5") },
			take: []string{"O/web/1"},
			left: []string{"O/web/2: is not of unmanaged", "O/web/3: is not of unmanaged", "O/web/4: no workload claims it"},
		},
		"an EPG that is not there": {from: "unmanaged", do: func(s *small) { s.claim("O/web", "1") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSmall()
			c.do(s)
			from, err := plan.ParseSource(c.from)
			if err != nil {
				t.Fatal(err)
			}
			e := aci.ExtEPG{L3Out: aci.L3Out{Tenant: "T", Name: "O"}, Name: "web"}
			a := plan.FindAdoption(s.want, s.have, s.policy, e, from, c.epg)
			var take, left []string
			s.policy.Adopt = map[aci.DN]plan.Source{}
			var changes []string
			for _, d := range a.Take {
				take = append(take, short(d))
				changes = append(changes, "~ "+short(d))
				s.policy.Adopt[d] = from
			}
			for _, l := range a.Leave {
				left = append(left, short(l.DN)+": "+l.Why)
			}
			if diff := cmp.Diff([][]string{c.take, c.left}, [][]string{take, left}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			got := slices.DeleteFunc(s.compare(t), func(line string) bool { return !strings.HasPrefix(line, "~") })
			if diff := cmp.Diff(changes, got); diff != "" && len(changes)+len(got) > 0 {
				t.Errorf("changes (-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseSource(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"prototype", "unmanaged", "cluster:k2"} {
		if from, err := plan.ParseSource(s); err != nil || from.String() != s {
			t.Errorf("%s is read as %s, %v", s, from, err)
		}
	}
	for _, s := range []string{"", "k2", "cluster:", "cluster:a b", "Prototype"} {
		if from, err := plan.ParseSource(s); err == nil {
			t.Errorf("%q is read as %s", s, from)
		}
	}
}

// Whatever nobody claims can be pruned, whether or not the guard would hold it.
func TestFindUnclaimed(t *testing.T) {
	t.Parallel()
	s := newSmall()
	s.fabric("O/old* 1* 2* 3* 4=k2 5", "P/web* 6* 7*")
	s.claim("P/web", "3", "6")
	s.bare("2")
	o := plan.FindUnclaimed(s.want, s.have, s.policy)
	var got []string
	for _, e := range o.EPGs() {
		for _, d := range o.Of[e] {
			got = append(got, short(d))
		}
	}
	if diff := cmp.Diff([]string{"O/old", "O/old/1", "O/old/2", "P/web/7"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
