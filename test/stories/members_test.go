package stories_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// member is a further member of the APIC cluster.
type member struct {
	sim  *apicsim.Sim
	wire *wire
}

// enlarge makes the APIC one of so many members, before aci-sync starts.
func (s *story) enlarge(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil || n < 2 || len(s.others) > 0 {
		return errors.New("usage: apic members COUNT, once")
	}
	for range n - 1 {
		m, err := s.member()
		if err != nil {
			return err
		}
		s.others = append(s.others, m)
	}
	if s.theirs, err = s.member(); err != nil {
		return err
	}
	s.netops = newForeigner(s.theirs.wire, s.cert.PEM)
	return nil
}

func (s *story) member() (*member, error) {
	m := &member{sim: s.sim.Member()}
	s.t.Cleanup(m.sim.Close)
	var err error
	if m.wire, err = serve(s.ctx, m.sim, s.cert.TLS); err != nil {
		return nil, err
	}
	s.t.Cleanup(m.wire.close)
	return m, nil
}

// at does with one member of the cluster, from 1, what apic does with the first: apic member N VERB...
func (s *story) at(ts *testscript.TestScript, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > 1+len(s.others) {
		return fmt.Errorf("no member %s", args[0])
	}
	if n > 1 {
		sim, wire := s.sim, s.wire
		defer func() { s.sim, s.wire = sim, wire }()
		s.sim, s.wire = s.others[n-2].sim, s.others[n-2].wire
	}
	return apicVerb(s, ts, args[1:])
}

// exchange restarts the present member with a certificate that nobody knows.
func (s *story) exchange() error {
	fresh, err := apicsim.NewCertificate("127.0.0.1")
	if err != nil {
		return err
	}
	s.wire.show(fresh.TLS)
	s.sim.CloseSockets()
	s.sim.ExpireSessions()
	s.wire.set("up")
	return nil
}

// urls are those of all members.
func (s *story) urls() string {
	all := []string{s.wire.url()}
	for _, m := range s.others {
		all = append(all, m.wire.url())
	}
	return strings.Join(all, ",")
}

// everything are all requests to all members, in order.
func (s *story) everything() []apicsim.Request { return s.asked(0) }

// asked are the requests to the first member after one, and those to the others since count.
func (s *story) asked(after int) []apicsim.Request {
	all := s.sim.Requests(after)
	others := slices.Clone(s.others)
	if s.theirs != nil {
		others = append(others, s.theirs)
	}
	for _, m := range others {
		for _, r := range m.sim.Requests(0) {
			if after == 0 || r.Time.After(s.sinceAt) {
				all = append(all, r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b apicsim.Request) int { return a.Time.Compare(b.Time) })
	return all
}

// show makes new connections see a certificate.
func (w *wire) show(c tls.Certificate) { w.cert.Store(&c) }
