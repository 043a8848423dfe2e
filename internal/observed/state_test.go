package observed

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

var (
	wan  = aci.L3Out{Tenant: "T", Name: "O"}
	web  = aci.ExtEPG{L3Out: wan, Name: "E1"}
	api  = aci.ExtEPG{L3Out: wan, Name: "E2"}
	one  = netip.MustParsePrefix("10.0.0.1/32")
	them = aci.Owner("c2")
)

func mo(class string, d aci.DN, attrs ...string) aci.MO {
	m := aci.MO{Class: class, DN: d, Attrs: map[string]string{}}
	for i := 0; i < len(attrs); i += 2 {
		m.Attrs[attrs[i]] = attrs[i+1]
	}
	return m
}

func tag(on aci.DN, key, value string) aci.MO {
	return mo(aci.ClassTagAnnotation, on.Child(aci.TagRN(key)), "key", key, "value", value)
}

func subnet(e aci.ExtEPG, ip string, attrs ...string) aci.MO {
	return mo(aci.ClassSubnet, e.DN().Child(aci.SubnetRN(ip)), append([]string{"ip", ip}, attrs...)...)
}

func epgMO(e aci.ExtEPG, attrs ...string) aci.MO {
	return mo(aci.ClassExtEPG, e.DN(), append([]string{"name", e.Name}, attrs...)...)
}

// with is a State that has read these objects in wan.
func with(objects ...aci.MO) *State {
	s := NewState(us)
	base := []aci.MO{
		mo(aci.ClassL3Out, wan.DN(), "name", wan.Name),
		mo(aci.ClassRsEctx, wan.DN().Child("rsectx"), "tDn", "uni/tn-T/ctx-V", "state", "formed"),
	}
	s.Fold(aci.Update{Kind: aci.FullRead, Root: wan.DN(), Objects: append(base, objects...)})
	return s
}

func (s *State) event(objects ...aci.MO) { s.Fold(aci.Update{Kind: aci.Event, Objects: objects}) }

func created(m aci.MO) aci.MO  { m.Attrs["status"] = aci.StatusCreated; return m }
func modified(m aci.MO) aci.MO { m.Attrs["status"] = aci.StatusModified; return m }
func deleted(m aci.MO) aci.MO {
	return mo(m.Class, m.DN, "status", aci.StatusDeleted)
}

func TestSubnet_marks(t *testing.T) {
	t.Parallel()
	at := aci.Place{ExtEPG: web, Prefix: one}
	dn := at.SubnetDN(one)
	n := func() aci.MO { return subnet(web, "10.0.0.1/32", "scope", "import-security") }
	tests := map[string]struct {
		state *State
		then  func(*State)
		want  Mark
		ours  bool
	}{
		"a read brings it":                   {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), nil, Mark{true, true, us}, true},
		"a read brings none":                 {with(epgMO(web), n()), nil, Mark{Read: true}, false},
		"another cluster's":                  {with(epgMO(web), n(), tag(dn, aci.OwnerKey, them.Mark(dn))), nil, Mark{true, true, them}, false},
		"a copy with another DN is not ours": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn+"x"))), nil, Mark{true, true, ""}, false},
		"what our POST created bears it": {with(epgMO(web)), func(s *State) {
			s.Expect(dn, aci.StatusCreated, nil)
			s.event(created(n()))
		}, Mark{true, true, us}, true},
		"what somebody else created is not read": {with(epgMO(web)), func(s *State) { s.event(created(n())) }, Mark{}, false},
		"what our POST modified keeps it": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.Expect(dn, aci.StatusModified, map[string]string{"name": "a::b"})
			s.event(modified(subnet(web, "10.0.0.1/32", "name", "a::b", "modTs", "now")))
		}, Mark{true, true, us}, true},
		"what somebody touched must be read again": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.event(modified(subnet(web, "10.0.0.1/32", "descr", "x")))
		}, Mark{false, true, us}, false},
		"what somebody cleared is no echo of ours": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.Expect(dn, aci.StatusModified, map[string]string{"name": "a::b"})
			s.event(modified(subnet(web, "10.0.0.1/32", "descr", "")))
		}, Mark{false, true, us}, false},
		"the fabric's own changes do not matter": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.event(modified(mo(aci.ClassSubnet, dn, "modTs", "now", "monPolDn", "x")))
		}, Mark{true, true, us}, true},
		"its removal, if announced": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.event(deleted(tag(dn, aci.OwnerKey, "")))
		}, Mark{Read: true}, false},
		"its change, if announced": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.event(modified(mo(aci.ClassTagAnnotation, dn.Child(aci.TagRN(aci.OwnerKey)), "value", them.Mark(dn))))
		}, Mark{true, true, them}, false},
		"its change, announced without a value": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.event(modified(mo(aci.ClassTagAnnotation, dn.Child(aci.TagRN(aci.OwnerKey)), "descr", "x")))
		}, Mark{}, false},
		"other tags do not matter": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.event(created(tag(dn, "color", "red")))
		}, Mark{true, true, us}, true},
		"a read of the object alone": {with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn))), func(s *State) {
			s.event(modified(subnet(web, "10.0.0.1/32", "descr", "x")))
			s.Fold(aci.Update{Kind: aci.FullRead, Root: dn, Objects: []aci.MO{n(), tag(dn, aci.OwnerKey, us.Mark(dn))}})
		}, Mark{true, true, us}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.then != nil {
				tt.then(tt.state)
			}
			n, there := tt.state.Subnet(at)
			if diff := cmp.Diff(tt.want, n.Mark); !there || diff != "" {
				t.Errorf("there %v (-want +got)\n%s", there, diff)
			}
			if got := tt.state.Ours(n.Mark); got != tt.ours {
				t.Errorf("ours %v", got)
			}
		})
	}
}

