package apic

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// pageSize is how many objects one answer may hold. 10,000 and more are used in practice.
//
// Source: apic-rest.md 2.5.
const pageSize = 5000

// classes are what aci-sync knows of an L3Out.
var classes = []string{
	aci.ClassL3Out, aci.ClassRsEctx, aci.ClassExtEPG, aci.ClassSubnet,
	aci.ClassRsProv, aci.ClassRsCons, aci.ClassRsNode, aci.ClassTagAnnotation, aci.ClassFaultInst, aci.ClassFaultDelegate,
}

// incomplete is an answer that contradicts itself or the one before. It is temporary: the
// same read may succeed later.
func incomplete(r request, format string, args ...any) error {
	return fmt.Errorf("%s: incomplete answer: %s", r, fmt.Sprintf(format, args...))
}

// readL3Out reads everything of l that aci-sync knows: in one request if one page holds it, else
// subnets and tags, which are many, apart from the rest.
func (c *Client) readL3Out(ctx context.Context, l aci.L3Out) ([]aci.MO, error) {
	base := request{op: "read", dn: l.DN(), path: moPath(l.DN())}
	objects, all, err := c.readTogether(ctx, base, classes)
	switch {
	case err != nil:
		return nil, err
	case all:
		return flat(base, objects)
	}
	many := []string{aci.ClassSubnet, aci.ClassTagAnnotation}
	few := slices.DeleteFunc(slices.Clone(classes), func(class string) bool { return slices.Contains(many, class) })
	objects, all, err = c.readTogether(ctx, base, few)
	if err != nil {
		return nil, err
	}
	if !all {
		objects, many = nil, classes
	}
	for _, class := range many {
		of, err := c.readPages(ctx, base, class, "query-target=subtree", "target-subtree-class="+class)
		if err != nil {
			return nil, err
		}
		objects = append(objects, of...)
	}
	return flat(base, objects)
}

// readTogether reads objects of several classes below an object; false when there are more than one
// page holds, because order-by is clear for a single class only.
func (c *Client) readTogether(ctx context.Context, base request, classes []string) (objects []aci.MO, all bool, err error) {
	params := []string{"query-target=subtree", "target-subtree-class=" + strings.Join(classes, ",")}
	objects, total, err := c.page(ctx, base, params, 0)
	return objects, total <= pageSize, err
}

// readPages reads all objects of one class in pages ordered by DN.
//
// An object can slip from one page to another when others come and go while the pages are
// read. It is seen if the count changes; else events tell of those that came and went, and
// the periodic read finds what slipped.
func (c *Client) readPages(ctx context.Context, base request, class string, params ...string) ([]aci.MO, error) {
	params = append(params, "order-by="+class+".dn|asc")
	objects, total, err := c.page(ctx, base, params, 0)
	if err != nil {
		return nil, err
	}
	for n := 1; len(objects) < total; n++ {
		next, now, err := c.page(ctx, base, params, n)
		if err != nil {
			return nil, err
		}
		if now != total {
			return nil, incomplete(base, "%s counted %d on page 0 and %d on page %d", class, total, now, n)
		}
		objects = append(objects, next...)
	}
	return objects, nil
}

