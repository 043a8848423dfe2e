package apicsim

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// query is a GET on /api/mo or /api/class.
type query struct {
	class *class // of a class query, nil for a mo query
	at    path   // the object of a mo query, or the scope of a class query
	dn    string // of at

	target    string // self, children, subtree
	classes   []*class
	filter    filter
	subtree   string // rsp-subtree: no, children, full
	only      []*class
	subFilter filter
	include   include
	facets
	order    []orderBy
	page     int
	pageSize int // 0 is everything

	mayRead   func(dn string) bool // nil: everything
	subscribe bool
	refresh   time.Duration // lifetime of the subscription, 0 for the default
}

type orderBy struct {
	class *class
	attr  string
	order func(a, b string) int
	desc  bool
}

// parseParams reads the query string. The last of several values counts.
// Source: apic-rest.md 2.2 and 2.4.
func parseParams(raw string) (map[string]string, *wireError) {
	params := map[string]string{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		k, err1 := url.QueryUnescape(k)
		v, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil {
			return nil, refuse(400, "Invalid query '%s'", part)
		}
		params[k] = v
	}
	return params, nil
}

// badParam refuses a value that a parameter does not take. unverified: code and text.
func badParam(name, value string) *wireError {
	return refuse(400, "Invalid value '%s' for query parameter '%s'", value, name)
}

// newQuery reads the parameters that follow a mo or class URL. Parameters that an APIC
// knows and this one does not are refused; those that nobody knows are ignored, since the
// GUI adds some against caches.
func newQuery(c *class, at path, params map[string]string) (*query, *wireError) {
	q := &query{class: c, at: at, dn: at.dn(), target: "self", subtree: "no"}
	oneOf := func(name string, to *string, words ...string) *wireError {
		v, ok := params[name]
		if !ok {
			return nil
		}
		if !slices.Contains(words, v) {
			return badParam(name, v)
		}
		*to = v
		return nil
	}
	inc, sub := "all", "no"
	for _, err := range []*wireError{
		oneOf("query-target", &q.target, "self", "children", "subtree"),
		oneOf("rsp-subtree", &q.subtree, "no", "children", "full"),
		oneOf("rsp-prop-include", &inc, "all", "naming-only", "config-only"),
		oneOf("subscription", &sub, "yes", "no"),
	} {
		if err != nil {
			return nil, err
		}
	}
	q.include = map[string]include{"all": includeAll, "naming-only": includeNaming, "config-only": includeConfig}[inc]
	q.subscribe = sub == "yes"
	if _, ok := params["time-range"]; ok {
		return nil, notModeled("time-range")
	}
	if v, ok := params["rsp-subtree-include"]; ok {
		if err := q.parseInclude(v); err != nil {
			return nil, err
		}
	}
	if v, ok := params["refresh-timeout"]; ok {
		d, err := parseRefresh(v)
		if err != nil {
			return nil, err
		}
		q.refresh = d
	}
	return q, q.refine(params)
}

// parseRefresh reads refresh-timeout, in seconds.
func parseRefresh(v string) (time.Duration, *wireError) {
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 || n > 1<<30 {
		return 0, badParam("refresh-timeout", v)
	}
	return time.Duration(n) * time.Second, nil
}

// refine reads the parameters that name classes, and paging.
func (q *query) refine(params map[string]string) (err *wireError) {
	if q.classes, err = parseClasses(params, "target-subtree-class"); err != nil {
		return err
	}
	if q.only, err = parseClasses(params, "rsp-subtree-class"); err != nil {
		return err
	}
	if v := params["query-target-filter"]; v != "" {
		if q.filter, err = parseFilter(v, q.possible); err != nil {
			return err
		}
	}
	if v := params["rsp-subtree-filter"]; v != "" {
		if q.subFilter, err = parseFilter(v, q.possibleBelow); err != nil {
			return err
		}
	}
	if q.order, err = q.parseOrder(params["order-by"]); err != nil {
		return err
	}
	for name, to := range map[string]*int{"page": &q.page, "page-size": &q.pageSize} {
		v, ok := params[name]
		if !ok {
			continue
		}
		n, perr := strconv.Atoi(v)
		if perr != nil || n < 0 || n > 1<<30 || (name == "page-size" && n == 0) {
			return badParam(name, v)
		}
		*to = n
	}
	if _, ok := params["page"]; ok && q.pageSize == 0 {
		return badParam("page", params["page"]) // unverified: a page without page-size
	}
	return nil
}

