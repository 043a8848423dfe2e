package apicsim

import (
	"slices"
	"strings"
	"time"
)

// writer is who writes.
type writer struct {
	allow  func(dn string) bool // nil: everything
	fabric bool                 // the fabric itself: what only the APIC makes and sets, too
}

// write applies one body to the object at target, all or nothing. It returns what was
// done, and where.
func (s *Sim) write(target string, body []byte, by writer) (*tx, path, *wireError) {
	o, err := parseBody(body)
	if err != nil {
		return nil, path{}, err
	}
	if err := checkNames(o); err != nil {
		return nil, path{}, err
	}
	base, err := parsePath(target)
	if err != nil {
		return nil, path{}, err
	}
	at, err := locate(o, base)
	if err != nil {
		return nil, path{}, err
	}
	if by.allow != nil && !by.allow(at.dn()) {
		return nil, path{}, denied(403, textNoRights)
	}
	t := s.begin()
	t.fabric = by.fabric
	parent := t.s.fabric.find(at.parent())
	if parent == nil && t.fabric {
		parent = t.makePath(at.parent())
	}
	if err := t.apply(o, at, parent); err != nil {
		t.rollback()
		return nil, path{}, err
	}
	t.settle()
	t.commit()
	return t, at, nil
}

// textNoRights is what a write outside a user's domains gets. unverified: the text.
const textNoRights = "User does not have the privileges required for this request"

// remove is the DELETE method: as a body with status deleted.
func (s *Sim) remove(target string, allow func(dn string) bool) (*tx, *wireError) {
	at, err := parsePath(target)
	if err != nil {
		return nil, err
	}
	if allow != nil && !allow(at.dn()) {
		return nil, denied(403, textNoRights)
	}
	t := s.begin()
	if n := s.fabric.find(at); n != nil {
		if err := t.delete(n); err != nil {
			t.rollback()
			return nil, err
		}
	}
	t.settle()
	t.commit()
	return t, nil
}

// checkNames refuses classes and attributes that do not exist, before anything else is
// looked at. Source of the texts: apic-rest.md 3.3.
func checkNames(o *object) *wireError {
	c := schema[o.class]
	switch {
	case c == nil || c.phantom || o.class == root:
		return refuse(122, "unknown managed object class %s", o.class)
	case c.opaque:
		return notModeled("objects of class " + o.class)
	}
	for _, a := range o.attrs {
		if !c.takes(a.name) {
			return refuse(400, "unknown attribute '%s' in element '%s'", a.name, o.class)
		}
	}
	for _, k := range o.children {
		if err := checkNames(k); err != nil {
			return err
		}
	}
	return nil
}

// locate finds out where the outermost object of a body belongs: it is the object at base
// itself, or one that base contains, named by dn, rn or its naming properties.
func locate(o *object, base path) (path, *wireError) {
	c := schema[o.class]
	if dn, ok := o.attr("dn"); ok {
		p, err := parsePath(dn)
		if err != nil {
			return path{}, err
		}
		if !p.within(base) || p.class() != c {
			return path{}, badValue(dn, "dn", c, base.dn())
		}
		return p, checkIdentity(o, p)
	}
	if base.class() == c {
		return base, checkIdentity(o, base)
	}
	return locateChild(o, base)
}