// page reads page n and checks that it holds what its count says.
//
// Source: apic-rest.md 2.5: totalCount is the total over all pages; a busy APIC may answer
// 200 with a count and no objects.
func (c *Client) page(ctx context.Context, r request, params []string, n int) ([]aci.MO, int, error) {
	r.query = query(append(slices.Clip(params), "page="+strconv.Itoa(n), "page-size="+strconv.Itoa(pageSize))...)
	rep, err := c.call(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	if rep.TotalCount < 0 {
		return nil, 0, incomplete(r, "no totalCount")
	}
	if want := min(pageSize, max(0, rep.TotalCount-n*pageSize)); len(rep.Objects) != want {
		return nil, 0, incomplete(r, "page %d holds %d objects of %d, not %d", n, len(rep.Objects), rep.TotalCount, want)
	}
	return rep.Objects, rep.TotalCount, nil
}

// whole reads an answer without pages and checks that it holds what its count says.
func (c *Client) whole(ctx context.Context, r request) ([]aci.MO, error) {
	rep, err := c.call(ctx, r)
	switch {
	case err != nil:
		return nil, err
	case rep.TotalCount < 0:
		return nil, incomplete(r, "no totalCount")
	case !rep.Complete():
		return nil, incomplete(r, "%d objects of %d", len(rep.Objects), rep.TotalCount)
	}
	return flat(r, rep.Objects)
}

// flat makes a list without children of objects and their children. Each must have a DN,
// and one of its own, at or below the object that was asked for.
func flat(r request, objects []aci.MO) ([]aci.MO, error) {
	out := make([]aci.MO, 0, len(objects))
	var walk func([]aci.MO)
	walk = func(objects []aci.MO) {
		for _, m := range objects {
			children := m.Children
			m.Children = nil
			out = append(out, m)
			walk(children)
		}
	}
	walk(objects)
	seen := make(map[aci.DN]bool, len(out))
	for _, m := range out {
		switch {
		case m.DN == "":
			return nil, incomplete(r, "a %s without DN", m.Class)
		case seen[m.DN]:
			return nil, incomplete(r, "%s twice", m.DN)
		case r.path == moPath(r.dn) && !m.DN.Within(r.dn):
			return nil, incomplete(r, "%s is not in it", m.DN)
		}
		seen[m.DN] = true
	}
	return out, nil
}

// ReadEPG reads everything at and below e, of all classes: what a judgement before the
// deletion of an EPG needs, and the state after a 103. It does not subscribe. No objects
// mean that e does not exist. What the APIC itself hangs below an object, such as implicit
// relations, faults and health, is part of it.
func (c *Client) ReadEPG(ctx context.Context, e aci.ExtEPG) (aci.Update, error) {
	objects, err := c.whole(ctx, request{
		op: "read", dn: e.DN(), path: moPath(e.DN()), query: query("query-target=subtree"),
	})
	if err != nil {
		return aci.Update{}, err
	}
	return aci.Update{Kind: aci.FullRead, Root: e.DN(), Objects: objects}, nil
}

// maxQuery bounds the query of one request, in bytes.
//
// Source: apic-rest.md 2.4: the web server takes request lines of about 8 KB.
const maxQuery = 6000

// ReadObjects reads the objects with these DNs and their tags (tagAnnotation): a flat list,
// without the objects that do not exist. One object is one request; several EPGs, or several
// subnets, of one L3Out share requests of up to maxQuery bytes.
func (c *Client) ReadObjects(ctx context.Context, dns []aci.DN) ([]aci.MO, error) {
	type set struct {
		root  aci.DN
		class string
	}
	groups := map[set][]aci.DN{}
	var order []set
	dns = slices.Clone(dns)
	slices.Sort(dns)
	for _, dn := range slices.Compact(dns) {
		g := set{root: dn}
		if l, ok := aci.L3OutOf(dn); ok && classOf(dn) != "" {
			g = set{root: l.DN(), class: classOf(dn)}
		}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], dn)
	}
	var out []aci.MO
	for _, g := range order {
		for _, chunk := range chunks(g.class, groups[g]) {
			objects, err := c.readSome(ctx, g.root, g.class, chunk)
			if err != nil {
				return nil, err
			}
			out = append(out, objects...)
		}
	}
	return out, nil
}

// classOf tells from its last RN the class of an object that ReadObjects can ask for
// together with others; "" for the rest.
func classOf(dn aci.DN) string {
	switch rn := dn.RN(); {
	case strings.HasPrefix(rn, "extsubnet-["):
		return aci.ClassSubnet
	case strings.HasPrefix(rn, "instP-"):
		return aci.ClassExtEPG
	}
	return ""
}

func equals(class string, dn aci.DN) string { return `eq(` + class + `.dn,"` + string(dn) + `")` }

// chunks splits dns so that the filter of each chunk fits a request line.
func chunks(class string, dns []aci.DN) [][]aci.DN {
	var out [][]aci.DN
	start, size := 0, 0
	for i, dn := range dns {
		n := len(encode(equals(class, dn))) + 1
		if size+n > maxQuery && i > start {
			out = append(out, dns[start:i])
			start, size = i, 0
		}
		size += n
	}
	return append(out, dns[start:])
}

