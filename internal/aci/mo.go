package aci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
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
	b.WriteString(`{"` + m.Class + `":{"attributes":{`)
	for i, k := range slices.Sorted(maps.Keys(m.Attrs)) {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, s := range []string{k, m.Attrs[k]} {
			if j > 0 {
				b.WriteByte(':')
			}
			q, err := json.Marshal(s)
			if err != nil {
				return err
			}
			b.Write(q)
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

// UnmarshalJSON reads the form that MarshalJSON writes. Attribute values that are not
// strings are taken in their JSON spelling. DN is taken from the attribute dn; children
// without one get theirs from their rn and this object's DN.
func (m *MO) UnmarshalJSON(data []byte) error {
	var outer map[string]struct {
		Attributes map[string]text `json:"attributes"`
		Children   []MO            `json:"children"`
	}
	if err := json.Unmarshal(data, &outer); err != nil {
		return err
	}
	if len(outer) != 1 {
		return fmt.Errorf("an object has %d classes, not one", len(outer))
	}
	for class, body := range outer {
		*m = MO{Class: class, Children: body.Children, Attrs: make(map[string]string, len(body.Attributes))}
		for k, v := range body.Attributes {
			m.Attrs[k] = string(v)
		}
	}
	m.DN = DN(m.Attrs["dn"])
	m.place()
	return nil
}

// place fills in the DNs of children from their rn. Decoding is inside out, so it runs
// again at each level; objects that know their DN end the descent.
func (m *MO) place() {
	if m.DN == "" {
		return
	}
	for i := range m.Children {
		c := &m.Children[i]
		if rn := c.Attrs["rn"]; c.DN == "" && rn != "" {
			c.DN = m.DN.Child(rn)
			c.place()
		}
	}
}

// text is a JSON string, or any other scalar in its own spelling.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	switch {
	case len(data) > 0 && data[0] == '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*t = text(s)
	case len(data) > 0 && (data[0] == '{' || data[0] == '['):
		return errors.New("an attribute is not a scalar")
	case string(data) == "null":
		*t = ""
	default:
		*t = text(data)
	}
	return nil
}

// Reply is the envelope of every APIC answer and event.
type Reply struct {
	TotalCount      int      // -1 when the answer has none, as events and old releases
	SubscriptionIDs []string // the one of a reply, or all that an event matches
	Objects         []MO     // without error objects
	Err             *Error   // the first error object, or nil; Status and Op are the caller's to fill
}

// DecodeReply reads one envelope from r. Answers that are not JSON, as the HTML of the
// APIC's web server, are an error.
func DecodeReply(r io.Reader) (Reply, error) {
	var env struct {
		TotalCount     text            `json:"totalCount"`
		SubscriptionID json.RawMessage `json:"subscriptionId"`
		Imdata         []MO            `json:"imdata"`
	}
	if err := json.NewDecoder(r).Decode(&env); err != nil {
		return Reply{}, fmt.Errorf("answer is not APIC JSON: %w", err)
	}
	rep := Reply{TotalCount: -1}
	if env.TotalCount != "" {
		n, err := strconv.Atoi(string(env.TotalCount))
		if err != nil || n < 0 {
			return Reply{}, fmt.Errorf("totalCount %q is not a count", env.TotalCount)
		}
		rep.TotalCount = n
	}
	ids, err := decodeIDs(env.SubscriptionID)
	if err != nil {
		return Reply{}, err
	}
	rep.SubscriptionIDs = ids
	for _, m := range env.Imdata {
		if m.Class != "error" {
			rep.Objects = append(rep.Objects, m)
			continue
		}
		if rep.Err == nil {
			rep.Err = &Error{Code: m.Attrs["code"], Text: m.Attrs["text"]}
		}
	}
	return rep, nil
}

// decodeIDs reads a subscription id, which replies carry as a string and events as an
// array of strings; a bare number keeps its digits (they exceed a float's).
func decodeIDs(raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '[' {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	var ids []text
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, fmt.Errorf("subscriptionId: %w", err)
	}
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out, nil
}

// Complete reports whether r carries as many objects as it announces. An overloaded APIC
// answers 200 with a count and no content; taken for an empty list, that deletes things.
func (r Reply) Complete() bool { return r.TotalCount < 0 || r.TotalCount == len(r.Objects) }
