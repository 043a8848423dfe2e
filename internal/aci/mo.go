package aci

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Classes that aci-sync reads or writes.
const (
	ClassTenant        = "fvTenant"
	ClassVRF           = "fvCtx"
	ClassL3Out         = "l3extOut"
	ClassRsEctx        = "l3extRsEctx"
	ClassExtEPG        = "l3extInstP"
	ClassSubnet        = "l3extSubnet"
	ClassTagAnnotation = "tagAnnotation"
	ClassRsProv        = "fvRsProv"
	ClassRsCons        = "fvRsCons"
	ClassRsCustQosPol  = "fvRsCustQosPol"
	ClassRsNode        = "l3extRsNodeL3OutAtt" // of an L3Out: that it is on a node
	ClassFaultInst     = "faultInst"
	ClassFaultDelegate = "faultDelegate" // a fault of another object, shown at the one that caused it
)

// Values of the attribute status.
const (
	StatusCreated  = "created"
	StatusModified = "modified"
	StatusDeleted  = "deleted"
)

// MO is a managed object as the APIC's JSON carries it. DN is empty when neither the
// object nor its position tells it; then Attrs may hold "rn" or naming attributes.
type MO struct {
	Class    string
	DN       DN
	Attrs    map[string]string
	Children []MO
}

// MarshalJSON writes {"class":{"attributes":{…},"children":[…]}}, "attributes" first, as
// the APIC's parser demands. A DN is not written: the position of the body says where it
// belongs, and a body must never name a tenant or an L3Out.
func (m MO) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	if err := m.write(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (m MO) write(b *bytes.Buffer) error {
	b.WriteByte('{')
	if err := quote(b, m.Class); err != nil {
		return err
	}
	b.WriteString(`:{"attributes":{`)
	for i, k := range slices.Sorted(maps.Keys(m.Attrs)) {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := quote(b, k); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := quote(b, m.Attrs[k]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	for i, c := range m.Children {
		if i == 0 {
			b.WriteString(`,"children":[`)
		} else {
			b.WriteByte(',')
		}
		if err := c.write(b); err != nil {
			return err
		}
	}
	if len(m.Children) > 0 {
		b.WriteByte(']')
	}
	b.WriteString("}}")
	return nil
}

func quote(b *bytes.Buffer, s string) error {
	q, err := json.Marshal(s)
	b.Write(q)
	return err
}
