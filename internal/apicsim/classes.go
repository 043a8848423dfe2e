package apicsim

import "slices"

// root is the class above all others: the target of a POST to the bare /api/mo.json.
const root = "topRoot"

// schema is the class table; it does not change.
//
//nolint:gochecknoglobals // immutable
var schema = newSchema()

// newSchema builds the table. Attribute lists, defaults and patterns follow apic-rest.md 4
// and 5 and the captured payloads it names. unverified: attributes and RNs that neither shows.
func newSchema() map[string]*class {
	list := slices.Concat(policyClasses(), l3outClasses(), nodeClasses(), bgpClasses(), fabricClasses(), sessionClasses(), userClasses())
	for _, n := range opaqueClasses() {
		list = append(list, &class{name: n, opaque: true})
	}
	return link(list)
}

// opaqueClasses are classes that exist on an APIC and never have objects here: queries
// for them succeed and are empty, writes are refused.
func opaqueClasses() []string {
	return []string{
		"aaaModLR", "bgpRsPeerToProfile", "faultRecord", "fvAEPg",
		"fvAp", "fvBD", "fvSubnet", "healthInst", "infraRsVlanNs", "ipRouteP", "l3extRsSubnetToProfile",
		"l3extRsSubnetToRtSumm", "ospfExtP", "ospfIfP", "physDomP", "rtctrlProfile", "vzFilter", "vzSubj",
	}
}

// ro is a property that the APIC sets.
func ro(name, def string) prop { return prop{name: name, access: readOnly, def: def} }

// state is a property that the APIC sets, of which the values are known.
func state(name, def string, r rule) prop {
	return prop{name: name, access: readOnly, def: def, rule: r}
}

// conf is a property that whoever writes sets.
func conf(name, def string, r rule) prop { return prop{name: name, def: def, rule: r} }

// id is a naming property.
func id(name string, r rule) prop { return prop{name: name, access: naming, rule: r} }

// shared is what configurable objects share.
func shared() []prop {
	return []prop{
		conf("annotation", "", text(patternName, 0, 128)),
		conf("userdom", ":all:", text(patternName, 0, 1024)),
		ro("extMngdBy", ""), ro("lcOwn", "local"), ro("modTs", ""), ro("uid", "15374"),
		ro("monPolDn", "uni/tn-common/monepg-default"),
	}
}

// bare is what objects share that nobody configures.
func bare() []prop { return []prop{ro("lcOwn", "local"), ro("modTs", ""), ro("uid", "0")} }

func alias() prop { return conf("nameAlias", "", text(patternAlias, 0, 63)) }

func descr() prop { return conf("descr", "", text(patternDescr, 0, 128)) }

// named is what objects have that are named by their name.
func named() []prop { return []prop{id("name", text(patternName, 1, 64)), alias(), descr()} }

func owner() []prop {
	return []prop{
		conf("ownerKey", "", text(patternOwnerMarks, 0, 128)),
		conf("ownerTag", "", text(patternOwnerMarks, 0, 64)),
	}
}

func dscpProp() prop { return conf("targetDscp", "unspecified", dscp()) }

func prio() prop {
	return conf("prio", "unspecified",
		word("unspecified", "level1", "level2", "level3", "level4", "level5", "level6"))
}

func matchT() prop {
	return conf("matchT", "AtleastOne", word("AtleastOne", "All", "AtmostOne", "None"))
}

func intent() prop {
	return conf("intent", "install", word("install", "estimate_add", "estimate_delete"))
}

// byName is a relation by name: written by name, read by tDn. Source: apic-rest.md 4.5 and
// imdata_l3extOut_full_subtree.json.
func byName(target string, name prop) []prop {
	return []prop{
		ro("forceResolve", "yes"), ro("rType", "mo"), ro("state", "unformed"),
		ro("stateQual", "none"), ro("tCl", target), ro("tContextDn", ""), ro("tDn", ""),
		ro("tRn", ""), ro("tType", "name"), name,
	}
}

// reverse is what the targets of relations have for children.
func reverse(source string) []prop {
	return []prop{id("tDn", rule{}), ro("tCl", source), ro("lcOwn", "local"), ro("modTs", "")}
}
