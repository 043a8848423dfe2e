package desired

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// KindExternalEPG is the kind of the objects in which records are kept.
const KindExternalEPG = "ExternalEPG"

// Record is what must survive a restart, of one external EPG.
type Record struct {
	EPG     aci.ExtEPG
	Managed *bool     // ours, or somebody else's; nil while it was never seen
	Owner   aci.Owner // whose mark it bears; "" for none
	Members []Member  // the workloads whose last valid target it is, sorted
	Paused  bool      // all writes to it are stopped
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
