package aci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Reply is the envelope of every APIC answer and event.
type Reply struct {
	TotalCount      int      // -1 when the answer has none, as events and old releases
	SubscriptionIDs []string // the one of a reply, or all that an event matches
	Objects         []MO     // without error objects
	Err             *Error   // the first error object, or nil; Status and Op are the caller's to fill
}

// Complete reports whether r carries as many objects as it announces. An overloaded APIC
// answers 200 with a count and no content; taken for an empty list, that deletes things.
func (r Reply) Complete() bool { return r.TotalCount < 0 || r.TotalCount == len(r.Objects) }

// DecodeReply reads one envelope from r, to the end of r. Answers that are not JSON, as the
// HTML of the APIC's web server, are an error.
func DecodeReply(r io.Reader) (Reply, error) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		return Reply{}, err
	}
	d := decoder{data: b.Bytes(), names: map[string]string{}}
	rep, err := d.reply()
	if err != nil {
		return Reply{}, fmt.Errorf("answer is not APIC JSON: %w", err)
	}
	return rep, nil
}

// UnmarshalJSON reads the form that MarshalJSON writes. Attribute values that are not
// strings are taken in their JSON spelling. DN is taken from the attribute dn; children
// without one get theirs from their rn and this object's DN.
func (m *MO) UnmarshalJSON(data []byte) error {
	d := decoder{data: data, names: map[string]string{}}
	mo, err := d.placed()
	if err == nil {
		err = d.end()
	}
	if err == nil {
		*m = mo
	}
	return err
}

// decoder reads the APIC's JSON. Replies hold tens of thousands of objects of one shape, for
// which encoding/json takes five times as long and three times the memory, by reflection
// and by looking at each object once for every level it is nested.
type decoder struct {
	data  []byte
	at    int
	names map[string]string // classes and attribute names, which repeat without end
}

// maxNesting bounds the depth of children and of values that are skipped.
const maxNesting = 100

var errNesting = fmt.Errorf("nested deeper than %d", maxNesting)

func (d *decoder) reply() (Reply, error) {
	rep := Reply{TotalCount: -1}
	err := d.object(func(key string) (err error) {
		switch key {
		case "totalCount":
			rep.TotalCount, err = d.count()
		case "subscriptionId":
			rep.SubscriptionIDs, err = d.ids()
		case "imdata":
			err = d.array(func() error {
				m, err := d.placed()
				switch {
				case err != nil:
					return err
				case m.Class != "error":
					rep.Objects = append(rep.Objects, m)
				case rep.Err == nil:
					rep.Err = &Error{Code: m.Attrs["code"], Text: m.Attrs["text"]}
				}
				return nil
			})
		default:
			err = d.skip(0)
		}
		return err
	})
	if err == nil {
		err = d.end()
	}
	return rep, err
}

// count reads totalCount, -1 when it is null or empty.
func (d *decoder) count() (int, error) {
	s, err := d.scalar()
	if err != nil || s == "" {
		return -1, err
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return -1, fmt.Errorf("totalCount %q is not a count", s)
	}
	return n, nil
}

// ids reads a subscription id, which replies carry as a string and events as an array of
// strings; a bare number keeps its digits (they exceed a float's).
func (d *decoder) ids() ([]string, error) {
	var ids []string
	one := func() error {
		id, err := d.scalar()
		if id != "" {
			ids = append(ids, id)
		}
		return err
	}
	if d.peek() == '[' {
		return ids, d.array(one)
	}
	err := one()
	return ids, err
}

// placed reads one object that is no child, with its children, and gives them their DNs.
func (d *decoder) placed() (MO, error) {
	m, err := d.mo(0)
	if err == nil {
		m.place()
	}
	return m, err
}

// place fills in the DNs of children from their rn.
func (m *MO) place() {
	for i := range m.Children {
		c := &m.Children[i]
		if rn := c.Attrs["rn"]; c.DN == "" && m.DN != "" && rn != "" {
			c.DN = m.DN.Child(rn)
		}
		c.place()
	}
}

