package stories_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// The laws hold in every story:
//
//	bodies   every write goes to the DN of an L3Out with one l3extInstP; none names a tenant or an
//	         L3Out, and whatever is made for an address says created
//	twice    what aci-sync makes is never in two EPGs of a VRF at once (all L3Outs of a tenant)
//	leaders  of the replicas that elect a leader, none writes again after another one began to
//	secrets  no log shows the password or a token
//	quiet    no log shows a panic or a data race
//
// A story that breaks one on purpose says so: law off NAME.
func lawVerb(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 || args[0] != "off" {
		return errors.New("usage: law off NAME")
	}
	s.lawsOff[args[1]] = true
	return nil
}

func (s *story) checkLaws() {
	check := func(name string, broken error) {
		if broken != nil && !s.lawsOff[name] {
			s.t.Errorf("law of %s: %v", name, broken)
		}
	}
	all := s.everything()
	check("bodies", bodies(all))
	check("twice", twice(all))
	check("leaders", oneAfterTheOther(all))
	for name, p := range s.procs {
		log := p.log.String()
		check("secrets", noSecrets(name, log))
		if i := regexp.MustCompile(`(?m)^(panic: |WARNING: DATA RACE|fatal error: )`).FindStringIndex(log); i != nil {
			check("quiet", fmt.Errorf("%s: %s", name, log[i[0]:min(len(log), i[0]+4000)]))
		}
	}
}

var l3outPath = regexp.MustCompile(`^/api/(?:node/)?mo/(uni/tn-[^/]+/out-[^/]+)\.json$`)

// written is a managed object in a body.
type written struct {
	Attributes map[string]string    `json:"attributes"`
	Children   []map[string]written `json:"children"`
}

func isWrite(r apicsim.Request) bool {
	return strings.HasPrefix(r.Path, "/api/mo/") || strings.HasPrefix(r.Path, "/api/node/mo/")
}

func bodies(all []apicsim.Request) error {
	for _, r := range all {
		if r.User == otherUser || r.Method == "GET" || !isWrite(r) || r.Status == 0 {
			continue
		}
		var body map[string]written
		if !l3outPath.MatchString(r.Path) || json.Unmarshal(r.Body, &body) != nil || len(body) != 1 {
			return fmt.Errorf("%s %s", requestLine(r), r.Body)
		}
		epg, ok := body["l3extInstP"]
		if !ok {
			return fmt.Errorf("%s %s", requestLine(r), r.Body)
		}
		if len(epg.Children) > 502 {
			return fmt.Errorf("%s with %d children", requestLine(r), len(epg.Children))
		}
		for _, c := range epg.Children {
			subnet, ok := c["l3extSubnet"]
			if !ok {
				continue
			}
			switch subnet.Attributes["status"] {
			case "created", "modified", "deleted":
			default:
				return fmt.Errorf("%s: a subnet without status: %v", requestLine(r), subnet)
			}
		}
	}
	return nil
}

// twice follows all successful writes and complains when aci-sync makes a subnet that another EPG
// of the same tenant holds by its making. In the stories a tenant has one VRF.
func twice(all []apicsim.Request) error {
	_, err := follow(all)
	return err
}

// move is an address that aci-sync took out of one EPG and put into another one of the VRF.
type move struct {
	prefix, from, to string
	seq              int           // of the request that put it there
	none             time.Duration // between the two
}

