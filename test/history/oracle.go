package history

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Record is what the cluster remembers of an external EPG.
type Record struct {
	Members          []types.UID
	Managed          *bool
	Owner            string
	Paused           bool
	Desired, Present int // negative: not known
}

// Settled is a world that has come to rest, and what is known of how it came there.
type Settled struct {
	Before  Fabric // after the last step, before anything followed from it
	After   Fabric // now
	Last    Fabric // when all had come to rest before
	Mind    *Mind
	Was, Is map[string]Record // at Last, now
	// Exact: since Last no time passed before the last step, so that the incumbents are known. Else any
	// legal winner will do.
	Exact bool
	// Touched reports whether a person touched an object, or the VRF of an L3Out, since Last.
	Touched func(path string) bool
	// Aged: nothing happened for more than 5 s after tags were set that pause something. Younger ones may not be
	// seen by what deletes or puts back, and none by what a claim creates, since tags may not be announced.
	Aged  bool
	Guard int // limit of the orphan guard
	// Lost: events may have been lost since Last, so that it cannot be told what aci-sync knew when it counted.
	Lost bool
	// Vague: nor can it be told which changes it saw.
	Vague bool
	// Policies are what aci-sync was told to do otherwise.
	Policies map[string]bool

	named   map[string]named
	held    map[string]bool
	claims  map[string][]Claim // address -> claims, the oldest first
	guarded map[string]bool    // paths that the guard must hold
	loose   map[string]bool    // those that it may hold
}

// Check returns what is not as SPEC.md says.
func (s *Settled) Check() []string {
	s.named, s.held = s.Mind.Named(), s.Mind.Held()
	s.claims = map[string][]Claim{}
	for _, c := range s.Mind.claims {
		s.claims[c.IP] = append(s.claims[c.IP], c)
	}
	for _, list := range s.claims {
		slices.SortStableFunc(list, older)
	}
	if !s.Exact {
		s.Before = s.After
	}
	s.guard()
	var bad []string
	ips := map[string]bool{}
	for ip := range s.claims {
		ips[ip] = true
	}
	for _, f := range []Fabric{s.Before, s.After} {
		for _, p := range f.paths() {
			if e := epgOf(p); p != e {
				ips[strings.TrimPrefix(p, e+"/")] = true
			}
		}
	}
	for ip := range ips {
		bad = append(bad, s.checkAddress(ip)...)
	}
	bad = append(bad, s.checkEPGs()...)
	bad = append(bad, s.checkRecords()...)
	slices.Sort(bad)
	return bad
}

// writable reports whether an external EPG may be written: its L3Out is there and allowed, and nobody paused it or
// manages it elsewhere.
func (s *Settled) writable(epg string) bool {
	if s.Policies["allow"] && !allowed(l3outOf(epg)) || s.Before.elsewhere(epg) {
		return false
	}
	return s.Before.has(DN(l3outOf(epg))) && !s.Before.tagged(epg) && !s.Is[epg].Paused
}

// perhapsPaused reports whether an external EPG was paused by a tag since all was at rest, and how sure it is
// that aci-sync knows: not when a claim creates something, nor, for tags so young, at all.
func (s *Settled) perhapsPaused(epg string) (creates, all bool) {
	fresh := s.Before.tagged(epg) && !s.Last.tagged(epg)
	return fresh, fresh && !s.Aged
}

// foreignGone reports whether an absent external EPG was somebody else's, who decides whether it returns.
func (s *Settled) foreignGone(epg string) bool {
	r := s.Was[epg]
	return !s.Before.has(DN(epg)) && r.Managed != nil && !*r.Managed && r.Owner == ""
}

// unsure reports whether it cannot be told what aci-sync saw of an absent external EPG: people made
// and deleted it since all was at rest.
func (s *Settled) unsure(epg string) bool {
	return !s.Before.has(DN(epg)) && (s.Touched(epg) || s.Touched(l3outOf(epg)))
}