// parseClasses reads a list of classes. Source: apic-rest.md 2.3, code 12 for a class that
// does not exist. unverified: its text.
func parseClasses(params map[string]string, name string) ([]*class, *wireError) {
	v, ok := params[name]
	if !ok {
		return nil, nil
	}
	var list []*class
	for n := range strings.SplitSeq(v, ",") {
		c := schema[strings.TrimSpace(n)]
		if c == nil || c.name == root || c.phantom {
			return nil, refuse(12, "class %s not found", n)
		}
		list = append(list, c)
	}
	return list, nil
}

// parseOrder reads class.prop|asc,class.prop|desc. unverified: that a class which cannot be in
// the result is refused, as filters refuse it.
func (q *query) parseOrder(v string) ([]orderBy, *wireError) {
	if v == "" {
		return nil, nil
	}
	var list []orderBy
	for term := range strings.SplitSeq(v, ",") {
		what, direction, _ := strings.Cut(strings.TrimSpace(term), "|")
		name, attr, _ := strings.Cut(what, ".")
		c := schema[name]
		switch {
		case c == nil || c.phantom:
			return nil, refuse(122, "class %s not found", name)
		case !c.shows(attr):
			return nil, refuse(121, "Prop '%s' not found in class '%s' property table", attr, name)
		case direction != "" && direction != "asc" && direction != "desc", !q.possible(c) && !(q.noScoped && c.fault):
			return nil, badParam("order-by", v)
		}
		list = append(list, orderBy{c, attr, orderOf(c, attr), direction == "desc"})
	}
	return list, nil
}

// possible reports whether an object of c could be in the result, whatever the tree holds.
func (q *query) possible(c *class) bool {
	if len(q.classes) > 0 {
		return slices.Contains(q.classes, c)
	}
	at := q.class
	if at == nil {
		at = q.at.class()
	}
	return c == at && q.target != "children" || at.holds(c, map[string]int{"self": 0, "children": 1, "subtree": maxDepth}[q.target])
}

// possibleBelow reports the same for what rsp-subtree adds to the objects of the result.
func (q *query) possibleBelow(c *class) bool {
	if c.fault && q.faults {
		return true
	}
	if len(q.only) > 0 {
		return q.subtree != "no" && slices.Contains(q.only, c)
	}
	for _, at := range schema {
		if q.possible(at) && at.holds(c, q.depth()) {
			return true
		}
	}
	return false
}

// matches reports whether n, as it is now or was when it was deleted, is in the result.
// It is what subscriptions ask of every change.
func (q *query) matches(n *node) bool {
	if len(q.classes) > 0 && !slices.Contains(q.classes, n.class) {
		return false
	}
	if q.mayRead != nil && !q.mayRead(n.dn) {
		return false
	}
	return q.covers(n) && (q.filter == nil || q.filter(n))
}

func (q *query) covers(n *node) bool {
	switch q.target {
	case "children":
		return n.parent != nil && q.base(n.parent)
	case "subtree":
		for ; n != nil; n = n.parent {
			if q.base(n) {
				return true
			}
		}
		return false
	}
	return q.base(n)
}

// base reports whether n is what the URL names.
func (q *query) base(n *node) bool {
	if q.class == nil {
		return n.dn == q.dn && n.parent != nil
	}
	return n.class == q.class && (q.dn == "" || strings.HasPrefix(n.dn, q.dn+"/"))
}

// run returns the result in its order.
func (q *query) run(f *fabric) []*node {
	var found []*node
	add := func(n *node) {
		if n.class.phantom {
			return
		}
		if len(q.classes) > 0 && !slices.Contains(q.classes, n.class) {
			return
		}
		if q.mayRead != nil && !q.mayRead(n.dn) {
			return
		}
		if q.filter == nil || q.filter(n) {
			found = append(found, n)
		}
	}
	expand := func(n *node) {
		switch q.target {
		case "children":
			for _, k := range n.children {
				add(k)
			}
		case "subtree":
			n.walk(add)
		default:
			add(n)
		}
	}
	if q.class != nil {
		for _, n := range f.byClass[q.class] {
			if q.base(n) {
				expand(n)
			}
		}
	} else if n := f.find(q.at); n != nil && n != f.top {
		expand(n)
	}
	if q.required {
		found = slices.DeleteFunc(found, func(n *node) bool { return len(q.kids(n, q.depth())) == 0 })
	}
	if q.noScoped {
		found = q.faultsBelow(found)
	}
	f.sort(found, q.order)
	return found
}