// mo reads one object, depth levels below the outermost.
func (d *decoder) mo(depth int) (MO, error) {
	if depth > maxNesting {
		return MO{}, errNesting
	}
	var m MO
	classes := 0
	err := d.object(func(class string) error {
		if classes++; classes > 1 {
			return errors.New("an object has several classes")
		}
		m.Class, m.Attrs = class, map[string]string{}
		return d.object(func(key string) error {
			switch key {
			case "attributes":
				return d.attributes(&m)
			case "children":
				return d.array(func() error {
					c, err := d.mo(depth + 1)
					m.Children = append(m.Children, c)
					return err
				})
			}
			return d.skip(depth)
		})
	})
	if err == nil && classes == 0 {
		err = errors.New("an object has no class")
	}
	return m, err
}

func (d *decoder) attributes(m *MO) error {
	m.Attrs = make(map[string]string, 16)
	err := d.object(func(key string) error {
		v, err := d.scalar()
		m.Attrs[key] = v
		return err
	})
	m.DN = DN(m.Attrs["dn"])
	return err
}

// object reads {…} or null and calls member behind the colon of each key.
func (d *decoder) object(member func(key string) error) error {
	return d.list('{', '}', func() error {
		if d.peek() != '"' {
			return d.unexpected("a key")
		}
		key, err := d.string(true)
		if err != nil {
			return err
		}
		if err := d.expect(':'); err != nil {
			return err
		}
		return member(key)
	})
}

// array reads […] or null and calls element at each one.
func (d *decoder) array(element func() error) error { return d.list('[', ']', element) }

func (d *decoder) list(open, closing byte, item func() error) error {
	if d.peek() == 'n' {
		return d.skip(0)
	}
	if err := d.expect(open); err != nil {
		return err
	}
	if d.peek() == closing {
		d.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if d.peek() != ',' {
			return d.expect(closing)
		}
		d.at++
	}
}

// scalar is a string, or any other scalar in its own spelling; null is empty.
func (d *decoder) scalar() (string, error) {
	switch d.peek() {
	case '"':
		return d.string(false)
	case '{', '[':
		return "", d.unexpected("a scalar")
	}
	start := d.at
	if err := d.skip(0); err != nil {
		return "", err
	}
	if s := string(d.data[start:d.at]); s != "null" {
		return s, nil
	}
	return "", nil
}

// string reads a string; one that repeats is made once.
func (d *decoder) string(repeats bool) (string, error) {
	start, escaped := d.at, false
	for i := start + 1; i < len(d.data); i++ {
		switch c := d.data[i]; {
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			d.at = i
			return "", d.unexpected("a string")
		case c == '"':
			d.at = i + 1
			raw := d.data[start+1 : i]
			switch {
			case escaped || !utf8.Valid(raw):
				var s string
				err := json.Unmarshal(d.data[start:d.at], &s)
				return s, err
			case !repeats:
				return string(raw), nil
			}
			s, ok := d.names[string(raw)]
			if !ok {
				s = string(raw)
				d.names[s] = s
			}
			return s, nil
		}
	}
	return "", io.ErrUnexpectedEOF
}

// skip passes over one value.
func (d *decoder) skip(depth int) error {
	if depth > maxNesting {
		return errNesting
	}
	deeper := func() error { return d.skip(depth + 1) }
	switch d.peek() {
	case '{':
		return d.object(func(string) error { return deeper() })
	case '[':
		return d.array(deeper)
	case '"':
		_, err := d.string(false)
		return err
	}
	start := d.at
	for d.at < len(d.data) && strings.IndexByte(" \t\r\n,:]}[{\"", d.data[d.at]) < 0 {
		d.at++
	}
	if !json.Valid(d.data[start:d.at]) {
		d.at = start
		return d.unexpected("a value")
	}
	return nil
}

// peek is the next byte behind white space, 0 at the end.
func (d *decoder) peek() byte {
	for d.at < len(d.data) {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\r', '\n':
			d.at++
		default:
			return c
		}
	}
	return 0
}

func (d *decoder) expect(c byte) error {
	if d.peek() != c {
		return d.unexpected(strconv.QuoteRune(rune(c)))
	}
	d.at++
	return nil
}

// end reports what follows the value, other than white space.
func (d *decoder) end() error {
	if d.peek(); d.at < len(d.data) {
		return d.unexpected("the end")
	}
	return nil
}

func (d *decoder) unexpected(want string) error {
	if d.at >= len(d.data) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%q at byte %d where %s should be", d.data[d.at], d.at, want)
}