// barred reports whether a foreign subnet with import-security elsewhere in its VRF keeps an address out of
// an external EPG; perhaps, where it looks like one of ours, and may become that.
func (s *Settled) barred(epg, ip string) (barred, perhaps bool) {
	vrf, _ := s.Before.VRF(l3outOf(epg))
	for _, h := range s.Before.holders(vrf, ip, func(dn string) bool { return !s.Before.ours(dn) && s.Before.classifies(dn) }) {
		lookalike := s.Before.lookalike(DN(h + "/" + ip))
		barred = barred || h != epg && !lookalike
		perhaps = perhaps || h != epg && lookalike
	}
	return barred, perhaps
}

// verdict is what must be so.
type verdict int

const (
	never verdict = iota
	free          // SPEC.md leaves it open, or it cannot be told
	must
)

// takes reports whether an external EPG that claims an address has it or can take it.
func (s *Settled) takes(epg, ip string) verdict {
	barred, perhaps := s.barred(epg, ip)
	fresh, _ := s.perhapsPaused(epg)
	switch {
	case s.Before.has(DN(epg + "/" + ip)):
		return must
	case barred, !s.writable(epg) && !fresh:
		return never
	case s.unsure(epg), perhaps, fresh:
		return free
	case !s.Before.has(DN(epg)) && (!s.named[epg].running || s.foreignGone(epg)):
		return never
	}
	return must
}

// checkAddress checks who has an address, VRF by VRF.
func (s *Settled) checkAddress(ip string) []string {
	claims := s.claims[ip]
	if i := slices.IndexFunc(claims, func(c Claim) bool { return c.paused }); i >= 0 {
		return s.checkPaused(ip, claims[i])
	}
	vrfs := map[string]bool{}
	for _, l := range l3outs {
		vrf, _ := s.Before.VRF(l.name)
		vrfs[vrf] = true
	}
	var bad []string
	for vrf := range vrfs {
		bad = append(bad, s.checkIn(vrf, ip)...)
	}
	return bad
}

// checkPaused: an address that a paused workload claims is written nowhere.
func (s *Settled) checkPaused(ip string, c Claim) []string {
	var bad []string
	for _, l := range l3outs {
		for _, name := range epgNames {
			p := l.name + "/" + name + "/" + ip
			if s.Before[DN(p)] != s.After[DN(p)] || s.Before.ours(DN(p)) != s.After.ours(DN(p)) {
				bad = append(bad, fmt.Sprintf("%s is written although %s, which claims its address, is paused", p, c.Workload))
			}
		}
	}
	return bad
}

// checkIn checks who has an address in one VRF.
func (s *Settled) checkIn(vrf, ip string) []string {
	claimants, winner, taken := s.winner(vrf, ip)
	had := s.Before.holders(vrf, ip, s.Before.ours)
	has := s.After.holders(vrf, ip, s.After.ours)
	if len(claimants)+len(had)+len(has) == 0 {
		return nil
	}
	if winner == "" { // then it must have somewhere else to go to
		for _, l := range l3outs {
			v, _ := s.Before.VRF(l.name)
			_, _, t := s.winner(v, ip)
			taken = max(taken, t)
		}
	}
	expect := map[string]verdict{}
	stay := never // whether something stays where it is not claimed, or lost
	for _, h := range had {
		if h == winner {
			continue
		}
		expect[h] = s.stays(h, ip, taken)
		stay = max(stay, expect[h])
	}
	if winner != "" {
		expect[winner] = s.enters(winner, ip, stay)
	}
	if taken == free && winner != "" {
		for _, e := range claimants {
			expect[e] = max(expect[e], free)
		}
	}
	_, resolves := s.Before.VRF(l3outOf(vrfMember(s.Before, vrf)))
	var bad []string
	for _, e := range union(had, has, claimants) {
		is, want := slices.Contains(has, e), expect[e]
		if !resolves && want != must {
			want = free // an L3Out without a VRF classifies nothing; what becomes of it is not said
		}
		switch {
		case is && want == never:
			bad = append(bad, fmt.Sprintf("%s/%s bears our mark: %s", e, ip, s.why(winner, claimants)))
		case !is && want == must && (s.Exact || len(has) == 0):
			bad = append(bad, fmt.Sprintf("%s/%s does not bear our mark: %s", e, ip, s.why(winner, claimants)))
		case is && slices.Contains(claimants, e):
			bad = append(bad, s.checkSubnet(e, ip)...)
		}
	}
	return bad
}

