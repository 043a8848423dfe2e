package aci

import (
	"slices"
	"strings"
)

// Login is what an APIC says of itself and of the user at a login. Of the zero value nothing is
// known.
type Login struct {
	Version string   // of the APIC, such as "5.2(1g)"; empty when it does not say
	Domains []string // security domains that the user has a role in, sorted; nil when it does not say
	Shown   []DN     // at and below which the user may read, sorted; nil when it does not say
}

// allDomain is the security domain that is the whole fabric.
const allDomain = "all"

// ParseLogin reads the object aaaLogin.
//
// Source: a captured login of APIC 2.0(2f), apic-rest.md 1.1. unverified: that a user whose
// domains are not "all" has a DnDomainMapEntry for each tenant that he may read, and for no other.
func ParseLogin(m MO) Login {
	l := Login{Version: m.Attrs["version"]}
	for _, c := range m.Children {
		switch c.Class {
		case "aaaUserDomain":
			if l.Domains == nil {
				l.Domains = []string{}
			}
			if hasRole(c) {
				l.Domains = append(l.Domains, c.Attrs["name"])
			}
		case "DnDomainMapEntry":
			if l.Shown == nil {
				l.Shown = []DN{}
			}
			if c.DN != "" && c.Attrs["readPrivileges"]+c.Attrs["writePrivileges"] != "" { // who may write may read
				l.Shown = append(l.Shown, c.DN)
			}
		}
	}
	slices.Sort(l.Domains)
	slices.Sort(l.Shown)
	return l
}

// ParseUser reads what ParseLogin does from an object aaaUser with its domains and roles, and from
// the objects aaaDomainRef that say which tenant is part of which domain.
//
// Tenants are taken for shown only when they are known to be part of a domain of the user. He may well
// read more, such as common, or what a rule of his own gives him: too little shown makes nobody trust an
// empty answer.
func ParseUser(user MO, refs []MO) Login {
	l := Login{Domains: []string{}, Shown: []DN{}}
	for _, d := range user.Children {
		isRole := func(m MO) bool { return m.Class == "aaaUserRole" }
		if d.Class == "aaaUserDomain" && slices.ContainsFunc(d.Children, isRole) {
			l.Domains = append(l.Domains, d.Attrs["name"])
		}
	}
	for _, r := range refs {
		if r.Class == "aaaDomainRef" && slices.Contains(l.Domains, r.Attrs["name"]) && r.DN.Parent() != "" {
			l.Shown = append(l.Shown, r.DN.Parent())
		}
	}
	slices.Sort(l.Domains)
	slices.Sort(l.Shown)
	l.Shown = slices.Compact(l.Shown)
	return l
}

// hasRole reports whether a user has a role in an aaaUserDomain. One that tells of no roles at all
// would not be there without.
func hasRole(m MO) bool {
	r, told := m.Attrs["rolesR"]
	w, toldToo := m.Attrs["rolesW"]
	if !told && !toldToo || r != "" || w != "" {
		return true
	}
	for _, kind := range m.Children {
		if strings.HasPrefix(kind.Class, "aaa") && len(kind.Children) > 0 { // aaaReadRoles, aaaWriteRoles
			return true
		}
	}
	return false
}

// Update returns what is known when the answer to a refresh says m: what it leaves out stays.
func (l Login) Update(m Login) Login {
	if m.Version != "" {
		l.Version = m.Version
	}
	if m.Domains != nil || m.Shown != nil {
		l.Domains, l.Shown = m.Domains, m.Shown
	}
	return l
}

// Equal reports whether l and m say the same.
func (l Login) Equal(m Login) bool { return l.Version == m.Version && l.SameRights(m) }

// SameRights reports whether l and m say the same of the user.
func (l Login) SameRights(m Login) bool {
	return slices.Equal(l.Domains, m.Domains) && slices.Equal(l.Shown, m.Shown) &&
		(l.Domains == nil) == (m.Domains == nil) && (l.Shown == nil) == (m.Shown == nil)
}

// ReadsAll reports whether the user is known to read the whole fabric.
func (l Login) ReadsAll() bool { return slices.Contains(l.Domains, allDomain) }

// TellsRights reports whether l tells what the user may read and what not.
func (l Login) TellsRights() bool { return l.ReadsAll() || l.Shown != nil }

// MayRead reports whether the user may read d; false only when the login says so. Then an empty
// answer about d is not proof that there is nothing.
func (l Login) MayRead(d DN) bool {
	return l.ReadsAll() || l.Shown == nil || slices.ContainsFunc(l.Shown, d.Within)
}
