package aci

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// ErrSession is returned when the APIC refuses the session and a new login did not help.
var ErrSession = errors.New("no APIC session")

// Error is an answer of the APIC that is not a success.
type Error struct {
	Op     string // what was asked: "post", "read", "login", "subscribe"
	DN     DN     // of the request; empty where there is none
	Status int    // HTTP status
	Code   string // the APIC's own code, such as "103"; empty when the body was not APIC JSON
	Text   string // the APIC's own words
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.DN != "" {
		fmt.Fprintf(&b, " %s", e.DN)
	}
	fmt.Fprintf(&b, ": APIC answered %d", e.Status)
	if e.Code != "" {
		fmt.Fprintf(&b, ", code %s", e.Code)
	}
	if t := strings.TrimSpace(e.Text); t != "" {
		fmt.Fprintf(&b, ": %s", t)
	}
	return b.String()
}

// Temporary reports whether the same request may succeed later with nothing changed:
// throttling, overload, a member that is down.
func (e *Error) Temporary() bool {
	return e.Status == 429 || e.Status >= 500 || e.Code == "100" || (e.Status == 405 && e.Code != "405")
}

// Exists reports a creation that was refused because the object is there already (103).
func (e *Error) Exists() bool { return e.Code == "103" }

// MissingParent reports a write below an object that does not exist (102).
func (e *Error) MissingParent() bool { return e.Code == "102" }

// Rejected reports that the APIC refuses the request because of what one object in it says:
// repeated unchanged, it will be refused again. Sessions, missing parents, existing objects
// and server errors are not that.
func (e *Error) Rejected() bool {
	return e.Status >= 400 && e.Status < 500 && e.Status != 401 && e.Status != 403 && e.Status != 404 &&
		!e.Temporary() && !e.Exists() && !e.MissingParent()
}

var dnInText = regexp.MustCompile(`uni/tn-(?:[^\s,\[\]]|\[[^\]]*\])+`)

// Culprit is the DN that the APIC's words name, or "". Only a hint: texts differ by release.
func (e *Error) Culprit() DN {
	d, err := ParseDN(dnInText.FindString(e.Text))
	if err != nil {
		return ""
	}
	return d
}

// Secret is a password or token. Printed, logged or marshaled it shows nothing of itself.
type Secret string

const redacted = "[redacted]"

// String is "[redacted]".
func (Secret) String() string { return redacted }

// GoString is "[redacted]".
func (Secret) GoString() string { return redacted }

// LogValue is "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON is "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
