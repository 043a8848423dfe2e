package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
)

// Request is what a person asks to be done in one external EPG, besides what follows from the
// cluster: what is ours and unclaimed is to be deleted, or, with From, what is there is to be ours.
type Request struct {
	From *Source // nil to prune
	EPG  bool    // the external EPG itself is adopted, too
}

// String is "prune", or "adopt" with its source and what ParseSource reads, such as
// "adopt prototype --epg".
func (r Request) String() string {
	if r.From == nil {
		return "prune"
	}
	s := "adopt " + r.From.String()
	if r.EPG {
		s += " --epg"
	}
	return s
}

// Objects are what r is about now, sorted.
func (r Request) Objects(want *desired.State, have *observed.State, p Policy, e aci.ExtEPG) []aci.DN {
	if r.From == nil {
		return FindUnclaimed(want, have, p).Of[e]
	}
	return FindAdoption(want, have, p, e, *r.From, r.EPG).Take
}

// Approve is the approval of r for just these objects: what it says, and a hash of them, so that
// whoever carries it out can see that it is about the same.
func (r Request) Approve(objects []aci.DN) string {
	h := sha256.New()
	for _, d := range objects {
		h.Write([]byte(d + "\n"))
	}
	return r.String() + " " + hex.EncodeToString(h.Sum(nil))
}

// ParseApproval reads the request of what Approve returned; false when it is none.
func ParseApproval(s string) (Request, bool) {
	words := strings.Fields(s)
	if len(words) < 2 {
		return Request{}, false
	}
	r := Request{}
	switch what := words[:len(words)-1]; {
	case len(what) == 1 && what[0] == "prune":
	case what[0] == "adopt" && (len(what) == 2 || len(what) == 3 && what[2] == "--epg"):
		from, err := ParseSource(what[1])
		if err != nil {
			return Request{}, false
		}
		r.From, r.EPG = &from, len(what) == 3
	default:
		return Request{}, false
	}
	return r, true
}
