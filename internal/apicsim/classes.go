package apicsim

import (
	"cmp"
	"slices"
	"strings"
)

// access says who sets a property.
type access uint8

const (
	config   access = iota // by whoever writes, at any time
	naming                 // at creation; part of the RN
	readOnly               // by the APIC
)

type prop struct {
	name   string
	access access
	def    string
	rule   rule
}

// slot is one attribute of the wire form: a stored property, or one that every object has
// and none stores.
type slot struct {
	virtual string // childAction, dn, rn, status; "" for a property
	prop    int
}

type class struct {
	name     string
	label    string // as in the text of error 103
	prefix   string // of the RN, all of it where there is no naming property
	naming   string // the naming property, "" for none
	brackets bool   // the RN holds the naming property in brackets
	parents  []string
	implicit []string // children that come into being with the object

	fixed   bool // made by the APIC with its parent: may be modified, never deleted
	foreign bool // made and deleted by the APIC alone
	hidden  bool // changes are not announced to subscriptions
	opaque  bool // a class of the real APIC that has no objects here
	phantom bool // there to carry the DNs of others; never shown

	props    []prop         // sorted by name
	index    map[string]int // name -> index in props
	wire     []slot         // sorted by name
	children []*class       // longest prefix first
	modTs    int            // index in props
}

// find returns the index of the property name, -1 where the class has none.
func (c *class) find(name string) int {
	if i, ok := c.index[name]; ok {
		return i
	}
	return -1
}

// hasAttribute reports whether objects of c show an attribute of that name.
func (c *class) hasAttribute(name string) bool {
	switch name {
	case "childAction", "dn", "rn", "status":
		return true
	}
	return c.opaque || c.find(name) >= 0
}

// child finds the class by name among those that c may contain.
func (c *class) child(name string) *class {
	for _, k := range c.children {
		if k.name == name {
			return k
		}
	}
	return nil
}

// rn makes the relative name of an object of c.
func (c *class) rn(value string) string {
	switch {
	case c.naming == "":
		return c.prefix
	case c.brackets:
		return c.prefix + "[" + value + "]"
	}
	return c.prefix + value
}

// match reads rn as an object of c: the value of its naming property, spelled as the APIC
// spells it. fits is false when rn is not of this class at all; valid when the value is
// one that the naming property takes.
func (c *class) match(rn string) (value string, fits, valid bool) {
	if c.naming == "" {
		return "", rn == c.prefix, true
	}
	v, ok := strings.CutPrefix(rn, c.prefix)
	if !ok {
		return "", false, false
	}
	if c.brackets {
		if len(v) < 2 || v[0] != '[' || v[len(v)-1] != ']' {
			return "", false, false
		}
		v = v[1 : len(v)-1]
	}
	canonical, code := c.props[c.find(c.naming)].rule.check(v)
	return canonical, true, code == 0
}

// root is the class above all others: the target of a POST to the bare /api/mo.json.
const root = "topRoot"

// schema is the class table; it does not change.
//
//nolint:gochecknoglobals // immutable
var schema = newSchema()