// locateChild finds the place of an object right below parent.
func locateChild(o *object, parent path) (path, *wireError) {
	c := parent.class().child(o.class)
	if c == nil {
		return path{}, refuse(400, "Invalid request. Can not contain child '%s' under parent '%s'", o.class, parent.class().name)
	}
	below := func(rn string) path {
		return path{append(slices.Clip(parent.classes), c), append(slices.Clip(parent.rns), rn)}
	}
	if dn, ok := o.attr("dn"); ok {
		p, err := parsePath(dn)
		if err != nil {
			return path{}, err
		}
		if p.class() != c || !slices.Equal(p.parent().rns, parent.rns) {
			return path{}, badValue(dn, "dn", c, parent.dn())
		}
		return p, checkIdentity(o, p)
	}
	if rn, ok := o.attr("rn"); ok && rn != "" {
		values, fits, valid := c.match(rn)
		if !fits || !valid {
			return path{}, refuse(104, "Invalid RN %s", rn)
		}
		p := below(c.rn(values...))
		return p, checkIdentity(o, p)
	}
	given, canonical := make([]string, len(c.parts)), make([]string, len(c.parts))
	for i, part := range c.parts {
		name, ok := c.props[part.prop].name, false
		if given[i], ok = o.attr(name); !ok {
			return path{}, refuse(822, "naming property ('%s.%s') is not set.", c.name, name)
		}
	}
	for i, part := range c.parts {
		naming, code := &c.props[part.prop], 0
		if canonical[i], code = naming.rule.check(given[i]); code != 0 {
			return path{}, invalid(code, given[i], naming.name, c, below(c.rn(given...)).dn())
		}
	}
	p := below(c.rn(canonical...))
	if again, err := parsePath(p.dn()); err != nil || !again.same(p) {
		return path{}, refuse(104, "Invalid RN %s", c.rn(given...)) // it could not be found again in a DN
	}
	return p, nil
}

// checkIdentity refuses an rn or a naming property that disagrees with where the object is.
//
// unverified: the code that travels with the text about naming properties.
func checkIdentity(o *object, p path) *wireError {
	c := p.class()
	if rn, ok := o.attr("rn"); ok && rn != "" {
		values, fits, valid := c.match(rn)
		if !fits || !valid || c.rn(values...) != p.rn() {
			return refuse(104, "Invalid RN %s", rn)
		}
	}
	if len(c.parts) == 0 {
		return nil
	}
	values, _, _ := c.match(p.rn())
	for i, part := range c.parts {
		naming := &c.props[part.prop]
		v, ok := o.attr(naming.name)
		if !ok {
			continue
		}
		canonical, code := naming.rule.check(v)
		if code != 0 {
			return invalid(code, v, naming.name, c, p.dn())
		}
		if canonical != values[i] {
			return createOnly(c, naming.name)
		}
	}
	return nil
}

func createOnly(c *class, name string) *wireError {
	return refuse(120, "Create-only and naming props cannot be modified after creation, class=%s, prop=%s", c.name, name)
}

// invalid is the refusal of a value that a rule answered with code.
func invalid(code int, value, name string, c *class, dn string) *wireError {
	if code == 801 {
		return refuse(801, "property %s of %s failed validation for value '%s'", name, dn, value)
	}
	return badValue(value, name, c, dn)
}

func badValue(value, name string, c *class, dn string) *wireError {
	return refuse(120, "unknown property value %s, name %s, class %s [(Dn0)] Dn0=%s, ", value, name, c.name, dn)
}

// notFound is the answer when a parent is missing. Source: apic-rest.md 3.3, code 102.
func notFound(dn string) *wireError {
	return refuse(102, "configured object ((Dn0)) not found Dn0=%s, ", dn)
}

// verb is what the attribute status asks for.
type verb uint8

const (
	upsert verb = iota
	create
	modify
	remove
)

// readStatus reads the attribute status. Source: apic-rest.md 3.2.
func readStatus(o *object, dn string) (verb, *wireError) {
	v, _ := o.attr("status")
	var words []string
	for w := range strings.SplitSeq(v, ",") {
		words = append(words, strings.TrimSpace(w))
	}
	slices.Sort(words)
	switch strings.Join(words, ",") {
	case "", "created,modified":
		return upsert, nil
	case "created":
		return create, nil
	case "modified":
		return modify, nil
	case "deleted":
		return remove, nil
	}
	return upsert, badValue(v, "status", schema[o.class], dn)
}

