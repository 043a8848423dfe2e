// Package observed is what the APIC holds, as far as answers and events tell, and how far
// that is: State is a fold of aci.Updates.
//
// Truth is a read; an event is a hint. A gap in the events makes an L3Out incomplete until
// it is read again, and an object that somebody else touched has a mark of unknown value
// until it is read. What aci-sync itself has posted is expected, neither taken for state nor
// posted twice, until an event or a read tells what became of it.
//
// It is pure: no client, no clock, no logger.
package observed
