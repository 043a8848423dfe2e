package apicsim

import "slices"

// fabricClasses are the hardware and what it runs. unverified: what lies below topology.
func fabricClasses() []*class {
	list := []*class{
		{name: "fabricTopology", form: "topology", parents: []string{root}, foreign: true, props: bare()},
		{
			name: "fabricPod", form: "pod-{id}", parents: []string{"fabricTopology"}, foreign: true,
			props: slices.Concat(bare(), []prop{id("id", rule{})}),
		},
		{
			name: "fabricNode", form: "node-{id}", parents: []string{"fabricPod"}, foreign: true,
			props: slices.Concat(bare(), []prop{
				id("id", rule{}), ro("name", ""), ro("role", ""), ro("fabricSt", ""), ro("adSt", "on"),
				ro("model", ""), ro("serial", ""), ro("vendor", "Cisco Systems, Inc"), ro("version", ""),
			}),
		},
		{
			name: "topSystem", form: "sys", parents: []string{"fabricNode"}, foreign: true,
			props: slices.Concat(bare(), []prop{
				ro("id", ""), ro("name", ""), ro("role", ""), ro("podId", ""), ro("state", ""), ro("version", ""),
				ro("lastRebootTime", ""), ro("fabricDomain", ""),
			}),
		},
		{name: "firmwareCtrlrFwStatusCont", form: "ctrlrfwstatuscont", parents: []string{"topSystem"}, foreign: true, props: bare()},
		{
			name: "firmwareCtrlrRunning", form: "ctrlrrunning", parents: []string{"firmwareCtrlrFwStatusCont"}, foreign: true,
			props: slices.Concat(bare(), []prop{ro("version", ""), ro("type", "controller"), ro("mode", "normal")}),
		},
	}
	return append(list, faultClasses()...)
}

// faultClasses are faults, and what stands between a leaf and its faults.
// Source: faultInst_F0467_full_attributes.json, whose DN does not tell the classes.
func faultClasses() []*class {
	var list []*class
	for _, p := range []class{
		{name: "(local)", form: "local", parents: []string{"fabricNode"}},
		{name: "(element)", form: "svc-policyelem-id-0", parents: []string{"(local)"}},
		{name: "(uni)", form: "uni", parents: []string{"(element)"}},
		{name: "(epp)", form: "epp", parents: []string{"(uni)"}},
		{name: "(rtd)", form: "rtd-[{defDn}]", parents: []string{"(epp)"}, props: []prop{id("defDn", rule{})}},
		{name: "(issues)", form: "nwissues", parents: []string{"(rtd)"}},
	} {
		p.foreign, p.hidden, p.phantom = true, true, true
		list = append(list, &p)
	}
	return append(list, &class{
		name: "faultInst", form: "fault-{code}", parents: []string{"(issues)"}, foreign: true,
		props: []prop{
			id("code", text(`^F[0-9]+$`, 2, 8)), ro("ack", "no"), ro("annotation", ""), ro("cause", "configuration-failed"),
			ro("changeSet", ""), ro("created", ""), ro("delegated", "yes"), ro("descr", ""), ro("domain", "tenant"),
			ro("extMngdBy", "undefined"), ro("highestSeverity", "minor"), ro("lastTransition", ""), ro("lc", "soaking"),
			ro("modTs", "never"), ro("occur", "1"), ro("origSeverity", "minor"), ro("prevSeverity", "minor"),
			ro("rule", "fv-nw-issues-config-failed"), ro("severity", "minor"), ro("subject", "management"),
			ro("type", "config"), ro("uid", ""),
		},
	})
}
