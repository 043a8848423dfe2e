package observed

import (
	"net/netip"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// expectation is what a POST of ours was to do to one object.
type expectation struct {
	status string // aci.StatusCreated, StatusModified or StatusDeleted
	attrs  map[string]string
}

// Expect notes, before a POST, what it is to do to the object d. The plan takes it as done,
// so that nothing is posted twice while the events travel.
func (s *State) Expect(d aci.DN, status string, attrs map[string]string) {
	s.met(d)
	s.expected[d] = &expectation{status, attrs}
	if p, ok := prefixOf(d); ok {
		s.pending[p]++
	}
}

// met drops the expectation of d, and returns whether there was one.
func (s *State) met(d aci.DN) bool {
	if s.expected[d] == nil {
		return false
	}
	delete(s.expected, d)
	if p, ok := prefixOf(d); ok {
		if s.pending[p]--; s.pending[p] == 0 {
			delete(s.pending, p)
		}
	}
	return true
}

// Pending reports whether a POST of ours is under way, or not yet heard of, that concerns a
// subnet with prefix p anywhere.
func (s *State) Pending(p netip.Prefix) bool { return s.pending[p] > 0 }

// prefixOf is the prefix of the subnet d.
func prefixOf(d aci.DN) (netip.Prefix, bool) {
	_, rest, _ := aci.ExtEPGOf(d)
	ip, ok := aci.SubnetIP(rest)
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(ip)
	return p.Masked(), err == nil
}

// Expected returns the status that a POST of ours is to give the object d, or "".
func (s *State) Expected(d aci.DN) string {
	if x := s.expected[d]; x != nil {
		return x.status
	}
	return ""
}

// Unexpect drops an expectation, because its POST failed or nothing was heard of it. It
// returns false when an event or a read has met it already.
func (s *State) Unexpect(d aci.DN) bool { return s.met(d) }

// Doubt notes that what e holds is not known for sure, because a POST below it was refused or
// its outcome is not known: all of it must be read before more is decided.
func (s *State) Doubt(e aci.ExtEPG) {
	if o := s.l3outs[e.L3Out]; o != nil {
		g := o.epgs[e.Name]
		if g == nil {
			g = newEPG(e)
			o.epgs[e.Name] = g
		}
		g.doubted = true
	}
}

// Doubted reports whether e must be read before anything is decided about it.
func (s *State) Doubted(e aci.ExtEPG) bool {
	g := s.epg(e)
	return g != nil && g.doubted
}

// Unjudge drops what was judged of e for deletion: it must be read just before.
func (s *State) Unjudge(e aci.ExtEPG) {
	if g := s.epg(e); g != nil {
		g.Judged, g.Residue, g.Foreign = false, nil, nil
	}
}

// own reports whether the event m is the echo of a POST of ours, and meets its expectation.
func (s *State) own(m aci.MO) bool {
	x := s.expected[m.DN]
	if x == nil || x.status != m.Attrs["status"] {
		return false
	}
	if x.status == aci.StatusCreated {
		for k, v := range x.attrs {
			if is, told := m.Attrs[k]; told && !same(k, v, is) {
				return false // somebody else made it first; our POST is refused
			}
		}
	}
	if x.status == aci.StatusModified {
		if len(x.attrs) > 0 && !written(m) {
			return false // the fabric's own doing
		}
		for k, v := range m.Attrs {
			if was, set := x.attrs[k]; configurable[k] && (!set || !same(k, was, v)) {
				return false
			}
		}
	}
	return s.met(m.DN)
}

// configurable are the attributes whose change in an event tells that somebody wrote, not
// only that the fabric programmed something.
var configurable = map[string]bool{
	"aggregate": true, "annotation": true, "descr": true, "exceptionTag": true, "floodOnEncap": true,
	"matchT": true, "name": true, "nameAlias": true, "pcEnfPref": true, "prefGrMemb": true,
	"prio": true, "scope": true, "targetDscp": true, "extMngdBy": true,
}

func same(attr, a, b string) bool {
	if attr == "scope" {
		return aci.ParseScope(a).String() == aci.ParseScope(b).String()
	}
	return a == b
}
