package apicsim

import (
	"cmp"
	"slices"
	"strings"
)

// access says who sets a property.
type access uint8

const (
	config   access = iota // by whoever writes, at any time
	naming                 // at creation; part of the RN
	readOnly               // by the APIC
	secret                 // by whoever writes; shown to nobody
)

type prop struct {
	name   string
	access access
	def    string
	rule   rule
}

// slot is one attribute of the wire form: a stored property, or one that every object has
// and none stores.
type slot struct {
	virtual string // childAction, dn, rn, status; "" for a property
	prop    int
}

// part is a stretch of an RN: fixed text, and the value of a naming property behind it.
type part struct {
	text     string
	prop     int // index in class.props
	brackets bool
}

type class struct {
	name     string
	label    string // as in the text of error 103
	form     string // of the RN: {prop} is the value of a naming property, [{prop}] one in brackets
	parents  []string
	implicit []string // children that come into being with the object

	tagged  bool // may bear tagAnnotation, tagTag and tagInst
	fixed   bool // made by the APIC with its parent: may be modified, never deleted
	foreign bool // made and deleted by the APIC alone
	hidden  bool // changes are not announced to subscriptions
	opaque  bool // a class of the real APIC that has no objects here
	account bool // about users; no part of a dump
	phantom bool // there to carry the DNs of others; never shown
	fault   bool // a fault, which a subtree shows on request only

	props []prop // sorted by name once linked

	// What link derives.
	parts    []part         // of the RN; none where it is always the same
	prefix   string         // what the RN begins with, all of it where there are no parts
	index    map[string]int // name -> index in props
	wire     []slot         // sorted by name
	children []*class       // longest prefix first
	modTs    int            // index in props
}

// find returns the index of the property name, -1 where the class has none.
func (c *class) find(name string) int {
	if i, ok := c.index[name]; ok {
		return i
	}
	return -1
}

// takes reports whether a body may name an attribute of objects of c.
func (c *class) takes(name string) bool {
	switch name {
	case "childAction", "dn", "rn", "status":
		return true
	}
	return c.opaque || c.find(name) >= 0
}

// shows reports whether objects of c show an attribute of that name. What they take and do
// not show can be neither filtered nor sorted by. unverified: that.
func (c *class) shows(name string) bool {
	i := c.find(name)
	return c.takes(name) && (i < 0 || c.props[i].access != secret)
}

// child finds the class by name among those that c may contain.
func (c *class) child(name string) *class {
	for _, k := range c.children {
		if k.name == name {
			return k
		}
	}
	return nil
}

// holds reports whether an object of k can be below one of c, down to depth levels. Classes
// without objects can be anywhere.
func (c *class) holds(k *class, depth int) bool {
	if depth <= 0 {
		return false
	}
	return k.opaque || slices.ContainsFunc(c.children, func(sub *class) bool { return sub == k || sub.holds(k, depth-1) })
}

// rn makes the relative name of an object of c from the values of its naming properties.
func (c *class) rn(values ...string) string {
	if len(c.parts) == 0 {
		return c.prefix
	}
	var b strings.Builder
	for i, p := range c.parts {
		b.WriteString(p.text)
		if p.brackets {
			b.WriteString("[" + values[i] + "]")
		} else {
			b.WriteString(values[i])
		}
	}
	return b.String()
}

// match reads rn as an object of c: the values of its naming properties, spelled as the
// APIC spells them. fits is false when rn is not of this class at all; valid when the
// values are ones that the naming properties take.
func (c *class) match(rn string) (values []string, fits, valid bool) {
	if len(c.parts) == 0 {
		return nil, rn == c.prefix, true
	}
	rest, ok := rn, false
	valid = true
	for _, p := range c.parts {
		if rest, ok = strings.CutPrefix(rest, p.text); !ok {
			return nil, false, false
		}
		v := rest // without brackets it is the last one, and reaches to the end
		rest = ""
		if p.brackets {
			if v, rest, ok = cutBrackets(v); !ok {
				return nil, false, false
			}
		}
		canonical, code := c.props[p.prop].rule.check(v)
		valid = valid && code == 0
		values = append(values, canonical)
	}
	return values, rest == "", valid
}

// cutBrackets splits "[inner]after". Brackets inside are balanced.
func cutBrackets(s string) (inner, after string, ok bool) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:], true
			}
		}
		if depth == 0 {
			return "", "", false // does not begin with a bracket
		}
	}
	return "", "", false
}

// link completes the classes of a list and returns them by name.
func link(list []*class) map[string]*class {
	table := make(map[string]*class, len(list))
	var tagged []string
	for _, c := range list {
		table[c.name] = c
		if c.tagged {
			tagged = append(tagged, c.name)
		}
	}
	for _, c := range list {
		if c.parents == nil && strings.HasPrefix(c.name, "tag") {
			c.parents = tagged
		}
		c.props = slices.Clone(c.props)
		slices.SortFunc(c.props, func(a, b prop) int { return cmp.Compare(a.name, b.name) })
		c.index = make(map[string]int, len(c.props))
		for _, v := range []string{"childAction", "dn", "rn", "status"} {
			c.wire = append(c.wire, slot{virtual: v})
		}
		for i, p := range c.props {
			c.index[p.name] = i
			if p.access != secret {
				c.wire = append(c.wire, slot{prop: i})
			}
		}
		slices.SortFunc(c.wire, func(a, b slot) int { return cmp.Compare(c.slotName(a), c.slotName(b)) })
		c.modTs = c.find("modTs")
		c.parseForm()
		for _, p := range c.parents {
			table[p].children = append(table[p].children, c)
		}
	}
	for _, c := range list {
		slices.SortStableFunc(c.children, func(a, b *class) int { return len(b.prefix) - len(a.prefix) })
	}
	return table
}

// parseForm takes the form of the RN apart.
func (c *class) parseForm() {
	c.prefix, _, _ = strings.Cut(strings.ReplaceAll(c.form, "[{", "{"), "{")
	for rest := c.form; strings.Contains(rest, "{"); {
		before, after, _ := strings.Cut(rest, "{")
		name, after, _ := strings.Cut(after, "}")
		text, brackets := strings.CutSuffix(before, "[")
		if brackets {
			after = strings.TrimPrefix(after, "]")
		}
		c.parts = append(c.parts, part{text, c.find(name), brackets})
		rest = after
	}
}

func (c *class) slotName(s slot) string {
	if s.virtual != "" {
		return s.virtual
	}
	return c.props[s.prop].name
}
