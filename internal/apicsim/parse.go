package apicsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// object is a managed object as a body spells it.
type object struct {
	class    string
	attrs    []attribute
	children []*object
}

type attribute struct{ name, value string }

func (o *object) attr(name string) (string, bool) {
	for _, a := range o.attrs {
		if a.name == name {
			return a.value, true
		}
	}
	return "", false
}

// maxDepth bounds nesting; the class table allows far less.
const maxDepth = 64

// parseBody reads one object. It works token by token because the order of keys counts:
// an APIC demands "attributes" before "children". Stricter than JSON: no key twice,
// nothing but strings as values, nothing after the object.
//
// Source of the texts: apic-rest.md 3.1 and 3.3. unverified: the texts for what the APIC's
// parser is not known to notice, such as a key that stands twice.
func parseBody(data []byte) (*object, *wireError) {
	p := &parser{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	o, err := p.object(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, p.fail("unexpected content after the object")
	}
	return o, nil
}

type parser struct {
	data []byte
	dec  *json.Decoder
}

func (p *parser) line() int {
	return 1 + bytes.Count(p.data[:min(int(p.dec.InputOffset()), len(p.data))], []byte{'\n'})
}

func (p *parser) fail(what string) *wireError {
	return refuse(400, "JSON parsing failed - %s at line: %d", what, p.line())
}

func (p *parser) attributesFirst() *wireError {
	return refuse(400, "invalid data at line '%d'. "+
		"Attributes are missing, tag 'attributes' must be specified first, before any other tag", p.line())
}

func (p *parser) open(want json.Delim, what string) *wireError {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail("malformed JSON")
	}
	if d, ok := t.(json.Delim); !ok || d != want {
		return p.fail(what)
	}
	return nil
}

// key returns the next key of the object that is open, false at its end.
func (p *parser) key() (string, bool, *wireError) {
	t, err := p.dec.Token()
	if err != nil {
		return "", false, p.fail("malformed JSON")
	}
	if s, ok := t.(string); ok {
		return s, true, nil
	}
	return "", false, nil
}

// object reads {"class":{…}}.
func (p *parser) object(depth int) (*object, *wireError) {
	if depth > maxDepth {
		return nil, p.fail("nesting too deep")
	}
	if err := p.open('{', "expected an object"); err != nil {
		return nil, err
	}
	name, more, err := p.key()
	if err != nil {
		return nil, err
	}
	if !more {
		return nil, p.fail("object without a class")
	}
	o := &object{class: name}
	if err := p.content(o, depth); err != nil {
		return nil, err
	}
	if _, more, err = p.key(); err != nil {
		return nil, err
	} else if more {
		return nil, p.fail("more than one class in an object")
	}
	return o, nil
}

// content reads {"attributes":{…},"children":[…]}.
func (p *parser) content(o *object, depth int) *wireError {
	if err := p.open('{', "expected an object"); err != nil {
		return err
	}
	hasAttributes, hasChildren := false, false
	for {
		key, more, err := p.key()
		switch {
		case err != nil:
			return err
		case !more && !hasAttributes:
			return p.attributesFirst()
		case !more:
			return nil
		case !hasAttributes && key != "attributes":
			return p.attributesFirst()
		case key == "attributes" && !hasAttributes:
			hasAttributes = true
			err = p.attributes(o)
		case key == "children" && !hasChildren:
			hasChildren = true
			err = p.children(o, depth)
		case key == "attributes" || key == "children":
			err = p.fail("'" + key + "' stands twice")
		default:
			err = p.fail("unexpected tag '" + key + "'")
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) attributes(o *object) *wireError {
	if err := p.open('{', "expected an object of attributes"); err != nil {
		return err
	}
	for {
		key, more, err := p.key()
		if err != nil || !more {
			return err
		}
		if _, twice := o.attr(key); twice {
			return p.fail("attribute '" + key + "' stands twice")
		}
		t, terr := p.dec.Token()
		if terr != nil {
			return p.fail("malformed JSON")
		}
		v, ok := t.(string)
		if !ok {
			return p.fail("incomplete attribute value")
		}
		if strings.ContainsRune(v, 0) {
			return p.fail("malformed attribute value")
		}
		o.attrs = append(o.attrs, attribute{key, v})
	}
}

func (p *parser) children(o *object, depth int) *wireError {
	if err := p.open('[', "expected an array of children"); err != nil {
		return err
	}
	for p.dec.More() {
		c, err := p.object(depth + 1)
		if err != nil {
			return err
		}
		o.children = append(o.children, c)
	}
	if _, err := p.dec.Token(); err != nil {
		return p.fail("malformed JSON")
	}
	return nil
}