// apply merges o into the tree. parent is nil when it is missing or was just deleted.
func (t *tx) apply(o *object, p path, parent *node) *wireError {
	c := p.class()
	want, err := readStatus(o, p.dn())
	if err != nil {
		return err
	}
	var n *node
	if parent != nil {
		n = parent.children[p.rn()]
	}
	switch {
	case want == remove && n != nil:
		if err := t.delete(n); err != nil {
			return err
		}
		n = nil
	case want == remove:
	case n != nil && want == create:
		return refuse(103, "Cannot create %s (%s); object %s already exists.", c.label, c.name, p.dn())
	case n == nil && (parent == nil || (want == modify && !t.s.opts.ModifyCreates)):
		return notFound(p.dn())
	case c.foreign && !t.fabric:
		// unverified: the code and text for objects that only the APIC makes.
		return refuse(120, "class %s is not configurable, Dn0=%s, ", c.name, p.dn())
	case n == nil:
		n = t.create(parent, c, p.rn(), p.dn())
	}
	if n != nil {
		if err := t.assign(o, n); err != nil {
			return err
		}
	}
	for _, k := range o.children {
		kp, err := locateChild(k, p)
		if err != nil {
			return err
		}
		if err := t.apply(k, kp, n); err != nil {
			return err
		}
	}
	if n != nil && c.name == "l3extSubnet" {
		return checkSubnet(n)
	}
	return nil
}

// assign sets the attributes that o names; the others keep their values.
func (t *tx) assign(o *object, n *node) *wireError {
	for _, a := range o.attrs {
		i := n.class.find(a.name)
		if i < 0 {
			if a.name == "childAction" && a.value != "" {
				return notModeled("childAction")
			}
			continue // dn, rn and status have done their work
		}
		p := &n.class.props[i]
		if p.access == naming {
			continue // checked with the DN
		}
		if p.access == readOnly && !t.fabric {
			// unverified: how the APIC refuses read-only properties; that the rule for
			// create-only properties covers them is a guess.
			return createOnly(n.class, p.name)
		}
		v, code := p.rule.check(a.value)
		if code != 0 {
			return invalid(code, a.value, a.name, n.class, n.dn)
		}
		t.set(n, i, v)
	}
	return nil
}

// checkSubnet holds the rules between the flags of a subnet.
//
// Source: apic-rest.md 3.3 and 4.2. unverified: the code of the aggregate rule and the end
// of its text.
func checkSubnet(n *node) *wireError {
	scope := strings.Split(n.attr("scope"), ",")
	if slices.Contains(scope, "shared-security") && !slices.Contains(scope, "import-security") {
		return refuse(120, "External subnet's shared_security scope also needs import_security. Dn0=%s, ", n.dn)
	}
	if ip := n.attr("ip"); ip == "0.0.0.0/0" || ip == "::/0" {
		return nil
	}
	for f := range strings.SplitSeq(n.attr("aggregate"), ",") {
		if f == "import-rtctrl" || f == "export-rtctrl" {
			return refuse(120, "Invalid Configuration - "+
				"Import/Export Subnet Aggregation Supported Only for Default Prefix. Dn0=%s, ", n.dn)
		}
	}
	return nil
}

// op is what a transaction did to an object.
type op uint8

const (
	nothing op = iota
	created
	modified
	deleted
)

func (o op) String() string { return [...]string{"", "created", "modified", "deleted"}[o] }

// change is what became of one object in a transaction.
type change struct {
	n   *node
	op  op
	old map[int]string // modified: values before, by property
}

// tx is one transaction. Its changes are made in place and can be undone until commit.
type tx struct {
	s       *Sim
	fabric  bool // the fabric itself writes
	changes []*change
	of      map[*node]*change
	undo    []func()
	stamp   string // modTs of everything it touched
}

// stampLayout is how an APIC writes times. Source: apic-rest.md 6.2.
const stampLayout = "2006-01-02T15:04:05.000-07:00"

func (s *Sim) begin() *tx { return &tx{s: s, of: map[*node]*change{}} }

func (t *tx) note(n *node, o op) *change {
	c := &change{n: n, op: o}
	t.changes = append(t.changes, c)
	t.of[n] = c
	return c
}

