package apicsim

import "slices"

// l3outClasses are L3Outs and their external EPGs.
func l3outClasses() []*class {
	contract := id("tnVzBrCPName", text(patternName, 1, 64))
	return []*class{
		{
			name: "l3extOut", label: "L3 Outside", form: "out-{name}", parents: []string{"fvTenant"}, tagged: true,
			implicit: []string{"l3extRsEctx"},
			props: slices.Concat(shared(), owner(), named(), []prop{
				dscpProp(),
				conf("enforceRtctrl", "export", flags("export", "import")),
				conf("mplsEnabled", "no", yesNo()),
			}),
		},
		{
			name: "l3extRsEctx", label: "Private Network", form: "rsectx", parents: []string{"l3extOut"}, fixed: true, tagged: true,
			props: slices.Concat(shared(), byName("fvCtx", conf("tnFvCtxName", "", text(patternName, 0, 64)))),
		},
		{
			name: "l3extInstP", label: "External Network Instance Profile", form: "instP-{name}",
			parents: []string{"l3extOut"}, tagged: true, implicit: []string{"fvRsCustQosPol"},
			props: slices.Concat(shared(), named(), []prop{
				matchT(), prio(), dscpProp(),
				conf("exceptionTag", "", rule{kind: ruleNumber, max: 512, words: []string{""}}),
				conf("floodOnEncap", "disabled", word("disabled", "enabled")),
				conf("pcEnfPref", "unenforced", word("unenforced", "enforced")),
				conf("prefGrMemb", "exclude", word("exclude", "include")),
				ro("configIssues", ""), ro("configSt", "not-applied"), ro("isSharedSrvMsiteEPg", "no"),
				ro("mcast", "no"), ro("pcTag", ""), ro("pcTagAllocSrc", "idmanager"), ro("scope", "0"),
				ro("triggerSt", "triggerable"), ro("txId", "0"),
			}),
		},
		{
			name: "l3extSubnet", label: "Subnet", form: "extsubnet-[{ip}]", parents: []string{"l3extInstP"}, tagged: true,
			props: slices.Concat(shared(), []prop{
				id("ip", rule{kind: rulePrefix}), alias(), descr(),
				conf("name", "", text(patternName, 0, 64)),
				conf("scope", "import-security",
					flags("export-rtctrl", "import-rtctrl", "import-security", "shared-rtctrl", "shared-security")),
				conf("aggregate", "", flags("export-rtctrl", "import-rtctrl", "shared-rtctrl")),
			}),
		},
		{
			name: "fvRsProv", label: "Contract", form: "rsprov-{tnVzBrCPName}", parents: []string{"l3extInstP"}, tagged: true,
			props: slices.Concat(shared(), byName("vzBrCP", contract), []prop{matchT(), prio(), intent()}),
		},
		{
			name: "fvRsCons", label: "Contract", form: "rscons-{tnVzBrCPName}", parents: []string{"l3extInstP"}, tagged: true,
			props: slices.Concat(shared(), byName("vzBrCP", contract), []prop{prio(), intent()}),
		},
		{
			name: "fvRsCustQosPol", label: "Custom QOS Policy", form: "rscustQosPol", parents: []string{"l3extInstP"}, fixed: true, tagged: true,
			props: slices.Concat(shared(), byName("qosCustomPol", conf("tnQosCustomPolName", "", text(patternName, 0, 64)))),
		},
	}
}