// winner returns the external EPGs of a VRF that claim an address, the oldest first, which of them has it
// before the others, and whether that can take it. Whether the next in line may have what the winner cannot
// take, is not said.
func (s *Settled) winner(vrf, ip string) (claimants []string, winner string, taken verdict) {
	for _, c := range s.claims[ip] {
		if v, _ := s.Before.VRF(l3outOf(c.EPG)); v == vrf && !slices.Contains(claimants, c.EPG) {
			claimants = append(claimants, c.EPG)
		}
	}
	if len(claimants) == 0 {
		return nil, "", never
	}
	winner = claimants[0]
	if i := slices.IndexFunc(claimants, func(e string) bool { return s.Before.ours(DN(e + "/" + ip)) }); i >= 0 {
		winner = claimants[i] // the incumbent
	}
	taken = s.takes(winner, ip)
	for _, e := range claimants {
		if taken == never && s.takes(e, ip) != never {
			taken = free
		}
	}
	return claimants, winner, taken
}

// vrfMember is an L3Out of a VRF.
func vrfMember(f Fabric, vrf string) string {
	for _, l := range l3outs {
		if v, _ := f.VRF(l.name); v == vrf {
			return l.name
		}
	}
	return ""
}

func (s *Settled) why(winner string, claimants []string) string {
	switch {
	case winner == "":
		return "nobody claims it in this VRF"
	case !s.Exact:
		return fmt.Sprintf("it is claimed for %v", claimants)
	}
	return fmt.Sprintf("it is claimed for %v, and %s wins", claimants, winner)
}

func union(lists ...[]string) []string {
	out := slices.Concat(lists...)
	slices.Sort(out)
	return slices.Compact(out)
}

// stays says whether one of ours stays in an external EPG where it is not claimed, or lost to another one.
func (s *Settled) stays(epg, ip string, taken verdict) verdict {
	claimed := len(s.claims[ip]) > 0
	_, young := s.perhapsPaused(epg)
	switch {
	case young:
		return free
	case !s.writable(epg):
		return must
	case s.held[ip]:
		return must
	case claimed && taken == never:
		return must
	case claimed && taken == free:
		return free
	case claimed:
		return never
	case s.Policies["upsert"]:
		return must
	case s.named[epg].paused || s.named[""].paused:
		return free // it may be of a paused workload, which lost it while aci-sync was down
	case s.guarded[epg+"/"+ip]:
		return must
	case s.loose[epg+"/"+ip]:
		return free
	}
	return never
}

// enters says whether the winner has the address as one of ours, while others stay.
func (s *Settled) enters(epg, ip string, others verdict) verdict {
	dn := DN(epg + "/" + ip)
	switch {
	case s.Before.ours(dn):
		return must
	case s.Before.has(dn) && !s.Before.lookalike(dn):
		return never // used as it is
	case s.Before.has(dn) && !s.writable(epg):
		return never
	case others == must:
		return never
	case others == free:
		return free
	case s.Before.has(dn) && s.Before.VRFHas(epg, ip):
		return free // the mark may come back before the others have left, or wait
	}
	return s.takes(epg, ip)
}

// VRFHas reports whether another external EPG in its VRF has the address as one of ours.
func (f Fabric) VRFHas(epg, ip string) bool {
	vrf, _ := f.VRF(l3outOf(epg))
	return slices.ContainsFunc(f.holders(vrf, ip, f.ours), func(h string) bool { return h != epg })
}