// create adds an object with its defaults, and its implicit children.
func (t *tx) create(parent *node, c *class, rn, dn string) *node {
	n := &node{class: c, rn: dn[len(dn)-len(rn):], dn: dn, parent: parent, attrs: make([]string, len(c.props))}
	for i := range c.props {
		n.attrs[i] = c.props[i].def
	}
	if len(c.parts) > 0 {
		values, _, _ := c.match(rn)
		for i, p := range c.parts {
			n.attrs[p.prop] = values[i]
		}
	}
	if c.fixed {
		if i := c.find("uid"); i >= 0 {
			n.attrs[i] = "0" // Source: l3extRsEctx in imdata_l3extOut_full_subtree.json
		}
	}
	if parent.children == nil {
		parent.children = map[string]*node{}
	}
	parent.children[rn] = n
	t.note(n, created)
	t.undo = append(t.undo, func() { delete(parent.children, rn) })
	t.number(n)
	for _, name := range c.implicit {
		k := schema[name]
		t.create(n, k, k.rn(), dn+"/"+k.rn())
	}
	return n
}

// set changes one property; nothing is noted when it has the value already.
//
// unverified: that a write which changes nothing leaves modTs alone and makes no event.
func (t *tx) set(n *node, i int, v string) {
	before := n.attrs[i]
	if before == v {
		return
	}
	c := t.of[n]
	if c == nil {
		c = t.note(n, modified)
		c.old = map[int]string{}
	}
	if c.op == modified {
		if _, again := c.old[i]; !again {
			c.old[i] = before
		}
	}
	n.attrs[i] = v
	t.undo = append(t.undo, func() { n.attrs[i] = before })
}

// delete removes n and all below it. Source: apic-rest.md 3.3, code 107: implicit objects
// and those of every fabric stay. unverified: the full text.
func (t *tx) delete(n *node) *wireError {
	if n.class.fixed || n.system || n.parent == nil || (n.class.foreign && !t.fabric) {
		return refuse(107, "Cannot delete object %s", n.dn)
	}
	t.drop(n)
	return nil
}

// makePath creates what is missing on the way to the object at p, and returns that; nil if
// something is missing there that the APIC does not make by itself.
func (t *tx) makePath(p path) *node {
	n := t.s.fabric.top
	for i, rn := range p.rns {
		k, c := n.children[rn], p.classes[i]
		switch {
		case k != nil:
		case !c.foreign:
			return nil
		case c.name == "fabricNode":
			k = t.leaf(n, strings.TrimPrefix(rn, c.prefix))
		default:
			k = t.create(n, c, rn, strings.TrimPrefix(n.dn+"/"+rn, "/"))
		}
		n = k
	}
	return n
}

func (t *tx) drop(n *node) {
	delete(n.parent.children, n.rn)
	t.undo = append(t.undo, func() { n.parent.children[n.rn] = n })
	t.dropped(n)
}

// dropped notes the deletion of n and of each object below it: the parent first, as the
// captured events of a tenant show. Source: apic-rest.md 6.2.
func (t *tx) dropped(n *node) {
	c := t.of[n]
	switch {
	case c == nil:
		t.note(n, deleted)
	case c.op == created:
		c.op = nothing
	default:
		c.op = nothing
		t.note(n, deleted)
	}
	for _, k := range n.sorted() {
		t.dropped(k)
	}
}

func (t *tx) rollback() {
	for _, f := range slices.Backward(t.undo) {
		f()
	}
}

// commit stamps what changed, and announces it in the order in which it was touched.
func (t *tx) commit() {
	t.stamp = time.Now().Format(stampLayout)
	kept := t.changes[:0]
	for _, c := range t.changes {
		for i, v := range c.old {
			if c.n.attrs[i] == v {
				delete(c.old, i)
			}
		}
		if c.op == modified && len(c.old) == 0 {
			c.op = nothing
		}
		if c.op == nothing {
			continue
		}
		kept = append(kept, c)
		if c.n.class.modTs >= 0 && c.n.class.props[c.n.class.modTs].def != "never" {
			c.n.attrs[c.n.class.modTs] = t.stamp
		}
		switch c.op {
		case created:
			t.s.fabric.enlist(c.n)
		case deleted:
			t.s.fabric.strike(c.n)
		case modified, nothing:
		}
	}
	t.changes = kept
	if len(kept) == 0 {
		return
	}
	t.s.fabric.gen++
	for _, m := range *t.s.members {
		m.announce(t)
	}
	t.collide()
	t.deploy()
}
