package apicsim

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzPost posts arbitrary bodies to arbitrary DNs, as a user or as the fabric itself. A
// refused one must leave no trace, and every object must be found again under its DN.
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
		{"uni/tn-F/out-O", `{"l3extLNodeP":{"attributes":{"name":"N"},"children":[{"l3extRsNodeL3OutAtt":{"attributes":{"tDn":"topology/pod-1/node-101","rtrIdLoopBack":"no"},"children":[{"l3extLoopBackIfP":{"attributes":{"addr":"10.0.0.1"}}}]}},{"bgpPeerP":{"attributes":{"addr":"10.0.0.0/24","password":"x"},"children":[{"bgpAsP":{"attributes":{"asn":"1"}}}]}}]}}`},
		{"uni/tn-F/out-O/lnodep-P/lifp-I", `{"l3extVirtualLIfP":{"attributes":{"nodeDn":"topology/pod-1/node-101","encap":"vlan-46"},"children":[{"l3extRsDynPathAtt":{"attributes":{"tDn":"uni/phys-p","floatingAddr":"10.0.0.3/24"}}},{"l3extMember":{"attributes":{"side":"A"},"children":[{"l3extIp":{"attributes":{"addr":"::1/64"}}}]}}]}}`},
		{"uni/tn-F/out-O/lnodep-P/lifp-I/vlifp-[topology/pod-1/node-101]-[vlan-7]", `{"l3extVirtualLIfP":{"attributes":{"rn":"vlifp-[topology/pod-1/node-101]-[vlan-7]","addr":"10.0.0.1/24","mac":"00-22-bd-f8-19-ff","mtu":"1"}}}`},
		{"uni/tn-F", `{"l3extRsPathL3OutAtt":{"attributes":{"dn":"uni/tn-F/out-O/lnodep-P/lifp-I/rspathL3OutAtt-[topology/pod-1/protpaths-1-2/pathep-[a[b]c]]","encap":""}}}`},
		{"uni/tn-F/out-O/lnodep-P", `{"l3extLNodeP":{"attributes":{"status":"deleted"}}}`},
		{"uni/tn-F", `{"bgpPeerPfxPol":{"attributes":{"name":"few"}}}`},
		{"uni", `{"l3extDomP":{"attributes":{"name":"d"}}}`},
		{"", `{"bgpPeerEntry":{"attributes":{"dn":"topology/pod-1/node-101/sys/bgp/inst/dom-T:V/peer-[10.0.0.0/24]/ent-[10.0.0.1]","operSt":"established"}}}`},
		{"", `{"bgpPeerEntry":{"attributes":{"dn":"topology/pod-2/node-7/sys/bgp/inst/dom-T:V/peer-[::1]/ent-[::1]","operSt":"up"}}}`},
		{"", `{"l3extInstP":{"attributes":{"dn":"uni/tn-F/out-O/instP-E","scope":"1","extMngdBy":"msc"}}}`},
		{"", `{"fabricNode":{"attributes":{"dn":"topology/pod-1/node-1","status":"deleted"}}}`},
	} {
		f.Add(seed.dn, seed.body, false)
		f.Add(seed.dn, seed.body, true)
	}
	f.Fuzz(func(t *testing.T, dn, body string, fabric bool) {
		s := New(Options{DeployDelay: -1})
		defer s.Close()
		if err := s.Post("uni", `{"fvTenant":{"attributes":{"name":"F"},"children":[{"l3extOut":{"attributes":{"name":"O"},"children":[{"l3extInstP":{"attributes":{"name":"E"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}},{"l3extInstP":{"attributes":{"name":"G"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}},{"l3extLNodeP":{"attributes":{"name":"P"},"children":[{"l3extLIfP":{"attributes":{"name":"I"}}},{"bgpPeerP":{"attributes":{"addr":"10.0.0.9"},"children":[{"bgpRsPeerPfxPol":{"attributes":{"tnBgpPeerPfxPolName":"few"}}}]}}]}}]}}]}}`); err != nil {
			t.Fatal(err)
		}
		all := func() string { return s.Dump("uni") + s.Dump("topology") }
		before := all()
		write := func() error { return s.Post(dn, body) }
		if fabric {
			write = func() error { return s.Seed([]byte(body)) }
		}
		if err := write(); err != nil {
			later := fabric && !strings.HasPrefix(err.Error(), "seed body 1:") // a list, of which the first stays
			if after := all(); after != before && !later {
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
		"uni/tn-T/out-O/lnodep-N/lifp-I/vlifp-[topology/pod-1/node-101]-[vlan-46]/peerP-[2001:DB8::/64]/as",
		"uni/tn-T/out-O/lnodep-N/lifp-I/vlifp-[topology/pod-1/node-101]-[]/mem-A", "uni/tn-T/out-O/lnodep-N/lifp-I/vlifp-[a]b-[c]",
		"uni/tn-T/out-O/lnodep-N/lifp-I/rspathL3OutAtt-[topology/pod-1/paths-101/pathep-[eth1/1]]/addr-[10.0.0.1/24]",
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
		`or(eq(bgpPeerP.ctrl,"as-override"),ge(bgpPeerP.ttl,"2"),eq(faultInst.code,"F0467"),gt(faultInst.severity,"minor"))`,
		`gt(l3extVirtualLIfP.modTs,"2000-01-01T00:00:00.000+01:00")`, `eq(bgpPeerEntry.operSt,"established")`,
	} {
		f.Add(s)
	}
	s := populated(f)
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

// populated is a fabric with something of most classes.
func populated(f *testing.F) *Sim {
	s := New(Options{Leafs: []int{101}, DeployDelay: -1})
	f.Cleanup(s.Close)
	if err := s.Seed([]byte(`[{"fvTenant":{"attributes":{"name":"T"},"children":[{"fvCtx":{"attributes":{"name":"V"}}},{"l3extOut":{"attributes":{"name":"O"},"children":[
		{"l3extInstP":{"attributes":{"name":"E"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"},"children":[{"tagAnnotation":{"attributes":{"key":"k","value":"v"}}}]}},
			{"faultDelegate":{"attributes":{"affected":"uni/epp/rtd-[x]/nwissues","code":"F0467","severity":"major"}}}]}},
		{"l3extLNodeP":{"attributes":{"name":"N"},"children":[{"l3extRsNodeL3OutAtt":{"attributes":{"tDn":"topology/pod-1/node-101"}}},
			{"l3extLIfP":{"attributes":{"name":"I"},"children":[{"l3extVirtualLIfP":{"attributes":{"nodeDn":"topology/pod-1/node-101","encap":"vlan-46"},"children":[{"bgpPeerP":{"attributes":{"addr":"10.9.0.0/24","password":"x"}}}]}}]}}]}}]}}]}},
		{"bgpPeerEntry":{"attributes":{"dn":"topology/pod-1/node-101/sys/bgp/inst/dom-T:V/peer-[10.9.0.0/24]/ent-[10.9.0.1]"}}}]`)); err != nil {
		f.Fatal(err)
	}
	return s
}

// FuzzQuery asks arbitrary things of arbitrary objects. The answer is an error or JSON that
// holds what it says, whatever pages it is cut into, and no password.
func FuzzQuery(f *testing.F) {
	for _, seed := range []struct{ class, dn, query string }{
		{"l3extInstP", "", "rsp-subtree=full&rsp-subtree-include=faults,required"},
		{"", "uni/tn-T", "rsp-subtree-include=faults,no-scoped,subtree&order-by=faultDelegate.severity|desc"},
		{"bgpPeerP", "uni/tn-T", "rsp-prop-include=config-only&rsp-subtree=children&rsp-subtree-class=bgpRsPeerPfxPol"},
		{"", "uni", "query-target=subtree&target-subtree-class=l3extSubnet,tagAnnotation&order-by=l3extSubnet.dn,tagAnnotation.dn|desc&page=0&page-size=1"},
		{"", "uni/tn-T/out-O", `query-target=children&query-target-filter=wcard(l3extInstP.dn,"E$")&rsp-subtree=full&rsp-subtree-filter=eq(l3extSubnet.scope,"import-security")`},
		{"topSystem", "topology/pod-1/node-101", "rsp-subtree=full&rsp-subtree-class=bgpPeerEntry"},
		{"fvTenant", "", "rsp-subtree-include=count&rsp-subtree=no"},
	} {
		f.Add(seed.class, seed.dn, seed.query)
	}
	s := populated(f)
	f.Fuzz(func(t *testing.T, class, dn, raw string) {
		params, err := parseParams(raw)
		if err != nil {
			return
		}
		at, err := parsePath(dn)
		if err != nil || (class != "" && schema[class] == nil) {
			return
		}
		q, err := newQuery(schema[class], at, params)
		if err != nil {
			return
		}
		found := q.run(s.fabric)
		b, total, err := q.encode(s.fabric, found, 1000)
		if err != nil {
			return
		}
		var answer []map[string]json.RawMessage
		if err := json.Unmarshal([]byte("["+string(b)+"]"), &answer); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		want := len(found)
		if q.count {
			want = 1
		} else if q.pageSize > 0 {
			want = max(0, min(q.pageSize, len(found)-min(len(found), q.page*q.pageSize)))
		}
		if len(answer) != want || (total != len(found) && !q.count) {
			t.Fatalf("%d objects of %d found, total %d; want %d", len(answer), len(found), total, want)
		}
		if strings.Contains(string(b), "password") {
			t.Fatalf("a password in %s", b)
		}
		for _, n := range found {
			if !q.noScoped && !q.matches(n) {
				t.Fatalf("%s is in the result, and no change of it would be told", n.dn)
			}
		}
	})
}
