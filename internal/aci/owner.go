package aci

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Tag keys that aci-sync gives a meaning to.
const (
	OwnerKey = "aci-sync"        // the owner mark
	PauseKey = "aci-sync-paused" // on an external EPG or an L3Out: write nothing there
)

// Owner is the identity that aci-sync marks its objects with: one per cluster.
type Owner string

var ownerRule = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,63}$`)

// ParseOwner checks a cluster id: 1 to 63 of [a-zA-Z0-9_.-].
func ParseOwner(s string) (Owner, error) {
	if !ownerRule.MatchString(s) {
		return "", fmt.Errorf("cluster id %q is not 1 to 63 of letters, digits and _ . -", s)
	}
	return Owner(s), nil
}

// Mark is the value of the owner mark (tagAnnotation "aci-sync") on the object d. It holds
// the DN so that a copy that somebody makes of a marked object is not ours.
func (o Owner) Mark(d DN) string { return string(o) + " " + string(d) }

// Annotation is what aci-sync writes into the attribute annotation at creation: a hint for
// people and events, never proof of ownership, because other orchestrators rewrite it.
func (o Owner) Annotation() string { return annotationOf + string(o) }

const annotationOf = "orchestrator:aci-sync:"

// AnnotatedBy is the cluster that the attribute annotation names as the maker of an object; ""
// when it names none.
func AnnotatedBy(annotation string) Owner {
	who, ok := strings.CutPrefix(annotation, annotationOf)
	if !ok || !ownerRule.MatchString(who) {
		return ""
	}
	return Owner(who)
}

// MarkedBy reads the cluster that the mark value claims for the object d; "" when the
// value is no mark of d, such as a copy.
func MarkedBy(value string, d DN) Owner {
	who, dn, ok := strings.Cut(value, " ")
	if !ok || DN(dn) != d || !ownerRule.MatchString(who) {
		return ""
	}
	return Owner(who)
}

// TagRN is the relative name of the tagAnnotation with key.
func TagRN(key string) string { return "annotationKey-[" + key + "]" }

// Scope is the set of flags of a subnet, sorted, without duplicates. The APIC returns them
// sorted but nobody promises it, so they are always compared as sets.
type Scope []string

// ScopeFlags are the flags that l3extSubnet.scope knows.
var scopeFlags = []string{"export-rtctrl", "import-rtctrl", "import-security", "shared-rtctrl", "shared-security"}

// ParseScope reads a comma-separated list of flags as the APIC writes it. Unknown flags
// stay: a newer APIC may have them.
func ParseScope(s string) Scope {
	var out Scope
	for f := range strings.SplitSeq(s, ",") {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// CheckScope reports what is wrong with s as a configured scope.
func CheckScope(s Scope) error {
	if len(s) == 0 {
		return fmt.Errorf("scope is empty")
	}
	for _, f := range s {
		if !slices.Contains(scopeFlags, f) {
			return fmt.Errorf("scope has no flag %q; it knows %s", f, strings.Join(scopeFlags, ", "))
		}
	}
	if slices.Contains(s, "shared-security") && !slices.Contains(s, "import-security") {
		return fmt.Errorf("scope shared-security needs import-security (APIC error 120)")
	}
	return nil
}

// String is the comma-separated form.
func (s Scope) String() string { return strings.Join(s, ",") }

// Contains reports whether every flag of t is in s.
func (s Scope) Contains(t Scope) bool {
	for _, f := range t {
		if !slices.Contains(s, f) {
			return false
		}
	}
	return true
}

// Union is s and t together.
func (s Scope) Union(t Scope) Scope {
	set := map[string]bool{}
	for _, f := range slices.Concat(s, t) {
		set[f] = true
	}
	return slices.Sorted(maps.Keys(set))
}
