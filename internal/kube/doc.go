// Package kube hides the Kubernetes API: which objects are watched and what of them is kept,
// and how people on that side are told things.
//
// Objects flow one way: each informer hands what appears, changes and goes to a Sink, in the
// order of that informer. Nothing is decided here.
package kube
