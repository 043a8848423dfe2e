package apicsim

import (
	"crypto/rsa"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// User may log in, or sign requests.
type User struct {
	Name, Password string
	LoginDomain    string   // that a login must name, as in apic:DOMAIN\name; with "" it may name any, or none
	Expired        bool     // the password: no login, until it is changed
	Tenants        []string // what the user sees and writes, beside reading common; nil is everything
	ReadOnly       bool
	Certificates   map[string]*rsa.PublicKey // by name: NAME in uni/userext/user-…/usercert-NAME
}

// SetUser changes a user of all members, or adds one. The sessions that he has keep the rights
// that they began with. unverified: that a real APIC's do. He is not locked any more.
func (s *Sim) SetUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range *s.members {
		users := slices.DeleteFunc(slices.Clone(m.opts.Users), func(old User) bool { return old.Name == u.Name })
		m.opts.Users = append(users, u)
	}
	delete(s.locks, u.Name)
	t := s.begin()
	t.account(s.fabric.lookup("uni", "userext"), &u)
	t.commit()
}

// userClasses are local users with their security domains, and what is part of a domain.
//
// unverified: all attributes but names and privType, and that users are shown to anybody.
func userClasses() []*class {
	list := []*class{
		{name: "aaaUserEp", form: "userext", parents: []string{"polUni"}},
		{name: "aaaUser", form: "user-{name}", parents: []string{"aaaUserEp"}},
		{name: "aaaUserCert", form: "usercert-{name}", parents: []string{"aaaUser"}},
		{name: "aaaUserDomain", form: "userdomain-{name}", parents: []string{"aaaUser"}},
		{name: "aaaUserRole", form: "role-{name}", parents: []string{"aaaUserDomain"}},
	}
	for _, c := range list {
		c.foreign, c.hidden, c.account, c.props = true, true, true, bare()
		if strings.HasSuffix(c.form, "}") {
			c.props = append(c.props, id("name", text(patternName, 1, 64)), conf("descr", "", text(patternDescr, 0, 128)))
		}
		if c.name == "aaaUserRole" {
			c.props = append(c.props, ro("privType", "readPriv"))
		}
	}
	return append(list, &class{
		name: "aaaDomainRef", label: "Security Domain", form: "domain-{name}", parents: []string{"fvTenant"},
		props: slices.Concat(shared(), named()),
	})
}

// account makes the objects of a user anew. His domains and roles are those that his logins tell.
func (t *tx) account(users *node, u *User) {
	if old := users.children["user-"+u.Name]; old != nil {
		t.drop(old)
	}
	at := t.add(users, "user-"+u.Name)
	for _, name := range slices.Sorted(maps.Keys(u.Certificates)) {
		t.add(at, "usercert-"+name)
	}
	for _, d := range u.domains() {
		role, kind := "admin", "writePriv"
		if u.ReadOnly {
			role, kind = "read-all", "readPriv"
		}
		t.add(t.add(at, "userdomain-"+d), "role-"+role, "privType", kind)
	}
}

// domains are the security domains of u, named like the tenants in them.
func (u *User) domains() []string {
	if u.all() {
		return []string{"all"}
	}
	return u.Tenants
}

// named reports whether a login that says name is one of u.
// Source: apic-rest.md 1.1, "apic:DOMAIN\user" and "apic#DOMAIN\user".
func (u *User) named(name string) bool {
	domain := ""
	if strings.HasPrefix(name, "apic:") || strings.HasPrefix(name, "apic#") {
		if before, after, ok := strings.Cut(name[len("apic:"):], `\`); ok {
			domain, name = before, after
		}
	}
	return u.Name == name && (u.LoginDomain == "" || u.LoginDomain == domain)
}

// How long refused logins count, and how long a user is locked.
// Source: defaults of aaaBlockLoginProfile in public captures; there it is disabled, and 5 lock.
const (
	lockWindow = 5 * time.Minute
	lockTime   = time.Hour
)

// lock is what is remembered of the refused logins of a user.
type lock struct {
	refused []time.Time
	until   time.Time
}

// admit checks name and password of a login, and locks users as Options.LockAfter says, at all
// members together.
//
// unverified: the text for who is locked or whose password expired; that refused logins of all members
// count together.
func (s *Sim) admit(name, password string, now time.Time) (*User, *wireError) {
	i := slices.IndexFunc(s.opts.Users, func(u User) bool { return u.named(name) })
	if i < 0 {
		return nil, denied(http.StatusUnauthorized, textBadPassword)
	}
	u := &s.opts.Users[i]
	l := s.locks[u.Name]
	if l == nil {
		l = &lock{}
		s.locks[u.Name] = l
	}
	switch {
	case now.Before(l.until):
		return nil, denied(http.StatusUnauthorized, "User account is locked")
	case u.Password == "" || u.Password != password:
		l.refused = slices.DeleteFunc(l.refused, func(at time.Time) bool { return now.Sub(at) >= lockWindow })
		l.refused = append(l.refused, now)
		if s.opts.LockAfter > 0 && len(l.refused) >= s.opts.LockAfter {
			l.until, l.refused = now.Add(lockTime), nil
		}
		return nil, denied(http.StatusUnauthorized, textBadPassword)
	case u.Expired:
		return nil, denied(http.StatusUnauthorized, "User password has expired")
	}
	l.refused = nil
	return u, nil
}

// Locked reports whether a user is locked.
func (s *Sim) Locked(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locks[name]
	return l != nil && time.Now().Before(l.until)
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
