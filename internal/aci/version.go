package aci

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// Version is a release of the APIC's software as far as it matters here: {6, 0} of "6.0(9c)".
type Version struct{ Major, Minor int }

// MinVersion is the oldest release that is written to, as people read it.
const MinVersion = "5.0"

// TooOld reports whether an APIC that calls its version this must not be written to. A version
// that cannot be understood is not known to be too old.
func TooOld(version string) bool {
	v, ok := ParseVersion(version)
	return ok && v.Compare(Version{5, 0}) < 0
}

// versionRule: what firmware names put in front are words of letters, which the image of a switch
// ("n9000-15.2(1g)") does not have: its numbers are others. What follows the second number is the
// maintenance release, in brackets or behind a dot, and whatever somebody added.
var versionRule = regexp.MustCompile(`(?s)^\s*(?:[A-Za-z]+[- ])*v?([0-9]{1,6})\.([0-9]{1,6})(?:[^0-9A-Za-z].*)?$`)

// ParseVersion reads the version that an APIC names, such as "5.2(1g)", also with the words of a
// firmware name in front of it ("apic-5.2(1g)") and with anything behind.
//
// Source: apic-rest.md 1.1 and 7, captured logins. unverified: names with a prefix.
func ParseVersion(s string) (Version, bool) {
	m := versionRule.FindStringSubmatch(s)
	if m == nil {
		return Version{}, false
	}
	major, _ := strconv.Atoi(m[1]) // six digits are a number
	minor, _ := strconv.Atoi(m[2])
	return Version{major, minor}, true
}

// Compare orders by number: 5.2 comes before 5.10.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor))
}

// String is "major.minor".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