func TestExtEPG_that_is_gone_is_remembered(t *testing.T) {
	t.Parallel()
	dn := web.DN()
	ours := tag(dn, aci.OwnerKey, us.Mark(dn))
	sub := []aci.MO{subnet(web, "10.0.0.1/32"), tag(web.SubnetDN(one), aci.OwnerKey, us.Mark(web.SubnetDN(one)))}
	gone := deleted(epgMO(web))
	tests := map[string]struct {
		state *State
		then  []aci.MO
		want  Last
	}{
		"never there":                       {with(), nil, Never},
		"foreign":                           {with(epgMO(web)), []aci.MO{gone}, Foreign},
		"ours":                              {with(epgMO(web), ours), []aci.MO{gone}, Ours},
		"another cluster's":                 {with(epgMO(web), tag(dn, aci.OwnerKey, them.Mark(dn))), []aci.MO{gone}, Other},
		"a copied mark":                     {with(epgMO(web), tag(dn, aci.OwnerKey, us.Mark(dn+"x"))), []aci.MO{gone}, Foreign},
		"ours, touched before it went":      {with(epgMO(web), ours), []aci.MO{modified(epgMO(web, "descr", "x")), gone}, Ours},
		"taken over by another cluster":     {with(epgMO(web), ours), []aci.MO{modified(tag(dn, aci.OwnerKey, them.Mark(dn))), gone}, Other},
		"its mark went, our annotation not": {with(epgMO(web, "annotation", us.Annotation()), ours), []aci.MO{deleted(ours), gone}, Ours},
		"its mark went, our subnets not":    {with(append(sub, epgMO(web), ours)...), []aci.MO{deleted(ours), gone}, Ours},
		"its mark went, then our subnets with it": {
			with(append(sub, epgMO(web), ours)...), []aci.MO{deleted(ours), deleted(sub[0]), gone}, Ours,
		},
		"its mark went and nothing is ours": {with(epgMO(web), ours), []aci.MO{deleted(ours), gone}, Foreign},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.state.event(tt.then...)
			if got := tt.state.Last(web); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			// A read that finds it gone is told of the same.
			tt.state.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN()})
			if got := tt.state.Last(web); got != tt.want {
				t.Errorf("after a read: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestExtEPG_revived_by_our_POST(t *testing.T) {
	t.Parallel()
	s := with(epgMO(web))
	s.Expect(web.DN(), aci.StatusModified, nil)
	s.event(deleted(epgMO(web)), created(epgMO(web)))
	g, there := s.ExtEPG(web)
	if !there || !g.Revived || s.Last(web) != Foreign {
		t.Fatalf("got %+v, %v, last %v", g, there, s.Last(web))
	}
	s.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN(), Objects: []aci.MO{epgMO(web)}})
	if g, _ := s.ExtEPG(web); !g.Revived || s.Last(web) != Foreign {
		t.Errorf("a read forgets it: %+v, last %v", g, s.Last(web))
	}
	s.Expect(web.DN(), aci.StatusDeleted, nil)
	s.event(deleted(epgMO(web)))
	if got := s.Last(web); got != Foreign {
		t.Errorf("taken back, it is %v, no longer its owner's", got)
	}
}

