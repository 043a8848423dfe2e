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
