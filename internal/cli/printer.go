package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// printer writes what a run would do, for people or for programs.
type printer func(w io.Writer, cluster aci.Owner, p controller.Preview) error

func printerFor(output string) (printer, error) {
	switch output {
	case "text":
		return printText, nil
	case "json":
		return printJSON, nil
	}
	return nil, fmt.Errorf("--output: %q is neither text nor json", output)
}

// counts are how many objects a plan creates, changes and deletes.
func counts(p controller.Preview) map[plan.Action]int {
	n := map[plan.Action]int{}
	for _, ch := range p.Changes {
		n[ch.Action]++
	}
	return n
}

func printText(w io.Writer, _ aci.Owner, p controller.Preview) error {
	var b strings.Builder
	last := aci.ExtEPG{}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, ch := range p.Changes {
		if ch.Place.ExtEPG != last {
			_ = t.Flush() // a strings.Builder does not fail
			last = ch.Place.ExtEPG
			fmt.Fprintf(&b, "%s\n", last)
		}
		what := "external EPG"
		if ch.Place.Prefix.IsValid() {
			what, _ = aci.SubnetIP(ch.DN.RN())
		}
		fmt.Fprintf(t, "  %s %s\t%s\t%s\n", ch.Action, what, ch.Reason, details(ch))
	}
	_ = t.Flush()
	section := func(title string) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(title + "\n")
	}
	if len(p.Problems) > 0 {
		section("For a person to see to:")
		for _, q := range p.Problems {
			fmt.Fprintf(&b, "  %s: %s: %s\n", q.Ref, q.Reason, q.Message)
		}
	}
	if len(p.Kept) > 0 {
		section("Stays, although no workload names it:")
		for _, e := range slices.SortedFunc(maps.Keys(p.Kept), aci.ExtEPG.Compare) {
			fmt.Fprintf(&b, "  %s: %s\n", e, p.Kept[e])
		}
	}
	if len(p.Held) > 0 {
		section("Held back, because nothing explains why nobody claims it; aci-sync prune shows and deletes it:")
		for _, d := range p.Held {
			fmt.Fprintf(&b, "  %s\n", d)
		}
	}
	switch n := counts(p); {
	case len(p.Changes) > 0:
		requests := "requests"
		if p.Posts == 1 {
			requests = "request"
		}
		section(fmt.Sprintf("%d to create, %d to change, %d to delete, in %d %s.",
			n[plan.Create], n[plan.Update], n[plan.Delete], p.Posts, requests))
	case len(p.Unread) == 0:
		section("Nothing to do.")
	}
	_, err := io.WriteString(w, padding.ReplaceAllString(b.String(), ""))
	return err
}

// padding is what a column of words leaves behind where nothing follows.
var padding = regexp.MustCompile(`(?m) +$`)

// details are what is written, and for whom.
func details(ch plan.Change) string {
	var out []string
	if ch.Action == plan.Update {
		if ch.Mark {
			out = append(out, "owner mark")
		}
		for _, k := range slices.Sorted(maps.Keys(ch.Attrs)) {
			out = append(out, fmt.Sprintf("%s %q -> %q", k, ch.Before[k], ch.Attrs[k]))
		}
	}
	for i, r := range ch.By {
		if i == 3 {
			out = append(out, fmt.Sprintf("%d more", len(ch.By)-i))
			break
		}
		out = append(out, r.String())
	}
	for _, rn := range ch.Lost {
		out = append(out, "without "+rn)
	}
	return strings.Join(out, ", ")
}