func TestExtEPG_of_another_cluster_revived_by_our_POST_stays_that(t *testing.T) {
	t.Parallel()
	s := with(epgMO(web), tag(web.DN(), aci.OwnerKey, them.Mark(web.DN())))
	s.Expect(web.DN(), aci.StatusModified, nil)
	s.event(deleted(epgMO(web)), created(epgMO(web)))
	s.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN(), Objects: []aci.MO{epgMO(web)}})
	if got := s.Last(web); got != Other {
		t.Errorf("got %v", got)
	}
	s.event(created(tag(web.DN(), aci.OwnerKey, us.Mark(web.DN()))))
	if g, _ := s.ExtEPG(web); g.Revived || !s.Recorded(web) {
		t.Errorf("with our mark on it, it is still %+v", g)
	}
}

func TestExtEPG_created_by_somebody_is_not_revived_when_the_event_is_late(t *testing.T) {
	t.Parallel()
	s := with(epgMO(web)) // the read saw it before its event came
	s.Expect(web.DN(), aci.StatusModified, nil)
	s.event(created(epgMO(web)))
	if g, _ := s.ExtEPG(web); g.Revived {
		t.Errorf("got %+v", g)
	}
}

func TestState_hears_of_the_L3Out(t *testing.T) {
	t.Parallel()
	ours := tag(web.DN(), aci.OwnerKey, us.Mark(web.DN()))
	rs := func(attrs ...string) aci.MO { return mo(aci.ClassRsEctx, wan.DN().Child("rsectx"), attrs...) }
	tests := map[string]struct {
		events           []aci.MO
		complete, exists bool
		vrf              string
	}{
		"nothing": {nil, true, true, "T/V"},
		"deleted": {[]aci.MO{deleted(mo(aci.ClassL3Out, wan.DN()))}, true, false, "/"},
		"created again, its children may be missed": {
			[]aci.MO{deleted(mo(aci.ClassL3Out, wan.DN())), created(mo(aci.ClassL3Out, wan.DN()))}, false, true, "/",
		},
		"described":                            {[]aci.MO{modified(mo(aci.ClassL3Out, wan.DN(), "descr", "x"))}, true, true, "T/V"},
		"in another VRF":                       {[]aci.MO{modified(rs("tDn", "uni/tn-T/ctx-W", "state", "formed"))}, true, true, "T/W"},
		"in another VRF, if it exists":         {[]aci.MO{modified(rs("tDn", "uni/tn-T/ctx-W"))}, false, true, "T/V"},
		"in one that is not there":             {[]aci.MO{modified(rs("tDn", "uni/tn-T/ctx-W", "state", "missing-target"))}, true, true, "/"},
		"its VRF comes or goes":                {[]aci.MO{modified(rs("state", "missing-target"))}, false, true, "T/V"},
		"in one with another name":             {[]aci.MO{modified(rs("tnFvCtxName", "W"))}, false, true, "T/V"},
		"in none":                              {[]aci.MO{deleted(rs())}, true, true, "/"},
		"a subnet in an EPG never announced":   {[]aci.MO{created(subnet(api, "10.0.0.9/32"))}, false, true, "T/V"},
		"a change of a subnet never announced": {[]aci.MO{modified(subnet(web, "10.0.0.9/32", "name", "x"))}, false, true, "T/V"},
		"a change of an EPG never announced":   {[]aci.MO{modified(epgMO(api, "descr", "x"))}, false, true, "T/V"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := with(epgMO(web), ours)
			s.event(tt.events...)
			vrf, _ := s.VRF(wan)
			got := fmt.Sprintf("%v %v %v", s.Complete(wan), s.Exists(wan), vrf)
			if want := fmt.Sprintf("%v %v %v", tt.complete, tt.exists, tt.vrf); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if err := s.check(); err != "" {
				t.Error(err)
			}
		})
	}
}

