package apicsim

import (
	"regexp"
	"slices"
)

// fabricClasses are the hardware and what it runs.
//
// Source: tests/checks of s:preup: ntp_status_check/fabricNode.json,
// mini_aci_6_0_2_check/topSystem_controller_neg.json, apic_version_md5_check/infraWiNode_apic1.json.
// unverified: the attributes of the firmware classes, and the classes between. topSystem
// lacks the clocks that a real one has (currentTime, systemUpTime, clusterTimeDiff).
func fabricClasses() []*class {
	nodeID := between(1, 16000)
	monitored := []prop{ro("monPolDn", "uni/fabric/monfab-default")}
	list := []*class{
		{name: "fabricTopology", form: "topology", parents: []string{root}, foreign: true, props: bare()},
		{
			name: "fabricPod", form: "pod-{id}", parents: []string{"fabricTopology"}, foreign: true,
			props: slices.Concat(bare(), []prop{id("id", nodeID)}),
		},
		{
			name: "fabricNode", form: "node-{id}", parents: []string{"fabricPod"}, foreign: true,
			props: slices.Concat(bare(), monitored, []prop{
				id("id", nodeID), ro("adSt", "on"), ro("address", ""), ro("annotation", ""), ro("apicType", "apic"),
				ro("delayedHeartbeat", "no"), ro("extMngdBy", ""), ro("fabricSt", ""), ro("lastStateModTs", ""), ro("model", ""),
				ro("name", ""), ro("nameAlias", ""), ro("nodeType", "unspecified"), ro("role", ""), ro("serial", ""),
				ro("userdom", "all"), ro("vendor", "Cisco Systems, Inc"), ro("version", ""),
			}),
		},
		{
			name: "topSystem", form: "sys", parents: []string{"fabricNode"}, foreign: true,
			props: slices.Concat(monitored, []prop{
				ro("address", ""), ro("bootstrapState", "none"), ro("configIssues", ""), ro("controlPlaneMTU", "1500"),
				ro("enforceSubnetCheck", "no"), ro("etepAddr", "0.0.0.0"), ro("fabricDomain", "apic-sim"), ro("fabricId", "1"),
				ro("fabricMAC", "00:22:BD:F8:19:FF"), ro("id", ""), ro("inbMgmtAddr", "0.0.0.0"), ro("inbMgmtAddr6", "::"),
				ro("inbMgmtAddr6Mask", "0"), ro("inbMgmtAddrMask", "0"), ro("inbMgmtGateway", "0.0.0.0"), ro("inbMgmtGateway6", "::"),
				ro("lastRebootTime", ""), ro("lastResetReason", "unknown"), ro("lcOwn", "local"), ro("modTs", ""),
				ro("mode", "unspecified"), ro("name", ""), ro("nameAlias", ""), ro("nodeType", "unspecified"),
				ro("oobMgmtAddr", "0.0.0.0"), ro("oobMgmtAddr6", "::"), ro("oobMgmtAddr6Mask", "0"), ro("oobMgmtAddrMask", "0"),
				ro("oobMgmtGateway", "0.0.0.0"), ro("oobMgmtGateway6", "::"), ro("podId", ""), ro("remoteNetworkId", "0"),
				ro("remoteNode", "no"), ro("rlOperPodId", "0"), ro("rlRoutableMode", "no"), ro("rldirectMode", "no"), ro("role", ""),
				ro("serial", ""), ro("serverType", "unspecified"), ro("siteId", "0"), ro("state", "in-service"), ro("tepPool", "0.0.0.0"),
				ro("unicastXrEpLearnDisable", "no"), ro("version", ""), ro("virtualMode", "no"),
			}),
		},
		{name: "firmwareCtrlrFwStatusCont", form: "ctrlrfwstatuscont", parents: []string{"topSystem"}, foreign: true, props: bare()},
		{
			name: "firmwareCtrlrRunning", form: "ctrlrrunning", parents: []string{"firmwareCtrlrFwStatusCont"}, foreign: true,
			props: slices.Concat(bare(), []prop{ro("version", ""), ro("type", "controller"), ro("mode", "normal")}),
		},
		{name: "firmwareFwStatusCont", form: "fwstatuscont", parents: []string{"topSystem"}, foreign: true, props: bare()},
		{
			name: "firmwareRunning", form: "running", parents: []string{"firmwareFwStatusCont"}, foreign: true,
			props: slices.Concat(bare(), []prop{ro("version", ""), ro("peVer", ""), ro("type", "switch"), ro("mode", "normal")}),
		},
		{name: "infraCont", form: "av", parents: []string{"fabricNode"}, foreign: true, props: bare()},
		{
			name: "infraWiNode", form: "node-{id}", parents: []string{"infraCont"}, foreign: true,
			props: slices.Concat(bare(), []prop{
				id("id", nodeID), ro("addr", ""), ro("adminSt", "in-service"), ro("apicMode", "active"), ro("cntrlSbstState", "approved"),
				ro("failoverStatus", "idle"), ro("health", "fully-fit"), ro("mbSn", ""), ro("name", ""), ro("nodeName", ""),
				ro("operSt", "available"), ro("podId", "1"), ro("targetMbSn", ""),
			}),
		},
	}
	return append(list, faultClasses()...)
}

