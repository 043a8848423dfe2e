package apicsim

import (
	"slices"
	"strings"
)

// facets is what rsp-subtree-include asks for.
type facets struct {
	count    bool // how many objects there are, instead of them
	faults   bool // the faults of the objects and of what is below them
	noScoped bool // these alone, not the objects
	required bool // no object that has nothing to show below it
}

// parseInclude reads rsp-subtree-include.
//
// Source: Cisco's REST API Configuration Guide, "Applying Query Scoping Filters", for the words;
// docs/docs/validations.md of s:preup ("faults,no-scoped" gives faults of deeper objects, at the
// top) and what its checks ask for with required. unverified: what the word subtree changes,
// which real clients send with faults,no-scoped; here nothing. Of relations it is known only
// that the targets of relations come at the top, beside the object; not those of which
// relations.
func (q *query) parseInclude(v string) *wireError {
	words := strings.Split(v, ",")
	for _, w := range words {
		switch strings.TrimSpace(w) {
		case "count":
			q.count = true
		case "faults":
			q.faults = true
		case "no-scoped":
			q.noScoped = true
		case "required":
			q.required = true
		case "subtree":
		case "audit-logs", "config-only", "deployment", "event-logs", "fault-count", "fault-records", "health", "health-records",
			"local-prefix", "port-deployment", "record-subtree", "relations", "relations-with-parent", "state", "stats", "tasks":
			return notModeled("rsp-subtree-include=" + w)
		default:
			return badParam("rsp-subtree-include", v)
		}
	}
	switch {
	case q.count && (len(words) > 1 || q.subtree != "no"):
		return notModeled("rsp-subtree-include=count together with other objects")
	case q.noScoped && (!q.faults || q.subtree != "no"):
		return notModeled("rsp-subtree-include=no-scoped without faults, or with rsp-subtree")
	case q.required && !q.faults && q.subtree == "no":
		return notModeled("rsp-subtree-include=required without rsp-subtree")
	case slices.Contains(words, "subtree") && !q.noScoped:
		return notModeled("rsp-subtree-include=subtree without faults,no-scoped")
	case q.subscribe && q.faults:
		return notModeled("a subscription to rsp-subtree-include=" + v)
	}
	return nil
}

// faultsBelow returns the faults at and below the objects of a result.
func (q *query) faultsBelow(found []*node) []*node {
	var faults []*node
	seen := map[*node]bool{}
	for _, n := range found {
		n.walk(func(k *node) {
			if k.class.fault && !seen[k] && (q.mayRead == nil || q.mayRead(k.dn)) && (q.subFilter == nil || q.subFilter(k)) {
				seen[k] = true
				faults = append(faults, k)
			}
		})
	}
	return faults
}

// kids returns the children that n appears with, where depth levels are asked for.
func (q *query) kids(n *node, depth int) []*node {
	if depth <= 0 && !q.faults {
		return nil
	}
	var kids []*node
	for _, k := range n.children {
		if q.shows(k, depth) {
			kids = append(kids, k)
		}
	}
	return kids
}

// shows reports whether k appears below its parent: it is what was asked for, or stands on
// the way to it. Source: tests/checks/rtmap_comm_match_defect_check of s:preup, where a class
// two levels down is shown with what is between.
func (q *query) shows(k *node, depth int) bool {
	if k.class.phantom || (q.mayRead != nil && !q.mayRead(k.dn)) {
		return false
	}
	return q.picks(k, depth) || len(q.kids(k, depth-1)) > 0
}

// picks reports whether k is what was asked for. Faults are additional: no part of a subtree
// unless their class or all faults are asked for. unverified: that.
func (q *query) picks(k *node, depth int) bool {
	asked := depth > 0 && (slices.Contains(q.only, k.class) || (len(q.only) == 0 && !k.class.fault))
	return (asked || (q.faults && k.class.fault)) && (q.subFilter == nil || q.subFilter(k))
}
