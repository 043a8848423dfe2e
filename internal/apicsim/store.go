package apicsim

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// node is a managed object in the tree.
type node struct {
	class    *class
	rn, dn   string
	attrs    []string // values, as class.props
	parent   *node    // stays set when the object is deleted
	children map[string]*node
	system   bool // part of every fabric: cannot be deleted
	pos      int  // in fabric.byClass
}

func (n *node) attr(name string) string {
	switch name {
	case "dn":
		return n.dn
	case "rn":
		return n.rn
	case "childAction", "status":
		return ""
	}
	if i := n.class.find(name); i >= 0 {
		return n.attrs[i]
	}
	return ""
}

// has reports whether n has a child of the class.
func (n *node) has(class string) bool {
	for _, k := range n.children {
		if k.class.name == class {
			return true
		}
	}
	return false
}

// sorted returns the children by RN.
func (n *node) sorted() []*node {
	kids := slices.Collect(maps.Values(n.children))
	slices.SortFunc(kids, func(a, b *node) int { return cmp.Compare(a.rn, b.rn) })
	return kids
}

// walk visits n and all below it, parents first. Children come in no order.
func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, k := range n.children {
		k.walk(visit)
	}
}

// fabric is the tree of managed objects. Its owner guards it.
type fabric struct {
	top     *node
	byClass map[*class][]*node
	gen     uint64 // counts transactions that changed something
	vnids   int    // VRFs numbered so far
	pcTags  int    // external EPGs and VRFs numbered so far
}

func newFabric() *fabric {
	return &fabric{
		top:     &node{class: schema[root], children: map[string]*node{}},
		byClass: map[*class][]*node{},
	}
}

// path is a DN read against the class table: the class of each RN, with naming values in
// the APIC's spelling.
type path struct {
	classes []*class
	rns     []string
}

func (p path) class() *class {
	if len(p.classes) == 0 {
		return schema[root]
	}
	return p.classes[len(p.classes)-1]
}

func (p path) dn() string { return strings.Join(p.rns, "/") }

func (p path) rn() string {
	if len(p.rns) == 0 {
		return ""
	}
	return p.rns[len(p.rns)-1]
}

func (p path) parent() path {
	n := len(p.rns) - 1
	return path{p.classes[:n], p.rns[:n]}
}

// within reports whether p is q or lies below it.
func (p path) within(q path) bool {
	return len(p.rns) >= len(q.rns) && slices.Equal(p.rns[:len(q.rns)], q.rns)
}

// same reports whether p and q name the same object, read as the same classes.
func (p path) same(q path) bool {
	return slices.Equal(p.rns, q.rns) && slices.Equal(p.classes, q.classes)
}

// parsePath reads dn. "" is the top of everything.
//
// Source of the texts: apic-rest.md 2.7. unverified: the code of the first, and that its
// position counts characters.
func parsePath(dn string) (path, *wireError) {
	if dn == "" {
		return path{}, nil
	}
	d, err := aci.ParseDN(dn)
	if err != nil {
		return path{}, refuse(104, "Invalid DN %s", dn)
	}
	p := path{}
	at := schema[root]
	position := 0
	for _, rn := range d.RNs() {
		c, canonical, fits := matchRN(at, rn)
		switch {
		case c == nil && !fits:
			return path{}, refuse(104, "Invalid DN %s wrong rn prefix %s at position %d", dn, rn, position)
		case c == nil:
			return path{}, refuse(104, "Invalid RN %s", rn)
		}
		p.classes, p.rns = append(p.classes, c), append(p.rns, canonical)
		at = c
		position += len(rn) + 1
	}
	return p, nil
}

// matchRN finds the class of the object rn below an object of class parent, and the RN in
// the APIC's spelling. fits is true when the RN has the form of a class there.
func matchRN(parent *class, rn string) (c *class, canonical string, fits bool) {
	for _, k := range parent.children {
		values, f, valid := k.match(rn)
		if f && valid {
			return k, k.rn(values...), true
		}
		fits = fits || f
	}
	return nil, "", fits
}

// find returns the object at p, or nil.
func (f *fabric) find(p path) *node {
	n := f.top
	for _, rn := range p.rns {
		if n = n.children[rn]; n == nil {
			return nil
		}
	}
	return n
}

// lookup is find for a DN that this package made itself.
func (f *fabric) lookup(rns ...string) *node { return f.find(path{rns: rns}) }

func (f *fabric) enlist(n *node) {
	list := f.byClass[n.class]
	n.pos = len(list)
	f.byClass[n.class] = append(list, n)
}

func (f *fabric) strike(n *node) {
	list := f.byClass[n.class]
	last := list[len(list)-1]
	list[n.pos], last.pos = last, n.pos
	list[len(list)-1] = nil
	f.byClass[n.class] = list[:len(list)-1]
}
