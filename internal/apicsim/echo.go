package apicsim

// echo writes what a POST changed: the object it was posted to with its changed objects
// nested, each with its status; or with all its objects when full. It returns how many
// objects stand at the top.
//
// Source: apic-rest.md 3.1 and 2.2, rsp-subtree=modified. unverified: the shape.
func (t *tx) echo(at path, full bool) ([]byte, int) {
	var top *node
	for _, c := range t.changes {
		if c.n.dn == at.dn() {
			top = c.n
		}
	}
	if n := t.s.fabric.find(at); n != nil {
		top = n
	}
	if top == nil {
		return nil, 0
	}
	deletedBelow := map[*node][]*node{}
	touched := map[*node]bool{}
	for _, c := range t.changes {
		if c.op == deleted {
			deletedBelow[c.n.parent] = append(deletedBelow[c.n.parent], c.n)
		}
		for n := c.n; n != nil && !touched[n]; n = n.parent {
			touched[n] = true
		}
	}
	if !full && !touched[top] {
		return nil, 0
	}
	var write func(b []byte, n *node, as form) []byte
	write = func(b []byte, n *node, as form) []byte {
		status, gone := "", false
		if c := t.of[n]; c != nil {
			status, gone = c.op.String(), c.op == deleted
		}
		b = append(b, `{"`+n.class.name+`":{"attributes":`...)
		b = appendAttributes(b, n, as, includeAll, status, nil)
		kids := n.sorted()
		if gone {
			kids = nil
		}
		kids = append(kids, deletedBelow[n]...)
		first := true
		for _, k := range kids {
			if k.class.fault || (!full && !touched[k]) {
				continue
			}
			if first {
				b = append(b, `,"children":[`...)
			} else {
				b = append(b, ',')
			}
			first = false
			b = write(b, k, formNested)
		}
		if !first {
			b = append(b, ']')
		}
		return append(b, `}}`...)
	}
	return write(nil, top, formTop), 1
}
