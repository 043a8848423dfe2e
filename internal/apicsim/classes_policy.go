package apicsim

import "slices"

// policyClasses are tenants with their VRFs and contracts, and the tags of all objects.
//
// unverified: all of fvCtx but its name, scope and seg, vzAny, fvRtEctx, vzRtProv,
// vzRtCons, fvRsTenantMonPol, fvEpTags, vnsSvcCont.
func policyClasses() []*class {
	tag := []prop{
		ro("extMngdBy", ""), ro("lcOwn", "local"), ro("modTs", ""), ro("uid", "15374"),
		conf("userdom", ":all:", text(patternName, 0, 1024)),
	}
	return []*class{
		{name: root},
		{name: "polUni", label: "Policy Universe", form: "uni", parents: []string{root}, fixed: true, props: bare()},
		{
			name: "fvTenant", label: "Tenant", form: "tn-{name}", parents: []string{"polUni"}, tagged: true,
			implicit: []string{"fvRsTenantMonPol", "fvEpTags", "vnsSvcCont"},
			props:    slices.Concat(shared(), owner(), named()),
		},
		{
			name: "fvRsTenantMonPol", label: "Monitoring Policy", form: "rsTenantMonPol", parents: []string{"fvTenant"}, fixed: true,
			props: slices.Concat(shared(), byName("monEPGPol", conf("tnMonEPGPolName", "", text(patternName, 0, 64)))),
		},
		{name: "fvEpTags", label: "Endpoint Tags", form: "eptags", parents: []string{"fvTenant"}, fixed: true, props: bare()},
		{name: "vnsSvcCont", label: "Service Container", form: "svcCont", parents: []string{"fvTenant"}, fixed: true, props: bare()},
		{
			name: "fvCtx", label: "Private Network", form: "ctx-{name}", parents: []string{"fvTenant"}, tagged: true,
			implicit: []string{"vzAny"},
			props: slices.Concat(shared(), owner(), named(), []prop{
				conf("bdEnforcedEnable", "no", yesNo()),
				conf("ipDataPlaneLearning", "enabled", word("enabled", "disabled")),
				conf("knwMcastAct", "permit", word("permit", "deny")),
				conf("pcEnfDir", "ingress", word("ingress", "egress")),
				conf("pcEnfPref", "enforced", word("enforced", "unenforced")),
				ro("pcEnfDirUpdated", "yes"), ro("pcTag", ""), ro("scope", ""), ro("seg", ""),
			}),
		},
		{
			name: "vzAny", label: "Any", form: "any", parents: []string{"fvCtx"}, fixed: true,
			props: slices.Concat(shared(), []prop{
				alias(), descr(), matchT(), conf("prefGrMemb", "disabled", word("disabled", "enabled")), ro("pcTag", "any"),
			}),
		},
		{
			name: "fvRtEctx", label: "L3 Outside", form: "rtl3extEctx-[{tDn}]",
			parents: []string{"fvCtx"}, foreign: true, props: reverse("l3extOut"),
		},
		{
			name: "vzBrCP", label: "Contract", form: "brc-{name}", parents: []string{"fvTenant"}, tagged: true,
			props: slices.Concat(shared(), owner(), named(), []prop{
				prio(), dscpProp(), intent(),
				conf("scope", "context", word("context", "global", "tenant", "application-profile")),
				ro("configIssues", "filter-not-present"), ro("reevaluateAll", "no"),
			}),
		},
		{
			name: "vzRtProv", label: "Provider", form: "rtfvProv-[{tDn}]",
			parents: []string{"vzBrCP"}, foreign: true, props: reverse("l3extInstP"),
		},
		{
			name: "vzRtCons", label: "Consumer", form: "rtfvCons-[{tDn}]",
			parents: []string{"vzBrCP"}, foreign: true, props: reverse("l3extInstP"),
		},
		{
			name: "tagAnnotation", label: "Annotation", form: "annotationKey-[{key}]", hidden: true,
			props: slices.Concat(tag, []prop{id("key", text(patternTagValue, 1, 128)), conf("value", "", text(patternTagValue, 1, 2048))}),
		},
		{
			name: "tagTag", label: "Tag", form: "tagKey-{key}", hidden: true,
			props: slices.Concat(tag, []prop{id("key", text(patternName, 1, 64)), conf("value", "", text(patternTagValue, 1, 2048))}),
		},
		{
			name: "tagInst", label: "Tag Instance", form: "tag-{name}",
			props: slices.Concat(tag, []prop{id("name", text(patternName, 1, 64))}),
		},
	}
}
