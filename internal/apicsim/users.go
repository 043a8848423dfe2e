package apicsim

import (
	"crypto/rsa"
	"slices"
	"strings"
)

// User may log in.
type User struct {
	Name, Password string
	Tenants        []string // what the user sees and writes, beside reading common; nil is everything
	ReadOnly       bool
	Certificates   map[string]*rsa.PublicKey // by name: NAME in uni/userext/user-…/usercert-NAME
}

// SetUser changes a user of all members, or adds one. The sessions that he has keep the rights
// that they began with. unverified: that a real APIC's do.
func (s *Sim) SetUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range *s.members {
		users := slices.DeleteFunc(slices.Clone(m.opts.Users), func(old User) bool { return old.Name == u.Name })
		m.opts.Users = append(users, u)
	}
}

func (u *User) all() bool { return u.Tenants == nil }

// mayRead reports whether an object is visible. Source: apic-rest.md 11 lists what RBAC
// answers as not confirmed. unverified: that what a user may not read is left out.
func (u *User) mayRead(dn string) bool {
	if u.all() {
		return true
	}
	tenant, in := tenantOf(dn)
	return !in || tenant == "common" || u.has(tenant)
}

func (u *User) mayWrite(dn string) bool {
	if u.ReadOnly {
		return false
	}
	tenant, in := tenantOf(dn)
	return u.all() || (in && u.has(tenant))
}

func (u *User) has(tenant string) bool { return slices.Contains(u.Tenants, tenant) }

func tenantOf(dn string) (string, bool) {
	rest, in := strings.CutPrefix(dn, "uni/tn-")
	tenant, _, _ := strings.Cut(rest, "/")
	return tenant, in
}
