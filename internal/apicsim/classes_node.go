package apicsim

import "slices"

// nodeClasses are the node and interface profiles of L3Outs.
//
// Source: apic-rest.md 5.1, the captures imdata_l3ext*.json and gui_posts_l3out.json, and
// s:niwaki and s:tf for patterns and defaults of what these do not show. unverified:
// that a relation whose target is named by DN stays unformed, as all captured ones are.
func nodeClasses() []*class {
	enabled := word("disabled", "enabled")
	// Writable on profiles and nodes: Terraform sends it. Source: aci/resource_aci_l3extlnodep.go of s:tf.
	issues := flags(
		"access-encap-bd-map-conflict", "access-encap-node-overlap", "anchor-encap-mismatch", "anchor-node-mismatch",
		"bd-profile-mismatch", "loopback-ip-missing", "missing-mpls-infra-l3out", "missing-rs-export-route-profile",
		"mtu-mac-mismatch", "node-path-misconfig", "node-vlif-misconfig",
		"routerid-not-changable-with-mcast", //nolint:misspell // as the APIC spells it
		"rtsumsubnet-l3extsubnet-conflict", "subnet-mismatch")
	issues.spelled = map[string]string{"none": ""}
	// What an interface is, on a port or anchored on a node.
	instance := []prop{
		conf("addr", "0.0.0.0", rule{kind: ruleInterface}),
		conf("autostate", "disabled", enabled), descr(),
		conf("encapScope", "local", word("local", "ctx")),
		conf("ifInstT", "ext-svi", word("ext-svi", "l3-port", "sub-interface", "unspecified")),
		conf("ipv6Dad", "enabled", enabled),
		conf("llAddr", "::", rule{kind: ruleAddress}),
		conf("mac", "00:22:BD:F8:19:FF", rule{kind: ruleMAC}),
		conf("mode", "regular", word("regular", "native", "untagged")),
		conf("mtu", "inherit", mtu()), dscpProp(), ro("configIssues", ""),
	}
	name := conf("name", "", text(patternName, 0, 64))
	mode := word("Disabled", "Enabled")
	interfaces := []string{"l3extRsPathL3OutAtt", "l3extVirtualLIfP"}
	return []*class{
		{
			name: "l3extLNodeP", label: "Logical Node Profile", form: "lnodep-{name}", parents: []string{"l3extOut"}, tagged: true,
			props: slices.Concat(shared(), owner(), named(), []prop{conf("tag", "yellow-green", color()), dscpProp(), conf("configIssues", "", issues)}),
		},
		{
			name: "l3extRsNodeL3OutAtt", label: "Fabric Node", form: "rsnodeL3OutAtt-[{tDn}]", parents: []string{"l3extLNodeP"}, tagged: true,
			props: slices.Concat(shared(), byDN("fabricNode", id("tDn", nodeDN())), []prop{
				conf("rtrId", "0.0.0.0", rule{kind: ruleRouterID}), conf("rtrIdLoopBack", "yes", yesNo()), conf("configIssues", "", issues),
			}),
		},
		{
			name: "l3extLoopBackIfP", label: "Loop Back Interface Profile", form: "lbp-[{addr}]", parents: []string{"l3extRsNodeL3OutAtt"}, tagged: true,
			props: slices.Concat(shared(), []prop{id("addr", rule{kind: rulePeer}), name, alias(), descr()}),
		},
		{
			name: "l3extInfraNodeP", label: "Infra Logical Node Profile", form: "infranodep", parents: []string{"l3extRsNodeL3OutAtt"}, tagged: true,
			props: slices.Concat(shared(), []prop{
				name, alias(), descr(), conf("fabricExtCtrlPeering", "yes", yesNo()), conf("fabricExtIntersiteCtrlPeering", "no", yesNo()),
				conf("spineRole", "", flags("inter-pod", "msite-forwarder", "msite-speaker", "unspecified", "wan")),
			}),
		},
		{
			name: "l3extLIfP", label: "Logical Interface Profile", form: "lifp-{name}", parents: []string{"l3extLNodeP"}, tagged: true,
			props: slices.Concat(shared(), owner(), named(), []prop{
				conf("tag", "yellow-green", color()), prio(), ro("addr", "0.0.0.0"), ro("encap", "unknown"),
			}),
		},
		{
			name: "l3extRsPathL3OutAtt", label: "Leaf Port", form: "rspathL3OutAtt-[{tDn}]", parents: []string{"l3extLIfP"}, tagged: true,
			props: slices.Concat(shared(), byDN("fabricPathEp", id("tDn", pathDN())), instance, []prop{
				conf("encap", "unknown", encap()), conf("isMultiPodDirect", "no", yesNo()),
			}),
		},
		{
			name: "l3extVirtualLIfP", label: "Logical Interface Profile", form: "vlifp-[{nodeDn}]-[{encap}]", parents: []string{"l3extLIfP"}, tagged: true,
			props: slices.Concat(shared(), instance, []prop{
				id("nodeDn", nodeDN()), id("encap", encap()), conf("name", "", text("", 0, 512)),
			}),
		},
		{
			name: "l3extRsDynPathAtt", label: "Floating Path Attributes", form: "rsdynPathAtt-[{tDn}]", parents: []string{"l3extVirtualLIfP"}, tagged: true,
			props: slices.Concat(shared(), byDN("infraDomP", id("tDn", domainDN())), []prop{
				conf("encap", "unknown", encap()), conf("floatingAddr", "0.0.0.0", rule{kind: ruleInterface}),
				conf("forgedTransmit", "Disabled", mode), conf("macChange", "Disabled", mode), conf("promMode", "Disabled", mode),
				ro("configIssues", ""),
			}),
		},
		{
			name: "l3extMember", label: "Member Node Configuration", form: "mem-{side}", parents: interfaces, tagged: true,
			props: slices.Concat(shared(), []prop{
				id("side", word("A", "B")), name, alias(), descr(), conf("addr", "0.0.0.0", rule{kind: ruleInterface}),
				conf("ipv6Dad", "enabled", enabled), conf("llAddr", "::", rule{kind: ruleAddress}),
			}),
		},
		{
			name: "l3extIp", label: "Secondary IP address", form: "addr-[{addr}]", tagged: true,
			parents: append(interfaces, "l3extMember", "l3extRsDynPathAtt"),
			props: slices.Concat(shared(), []prop{
				id("addr", rule{kind: rulePrefix}), name, alias(), descr(), conf("ipv6Dad", "enabled", enabled),
			}),
		},
		{
			name: "l3extRsL3DomAtt", label: "Domain Profile", form: "rsl3DomAtt", parents: []string{"l3extOut"}, tagged: true,
			props: slices.Concat(shared(), byDN("extnwDomP", conf("tDn", "", domainDN()))),
		},
		{
			name: "l3extDomP", label: "L3 Domain Profile", form: "l3dom-{name}", parents: []string{"polUni"}, tagged: true,
			props: slices.Concat(shared(), owner(), []prop{id("name", text(patternName, 1, 64)), alias(), ro("configIssues", "")}),
		},
	}
}

// byDN is a relation whose target is named by its DN.
func byDN(target string, dn prop) []prop {
	return []prop{
		ro("forceResolve", "yes"), ro("rType", "mo"), ro("state", "unformed"), ro("stateQual", "none"),
		ro("tCl", target), ro("tType", "mo"), dn,
	}
}