func TestState_is_complete_after_a_read_without_a_gap(t *testing.T) {
	t.Parallel()
	s := with()
	read := aci.Update{Kind: aci.FullRead, Root: wan.DN(), Objects: []aci.MO{mo(aci.ClassL3Out, wan.DN())}}
	gap := aci.Update{Kind: aci.Gap, Root: wan.DN()}
	begin := aci.Update{Kind: aci.ReadBegin, Root: wan.DN()}
	for i, step := range []struct {
		u    aci.Update
		want bool
	}{
		{gap, false},
		{begin, false},
		{read, true},
		{begin, true},
		{gap, false},
		{read, false},
		{gap, false},
		{begin, false},
		{read, true},
		{aci.Update{Kind: aci.Gap, Root: "uni/tn-T/out-P"}, true},
	} {
		if s.Fold(step.u); s.Complete(wan) != step.want {
			t.Fatalf("step %d: complete %v", i, s.Complete(wan))
		}
	}
}

func TestState_pauses(t *testing.T) {
	t.Parallel()
	pause := func(d aci.DN) aci.MO { return tag(d, aci.PauseKey, "x") }
	base := []aci.MO{mo(aci.ClassL3Out, wan.DN()), epgMO(web), epgMO(api), subnet(web, "10.0.0.1/32")}
	places := func(list []aci.Place) (out []string) {
		for _, p := range list {
			out = append(out, p.String())
		}
		return out
	}
	full := func(more ...aci.MO) aci.Update {
		return aci.Update{Kind: aci.FullRead, Root: wan.DN(), Objects: append(append([]aci.MO{}, base...), more...)}
	}
	all := []string{"//", "T/O/E1", "T/O/E1 10.0.0.1/32", "T/O/E2"}
	steps := []struct {
		name     string
		fold     func(*State) []aci.Place
		web, api bool
		touched  []string
	}{
		{"a read without", func(s *State) []aci.Place { return s.Fold(full()) }, false, false, all[1:]},
		{"a read with one on the L3Out", func(s *State) []aci.Place { return s.Fold(full(pause(wan.DN()))) }, true, true, all},
		{"a read without", func(s *State) []aci.Place { return s.Fold(full()) }, false, false, all},
		{"a read with one on an EPG", func(s *State) []aci.Place { return s.Fold(full(pause(web.DN()))) }, true, false, all[1:3]},
		{"a read of the EPG without", func(s *State) []aci.Place {
			return s.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN(), Objects: base[1:]})
		}, false, false, all[1:3]},
		{"an event", func(s *State) []aci.Place {
			return s.Fold(aci.Update{Kind: aci.Event, Objects: []aci.MO{created(pause(api.DN()))}})
		}, false, true, all[3:]},
		{"a look at the tags", func(s *State) []aci.Place { return s.SetPaused(wan, []aci.DN{wan.DN()}) }, true, true, all},
		{"the same again", func(s *State) []aci.Place { return s.SetPaused(wan, []aci.DN{wan.DN()}) }, true, true, nil},
		{"lifted", func(s *State) []aci.Place {
			return s.Fold(aci.Update{Kind: aci.Event, Objects: []aci.MO{deleted(pause(wan.DN()))}})
		}, false, false, all},
	}
	s := NewState(us)
	for i, step := range steps {
		if diff := cmp.Diff(step.touched, places(step.fold(s))); diff != "" {
			t.Errorf("step %d, %s: touched (-want +got)\n%s", i, step.name, diff)
		}
		if s.Paused(web) != step.web || s.Paused(api) != step.api {
			t.Errorf("step %d, %s: paused %v, %v", i, step.name, s.Paused(web), s.Paused(api))
		}
	}
}

