// Package aci is the vocabulary of the fabric: distinguished names, managed objects,
// L3Outs, external EPGs, external subnets, owner marks and the errors of an APIC.
//
// It is pure: no clock, no network, no logger. Everything else in aci-sync speaks in its
// types, so that a prefix, a DN and a name can never be mistaken for one another.
package aci
