// Package plan compares what is wanted with what is there and says what to write, in which
// order, and why; or what must be read first; or what a person must see to.
//
// Diff is the only place where that is decided. It writes nothing without knowing, deletes
// nothing without our mark, and looks at no more than the places it is given. It is pure.
package plan