// newSchema builds the table. Attribute lists, defaults and patterns follow apic-rest.md 4
// and the captured payloads it names. unverified: attributes and RNs that neither shows,
// which is all of fvCtx but its name, scope and seg, vzAny, fvRtEctx, vzRtProv, vzRtCons,
// fvRsTenantMonPol, fvEpTags, vnsSvcCont, and the classes below topology.
func newSchema() map[string]*class {
	ro := func(name, def string) prop { return prop{name: name, access: readOnly, def: def} }
	conf := func(name, def string, r rule) prop { return prop{name: name, def: def, rule: r} }
	id := func(name string, r rule) prop { return prop{name: name, access: naming, rule: r} }
	yesNo := word("yes", "no")

	// What configurable objects share.
	object := []prop{
		conf("annotation", "", text(patternName, 0, 128)),
		conf("userdom", ":all:", text(patternName, 0, 1024)),
		ro("extMngdBy", ""), ro("lcOwn", "local"), ro("modTs", ""), ro("uid", "15374"),
		ro("monPolDn", "uni/tn-common/monepg-default"),
	}
	alias := conf("nameAlias", "", text(patternAlias, 0, 63))
	descr := conf("descr", "", text(patternDescr, 0, 128))
	owner := []prop{
		conf("ownerKey", "", text(patternOwnerMarks, 0, 128)),
		conf("ownerTag", "", text(patternOwnerMarks, 0, 64)),
	}
	name := id("name", text(patternName, 1, 64))
	dscpProp := conf("targetDscp", "unspecified", dscp())
	prio := conf("prio", "unspecified",
		word("unspecified", "level1", "level2", "level3", "level4", "level5", "level6"))
	matchT := conf("matchT", "AtleastOne", word("AtleastOne", "All", "AtmostOne", "None"))
	intent := conf("intent", "install", word("install", "estimate_add", "estimate_delete"))
	// A relation by name: written by name, read by tDn. Source: apic-rest.md 4.5 and
	// imdata_l3extOut_full_subtree.json.
	relation := func(target string) []prop {
		return []prop{
			ro("forceResolve", "yes"), ro("rType", "mo"), ro("state", "unformed"),
			ro("stateQual", "none"), ro("tCl", target), ro("tContextDn", ""), ro("tDn", ""),
			ro("tRn", ""), ro("tType", "name"),
		}
	}
	reverse := func(target string) []prop {
		return []prop{
			id("tDn", rule{}), ro("tCl", target), ro("lcOwn", "local"), ro("modTs", ""),
		}
	}
	contract := id("tnVzBrCPName", text(patternName, 1, 64))
	bare := []prop{ro("lcOwn", "local"), ro("modTs", ""), ro("uid", "0")}
	taggable := []string{
		"fvTenant", "fvCtx", "vzBrCP", "l3extOut", "l3extRsEctx", "l3extInstP", "l3extSubnet",
		"fvRsProv", "fvRsCons", "fvRsCustQosPol",
	}
	tag := []prop{
		ro("extMngdBy", ""), ro("lcOwn", "local"), ro("modTs", ""), ro("uid", "15374"),
		conf("userdom", ":all:", text(patternName, 0, 1024)),
	}

	list := []*class{
		{name: root},
		{name: "polUni", label: "Policy Universe", prefix: "uni", parents: []string{root}, fixed: true, props: bare},
		{
			name: "fvTenant", label: "Tenant", prefix: "tn-", naming: "name", parents: []string{"polUni"},
			implicit: []string{"fvRsTenantMonPol", "fvEpTags", "vnsSvcCont"},
			props:    slices.Concat(object, owner, []prop{name, alias, descr}),
		},
		{
			name: "fvRsTenantMonPol", label: "Monitoring Policy", prefix: "rsTenantMonPol", parents: []string{"fvTenant"}, fixed: true,
			props: slices.Concat(object, relation("monEPGPol"), []prop{conf("tnMonEPGPolName", "", text(patternName, 0, 64))}),
		},
		{name: "fvEpTags", label: "Endpoint Tags", prefix: "eptags", parents: []string{"fvTenant"}, fixed: true, props: bare},
		{name: "vnsSvcCont", label: "Service Container", prefix: "svcCont", parents: []string{"fvTenant"}, fixed: true, props: bare},
		{
			name: "fvCtx", label: "Private Network", prefix: "ctx-", naming: "name", parents: []string{"fvTenant"},
			implicit: []string{"vzAny"},
			props: slices.Concat(object, owner, []prop{
				name, alias, descr,
				conf("bdEnforcedEnable", "no", yesNo),
				conf("ipDataPlaneLearning", "enabled", word("enabled", "disabled")),
				conf("knwMcastAct", "permit", word("permit", "deny")),
				conf("pcEnfDir", "ingress", word("ingress", "egress")),
				conf("pcEnfPref", "enforced", word("enforced", "unenforced")),
				ro("pcEnfDirUpdated", "yes"), ro("pcTag", ""), ro("scope", ""), ro("seg", ""),
			}),
		},
		{
			name: "vzAny", label: "Any", prefix: "any", parents: []string{"fvCtx"}, fixed: true,
			props: slices.Concat(object, []prop{
				alias, descr, matchT, conf("prefGrMemb", "disabled", word("disabled", "enabled")), ro("pcTag", "any"),
			}),
		},
		{
			name: "fvRtEctx", label: "L3 Outside", prefix: "rtl3extEctx-", naming: "tDn", brackets: true,
			parents: []string{"fvCtx"}, foreign: true, props: reverse("l3extOut"),
		},
		{
			name: "vzBrCP", label: "Contract", prefix: "brc-", naming: "name", parents: []string{"fvTenant"},
			props: slices.Concat(object, owner, []prop{
				name, alias, descr, prio, dscpProp,
				intent,
				conf("scope", "context", word("context", "global", "tenant", "application-profile")),
				ro("configIssues", "filter-not-present"), ro("reevaluateAll", "no"),
			}),
		},
		{
			name: "vzRtProv", label: "Provider", prefix: "rtfvProv-", naming: "tDn", brackets: true,
			parents: []string{"vzBrCP"}, foreign: true, props: reverse("l3extInstP"),
		},
		{
			name: "vzRtCons", label: "Consumer", prefix: "rtfvCons-", naming: "tDn", brackets: true,
			parents: []string{"vzBrCP"}, foreign: true, props: reverse("l3extInstP"),
		},
		{
			name: "l3extOut", label: "L3 Outside", prefix: "out-", naming: "name", parents: []string{"fvTenant"},
			implicit: []string{"l3extRsEctx"},
			props: slices.Concat(object, owner, []prop{
				name, alias, descr, dscpProp,
				conf("enforceRtctrl", "export", flags("export", "import")),
				conf("mplsEnabled", "no", yesNo),
			}),
		},
		{
			name: "l3extRsEctx", label: "Private Network", prefix: "rsectx", parents: []string{"l3extOut"}, fixed: true,
			props: slices.Concat(object, relation("fvCtx"), []prop{conf("tnFvCtxName", "", text(patternName, 0, 64))}),
		},
		{
			name: "l3extInstP", label: "External Network Instance Profile", prefix: "instP-", naming: "name",
			parents: []string{"l3extOut"}, implicit: []string{"fvRsCustQosPol"},
			props: slices.Concat(object, []prop{
				name, alias, descr, matchT, prio, dscpProp,
				conf("exceptionTag", "", rule{kind: ruleNumber, max: 512}),
				conf("floodOnEncap", "disabled", word("disabled", "enabled")),
				conf("pcEnfPref", "unenforced", word("unenforced", "enforced")),
				conf("prefGrMemb", "exclude", word("exclude", "include")),
				ro("configIssues", ""), ro("configSt", "not-applied"), ro("isSharedSrvMsiteEPg", "no"),
				ro("mcast", "no"), ro("pcTag", ""), ro("pcTagAllocSrc", "idmanager"), ro("scope", "0"),
				ro("triggerSt", "triggerable"), ro("txId", "0"),
			}),
		},
		{
			name: "l3extSubnet", label: "Subnet", prefix: "extsubnet-", naming: "ip", brackets: true, parents: []string{"l3extInstP"},
			props: slices.Concat(object, []prop{
				id("ip", rule{kind: rulePrefix}), alias, descr,
				conf("name", "", text(patternName, 0, 64)),
				conf("scope", "import-security",
					flags("export-rtctrl", "import-rtctrl", "import-security", "shared-rtctrl", "shared-security")),
				conf("aggregate", "", flags("export-rtctrl", "import-rtctrl", "shared-rtctrl")),
			}),
		},
		{
			name: "fvRsProv", label: "Contract", prefix: "rsprov-", naming: "tnVzBrCPName", parents: []string{"l3extInstP"},
			props: slices.Concat(object, relation("vzBrCP"), []prop{contract, matchT, prio, intent}),
		},
		{
			name: "fvRsCons", label: "Contract", prefix: "rscons-", naming: "tnVzBrCPName", parents: []string{"l3extInstP"},
			props: slices.Concat(object, relation("vzBrCP"), []prop{contract, prio, intent}),
		},
		{
			name: "fvRsCustQosPol", label: "Custom QOS Policy", prefix: "rscustQosPol", parents: []string{"l3extInstP"}, fixed: true,
			props: slices.Concat(object, relation("qosCustomPol"), []prop{conf("tnQosCustomPolName", "", text(patternName, 0, 64))}),
		},
		{
			name: "tagAnnotation", label: "Annotation", prefix: "annotationKey-", naming: "key", brackets: true, parents: taggable, hidden: true,
			props: slices.Concat(tag, []prop{id("key", text(patternTagValue, 1, 128)), conf("value", "", text(patternTagValue, 1, 2048))}),
		},
		{
			name: "tagTag", label: "Tag", prefix: "tagKey-", naming: "key", parents: taggable, hidden: true,
			props: slices.Concat(tag, []prop{id("key", text(patternName, 1, 64)), conf("value", "", text(patternTagValue, 1, 2048))}),
		},
		{
			name: "tagInst", label: "Tag Instance", prefix: "tag-", naming: "name", parents: taggable,
			props: slices.Concat(tag, []prop{name}),
		},
		{name: "fabricTopology", prefix: "topology", parents: []string{root}, foreign: true, props: bare},
		{
			name: "fabricPod", prefix: "pod-", naming: "id", parents: []string{"fabricTopology"}, foreign: true,
			props: slices.Concat(bare, []prop{id("id", rule{})}),
		},
		{
			name: "fabricNode", prefix: "node-", naming: "id", parents: []string{"fabricPod"}, foreign: true,
			props: slices.Concat(bare, []prop{
				id("id", rule{}), ro("name", ""), ro("role", ""), ro("fabricSt", ""), ro("adSt", "on"),
				ro("model", ""), ro("serial", ""), ro("vendor", "Cisco Systems, Inc"), ro("version", ""),
			}),
		},
		{
			name: "topSystem", prefix: "sys", parents: []string{"fabricNode"}, foreign: true,
			props: slices.Concat(bare, []prop{
				ro("id", ""), ro("name", ""), ro("role", ""), ro("podId", ""), ro("state", ""), ro("version", ""),
				ro("lastRebootTime", ""), ro("fabricDomain", ""),
			}),
		},
		{name: "firmwareCtrlrFwStatusCont", prefix: "ctrlrfwstatuscont", parents: []string{"topSystem"}, foreign: true, props: bare},
		{
			name: "firmwareCtrlrRunning", prefix: "ctrlrrunning", parents: []string{"firmwareCtrlrFwStatusCont"}, foreign: true,
			props: slices.Concat(bare, []prop{ro("version", ""), ro("type", "controller"), ro("mode", "normal")}),
		},
	}
	// What stands between a leaf and its faults. Source: the DN in
	// faultInst_F0467_full_attributes.json, which does not tell the classes.
	for _, p := range []class{
		{name: "(local)", prefix: "local", parents: []string{"fabricNode"}},
		{name: "(element)", prefix: "svc-policyelem-id-0", parents: []string{"(local)"}},
		{name: "(uni)", prefix: "uni", parents: []string{"(element)"}},
		{name: "(epp)", prefix: "epp", parents: []string{"(uni)"}},
		{name: "(rtd)", prefix: "rtd-", naming: "defDn", brackets: true, parents: []string{"(epp)"}, props: []prop{id("defDn", rule{})}},
		{name: "(issues)", prefix: "nwissues", parents: []string{"(rtd)"}},
	} {
		p.foreign, p.hidden, p.phantom = true, true, true
		list = append(list, &p)
	}
	list = append(list, &class{
		name: "faultInst", prefix: "fault-", naming: "code", foreign: true,
		parents: []string{"(issues)", "(report)", "l3extOut", "l3extInstP", "fvRsProv", "fvRsCons"},
		props: []prop{
			id("code", text(`^F[0-9]+$`, 2, 8)), ro("ack", "no"), ro("annotation", ""), ro("cause", "configuration-failed"),
			ro("changeSet", ""), ro("created", ""), ro("delegated", "yes"), ro("descr", ""), ro("domain", "tenant"),
			ro("extMngdBy", "undefined"), ro("highestSeverity", "minor"), ro("lastTransition", ""), ro("lc", "soaking"),
			ro("modTs", "never"), ro("occur", "1"), ro("origSeverity", "minor"), ro("prevSeverity", "minor"),
			ro("rule", "fv-nw-issues-config-failed"), ro("severity", "minor"), ro("subject", "management"),
			ro("type", "config"), ro("uid", ""),
		},
	})
	for _, n := range opaqueClasses() {
		list = append(list, &class{name: n, opaque: true})
	}
	list = append(list, faultBearers()...)
	list = append(list, nodeClasses(object)...)
	return link(list)
}

