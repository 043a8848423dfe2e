package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Policy says what may be written.
type Policy struct {
	Owner      aci.Owner
	Scope      aci.Scope // flags that every subnet of ours must have
	Allow      Allow
	UpsertOnly bool // delete nothing, except to move an address
	Guard      Guard
	Approved   map[aci.DN]bool   // orphans that a person has looked at
	Adopt      map[aci.DN]Source // what is not ours, and is to be if it still is of this source
	Only       bool              // change nothing but what is in these two
	DeleteUsed bool              // delete an EPG also with contracts and settings of people; never with foreign subnets

	APIC string // version of the APIC that answers, as it names it: one that is too old is not written to
}

// Allow is the L3Outs that may be written to. The zero value is every tenant but infra and
// mgmt, which are the fabric's own.
type Allow []pattern

type pattern struct{ tenant, l3out string }

// ParseAllow reads patterns of the form TENANT/L3OUT, where * and ? match as in file names.
func ParseAllow(list []string) (Allow, error) {
	var a Allow
	for _, s := range list {
		tenant, l3out, ok := strings.Cut(s, "/")
		if !ok || tenant == "" || l3out == "" || strings.Contains(l3out, "/") {
			return nil, fmt.Errorf("%q is not a pattern TENANT/L3OUT", s)
		}
		for _, p := range []string{tenant, l3out} {
			if _, err := path.Match(p, ""); err != nil {
				return nil, fmt.Errorf("%q is not a pattern: %w", s, err)
			}
		}
		a = append(a, pattern{tenant, l3out})
	}
	return a, nil
}

// Allows reports whether l may be written to.
func (a Allow) Allows(l aci.L3Out) bool {
	if len(a) == 0 {
		return l.Tenant != "infra" && l.Tenant != "mgmt"
	}
	for _, p := range a {
		t, _ := path.Match(p.tenant, l.Tenant)
		o, _ := path.Match(p.l3out, l.Name)
		if t && o {
			return true
		}
	}
	return false
}
