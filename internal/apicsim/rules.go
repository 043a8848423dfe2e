package apicsim

import (
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
	pattern  *regexp.Regexp // text: applies to values that are not empty
	min, max int            // text: characters; number: bounds. max 0 is no bound
	words    []string       // word, flags
	numbers  map[string]string
}

type ruleKind uint8

const (
	ruleText   ruleKind = iota
	ruleWord            // one of words, or a key of numbers, which reads back as its word
	ruleFlags           // a set of words: comma separated, read back sorted
	rulePrefix          // an IP prefix
	ruleNumber
)

// check returns the value as the APIC would read it back, and 0 or the error code that
// refuses it: 801 for text that does not match, 120 for values outside an enumeration or
// a range. Source: apic-rest.md 3.3 and 4.2.
func (r *rule) check(v string) (string, int) {
	switch r.kind {
	case ruleWord:
		if w, ok := r.numbers[v]; ok {
			return w, 0
		}
		if !slices.Contains(r.words, v) {
			return "", 120
		}
		return v, 0
	case ruleFlags:
		return r.checkFlags(v)
	case rulePrefix:
		return checkPrefix(v)
	case ruleNumber:
		n, err := strconv.Atoi(v)
		if v == "" {
			return "", 0
		}
		if err != nil || n < r.min || n > r.max {
			return "", 120
		}
		return strconv.Itoa(n), 0
	case ruleText:
	}
	if n := len([]rune(v)); n < r.min || (r.max > 0 && n > r.max) {
		return "", 801
	}
	if v != "" && r.pattern != nil && !r.pattern.MatchString(v) {
		return "", 801
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

// checkPrefix keeps host bits and spells IPv6 as RFC 5952 does. A bare address without a
// mask is refused.
//
// Source: apic-rest.md 4.2 (host bits LIVE). unverified: the IPv6 spelling of l3extSubnet
// (known of fvSubnet), bare addresses, spaces.
func checkPrefix(v string) (string, int) {
	p, err := netip.ParsePrefix(v)
	if err != nil {
		return "", 120
	}
	return p.Addr().String() + "/" + strconv.Itoa(p.Bits()), 0
}

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

func yesNo() rule { return word("yes", "no") }

func flags(words ...string) rule { return rule{kind: ruleFlags, words: words} }

// dscp takes a class name or a number, which reads back as its name.
// Source: apic-rest.md 4.1; the numbers are those of RFC 2474, 2597, 3246 and 5865.
func dscp() rule {
	r := word("unspecified")
	r.numbers = map[string]string{"64": "unspecified", "44": "VA", "46": "EF"}
	for i := range 8 {
		r.numbers[strconv.Itoa(8*i)] = "CS" + strconv.Itoa(i)
	}
	for class := 1; class <= 4; class++ {
		for drop := 1; drop <= 3; drop++ {
			r.numbers[strconv.Itoa(8*class+2*drop)] = "AF" + strconv.Itoa(10*class+drop)
		}
	}
	for n := range 64 {
		if w, ok := r.numbers[strconv.Itoa(n)]; ok {
			r.words = append(r.words, w)
		} else {
			r.numbers[strconv.Itoa(n)] = strconv.Itoa(n) // unverified: numbers without a name
		}
	}
	return r
}
