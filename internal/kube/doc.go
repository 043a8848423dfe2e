// Package kube hides the Kubernetes API: which objects are watched and what of them is kept,
// and how people on that side are told things.
//
// Objects flow one way: what appears, changes and goes is handed to a Sink, in the order of its kind.
// Nothing is decided here, and of what nobody reads back, which is most, nothing is kept.
package kube