// faultClasses are faults, and what stands between a leaf and its faults: those about an external
// EPG, and those about all that the leaf programs (F3544, F3545).
// Source: faultInst_F0467_full_attributes.json, and docs/docs/validations.md of s:preup, "HW
// Programming Failure"; the DNs there do not tell the classes.
func faultClasses() []*class {
	var list []*class
	for _, p := range []class{
		{name: "(local)", form: "local", parents: []string{"fabricNode"}},
		{name: "(element)", form: "svc-policyelem-id-0", parents: []string{"(local)"}},
		{name: "(uni)", form: "uni", parents: []string{"(element)"}},
		{name: "(epp)", form: "epp", parents: []string{"(uni)"}},
		{name: "(rtd)", form: "rtd-[{defDn}]", parents: []string{"(epp)"}, props: []prop{id("defDn", rule{})}},
		{name: "(issues)", form: "nwissues", parents: []string{"(rtd)"}},
		{name: "(actrl)", form: "actrl", parents: []string{"topSystem"}},
		{name: "(report)", form: "dbgStatsReport", parents: []string{"(actrl)"}},
	} {
		p.foreign, p.hidden, p.phantom = true, true, true
		list = append(list, &p)
	}
	severity := word("cleared", "info", "warning", "minor", "major", "critical")
	severity.ordered = true
	life := word("soaking", "soaking-clearing", "raised", "raised-clearing", "retaining", "suppressed")
	// unverified: which codes there are. F999999 is known not to be one. Source: apic-rest.md 2.3.
	code := rule{kind: ruleWord, pattern: regexp.MustCompile(`^F([0-9]{4}|[16][0-9]{5})$`)}
	fault := []prop{
		id("code", code), state("ack", "no", yesNo()), ro("cause", "configuration-failed"), ro("changeSet", ""), ro("created", ""),
		ro("descr", ""), ro("domain", "tenant"), state("highestSeverity", "minor", severity), ro("lastTransition", ""),
		state("lc", "soaking", life), ro("modTs", "never"), ro("occur", "1"), state("origSeverity", "minor", severity),
		state("prevSeverity", "minor", severity), ro("rule", "fv-nw-issues-config-failed"), state("severity", "minor", severity),
		ro("subject", "management"), ro("type", "config"),
	}
	return append(list, &class{
		name: "faultInst", form: "fault-{code}", parents: []string{"(issues)", "(report)", "l3extInstP"}, foreign: true, fault: true,
		props: slices.Concat(fault, []prop{ro("annotation", ""), state("delegated", "yes", yesNo()), ro("extMngdBy", "undefined"), ro("uid", "")}),
	}, &class{
		// Source: docs/docs/validations.md of s:preup, "L2/L3 Port Config".
		name: "faultDelegate", form: "fd-[{affected}]-fault-{code}", parents: []string{"l3extInstP"}, foreign: true, fault: true,
		props: slices.Concat(fault, []prop{id("affected", rule{})}),
	})
}