// checkSubnet checks the critical attributes of one that is ours and claimed there.
func (s *Settled) checkSubnet(epg, ip string) []string {
	dn := DN(epg + "/" + ip)
	if _, young := s.perhapsPaused(epg); young {
		return nil
	}
	if !s.writable(epg) {
		if s.Exact && s.Before.has(dn) && s.Before[dn] != s.After[dn] {
			return []string{fmt.Sprintf("%s/%s is written although it is paused", epg, ip)}
		}
		return nil
	}
	var bad []string
	var bearers []string
	for _, c := range s.claims[ip] {
		if c.EPG == epg {
			bearers = append(bearers, c.Bearer)
		}
	}
	if name := s.After.attr(dn, "name"); !slices.Contains(bearers, name) {
		bad = append(bad, fmt.Sprintf("%s/%s is named %q, not after one of %v", epg, ip, name, bearers))
	} else if was := s.Before.attr(dn, "name"); s.Before.ours(dn) && name != was && slices.Contains(bearers, was) {
		bad = append(bad, fmt.Sprintf("%s/%s was named %q, which still bears it, and is %q", epg, ip, was, name))
	}
	if !s.After.classifies(dn) {
		bad = append(bad, fmt.Sprintf("%s/%s lacks import-security", epg, ip))
	}
	return bad
}

// checkEPGs checks which external EPGs are there and ours.
func (s *Settled) checkEPGs() []string {
	var bad []string
	for _, l := range l3outs {
		if !s.Before.has(DN(l.name)) {
			continue
		}
		for _, name := range epgNames {
			e := l.name + "/" + name
			if why := s.checkEPG(e); why != "" {
				bad = append(bad, fmt.Sprintf("%s %s: %s", e, map[bool]string{true: "is there", false: "is not there"}[s.After.has(DN(e))], why))
			}
		}
	}
	return bad
}

func (s *Settled) checkEPG(e string) string {
	dn, n := DN(e), s.named[e]
	there, ours := s.After.has(dn), s.After.ours(dn)
	was := s.Was[e]
	recorded := was.Managed != nil && *was.Managed
	fresh, young := s.perhapsPaused(e)
	switch {
	case young:
	case !s.Exact && !there && n.running && s.writable(e) && !s.handled(e):
		return "a workload names it"
	case !s.Exact:
		return ""
	case s.Before.has(dn) && !there && len(n.members) > 0:
		return "it was, and a workload names it"
	case s.Before.has(dn) && !s.writable(e):
		if there && ours == s.Before.ours(dn) {
			return ""
		}
		return "it is written although it is paused"
	case s.Before.ours(dn) && len(n.members) > 0:
		if !ours {
			return "it lost its mark"
		}
	case s.Before.ours(dn):
		return s.checkUnused(e)
	case s.Before.has(dn) && !ours && there && n.running && recorded && s.leftByUs(e) &&
		(s.After.attr(dn, "annotation") == ourAnnotation || s.holdsOurs(s.After, e)): // also now that claims ended
		return "it is recorded as ours and does not bear our mark"
	case s.Before.has(dn) && ours && !(recorded && (s.leftByUs(e) || s.holdsOurs(s.After, e))):
		return "it bears our mark, and was somebody else's"
	case s.Before.has(dn):
	case there && fresh:
	case s.heldByTag(e) && there:
		return "its pause outlives it"
	case !n.running && there:
		return "no workload that runs names it"
	case s.Policies["upsert"] && there: // what a POST of ours brought back is not deleted either
	case s.foreignGone(e) && s.Last.has(dn) && there:
		return "it was somebody else's, who deleted it" // whatever people did in between, for no time passed
	case !n.running, !s.writable(e), s.unsure(e):
	case s.foreignGone(e):
		if there {
			return "it was somebody else's, who deleted it"
		}
	case !ours:
		return "a workload names it"
	}
	return ""
}