// readSome reads dns, all of class and below root, with their tags.
//
// Source: apic-rest.md 4.4: aci-containers reads tags as children before it deletes.
func (c *Client) readSome(ctx context.Context, root aci.DN, class string, dns []aci.DN) ([]aci.MO, error) {
	tags := []string{"rsp-subtree=children", "rsp-subtree-class=" + aci.ClassTagAnnotation}
	if len(dns) == 1 {
		return c.whole(ctx, request{op: "read", dn: dns[0], path: moPath(dns[0]), query: query(tags...)})
	}
	terms := make([]string, len(dns))
	for i, dn := range dns {
		terms[i] = equals(class, dn)
	}
	params := append([]string{
		"query-target=subtree", "target-subtree-class=" + class,
		"query-target-filter=or(" + strings.Join(terms, ",") + ")",
	}, tags...)
	return c.whole(ctx, request{op: "read", dn: root, path: moPath(root), query: query(params...)})
}

// CountEPGs counts the external EPGs of the fabric, as far as the user may read it. One request, whose
// answer is one number.
//
// Source: apic-rest.md 2.2: rsp-subtree-include=count yields one moCount. unverified: that it counts no more
// than the user is shown, as a read does.
func (c *Client) CountEPGs(ctx context.Context) (int, error) {
	r := request{op: "count", path: "/api/class/" + aci.ClassExtEPG + ".json", query: query("rsp-subtree-include=count")}
	rep, err := c.call(ctx, r)
	if err != nil {
		return 0, err
	}
	if len(rep.Objects) != 1 || rep.Objects[0].Class != "moCount" {
		return 0, incomplete(r, "%d objects, and no count", len(rep.Objects))
	}
	n, err := strconv.Atoi(rep.Objects[0].Attrs["count"])
	if err != nil || n < 0 {
		return 0, incomplete(r, "the count is %q", rep.Objects[0].Attrs["count"])
	}
	return n, nil
}

// PauseTags lists the DNs at and below l that bear the tag aci.PauseKey, sorted. One request.
func (c *Client) PauseTags(ctx context.Context, l aci.L3Out) ([]aci.DN, error) {
	tags, err := c.whole(ctx, request{
		op: "read", dn: l.DN(), path: moPath(l.DN()), query: query(
			"query-target=subtree", "target-subtree-class="+aci.ClassTagAnnotation,
			`query-target-filter=eq(tagAnnotation.key,"`+aci.PauseKey+`")`),
	})
	if err != nil {
		return nil, err
	}
	var out []aci.DN
	for _, t := range tags {
		if t.Class == aci.ClassTagAnnotation && t.Attrs["key"] == aci.PauseKey {
			out = append(out, t.DN.Parent())
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Marks lists the DNs of the L3Outs at or below which an object bears the mark of o, as far
// as the user may read the fabric; sorted. Copies of marks do not count.
//
// Source: apic-rest.md 2.3: wcard takes an unanchored regular expression. unverified: that
// its "^" anchors; whatever it matches is checked again here.
func (c *Client) Marks(ctx context.Context, o aci.Owner) ([]aci.DN, error) {
	// Of what an owner may hold only the dot means something in a regular expression. In
	// brackets it needs no backslash, which would need encoding.
	pattern := "^" + strings.ReplaceAll(string(o), ".", "[.]") + " uni/"
	tags, err := c.readPages(ctx, request{op: "marks", path: "/api/class/" + aci.ClassTagAnnotation + ".json"},
		aci.ClassTagAnnotation,
		`query-target-filter=and(eq(tagAnnotation.key,"`+aci.OwnerKey+`"),wcard(tagAnnotation.value,"`+pattern+`"))`)
	if err != nil {
		return nil, err
	}
	var out []aci.DN
	for _, t := range tags {
		bearer := t.DN.Parent()
		if aci.MarkedBy(t.Attrs["value"], bearer) != o {
			continue
		}
		if l, ok := aci.L3OutOf(bearer); ok {
			out = append(out, l.DN())
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
