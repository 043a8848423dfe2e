package aci_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// login decodes the answer to a login with these children.
func login(t *testing.T, children string) aci.Login {
	t.Helper()
	rep, err := aci.DecodeReply(strings.NewReader(
		`{"totalCount":"1","imdata":[{"aaaLogin":{"attributes":{"token":"x","version":"5.2(1g)"},"children":[` + children + `]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return aci.ParseLogin(rep.Objects[0])
}

// As captured of APIC 2.0(2f).
const (
	domain = `{"aaaUserDomain":{"attributes":{"name":"NAME","rolesR":"admin","rolesW":"admin"},"children":[
		{"aaaReadRoles":{"attributes":{}}},{"aaaWriteRoles":{"attributes":{},"children":[{"role":{"attributes":{"name":"admin"}}}]}}]}}`
	entry = `{"DnDomainMapEntry":{"attributes":{"dn":"uni/tn-NAME","readPrivileges":"admin","writePrivileges":"admin"}}}`
)

func named(template, name string) string { return strings.ReplaceAll(template, "NAME", name) }

func TestParseLogin(t *testing.T) {
	t.Parallel()
	without := func(s string) string {
		return strings.NewReplacer(`"readPrivileges":"admin"`, `"readPrivileges":""`, `"writePrivileges":"admin"`, `"writePrivileges":""`).Replace(s)
	}
	for name, c := range map[string]struct {
		children  string
		domains   []string
		all, a, b bool // what may be read: everything, tenant a, tenant b
	}{
		"the whole fabric": {
			children: named(domain, "all") + "," + named(entry, "common") + "," + named(entry, "a"),
			domains:  []string{"all"}, all: true, a: true, b: true,
		},
		"one tenant": {
			children: named(domain, "sales") + "," + named(entry, "a") + "," + named(entry, "common"),
			domains:  []string{"sales"}, a: true,
		},
		"a tenant that may only be read": {
			children: named(domain, "sales") + "," + strings.Replace(named(entry, "a"), `"writePrivileges":"admin"`, `"writePrivileges":""`, 1),
			domains:  []string{"sales"}, a: true,
		},
		"a tenant without privileges": {
			children: named(domain, "sales") + "," + without(named(entry, "a")) + "," + named(entry, "b"),
			domains:  []string{"sales"}, b: true,
		},
		"a tenant whose name begins alike": {
			children: named(domain, "sales") + "," + named(entry, "aa"), domains: []string{"sales"},
		},
		"no tenant": {
			children: named(domain, "sales") + "," + without(named(entry, "a")), domains: []string{"sales"},
		},
		"domains alone": { // which tenants belong to them is not told
			children: named(domain, "sales") + "," + named(domain, "eng"), domains: []string{"eng", "sales"}, a: true, b: true,
		},
		"a domain without a role": {
			children: `{"aaaUserDomain":{"attributes":{"name":"all","rolesR":"","rolesW":""},"children":[
				{"aaaReadRoles":{"attributes":{}}},{"aaaWriteRoles":{"attributes":{}}}]}},` + named(entry, "a"),
			domains: []string{}, a: true,
		},
		"a role in the children only": {
			children: `{"aaaUserDomain":{"attributes":{"name":"all","rolesR":"","rolesW":""},"children":[
				{"aaaReadRoles":{"attributes":{},"children":[{"role":{"attributes":{"name":"read-all"}}}]}}]}}`,
			domains: []string{"all"}, all: true, a: true, b: true,
		},
		"a domain that tells of no roles": {
			children: `{"aaaUserDomain":{"attributes":{"name":"all"}}}`, domains: []string{"all"}, all: true, a: true, b: true,
		},
		"nothing": {a: true, b: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := login(t, c.children)
			if l.Version != "5.2(1g)" {
				t.Errorf("version %q", l.Version)
			}
			if diff := cmp.Diff(c.domains, l.Domains); diff != "" {
				t.Errorf("domains (-want +got)\n%s", diff)
			}
			a, b := aci.L3Out{Tenant: "a", Name: "o"}.DN(), aci.L3Out{Tenant: "b", Name: "o"}.DN()
			if told := c.all || !c.b || !c.a; l.TellsRights() != told {
				t.Errorf("tells rights %v: %+v", l.TellsRights(), l)
			}
			if l.ReadsAll() != c.all || l.MayRead(a) != c.a || l.MayRead(b) != c.b {
				t.Errorf("may read all %v, a %v, b %v: %+v", l.ReadsAll(), l.MayRead(a), l.MayRead(b), l)
			}
		})
	}
}

func TestLogin_a_refresh_changes_what_it_says(t *testing.T) {
	t.Parallel()
	first := login(t, named(domain, "sales")+","+named(entry, "a"))
	if got := first.Update(aci.Login{}); !got.Equal(first) {
		t.Errorf("an answer that says nothing makes it %+v", got)
	}
	if got := first.Update(aci.Login{Version: "6.0(9c)"}); got.Equal(first) || !got.SameRights(first) || got.Version != "6.0(9c)" {
		t.Errorf("another version makes it %+v", got)
	}
	more := login(t, named(domain, "all"))
	if got := first.Update(more); !got.Equal(more) || got.SameRights(first) {
		t.Errorf("other domains make it %+v", got)
	}
}

func TestParseUser(t *testing.T) {
	t.Parallel()
	domain := func(name string, roles ...string) aci.MO {
		m := aci.MO{Class: "aaaUserDomain", Attrs: map[string]string{"name": name}}
		for _, r := range roles {
			m.Children = append(m.Children, aci.MO{Class: "aaaUserRole", Attrs: map[string]string{"name": r}})
		}
		return m
	}
	ref := func(tenant, name string) aci.MO {
		return aci.MO{Class: "aaaDomainRef", DN: aci.DN("uni/tn-" + tenant + "/domain-" + name), Attrs: map[string]string{"name": name}}
	}
	for name, tt := range map[string]struct {
		domains, refs []aci.MO
		want          aci.Login
	}{
		"all":                       {[]aci.MO{domain("all", "admin")}, nil, aci.Login{Domains: []string{"all"}, Shown: []aci.DN{}}},
		"nothing":                   {nil, []aci.MO{ref("a", "x")}, aci.Login{Domains: []string{}, Shown: []aci.DN{}}},
		"a domain without a role":   {[]aci.MO{domain("all"), domain("x", "r")}, nil, aci.Login{Domains: []string{"x"}, Shown: []aci.DN{}}},
		"tenants of his and others": {[]aci.MO{domain("y", "r", "w"), domain("x", "r")}, []aci.MO{ref("c", "y"), ref("a", "x"), ref("a", "y"), ref("b", "z")}, aci.Login{Domains: []string{"x", "y"}, Shown: []aci.DN{"uni/tn-a", "uni/tn-c"}}},
		"what has no DN":            {[]aci.MO{domain("x", "r")}, []aci.MO{{Class: "aaaDomainRef", Attrs: map[string]string{"name": "x"}}}, aci.Login{Domains: []string{"x"}, Shown: []aci.DN{}}},
	} {
		got := aci.ParseUser(aci.MO{Class: "aaaUser", Children: tt.domains}, tt.refs)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
		if !got.TellsRights() {
			t.Errorf("%s: tells no rights", name)
		}
	}
}
