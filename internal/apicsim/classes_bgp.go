package apicsim

import "slices"

// bgpClasses are what an L3Out says about BGP.
//
// Source: apic-rest.md 5.1, imdata_l3extLNodeP_full_subtree_bgpPeerP.json, which spells
// ConfigIssues so, and s:niwaki. The name of bgpExtP is what the tests of
// netascode/terraform-aci-l3out read back.
func bgpClasses() []*class {
	asn := between(1, 1<<32-1)
	name := conf("name", "", text(patternName, 0, 64))
	capability := flags("receive-add-path")
	capability.spelled = map[string]string{"none": ""}
	restart := between(1, 65535)
	restart.words, restart.spelled = []string{"infinite"}, map[string]string{"65535": "infinite"}
	return []*class{
		{
			name: "bgpExtP", label: "External Profile", form: "bgpExtP", parents: []string{"l3extOut"}, tagged: true,
			props: slices.Concat(shared(), []prop{ro("name", "bgp"), alias(), descr()}),
		},
		{
			name: "bgpPeerP", label: "Peer Connectivity Profile", form: "peerP-[{addr}]", tagged: true,
			parents: []string{"l3extLNodeP", "l3extRsPathL3OutAtt", "l3extVirtualLIfP"}, implicit: []string{"bgpRsPeerPfxPol"},
			props: slices.Concat(shared(), []prop{
				id("addr", rule{kind: rulePeer}), name, alias(), descr(),
				conf("addrTCtrl", "af-ucast", flags("af-label-ucast", "af-mcast", "af-ucast")),
				conf("adminSt", "enabled", word("enabled", "disabled")),
				conf("allowedSelfAsCnt", "3", between(1, 10)),
				conf("capability", "", capability),
				conf("connectivityType", "tenant", flags("multipod", "multisite", "tenant")),
				conf("ctrl", "", flags("allow-self-as", "as-override", "dis-peer-as-check", "nh-self",
					"segment-routing-disable", "send-com", "send-ext-com")),
				conf("ctrlExt", "", flags("send-domain-path")),
				conf("peerCtrl", "", flags("bfd", "dis-conn-check")),
				conf("privateASctrl", "", flags("remove-all", "remove-exclusive", "replace-as")),
				conf("ttl", "1", between(1, 255)), conf("weight", "0", between(0, 65535)),
				{name: "password", access: secret},
				ro("ConfigIssues", ""), ro("sessionT", "peer"),
			}),
		},
		{
			name: "bgpAsP", label: "Autonomous System Profile", form: "as", parents: []string{"bgpPeerP"}, tagged: true,
			props: slices.Concat(shared(), []prop{conf("asn", "0", asn), name, alias(), descr()}),
		},
		{
			name: "bgpLocalAsnP", label: "Local Autonomous System Profile", form: "localasn", parents: []string{"bgpPeerP"}, tagged: true,
			props: slices.Concat(shared(), []prop{
				conf("localAsn", "0", asn), conf("asnPropagate", "none", word("none", "no-prepend", "replace-as", "dual-as")),
				name, alias(), descr(),
			}),
		},
		{
			name: "bgpRsPeerPfxPol", label: "Peer Prefix Policy", form: "rspeerPfxPol", parents: []string{"bgpPeerP"}, fixed: true, tagged: true,
			props: slices.Concat(shared(), byName("bgpPeerPfxPol", conf("tnBgpPeerPfxPolName", "", text(patternName, 0, 64)))),
		},
		{
			// Its changes are not announced: the class is not observable. Source: s:niwaki.
			name: "bgpPeerPfxPol", label: "BGP Peer Prefix Policy", form: "bgpPfxP-{name}", parents: []string{"fvTenant"}, tagged: true, hidden: true,
			props: slices.Concat(shared(), owner(), named(), []prop{
				conf("action", "reject", word("reject", "log", "restart", "shut")),
				conf("maxPfx", "20000", between(1, 712000)), conf("restartTime", "infinite", restart), conf("thresh", "75", between(1, 100)),
			}),
		},
	}
}

// sessionClasses are what leafs tell about their BGP sessions. Nothing here makes them:
// see Sim.Seed.
//
// Source: apic-rest.md 5.2, imdata_bgpPeerEntry.json. unverified: the classes between and
// their attributes, and the words of operSt and prevOperSt.
func sessionClasses() []*class {
	some := func(props ...prop) []prop {
		return append([]prop{ro("lcOwn", "local"), ro("modTs", "never"), ro("monPolDn", "uni/fabric/monfab-default")}, props...)
	}
	peer := rule{kind: rulePeer}
	st := word("unspecified", "illegal", "shut", "idle", "connect", "active", "open-sent", "open-confirm", "established",
		"closing", "error", "unknown")
	return []*class{
		{name: "bgpEntity", form: "bgp", parents: []string{"topSystem"}, foreign: true, props: some(ro("name", ""))},
		{name: "bgpInst", form: "inst", parents: []string{"bgpEntity"}, foreign: true, props: some(ro("name", ""), ro("asn", "0"))},
		{
			name: "bgpDom", form: "dom-{name}", parents: []string{"bgpInst"}, foreign: true,
			props: some(id("name", text(patternName, 1, 129)), ro("rtrId", "0.0.0.0")),
		},
		{
			name: "bgpPeer", form: "peer-[{addr}]", parents: []string{"bgpDom"}, foreign: true,
			props: some(id("addr", peer), ro("name", ""), ro("asn", "0")),
		},
		{
			name: "bgpPeerEntry", form: "ent-[{addr}]", parents: []string{"bgpPeer"}, foreign: true,
			props: some(
				id("addr", rule{kind: ruleAddress}), ro("connAttempts", "0"), ro("fd", "4294967295"), ro("flags", "cap-neg,gr-enabled"),
				ro("holdIntvl", "180"), ro("kaIntvl", "60"), ro("lastFlapTs", "never"), ro("localIp", "0.0.0.0"), ro("localPort", "unspecified"),
				ro("name", ""), state("operSt", "idle", st), ro("passwdSet", "disabled"), ro("peerIdx", "1"), state("prevOperSt", "unspecified", st),
				ro("rcvCap", ""), ro("remotePort", "unspecified"), ro("rtrId", "0.0.0.0"), ro("shutStQual", "unspecified"),
				ro("stReason", "none"), state("type", "ebgp", word("ibgp", "ebgp")),
			),
		},
	}
}
