// Package history plays random histories of a cluster, a fabric and an aci-sync between them,
// and knows what SPEC.md promises of each.
//
// A [History] is a list of steps, generated from a seed or read from text, one step a line; see [Verbs].
// [Cluster] is what the steps make of Kubernetes, [Fabric] what a dump of the APIC shows, [Mind] what
// an aci-sync has been told and must remember, and [Settled] compares them. [Written] judges
// one transaction. None of this shares a line with the packages that decide, so that a mistake in them
// is not made twice.
//
// The tests of this package play histories in a bubble on a fake clock, thousands of them; test/stories
// plays some on a real control plane.
package history
