package apicsim

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// filter decides whether an object is in a result.
type filter func(*node) bool

// parseFilter reads the filter language of query-target-filter. allowed reports whether
// objects of a class can be in the result at all.
//
// Source: apic-rest.md 2.3. unverified: the texts of code 301 other than the captured one,
// and that values must be quoted.
func parseFilter(s string, allowed func(*class) bool) (filter, *wireError) {
	p := &filterParser{in: s, allowed: allowed}
	f, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.in) {
		return nil, p.fail()
	}
	return f, nil
}

type filterParser struct {
	in      string
	at      int
	allowed func(*class) bool
}

func (p *filterParser) fail() *wireError {
	return refuse(301, "Incorrect filter format at position %d of '%s'", p.at, p.in)
}

func (p *filterParser) space() {
	for p.at < len(p.in) && p.in[p.at] == ' ' {
		p.at++
	}
}

func (p *filterParser) accept(c byte) bool {
	p.space()
	if p.at < len(p.in) && p.in[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *filterParser) word() string {
	p.space()
	from := p.at
	for p.at < len(p.in) && (isLetter(p.in[p.at]) || p.in[p.at] == '.') {
		p.at++
	}
	return p.in[from:p.at]
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// quoted reads a value in double quotes; a backslash before a quote escapes it, and stays
// itself before anything else, so that regular expressions read as they are written.
func (p *filterParser) quoted() (string, bool) {
	if !p.accept('"') {
		return "", false
	}
	var b strings.Builder
	for ; p.at < len(p.in); p.at++ {
		switch c := p.in[p.at]; {
		case c == '"':
			p.at++
			return b.String(), true
		case c == '\\' && p.at+1 < len(p.in) && p.in[p.at+1] == '"':
			p.at++
			b.WriteByte('"')
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

func (p *filterParser) expression(depth int) (filter, *wireError) {
	if depth > maxDepth {
		return nil, p.fail()
	}
	name := p.word()
	if name == "" || !p.accept('(') {
		return nil, p.fail()
	}
	switch name {
	case "true", "false":
		if !p.accept(')') {
			return nil, p.fail()
		}
		return func(*node) bool { return name == "true" }, nil
	case "and", "or", "xor", "not":
		return p.combine(name, depth)
	case "eq", "ne", "lt", "le", "gt", "ge", "wcard", "anybit":
		return p.compare(name, 1)
	case "bw":
		return p.compare(name, 2)
	}
	return nil, refuse(301, "no such filter type %s", name)
}

func (p *filterParser) combine(name string, depth int) (filter, *wireError) {
	var of []filter
	for {
		f, err := p.expression(depth + 1)
		if err != nil {
			return nil, err
		}
		of = append(of, f)
		if p.accept(')') {
			break
		}
		if !p.accept(',') {
			return nil, p.fail()
		}
	}
	count := func(n *node) (yes int) {
		for _, f := range of {
			if f(n) {
				yes++
			}
		}
		return yes
	}
	switch name {
	case "and":
		return func(n *node) bool { return count(n) == len(of) }, nil
	case "or":
		return func(n *node) bool { return count(n) > 0 }, nil
	case "xor":
		return func(n *node) bool { return count(n)%2 == 1 }, nil
	}
	if len(of) != 1 {
		return nil, p.fail()
	}
	return func(n *node) bool { return !of[0](n) }, nil
}

func (p *filterParser) compare(name string, count int) (filter, *wireError) {
	c, attr, err := p.property()
	if err != nil {
		return nil, err
	}
	var values []string
	for p.accept(',') {
		v, ok := p.quoted()
		if !ok {
			return nil, p.fail()
		}
		values = append(values, v)
	}
	if !p.accept(')') || len(values) != count {
		return nil, p.fail()
	}
	test, err := comparison(name, c, attr, values)
	if err != nil {
		return nil, err
	}
	// unverified: objects of other classes in the same result do not pass a comparison.
	return func(n *node) bool { return n.class == c && test(n.attr(attr)) }, nil
}

// property reads class.prop. Source: apic-rest.md 2.3, codes 121 and 122.
func (p *filterParser) property() (*class, string, *wireError) {
	className, attr, ok := strings.Cut(p.word(), ".")
	if !ok {
		return nil, "", p.fail()
	}
	c := schema[className]
	switch {
	case c == nil || c.phantom:
		return nil, "", refuse(122, "class %s not found", className)
	case !c.shows(attr):
		return nil, "", refuse(121, "Prop '%s' not found in class '%s' property table", attr, className)
	case !p.allowed(c):
		return nil, "", refuse(301, "Incorrect filter format, class %s is not in the result", className)
	}
	return c, attr, nil
}

func comparison(name string, c *class, attr string, values []string) (func(string) bool, *wireError) {
	want := values[0]
	bad := refuse(301, "Incorrect filter format for %s.%s, value '%s' is not valid", c.name, attr, want)
	if i := c.find(attr); i >= 0 && (name == "eq" || name == "ne") {
		if r := &c.props[i].rule; r.kind == ruleWord {
			v, code := r.check(want)
			if code != 0 {
				return nil, bad
			}
			want = v
		}
	}
	switch name {
	case "eq":
		return func(v string) bool { return v == want }, nil
	case "ne":
		return func(v string) bool { return v != want }, nil
	case "lt":
		return func(v string) bool { return order(v, want) < 0 }, nil
	case "le":
		return func(v string) bool { return order(v, want) <= 0 }, nil
	case "gt":
		return func(v string) bool { return order(v, want) > 0 }, nil
	case "ge":
		return func(v string) bool { return order(v, want) >= 0 }, nil
	case "bw":
		return func(v string) bool { return order(v, want) >= 0 && order(v, values[1]) <= 0 }, nil
	case "anybit":
		bits := strings.Split(want, ",")
		return func(v string) bool {
			return slices.ContainsFunc(strings.Split(v, ","), func(b string) bool { return slices.Contains(bits, b) })
		}, nil
	}
	// wcard: an unanchored regular expression, whose leading * is a bad pattern.
	re, err := regexp.Compile(want)
	if err != nil {
		return nil, bad
	}
	return re.MatchString, nil
}

// order compares numbers as numbers and everything else as text.
func order(a, b string) int {
	if isNumber(a) && isNumber(b) {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	}
	return cmp.Compare(a, b)
}

// isNumber reports whether s is a number without sign or leading zero, which orders by
// its length first.
func isNumber(s string) bool {
	if s == "" || (s[0] == '0' && len(s) > 1) {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
