// Package controller is the loop: what changed, on either side, becomes dirty places; a worker
// per VRF compares them, writes the difference in few POSTs and waits to hear of it.
//
// One way in, one way out:
//
//	Kubernetes object ──→ desired.State.Fold ──┐
//	                                           ├→ dirty places → plan.Diff → POST → event ─┐
//	APIC answer, event ─→ observed.State.Fold ─┘                                           │
//	       ↑───────────────────────────────────────────────────────────────────────────────┘
//
// Both folds sit under one lock and are quick; requests are made outside it. A place is a
// prefix in an external EPG, or the EPG itself; places are kept by domain, which is the VRF, so
// that one worker at a time writes where prefixes must be unique.
//
// What fails backs off where it failed: a request its domain, a change that the APIC refuses
// only itself. An answer to a POST is not proof: what it did is known when an event or a read
// tells, and until then its addresses are written nowhere else.
package controller
