package desired

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// KindExternalEPG is the kind of the objects in which records are kept.
const KindExternalEPG = "ExternalEPG"

// RefOf names the ExternalEPG of e, for Events.
func RefOf(e aci.ExtEPG) Ref { return Ref{Kind: KindExternalEPG, Name: e.String()} }

// ErrOtherRecord says that what the cluster holds of an external EPG is the record of another
// aci-sync, which is not touched.
var ErrOtherRecord = errors.New("the record of another aci-sync")

// Record is what must survive a restart, of one external EPG.
type Record struct {
	EPG     aci.ExtEPG
	Managed *bool     // ours, or somebody else's; nil while it was never seen
	Owner   aci.Owner // whose mark it bears; "" for none
	Members []Member  // the workloads whose last valid target it is, sorted
	Paused  bool      // all writes to it are stopped
	// Approved is what a person approved to be done here besides what follows from the cluster, in
	// plan's words; "" for nothing. It is not ours to write, only to answer.
	Approved string
}

// Member is a workload in a record.
type Member struct {
	Ref    Ref
	UID    types.UID
	Expose *Expose // of its target; nil for the configured default
}

// Equal reports whether both say the same.
func (r Record) Equal(q Record) bool {
	return r.EPG == q.EPG && r.Owner == q.Owner && r.Paused == q.Paused && equalPtr(r.Managed, q.Managed) &&
		slices.EqualFunc(r.Members, q.Members, func(a, b Member) bool {
			return a.Ref == b.Ref && a.UID == b.UID && equalPtr(a.Expose, b.Expose)
		})
}

func equalPtr[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// Status is how things stand in one external EPG.
type Status struct {
	Desired  int       // subnets that are claimed
	Present  int       // of these, those on the APIC
	Synced   time.Time // when the APIC last told of something written here; zero for never in this run
	Ready    Condition
	Problems []Condition // sorted by reason, one each
}

// Condition is one statement about an external EPG.
type Condition struct {
	Reason  string
	Message string
	True    bool
	Unknown bool // neither true nor false
}

// Compare orders by workload.
func (m Member) Compare(n Member) int { return cmp.Or(m.Ref.Compare(n.Ref), cmp.Compare(m.UID, n.UID)) }

// memory is what records say about a workload.
type memory struct {
	uid    types.UID
	target *Target // nil when records contradict each other: then it is not known
}

// Remember takes in a record of an earlier run: a workload that is in it, and whose annotation is
// invalid when it is seen first, has this target. It must come before the workload.
//
// A workload that is in two records was moving when they were written last; which one is right is
// not known.
func (s *State) Remember(rec Record) {
	for _, m := range rec.Members {
		target := &Target{EPG: rec.EPG, Expose: m.Expose}
		if old, ok := s.memories[m.Ref]; ok && old.uid == m.UID && (old.target == nil || old.target.EPG != rec.EPG) {
			target = nil
		}
		s.memories[m.Ref] = memory{m.UID, target}
	}
}

// Unremember forgets a record: what is known from it alone is known no longer.
func (s *State) Unremember(rec Record) Touched {
	var t Touched
	for _, m := range rec.Members {
		if old := s.memories[m.Ref]; old.uid == m.UID {
			delete(s.memories, m.Ref)
		}
		if w := s.byName[m.Ref]; w != nil && w.uid == m.UID && w.memory != nil && w.memory.EPG == rec.EPG {
			w.memory = nil
			s.settle(w, &t)
			s.giveSelecting(w.ns, &t, w.template)
			if v := s.services[w.ref]; v != nil {
				s.giveService(v, &t)
			}
		}
	}
	return t
}

// Members returns the workloads whose target is e, sorted, as they are to be recorded.
func (s *State) Members(e aci.ExtEPG) []Member {
	g := s.epgs[e]
	if g == nil {
		return nil
	}
	var out []Member
	for w := range g.workloads {
		out = append(out, Member{w.ref, w.uid, w.target.Expose})
	}
	slices.SortFunc(out, Member.Compare)
	return out
}

// Count returns how many addresses are claimed for e.
func (s *State) Count(e aci.ExtEPG) int {
	if g := s.epgs[e]; g != nil {
		return len(g.prefixes)
	}
	return 0
}

// Claims reports whether somebody claims the address of p for its external EPG.
func (s *State) Claims(p aci.Place) bool {
	g := s.epgs[p.ExtEPG]
	return g != nil && g.prefixes[p.Prefix] > 0
}
