package aci

// UpdateKind says what an Update tells.
type UpdateKind int

// The kinds of updates.
const (
	// Event: each object was created, modified (only the changed attributes are present) or
	// deleted, as its attribute status says.
	Event UpdateKind = iota
	// Gap: events below Root may have been lost; what is known of it is no longer complete.
	Gap
	// ReadBegin: a full read of Root starts now. Events from here on are folded over it.
	ReadBegin
	// FullRead: Objects are everything at and below Root, flat, each with its DN. No objects
	// means that Root does not exist.
	FullRead
)

// Update is the one shape in which knowledge of the fabric arrives: answers and events.
type Update struct {
	Kind    UpdateKind
	Root    DN // of the L3Out or external EPG that was read, or whose events were lost; Topology for faults, Universe for relations to VRFs
	Objects []MO
}