func TestSubnet_spelled_otherwise(t *testing.T) {
	t.Parallel()
	v6 := netip.MustParsePrefix("2001:db8::1/128")
	net24 := netip.MustParsePrefix("10.0.0.0/24")
	s := with(epgMO(web), epgMO(api), subnet(web, "2001:DB8::0001/128"), subnet(web, "10.0.0.9/24"), subnet(web, "10.0.0.7/24"),
		subnet(api, "10.0.0.0/24"), subnet(web, "fe80::1%eth0/64"))
	dn := func(p netip.Prefix) aci.DN {
		n, _ := s.Subnet(aci.Place{ExtEPG: web, Prefix: p})
		return n.DN
	}
	steps := []struct {
		name    string
		event   aci.MO
		v6      string
		net24   string
		holders int
	}{
		{"read", mo("x", "x"), "2001:DB8::0001/128", "10.0.0.7/24", 2},
		{"ours beside the others", created(subnet(web, "10.0.0.0/24")), "2001:DB8::0001/128", "10.0.0.0/24", 2},
		{"one of the twins goes", deleted(subnet(web, "10.0.0.7/24")), "2001:DB8::0001/128", "10.0.0.0/24", 2},
		{"ours goes", deleted(subnet(web, "10.0.0.0/24")), "2001:DB8::0001/128", "10.0.0.9/24", 2},
		{"the last goes", deleted(subnet(web, "10.0.0.9/24")), "2001:DB8::0001/128", "", 1},
		{"another spelling of IPv6", created(subnet(web, "2001:db8::1/128")), "2001:db8::1/128", "", 1},
	}
	rn := func(ip string) aci.DN {
		if ip == "" {
			return ""
		}
		return web.DN().Child(aci.SubnetRN(ip))
	}
	for _, step := range steps {
		s.event(step.event)
		if got := dn(v6); got != rn(step.v6) {
			t.Errorf("%s: IPv6 is %s", step.name, got)
		}
		if got := dn(net24); got != rn(step.net24) {
			t.Errorf("%s: the net is %s", step.name, got)
		}
		if got := len(s.Holders(net24)); got != step.holders {
			t.Errorf("%s: %d holders", step.name, got)
		}
		if err := s.check(); err != "" {
			t.Errorf("%s: %s", step.name, err)
		}
	}
}

func TestExtEPG_is_judged(t *testing.T) {
	t.Parallel()
	dn := web.DN()
	mark := tag(dn, aci.OwnerKey, us.Mark(dn))
	ours := []aci.MO{subnet(web, "10.0.0.1/32"), tag(web.SubnetDN(one), aci.OwnerKey, us.Mark(web.SubnetDN(one)))}
	implicit := mo(aci.ClassRsCustQosPol, dn.Child("rscustQosPol"), "tnQosCustomPolName", "")
	tests := map[string]struct {
		objects          []aci.MO
		residue, foreign []string
	}{
		"only ours": {append([]aci.MO{
			epgMO(web, "annotation", us.Annotation(), "prio", "unspecified", "matchT", "AtleastOne", "prefGrMemb", "exclude", "floodOnEncap", "disabled"),
			mark, implicit,
		}, ours...), nil, nil},
		"defaults that read back empty": {[]aci.MO{epgMO(web, "prio", "", "targetDscp", "")}, nil, nil},
		"settings":                      {[]aci.MO{epgMO(web, "prio", "level1", "descr", "mine")}, []string{"descr mine", "prio level1"}, nil},
		"another annotation":            {[]aci.MO{epgMO(web, "annotation", "orchestrator:terraform")}, []string{"annotation orchestrator:terraform"}, nil},
		"contracts": {
			[]aci.MO{epgMO(web), mo(aci.ClassRsProv, dn.Child("rsprov-a"), "tnVzBrCPName", "a"), mo(aci.ClassRsCons, dn.Child("rscons-b"), "tnVzBrCPName", "b")},
			[]string{"consumed contract b", "provided contract a"},
			nil,
		},
		"a QoS policy": {[]aci.MO{epgMO(web), mo(aci.ClassRsCustQosPol, dn.Child("rscustQosPol"), "tnQosCustomPolName", "q")}, []string{"fvRsCustQosPol rscustQosPol"}, nil},
		"what the fabric itself says of it": {append([]aci.MO{
			epgMO(web), mo("faultDelegate", dn.Child("fd-[x]-fault-F0467")), mo("faultInst", dn.Child("fault-F3941")), mo("healthInst", dn.Child("health")),
		}, ours...), nil, nil},
		"something never heard of": {[]aci.MO{epgMO(web), mo("fvNew", dn.Child("new-[a/b]"))}, []string{"fvNew new-[a/b]"}, nil},
		"other tags":               {[]aci.MO{epgMO(web), mark, tag(dn, "color", "red")}, []string{"tagAnnotation annotationKey-[color]"}, nil},
		"a foreign subnet, told of once": {
			[]aci.MO{epgMO(web), subnet(web, "10.0.0.7/24"), tag(dn.Child(aci.SubnetRN("10.0.0.7/24")), "color", "red")}, nil, []string{"10.0.0.7/24"},
		},
		"a subnet with a copied mark":               {[]aci.MO{epgMO(web), ours[0], tag(ours[0].DN, aci.OwnerKey, us.Mark(dn))}, nil, []string{"10.0.0.1/32"}},
		"what stands below our subnet goes with it": {append([]aci.MO{epgMO(web), tag(ours[0].DN, "color", "red")}, ours...), nil, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := with(epgMO(web))
			s.Fold(aci.Update{Kind: aci.FullRead, Root: dn, Objects: tt.objects})
			g, _ := s.ExtEPG(web)
			if !g.Judged {
				t.Error("not judged")
			}
			if diff := cmp.Diff([2][]string{tt.residue, tt.foreign}, [2][]string{g.Residue, g.Foreign}); diff != "" {
				t.Errorf("residue and foreign (-want +got)\n%s", diff)
			}
			s.event(created(mo(aci.ClassRsProv, dn.Child("rsprov-z"), "tnVzBrCPName", "z")))
			if g, _ := s.ExtEPG(web); g.Judged {
				t.Error("still judged after something came into it")
			}
		})
	}
}

