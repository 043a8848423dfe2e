package apicsim

import (
	"strings"
	"testing"
)

// FuzzPost posts arbitrary bodies to arbitrary DNs. A refused one must leave no trace, and
// every object must be found again under its DN.
func FuzzPost(f *testing.F) {
	for _, seed := range []struct{ dn, body string }{
		{"uni", `{"fvTenant":{"attributes":{"name":"T"},"children":[{"l3extOut":{"attributes":{"name":"O"},"children":[{"l3extInstP":{"attributes":{"name":"E"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.1/32"}}}]}}]}}]}}`},
		{"", `{"tagAnnotation":{"attributes":{"dn":"uni/tn-common/annotationKey-[a[b]c]","value":"v"}}}`},
		{"uni/tn-common", `{"fvTenant":{"attributes":{"descr":"x","status":"created, modified"},"children":[]}}`},
		{"uni/tn-common", `{"tagAnnotation":{"attributes":{"key":"~!$([])_+-={};:|,.","value":"v"}}}`},
		{"uni/tn-common", `{"tagAnnotation":{"attributes":{"key":"]x["}}}`},
		{"uni/tn-common/ctx-default", `{"fvCtx":{"attributes":{"status":"deleted"}}}`},
		{"uni/tn-F", `{"l3extOut":{"attributes":{"name":"O"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"x"}}},{"l3extInstP":{"attributes":{"name":"E"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}},{"l3extInstP":{"attributes":{"name":"G"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8","scope":""}}}]}}]}}`},
		{"uni/tn-F", `{"l3extOut":{"attributes":{"name":"O","status":"deleted"}}}`},
		{"uni/tn-common", `{"l3extOut":{"attributes":{"name":"O"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"x"}}}]}}`},
	} {
		f.Add(seed.dn, seed.body)
	}
	f.Fuzz(func(t *testing.T, dn, body string) {
		s := New(Options{DeployDelay: -1})
		defer s.Close()
		if err := s.Post("uni", `{"fvTenant":{"attributes":{"name":"F"},"children":[{"l3extOut":{"attributes":{"name":"O"},"children":[{"l3extInstP":{"attributes":{"name":"E"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}},{"l3extInstP":{"attributes":{"name":"G"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}}]}}]}}`); err != nil {
			t.Fatal(err)
		}
		before := s.Dump("uni")
		if err := s.Post(dn, body); err != nil {
			if after := s.Dump("uni"); after != before {
				t.Fatalf("refused (%v) but changed:\n%s\nwas:\n%s", err, after, before)
			}
		}
		n := 0
		s.fabric.top.walk(func(k *node) {
			if k.class.name == root {
				return
			}
			n++
			p, err := parsePath(k.dn)
			if err != nil || s.fabric.find(p) != k || p.class() != k.class {
				t.Fatalf("%q cannot be found again: %v", k.dn, err)
			}
			if s.fabric.byClass[k.class][k.pos] != k {
				t.Fatalf("%q is not listed in its class", k.dn)
			}
		})
		if total := s.Stats().Objects; total != n {
			t.Fatalf("%d objects in the tree, %d listed", n, total)
		}
		filed := 0
		for _, sub := range s.fabric.byClass[schema["l3extSubnet"]] {
			c, claims := claimOf(sub)
			if at, is := s.conflicts.filed[sub]; is != claims || at != c {
				t.Fatalf("%s claims %v (%v), and is filed under %v (%v)", sub.dn, c, claims, at, is)
			}
			if claims {
				filed++
			}
		}
		if filed != len(s.conflicts.filed) {
			t.Fatalf("%d claims, %d filed", filed, len(s.conflicts.filed))
		}
	})
}

// FuzzParsePath checks that the APIC's spelling of a DN is a fixed point.
func FuzzParsePath(f *testing.F) {
	for _, dn := range []string{
		"uni", "uni/tn-T/out-O/instP-E/extsubnet-[10.0.0.1/32]", "uni/tn-T/out-O/instP-E/extsubnet-[2001:DB8::/32]",
		"uni/tn-T/annotationKey-[a/[b]/c]", "topology/pod-1/node-1/sys", "uni/tn-/x", "uni//tn-T", "[", "uni/tn-T/ctx-V/rtl3extEctx-[uni/tn-T/out-O]",
	} {
		f.Add(dn)
	}
	f.Fuzz(func(t *testing.T, dn string) {
		p, err := parsePath(dn)
		if err != nil {
			return
		}
		again, err := parsePath(p.dn())
		if err != nil || again.dn() != p.dn() {
			t.Fatalf("%q is spelled %q, which is spelled %q (%v)", dn, p.dn(), again.dn(), err)
		}
	})
}

// FuzzFilter checks that filters are refused or answer, and that not() is the opposite.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		`eq(fvTenant.name,"common")`, `and(true(),not(wcard(fvTenant.dn,"tn-[a-z]+$")))`, `bw(fvCtx.seg,"1","9999999")`,
		`or(anybit(l3extSubnet.scope,"a,b"),xor(lt(fvCtx.pcTag,"5"),ge(fvCtx.pcTag,"5")))`, `eq(fvTenant.name,"a\"b")`, `wcard(a.b,"*")`,
	} {
		f.Add(s)
	}
	s := New(Options{})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, in string) {
		all := func(*class) bool { return true }
		yes, err := parseFilter(in, all)
		no, err2 := parseFilter("not("+in+")", all)
		if err != nil {
			return
		}
		if err2 != nil && strings.Count(in, "(") < maxDepth {
			t.Fatalf("%q parses, its opposite does not: %v", in, err2)
		}
		s.fabric.top.walk(func(n *node) {
			if no != nil && n.class.name != root && yes(n) == no(n) {
				t.Fatalf("%q and its opposite agree on %s", in, n.dn)
			}
		})
	})
}
