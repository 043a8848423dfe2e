package aci

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// VRF is a context (fvCtx). Prefixes are unique per VRF, so there is one writer per VRF.
type VRF struct{ Tenant, Name string }

// DN is "uni/tn-T/ctx-N".
func (v VRF) DN() DN { return DN("uni/tn-" + v.Tenant + "/ctx-" + v.Name) }

// String is "tenant/vrf", as people write it.
func (v VRF) String() string { return v.Tenant + "/" + v.Name }

// L3Out is an external routed network (l3extOut).
type L3Out struct{ Tenant, Name string }

// DN is "uni/tn-T/out-O".
func (l L3Out) DN() DN { return DN("uni/tn-" + l.Tenant + "/out-" + l.Name) }

// String is "tenant/l3out", as people write it.
func (l L3Out) String() string { return l.Tenant + "/" + l.Name }

// LogValue is the form of String.
func (l L3Out) LogValue() slog.Value { return slog.StringValue(l.String()) }

// Compare orders by tenant, then name.
func (l L3Out) Compare(m L3Out) int {
	return cmp.Or(cmp.Compare(l.Tenant, m.Tenant), cmp.Compare(l.Name, m.Name))
}

// ExtEPG is an external EPG (l3extInstP): the unit that annotations name.
type ExtEPG struct {
	L3Out
	Name string
}

// DN is "uni/tn-T/out-O/instP-E".
func (e ExtEPG) DN() DN { return e.L3Out.DN().Child("instP-" + e.Name) }

// String is "tenant/l3out/epg", as people write it and as logs print it.
func (e ExtEPG) String() string { return e.L3Out.String() + "/" + e.Name }

// LogValue is the form of String.
func (e ExtEPG) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Compare orders by tenant, L3Out, name.
func (e ExtEPG) Compare(f ExtEPG) int {
	return cmp.Or(e.L3Out.Compare(f.L3Out), cmp.Compare(e.Name, f.Name))
}

// SubnetDN is the DN that aci-sync gives the subnet p of e: the prefix masked and in its
// RFC 5952 form. What the APIC holds may be spelled otherwise; read its DN, do not make it.
func (e ExtEPG) SubnetDN(p netip.Prefix) DN { return e.DN().Child(SubnetRN(p.Masked().String())) }

// SubnetRN is the relative name of the l3extSubnet with the attribute ip.
func SubnetRN(ip string) string { return "extsubnet-[" + ip + "]" }

// Place is where an address can be: one prefix in one external EPG. With the zero Prefix
// it stands for the EPG itself. It is the unit in which both sides report what changed.
type Place struct {
	ExtEPG
	Prefix netip.Prefix
}

// Compare orders by EPG, then prefix; the EPG itself comes first.
func (p Place) Compare(q Place) int {
	return cmp.Or(p.ExtEPG.Compare(q.ExtEPG), p.Prefix.Compare(q.Prefix))
}

// LogValue is the form of String.
func (p Place) LogValue() slog.Value { return slog.StringValue(p.String()) }

// String is "tenant/l3out/epg" or "tenant/l3out/epg prefix".
func (p Place) String() string {
	if !p.Prefix.IsValid() {
		return p.ExtEPG.String()
	}
	return p.ExtEPG.String() + " " + p.Prefix.String()
}

// ParseL3Out reads the DN of an l3extOut.
func ParseL3Out(d DN) (L3Out, bool) {
	l, rest, ok := splitL3Out(d)
	return l, ok && rest == ""
}

// L3OutOf finds the L3Out that d is or lies below.
func L3OutOf(d DN) (L3Out, bool) {
	l, _, ok := splitL3Out(d)
	return l, ok
}

// ExtEPGOf finds the external EPG that d is or lies below, and what follows it in d, such
// as "extsubnet-[10.1.2.3/32]/annotationKey-[aci-sync]"; "" for the EPG itself.
func ExtEPGOf(d DN) (e ExtEPG, rest string, ok bool) {
	l, rest, ok := splitL3Out(d)
	if !ok {
		return ExtEPG{}, "", false
	}
	name, ok := strings.CutPrefix(rest, "instP-")
	if !ok {
		return ExtEPG{}, "", false
	}
	name, rest, _ = strings.Cut(name, "/") // names hold neither slash nor bracket
	return ExtEPG{l, name}, rest, name != ""
}

// splitL3Out cuts "uni/tn-T/out-O/rest". Neither T nor O can hold a slash or a bracket.
func splitL3Out(d DN) (l L3Out, rest string, ok bool) {
	s, ok := strings.CutPrefix(string(d), "uni/tn-")
	if !ok {
		return L3Out{}, "", false
	}
	tenant, s, ok := strings.Cut(s, "/")
	if !ok {
		return L3Out{}, "", false
	}
	s, ok = strings.CutPrefix(s, "out-")
	if !ok {
		return L3Out{}, "", false
	}
	name, rest, _ := strings.Cut(s, "/")
	return L3Out{tenant, name}, rest, tenant != "" && name != ""
}

// ParseVRF reads the DN of an fvCtx, as l3extRsEctx.tDn holds it.
func ParseVRF(d DN) (VRF, bool) {
	s, ok := strings.CutPrefix(string(d), "uni/tn-")
	if !ok {
		return VRF{}, false
	}
	tenant, s, ok := strings.Cut(s, "/ctx-")
	if !ok || tenant == "" || s == "" || strings.ContainsAny(tenant+s, "/[]") {
		return VRF{}, false
	}
	return VRF{tenant, s}, true
}

// Universe is the DN above all tenants. It stands for the relations of all L3Outs to their VRFs.
const Universe DN = "uni"

// Topology is the DN above all nodes of the fabric and what they are made of. It stands for the
// faults that leafs raise.
const Topology DN = "topology"

var nodeRule = regexp.MustCompile(`^topology/pod-[0-9]+/node-([0-9]+)(?:/|$)`)

// NodeOf reads the id of the node that d is or lies below, such as 101 of
// "topology/pod-1/node-101/sys". Ids are unique in a fabric.
func NodeOf(d DN) (int, bool) {
	m := nodeRule.FindStringSubmatch(string(d))
	if m == nil {
		return 0, false
	}
	id, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, false
	}
	return id, true
}

// SubnetIP reads the ip of an RN "extsubnet-[ip]"; false when rn is anything else, also a
// child of a subnet.
func SubnetIP(rn string) (string, bool) {
	s, ok := strings.CutPrefix(rn, "extsubnet-[")
	if !ok || strings.IndexByte(s, ']') != len(s)-1 {
		return "", false
	}
	return s[:len(s)-1], true
}

var nameRule = regexp.MustCompile(`^[a-zA-Z0-9_.:-]{1,64}$`)

// CheckName reports whether s can name a tenant, an L3Out or an external EPG; the error
// says what is wrong with it.
//
// Source: class metadata of l3extInstP.name, 1 to 64 of [a-zA-Z0-9_.:-].
func CheckName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty")
	case len(s) > 64:
		return fmt.Errorf("%q has %d characters, the APIC takes 64", s, len(s))
	case !nameRule.MatchString(s):
		return fmt.Errorf("%q has characters other than letters, digits and _ . : -", s)
	}
	return nil
}