func TestExpect_is_met_by_the_echo_or_a_read(t *testing.T) {
	t.Parallel()
	dn := web.SubnetDN(one)
	n := func() aci.MO { return subnet(web, "10.0.0.1/32", "name", "a") }
	read := func(objects ...aci.MO) aci.Update {
		return aci.Update{Kind: aci.FullRead, Root: dn, Objects: objects}
	}
	event := func(m aci.MO) aci.Update { return aci.Update{Kind: aci.Event, Objects: []aci.MO{m}} }
	tests := map[string]struct {
		status string
		u      aci.Update
		met    bool
	}{
		"created, and an event says so":        {aci.StatusCreated, event(created(subnet(web, "10.0.0.1/32", "name", "b"))), true},
		"created, but by somebody else":        {aci.StatusCreated, event(created(n())), false},
		"created, and a read finds it":         {aci.StatusCreated, read(n()), true},
		"created, and a read does not find it": {aci.StatusCreated, read(), false},
		"created, and it is deleted":           {aci.StatusCreated, event(deleted(n())), false},
		"deleted, and an event says so":        {aci.StatusDeleted, event(deleted(n())), true},
		"deleted, and a read does not find it": {aci.StatusDeleted, read(), true},
		"deleted, and a read finds it":         {aci.StatusDeleted, read(n()), false},
		"modified, and an event says so":       {aci.StatusModified, event(modified(subnet(web, "10.0.0.1/32", "name", "b"))), true},
		"modified, and an event says else":     {aci.StatusModified, event(modified(subnet(web, "10.0.0.1/32", "name", "c"))), false},
		"modified, and the fabric works":       {aci.StatusModified, event(modified(mo(aci.ClassSubnet, dn, "modTs", "x"))), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := with(epgMO(web), n(), tag(dn, aci.OwnerKey, us.Mark(dn)))
			s.Expect(dn, tt.status, map[string]string{"name": "b"})
			s.Fold(tt.u)
			if got := s.Expected(dn) == ""; got != tt.met || s.Pending(one) == tt.met {
				t.Errorf("met %v, pending %v", got, s.Pending(one))
			}
			if err := s.check(); err != "" {
				t.Error(err)
			}
		})
	}
}

// BenchmarkState_Fold is what one event costs beside many subnets in the same EPG.
func BenchmarkState_Fold(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			objects := []aci.MO{epgMO(web), subnet(web, "172.16.0.1/12")} // one is spelled oddly
			for i := range n {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
				objects = append(objects, subnet(web, p.String(), "scope", "import-security"))
			}
			s := with(objects...)
			add, remove := created(subnet(web, "192.0.2.1/32")), deleted(subnet(web, "192.0.2.1/32"))
			p := aci.Place{ExtEPG: web, Prefix: netip.MustParsePrefix("192.0.2.1/32")}
			b.ReportAllocs()
			for b.Loop() {
				s.event(add)
				s.Subnet(p)
				s.event(remove)
				s.Subnet(p)
			}
		})
	}
}