// The types below are the JSON of aci-sync plan, which stays as it is.
type (
	planJSON struct {
		Cluster  aci.Owner     `json:"cluster"`
		Complete bool          `json:"complete"` // false: something could not be read, and nothing is planned there
		Changes  []changeJSON  `json:"changes"`
		Problems []problemJSON `json:"problems"`
		Held     []aci.DN      `json:"held"`   // deletions that wait for aci-sync prune
		Kept     []keptJSON    `json:"kept"`   // EPGs that stay although no workload names them
		Unread   []unreadJSON  `json:"unread"` // L3Outs that the APIC does not show
		Summary  summaryJSON   `json:"summary"`
	}
	epgJSON struct {
		Tenant string `json:"tenant"`
		L3Out  string `json:"l3out"`
		EPG    string `json:"epg,omitempty"`
	}
	refJSON struct {
		Kind      string `json:"kind"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	changeJSON struct {
		Action string `json:"action"` // create, update or delete
		Class  string `json:"class"`
		DN     aci.DN `json:"dn"`
		epgJSON
		Prefix     string            `json:"prefix,omitempty"`
		Attributes map[string]string `json:"attributes,omitempty"` // to be written
		Before     map[string]string `json:"before,omitempty"`     // of an update: what they are now
		Mark       bool              `json:"mark"`                 // the owner mark is written
		Reason     plan.Reason       `json:"reason"`
		By         []refJSON         `json:"by"`  // the Pods and Services that bear it; of an EPG, the workloads
		For        []refJSON         `json:"for"` // the workloads that ask for it
		Lost       []string          `json:"lost,omitempty"`
	}
	problemJSON struct {
		refJSON
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
	keptJSON struct {
		epgJSON
		Why string `json:"why"`
	}
	unreadJSON struct {
		epgJSON
		Error string `json:"error"`
	}
	summaryJSON struct {
		Create   int `json:"create"`
		Update   int `json:"update"`
		Delete   int `json:"delete"`
		Requests int `json:"requests"`
	}
)

func printJSON(w io.Writer, cluster aci.Owner, p controller.Preview) error {
	n := counts(p)
	out := planJSON{
		Cluster: cluster, Complete: len(p.Unread) == 0,
		Changes: []changeJSON{}, Problems: []problemJSON{}, Held: append([]aci.DN{}, p.Held...), Kept: []keptJSON{}, Unread: []unreadJSON{},
		Summary: summaryJSON{n[plan.Create], n[plan.Update], n[plan.Delete], p.Posts},
	}
	for _, ch := range p.Changes {
		c := changeJSON{
			Action: actionName(ch.Action), Class: aci.ClassExtEPG, DN: ch.DN, epgJSON: epgOf(ch.Place.ExtEPG),
			Attributes: ch.Attrs, Before: ch.Before, Mark: ch.Mark, Reason: ch.Reason,
			By: refs(ch.By), For: refs(ch.For), Lost: ch.Lost,
		}
		if ch.Place.Prefix.IsValid() {
			c.Class, c.Prefix = aci.ClassSubnet, ch.Place.Prefix.String()
		}
		out.Changes = append(out.Changes, c)
	}
	for _, q := range p.Problems {
		out.Problems = append(out.Problems, problemJSON{refJSON(q.Ref), q.Reason, q.Message})
	}
	for _, e := range slices.SortedFunc(maps.Keys(p.Kept), aci.ExtEPG.Compare) {
		out.Kept = append(out.Kept, keptJSON{epgOf(e), p.Kept[e]})
	}
	for _, l := range slices.SortedFunc(maps.Keys(p.Unread), aci.L3Out.Compare) {
		out.Unread = append(out.Unread, unreadJSON{epgJSON{Tenant: l.Tenant, L3Out: l.Name}, p.Unread[l].Error()})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func actionName(a plan.Action) string {
	return cmp.Or(map[plan.Action]string{plan.Create: "create", plan.Update: "update", plan.Delete: "delete"}[a], a.String())
}

func epgOf(e aci.ExtEPG) epgJSON { return epgJSON{e.Tenant, e.L3Out.Name, e.Name} }

func refs(list []desired.Ref) []refJSON {
	out := []refJSON{}
	for _, r := range list {
		out = append(out, refJSON(r))
	}
	return out
}
