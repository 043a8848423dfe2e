// Package desired turns Kubernetes objects into which address belongs in which external EPG,
// and why.
//
// State is a fold: each object that appears, changes or goes is folded in, and Fold returns
// the places whose claims may differ now. The cost of a change depends on what it touches,
// never on how much is there. Folding the same objects in any order gives the same claims, once
// no workload is paused: a pause keeps what was.
//
// It is pure: no client, no clock, no logger.
package desired