// opaqueClasses are classes that exist on an APIC and never have objects here: queries
// for them succeed and are empty, writes are refused.
func opaqueClasses() []string {
	return []string{
		"bgpPeerEntry", "bgpPeerP", "faultDelegate", "faultRecord", "fvAEPg", "fvAp", "fvBD",
		"fvSubnet", "infraWiNode", "l3extIp", "l3extLIfP", "l3extMember", "l3extRsDynPathAtt",
		"l3extRsL3DomAtt", "l3extRsPathL3OutAtt", "l3extRsSubnetToProfile",
		"l3extRsSubnetToRtSumm", "l3extVirtualLIfP", "vzFilter", "vzSubj", "aaaModLR", "healthInst",
	}
}

func link(list []*class) map[string]*class {
	table := make(map[string]*class, len(list))
	for _, c := range list {
		table[c.name] = c
	}
	for _, c := range list {
		c.props = slices.Clone(c.props)
		slices.SortFunc(c.props, func(a, b prop) int { return cmp.Compare(a.name, b.name) })
		c.index = make(map[string]int, len(c.props))
		for _, v := range []string{"childAction", "dn", "rn", "status"} {
			c.wire = append(c.wire, slot{virtual: v})
		}
		for i, p := range c.props {
			c.index[p.name] = i
			c.wire = append(c.wire, slot{prop: i})
		}
		slices.SortFunc(c.wire, func(a, b slot) int { return cmp.Compare(c.slotName(a), c.slotName(b)) })
		c.modTs = c.find("modTs")
		for _, p := range c.parents {
			table[p].children = append(table[p].children, c)
		}
	}
	for _, c := range list {
		slices.SortStableFunc(c.children, func(a, b *class) int { return len(b.prefix) - len(a.prefix) })
	}
	return table
}

func (c *class) slotName(s slot) string {
	if s.virtual != "" {
		return s.virtual
	}
	return c.props[s.prop].name
}