// handled reports whether people may have made an external EPG and deleted it, or taken its mark.
func (s *Settled) handled(e string) bool {
	r := s.Was[e]
	return s.Touched(e) || s.Touched(l3outOf(e)) || r.Managed != nil && !*r.Managed
}

// heldByTag reports whether an external EPG was deleted while it was known to be paused.
func (s *Settled) heldByTag(e string) bool {
	return s.Last.has(DN(e)+"/annotationKey-[aci-sync-paused]") && !s.Before.has(DN(e)) && len(s.Was[e].Members) > 0
}

// leftByUs reports whether an external EPG without a mark has our annotation, or holds a marked subnet.
func (s *Settled) leftByUs(e string) bool {
	if s.Before.has(markOf(DN(e))) {
		return false // somebody else's, or a copy
	}
	return s.Before.attr(DN(e), "annotation") == ourAnnotation || s.holdsOurs(s.Before, e)
}

func (s *Settled) holdsOurs(f Fabric, e string) bool {
	return slices.ContainsFunc(addresses, func(ip string) bool { return f.ours(DN(e + "/" + ip)) })
}

// checkUnused checks one of ours that no workload names: it goes, unless something else is in it.
func (s *Settled) checkUnused(e string) string {
	dn := DN(e)
	there := s.After.has(dn)
	// What is foreign in it, and that it then stays, is looked at in each transaction.
	switch {
	case !there && s.guarded[e]:
		return "the orphan guard holds it"
	case s.Policies["upsert"] && there:
		return ""
	case s.Policies["upsert"]:
		return "the policy is upsert-only"
	}
	if there && !s.foreign(s.After, e, false) && !s.Mind.Unknown() && !s.named[e].paused && !s.named[""].paused && !s.loose[e] {
		return "no workload names it, and nothing else is in it"
	}
	return ""
}

// checkRecords checks what the cluster remembers, and the counts of its status.
func (s *Settled) checkRecords() []string {
	var bad []string
	complain := func(format string, args ...any) { bad = append(bad, fmt.Sprintf("record of "+format, args...)) }
	for _, l := range l3outs {
		for _, name := range epgNames {
			e := l.name + "/" + name
			rec, recorded := s.Is[e]
			members := slices.Sorted(slices.Values(s.named[e].members))
			there, ours := s.After.has(DN(e)), s.After.ours(DN(e))
			left := s.After.attr(DN(e), "annotation") == ourAnnotation || s.holdsOurs(s.After, e)
			switch {
			case !recorded && (len(members) > 0 || ours):
				complain("%s is missing: %v, ours %t", e, members, ours)
				continue
			case !recorded:
				continue
			case len(members) == 0 && !rec.Paused && !(there && (ours || left)):
				complain("%s is left over: %+v", e, rec)
			}
			if !slices.Equal(members, slices.Sorted(slices.Values(rec.Members))) {
				complain("%s names %v, and it is the last valid target of %v", e, rec.Members, members)
			}
			desired, present := map[string]bool{}, map[string]bool{}
			for ip, claims := range s.claims {
				for _, c := range claims {
					if c.EPG == e {
						desired[ip] = true
						if s.After.has(DN(e + "/" + ip)) {
							present[ip] = true
						}
					}
				}
			}
			// One that lost its mark may be remembered as ours as long as something tells that it was, be it a
			// subnet that somebody deleted and that waits to be restored.
			left = left || len(present) < len(desired)
			lost := !ours && rec.Managed != nil && *rec.Managed && left
			if there && !lost && (rec.Managed == nil || *rec.Managed != ours) {
				complain("%s does not say that managed is %t", e, ours)
			}
			if rec.Desired >= 0 && (rec.Desired != len(desired) || rec.Present != len(present)) {
				complain("%s counts %d of %d subnets, and %d of %d are there", e, rec.Present, rec.Desired, len(present), len(desired))
			}
		}
	}
	return bad
}