// sort orders a result. Where no order is asked for there is none: objects come by a hash
// that changes with every write, so that who relies on an order learns it.
//
// Source: apic-rest.md 2.1. unverified: how objects of several classes mix; here those of
// the class named first come first, and those of no named class last.
func (f *fabric) sort(list []*node, by []orderBy) {
	type keyed struct {
		n     *node
		hash  uint64
		rank  int    // of the first term that names the class of n
		value string // that it orders by
	}
	keys := make([]keyed, len(list))
	for i, n := range list {
		rank := slices.IndexFunc(by, func(o orderBy) bool { return o.class == n.class })
		keys[i] = keyed{n: n, hash: hash(n.dn, f.gen), rank: rank}
		if rank >= 0 {
			keys[i].value = n.attr(by[rank].attr)
		} else {
			keys[i].rank = len(by)
		}
	}
	slices.SortFunc(keys, func(a, b keyed) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		if a.rank < len(by) {
			if c := by[a.rank].compare(a.value, b.value); c != 0 {
				return c
			}
			for _, o := range by[a.rank+1:] {
				if o.class != a.n.class {
					continue
				}
				if c := o.compare(a.n.attr(o.attr), b.n.attr(o.attr)); c != 0 {
					return c
				}
			}
		}
		if a.hash != b.hash {
			return cmp.Compare(a.hash, b.hash)
		}
		return cmp.Compare(a.n.dn, b.n.dn)
	})
	for i := range keys {
		list[i] = keys[i].n
	}
}

func (o *orderBy) compare(a, b string) int {
	if o.desc {
		return o.order(b, a)
	}
	return o.order(a, b)
}

// hash is FNV-1a of salt and s.
func hash(s string, salt uint64) uint64 {
	h := uint64(14695981039346656037) ^ (salt * 0x9e3779b97f4a7c15)
	for i := range len(s) {
		h ^= uint64(s[i])
		h *= 1099511628211
	}
	return h ^ h>>29
}

// encode writes the page of the result that q asks for, and how many objects the whole
// result has. It refuses more than limit objects.
func (q *query) encode(f *fabric, found []*node, limit int) ([]byte, int, *wireError) {
	total := len(found)
	if q.count {
		// unverified: the attributes beside count.
		return []byte(`{"moCount":{"attributes":{"childAction":"","count":"` + strconv.Itoa(total) + `","dn":"","status":""}}}`), 1, nil
	}
	if q.pageSize > 0 {
		from := total
		if q.page < (total+q.pageSize-1)/q.pageSize {
			from = q.page * q.pageSize
		}
		found = found[from:min(total, from+q.pageSize)]
	}
	var b []byte
	left := limit
	for i, n := range found {
		if i > 0 {
			b = append(b, ',')
		}
		var ok bool
		if b, ok = q.encodeOne(b, f, n, formTop, q.depth(), &left); !ok {
			return nil, 0, refuse(400, textTooBig)
		}
	}
	return b, total, nil
}

func (q *query) depth() int {
	return map[string]int{"no": 0, "children": 1, "full": maxDepth}[q.subtree]
}

func (q *query) encodeOne(b []byte, f *fabric, n *node, as form, depth int, left *int) ([]byte, bool) {
	if *left--; *left < 0 {
		return nil, false
	}
	b = append(b, `{"`...)
	b = append(b, n.class.name...)
	b = append(b, `":{"attributes":`...)
	b = appendAttributes(b, n, as, q.include, "", nil)
	if kids := q.kids(n, depth); len(kids) > 0 {
		f.sort(kids, nil)
		for i, k := range kids {
			if i == 0 {
				b = append(b, `,"children":[`...)
			} else {
				b = append(b, ',')
			}
			var ok bool
			if b, ok = q.encodeOne(b, f, k, formNested, depth-1, left); !ok {
				return nil, false
			}
		}
		b = append(b, ']')
	}
	return append(b, `}}`...), true
}
