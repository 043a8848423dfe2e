package aci_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"6.0(9c)":                   "6.0",
		"5.2(1g)":                   "5.2",
		"5.0(1k)":                   "5.0",
		"4.2(7v)":                   "4.2",
		"2.0(2f)":                   "2.0",
		"6.1(4h)":                   "6.1",
		"5.10(1a)":                  "5.10",
		"10.0(1a)":                  "10.0",
		"5.2(0.100a)":               "5.2", // a build from inside Cisco
		"6.0(9c)-sd12":              "6.0",
		"6.0(9c) (patched)":         "6.0",
		"5.2.1g":                    "5.2", // as firmware files spell it
		"5.2":                       "5.2",
		" 5.2(1g)\n":                "5.2",
		"apic-5.2(1g)":              "5.2",
		"APIC Version 6.0(9c)":      "6.0",
		"v6.0":                      "6.0",
		"":                          "",
		"6":                         "",
		"6.x":                       "",
		"6.0beta":                   "",
		"n9000-15.2(1g)":            "", // a switch
		"aci-apic-dk9.5.2.1g.iso":   "",
		"-1.0":                      "",
		"unknown":                   "",
		"1234567.0(1a)":             "",
		"６.0(9c)":                   "",
		"6.0(9c) then 4.2(7v)":      "6.0",
		strings.Repeat("apic-", 99): "",
	} {
		got := ""
		if v, ok := aci.ParseVersion(s); ok {
			got = v.String()
		}
		if got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"2.0(2f)": true, "3.2(1l)": true, "4.2(7v)": true, "4.10(1a)": true, "apic-4.2(7v)": true,
		"5.0(1k)": false, "5.2(1g)": false, "6.0(9c)": false, "10.0(1a)": false, "50.1(1a)": false,
		"": false, "unknown": false, "n9000-14.2(7v)": false,
	} {
		if got := aci.TooOld(s); got != want {
			t.Errorf("%q is too old: %v", s, got)
		}
	}
	if !aci.TooOld("4.9999") || aci.TooOld(aci.MinVersion) {
		t.Errorf("%s is not where it changes", aci.MinVersion)
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"6.0(9c)", "5.10(1a)", "apic-5.2.1g", "v1.30+", "n9000-15.2(1g)", "", "6."} {
		f.Add(s, uint16(5), uint16(2))
	}
	f.Fuzz(func(t *testing.T, s string, major, minor uint16) {
		if v, ok := aci.ParseVersion(s); ok {
			if again, ok := aci.ParseVersion(v.String()); !ok || again != v {
				t.Errorf("%q is %v, which reads as %v, %v", s, v, again, ok)
			}
			if v.Compare(v) != 0 {
				t.Errorf("%v is not itself", v)
			}
		} else if aci.TooOld(s) {
			t.Errorf("%q is not understood and too old", s)
		}
		// Whatever stands behind in brackets, the numbers decide.
		v := aci.Version{Major: int(major), Minor: int(minor)}
		long := fmt.Sprintf("apic-%s(%s", v, s)
		if got, ok := aci.ParseVersion(long); !ok || got != v {
			t.Errorf("%q is %v, %v", long, got, ok)
		}
		if got, want := aci.TooOld(long), major < 5; got != want {
			t.Errorf("%q is too old: %v", long, got)
		}
	})
}
