package apicsim

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule says which values a property takes and how they read back. The zero rule takes
// everything.
type rule struct {
	kind     ruleKind
	pattern  *regexp.Regexp    // text: applies to values that are not empty; word: what it takes beside words
	min, max int               // text: characters; number: bounds. max 0 is no bound
	words    []string          // word, flags; number: what it takes beside numbers
	spelled  map[string]string // word, flags, number: values that read back as another
	code     int               // text: of the refusal, where it is not 801
	ordered  bool              // word: words are in their order
}

type ruleKind uint8

const (
	ruleText      ruleKind = iota
	ruleWord               // one of words
	ruleFlags              // a set of words: comma separated, read back sorted
	ruleNumber             // a whole number, or one of words
	ruleMAC                // a hardware address
	rulePrefix             // an IP address with a mask
	ruleInterface          // the same, or 0.0.0.0 or :: for none
	ruleAddress            // an IP address without a mask
	ruleRouterID           // an IPv4 address without a mask
	rulePeer               // an IP address with or without a mask
)

// check returns the value as the APIC would read it back, and 0 or the error code that
// refuses it: 801 for text that does not match, 120 for values outside an enumeration or
// a range. Source: apic-rest.md 3.3 and 4.2.
func (r *rule) check(v string) (string, int) {
	if w, ok := r.spelled[v]; ok {
		return w, 0
	}
	switch r.kind {
	case ruleWord:
		if !slices.Contains(r.words, v) && (r.pattern == nil || !r.pattern.MatchString(v)) {
			return "", 120
		}
		return v, 0
	case ruleFlags:
		return r.checkFlags(v)
	case ruleNumber:
		if slices.Contains(r.words, v) {
			return v, 0
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < r.min || n > r.max {
			return "", 120
		}
		return strconv.Itoa(n), 0
	case ruleMAC:
		return checkMAC(v)
	case rulePrefix, ruleInterface, ruleAddress, ruleRouterID, rulePeer:
		return r.kind.checkIP(v)
	case ruleText:
	}
	if n := len([]rune(v)); n < r.min || (r.max > 0 && n > r.max) || (v != "" && r.pattern != nil && !r.pattern.MatchString(v)) {
		return "", cmp.Or(r.code, 801)
	}
	return v, 0
}

// checkFlags sorts the flags, as two independent live tests saw them read back, and drops
// spaces and duplicates. Source: apic-rest.md 4.2.
func (r *rule) checkFlags(v string) (string, int) {
	var flags []string
	for f := range strings.SplitSeq(v, ",") {
		f = strings.TrimSpace(f)
		if f == "" && strings.TrimSpace(v) == "" {
			continue
		}
		if !slices.Contains(r.words, f) {
			return "", 120
		}
		flags = append(flags, f)
	}
	slices.Sort(flags)
	return strings.Join(slices.Compact(flags), ","), 0
}

// checkIP keeps host bits and spells IPv6 as RFC 5952 does.
//
// Source: apic-rest.md 4.2 (host bits LIVE) and 5.1. unverified: the IPv6 spelling (known of
// fvSubnet), spaces, and that what should have a mask is refused without.
func (k ruleKind) checkIP(v string) (string, int) {
	if p, err := netip.ParsePrefix(v); err == nil {
		if k == ruleAddress || k == ruleRouterID {
			return "", 120
		}
		return p.Addr().String() + "/" + strconv.Itoa(p.Bits()), 0
	}
	a, err := netip.ParseAddr(v)
	switch {
	case err != nil || a.Zone() != "" || k == rulePrefix,
		k == ruleInterface && !a.IsUnspecified(),
		k == ruleRouterID && !a.Is4():
		return "", 120
	}
	return a.String(), 0
}

// checkMAC spells a hardware address as captures do. Source: imdata_l3extVirtualLIfP.json and
// the pattern of s:niwaki. unverified: that lower case and dashes read back so.
func checkMAC(v string) (string, int) {
	if !macPattern.MatchString(v) {
		return "", 801
	}
	return strings.ToUpper(strings.ReplaceAll(v, "-", ":")), 0
}

var macPattern = regexp.MustCompile(`^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$`)

// Patterns of text properties. Source: apic-rest.md 4.1 and 4.4.
const (
	patternName       = `^[a-zA-Z0-9_.:-]+$`
	patternAlias      = `^[a-zA-Z0-9_.-]+$`
	patternDescr      = `^[a-zA-Z0-9\\!#$%()*,\-./:;@ _{|}~?&+]+$`
	patternTagValue   = `^[^<>]+$`
	patternOwnerMarks = `^[a-zA-Z0-9\\!#$%()*,\-./:;@ _{|}~?&+]+$`
)

func text(pattern string, low, high int) rule {
	return rule{kind: ruleText, pattern: regexp.MustCompile(pattern), min: low, max: high}
}

func word(words ...string) rule { return rule{kind: ruleWord, words: words} }

// yesNo takes true and false, too. Source: gui_posts_l3out.json and
// aci/resource_aci_l3extrsnodel3outatt.go of s:tf, which knows how they read back.
func yesNo() rule {
	r := word("yes", "no")
	r.spelled = map[string]string{"true": "yes", "false": "no"}
	return r
}

func flags(words ...string) rule { return rule{kind: ruleFlags, words: words} }

func between(low, high int) rule { return rule{kind: ruleNumber, min: low, max: high} }

// mtu is a number, or what the fabric has. Source: s:niwaki, l3extRsPathL3OutAtt.
func mtu() rule {
	r := between(576, 9216)
	r.words, r.spelled = []string{"inherit"}, map[string]string{"1": "inherit"}
	return r
}

// encap is a VLAN or a VXLAN. Source: apic-rest.md 5.1; aci/resource_aci_l3extvirtuallifp.go
// of s:tf knows that an empty one reads back unknown. unverified: the code of the refusal.
func encap() rule {
	r := reference(`^(vlan-([1-9]|[1-9][0-9]{1,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-5])|vxlan-[1-9][0-9]{0,7}|unknown)$`)
	r.spelled = map[string]string{"": "unknown"}
	return r
}

// reference is a DN, or what else refers to something. unverified: that another form is
// refused, and with which code.
func reference(pattern string) rule {
	r := text(pattern, 1, 0)
	r.code = 120
	return r
}

// nodeDN, pathDN and domainDN are what the relations of node and interface profiles point to.
func nodeDN() rule { return reference(`^topology/pod-[0-9]+/node-[0-9]+$`) }

func pathDN() rule {
	return reference(`^topology/pod-[0-9]+/(paths-[0-9]+(/ext(prot)?paths-[0-9]+(-[0-9]+)?)?|protpaths-[0-9]+-[0-9]+(/extprotpaths-[0-9]+-[0-9]+)?)/pathep-\[.+\]$`)
}

func domainDN() rule {
	return reference(`^uni/(phys-|l2dom-|l3dom-|vmmp-[A-Za-z]+/dom-)[a-zA-Z0-9_.:-]+$`)
}

// dscp takes a class name or a number, which reads back as its name.
// Source: apic-rest.md 4.1; the numbers are those of RFC 2474, 2597, 3246 and 5865.
func dscp() rule {
	r := word("unspecified")
	r.spelled = map[string]string{"64": "unspecified", "44": "VA", "46": "EF"}
	for i := range 8 {
		r.spelled[strconv.Itoa(8*i)] = "CS" + strconv.Itoa(i)
	}
	for class := 1; class <= 4; class++ {
		for drop := 1; drop <= 3; drop++ {
			r.spelled[strconv.Itoa(8*class+2*drop)] = "AF" + strconv.Itoa(10*class+drop)
		}
	}
	for n := range 64 {
		if w, ok := r.spelled[strconv.Itoa(n)]; ok {
			r.words = append(r.words, w)
		} else {
			r.spelled[strconv.Itoa(n)] = strconv.Itoa(n) // unverified: numbers without a name
		}
	}
	return r
}

// color is the label of a profile. Source: the enumeration PolColor of s:niwaki, which is
// that of CSS without its grays spelled grey.
func color() rule {
	return word(strings.Fields(`alice-blue antique-white aqua aquamarine azure beige bisque black blanched-almond blue
		blue-violet brown burlywood cadet-blue chartreuse chocolate coral cornflower-blue cornsilk crimson cyan dark-blue
		dark-cyan dark-goldenrod dark-gray dark-green dark-khaki dark-magenta dark-olive-green dark-orange dark-orchid
		dark-red dark-salmon dark-sea-green dark-slate-blue dark-slate-gray dark-turquoise dark-violet deep-pink
		deep-sky-blue dim-gray dodger-blue fire-brick floral-white forest-green fuchsia gainsboro ghost-white gold
		goldenrod gray green green-yellow honeydew hot-pink indian-red indigo ivory khaki lavender lavender-blush
		lawn-green lemon-chiffon light-blue light-coral light-cyan light-goldenrod-yellow light-gray light-green
		light-pink light-salmon light-sea-green light-sky-blue light-slate-gray light-steel-blue light-yellow lime
		lime-green linen magenta maroon medium-aquamarine medium-blue medium-orchid medium-purple medium-sea-green
		medium-slate-blue medium-spring-green medium-turquoise medium-violet-red midnight-blue mint-cream misty-rose
		moccasin navajo-white navy old-lace olive olive-drab orange orange-red orchid pale-goldenrod pale-green
		pale-turquoise pale-violet-red papaya-whip peachpuff peru pink plum powder-blue purple red rosy-brown royal-blue
		saddle-brown salmon sandy-brown sea-green seashell sienna silver sky-blue slate-blue slate-gray snow spring-green
		steel-blue tan teal thistle tomato turquoise violet wheat white white-smoke yellow yellow-green`)...)
}