// follow goes through the log of the APIC, write by write, and returns the moves that it tells. It is an
// error if aci-sync makes a subnet that another EPG of the VRF holds by its making.
func follow(all []apicsim.Request) ([]move, error) {
	type left struct {
		from string
		at   time.Time
	}
	holders := map[string][]string{} // prefix -> EPGs that hold it by our making
	out := map[string]left{}         // prefix -> where we took it out last
	var moves []move
	remove := func(r apicsim.Request, epg, prefix string) {
		n := len(holders[prefix])
		holders[prefix] = slices.DeleteFunc(holders[prefix], func(e string) bool { return e == epg })
		if len(holders[prefix]) < n && r.User != otherUser {
			out[prefix] = left{epg, r.Time}
		}
	}
	empty := func(r apicsim.Request, below string) {
		for prefix, list := range holders {
			for _, epg := range slices.Clone(list) {
				if strings.HasPrefix(epg+"/", below+"/") {
					remove(r, epg, prefix)
				}
			}
		}
	}
	for _, r := range all {
		if r.Status != 200 || !isWrite(r) || r.Method == "GET" {
			continue
		}
		dn := strings.TrimSuffix(strings.TrimPrefix(strings.Replace(r.Path, "/node/", "/", 1), "/api/mo/"), ".json")
		if r.Method == "DELETE" {
			if epg, ip, ok := strings.Cut(strings.TrimSuffix(dn, "]"), "/extsubnet-["); ok {
				remove(r, epg, inVRF(epg, ip))
			} else {
				empty(r, dn)
			}
			continue
		}
		at := l3outPath.FindStringSubmatch(r.Path)
		var body map[string]written
		if at == nil || json.Unmarshal(r.Body, &body) != nil {
			continue // what others write is not followed further: it is not ours
		}
		p := body["l3extInstP"]
		epg := at[1] + "/instP-" + p.Attributes["name"]
		if p.Attributes["status"] == "deleted" {
			empty(r, epg)
			continue
		}
		for _, c := range p.Children {
			subnet := c["l3extSubnet"].Attributes
			prefix := inVRF(epg, subnet["ip"])
			switch {
			case subnet["ip"] == "":
			case subnet["status"] == "deleted":
				remove(r, epg, prefix)
			case subnet["status"] == "created" && r.User != otherUser:
				if list := holders[prefix]; len(list) > 0 && !slices.Contains(list, epg) {
					return nil, fmt.Errorf("request %d puts %s into %s while it is in %v", r.Seq, prefix, epg, list)
				}
				if o, was := out[prefix]; was && o.from != epg {
					moves = append(moves, move{prefix, o.from, epg, r.Seq, r.Time.Sub(o.at)})
				}
				delete(out, prefix)
				if !slices.Contains(holders[prefix], epg) {
					holders[prefix] = append(holders[prefix], epg)
				}
			}
		}
	}
	return moves, nil
}

// movesVerb prints how long the addresses that moved since count were in no EPG of their VRF, and checks how
// many they were: moves COUNT. That no state had one in two EPGs is the law of "twice".
func movesVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: moves COUNT")
	}
	all, err := follow(s.sim.Requests(0))
	if err != nil {
		return err
	}
	var none []time.Duration
	for _, m := range all {
		if m.seq > s.since {
			none = append(none, m.none)
		}
	}
	slices.Sort(none)
	if n := len(none); n > 0 {
		ts.Logf("# %d addresses moved; each was in no EPG for %v (median), %v (at most)",
			n, none[n/2].Round(time.Microsecond), none[n-1].Round(time.Microsecond))
	}
	return want(float64(len(none)), args[0], "moves")
}

// inVRF is an address in the VRF of an EPG's tenant.
func inVRF(epg, ip string) string {
	tenant, _, _ := strings.Cut(epg, "/out-")
	return tenant + " " + ip
}

// electedNames are the names that replicas may have which elect a leader, and electedRuns how often
// each may be started. Each run has a user of its own, so that the APIC's log tells who wrote.
var electedNames = []string{"one", "two", "sync"}

const electedRuns = 5

func electedUser(name string, run int) (string, error) {
	if !slices.Contains(electedNames, name) || run > electedRuns {
		return "", fmt.Errorf("run %d of %s: there are users for %d of %v", run, name, electedRuns, electedNames)
	}
	return fmt.Sprintf("%s-%s-%d", ourUser, name, run), nil
}

func electedUsers() []apicsim.User {
	var users []apicsim.User
	for _, name := range electedNames {
		for run := range electedRuns {
			user, _ := electedUser(name, run+1)
			users = append(users, apicsim.User{Name: user, Password: password})
		}
	}
	return users
}

// leaders are the users of elected replicas in the order in which they wrote; one for all writes in
// a row.
func leaders(all []apicsim.Request) []string {
	var list []string
	for _, r := range all {
		if r.Method != "GET" && isWrite(r) && strings.HasPrefix(r.User, ourUser+"-") &&
			(len(list) == 0 || list[len(list)-1] != r.User) {
			list = append(list, r.User)
		}
	}
	return list
}

func oneAfterTheOther(all []apicsim.Request) error {
	list := leaders(all)
	for i, user := range list {
		if slices.Contains(list[:i], user) {
			return fmt.Errorf("%s writes again after another one did: %v", user, list)
		}
	}
	return nil
}

// leadersVerb checks who wrote, one after the other: leaders NAME...
func leadersVerb(s *story, _ *testscript.TestScript, args []string) error {
	var names []string
	for _, user := range leaders(s.sim.Requests(0)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(user, ourUser+"-"), "-")
		names = append(names, name)
	}
	if !slices.Equal(names, args) {
		return fmt.Errorf("%v wrote, want %v", names, args)
	}
	return nil
}

func noSecrets(name, log string) error {
	if strings.Contains(log, password) {
		return fmt.Errorf("%s: the log shows the password", name)
	}
	// A token of the simulator is a JWT; the socket's path holds it, too.
	if t := regexp.MustCompile(`eyJ[\w-]{20,}|/socket[\w=+-]{20,}`).FindString(log); t != "" {
		return fmt.Errorf("%s: the log shows a token: %s", name, t)
	}
	return nil
}
