package apic

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

func TestMailbox(t *testing.T) {
	t.Parallel()
	const a, b, c aci.DN = "uni/tn-t/out-a", "uni/tn-t/out-b", "uni/tn-t/out-c"
	event := func(root aci.DN, n int) aci.Update {
		return aci.Update{Kind: aci.Event, Root: root, Objects: make([]aci.MO, n)}
	}
	gap := func(root aci.DN) aci.Update { return aci.Update{Kind: aci.Gap, Root: root} }
	for name, tt := range map[string]struct{ put, want []aci.Update }{
		"keeps the order":         {[]aci.Update{event(a, 1), event(b, 1), event(a, 2)}, []aci.Update{event(a, 1), event(b, 1), event(a, 2)}},
		"a gap says it all":       {[]aci.Update{event(a, 1), event(b, 1), gap(a), event(a, 2), gap(a)}, []aci.Update{event(b, 1), gap(a)}},
		"overflow makes gaps":     {[]aci.Update{event(a, 1), gap(b), event(c, maxQueuedObjects)}, []aci.Update{gap(b), gap(a), gap(c)}},
		"the limit still fits":    {[]aci.Update{event(a, maxQueuedObjects)}, []aci.Update{event(a, maxQueuedObjects)}},
		"counts down with drops":  {[]aci.Update{event(a, maxQueuedObjects), gap(a), event(b, 1)}, []aci.Update{gap(a), event(b, 1)}},
		"one giant event is lost": {[]aci.Update{event(a, maxQueuedObjects+1), event(a, 1)}, []aci.Update{gap(a)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m mailbox
			m.init()
			for _, u := range tt.put {
				m.put(u)
			}
			var got []aci.Update
			for u, ok := m.take(); ok; u, ok = m.take() {
				got = append(got, u)
			}
			if len(got) == len(tt.want) && name == "overflow makes gaps" {
				got, tt.want = roots(got), roots(tt.want)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if m.objects != 0 || len(m.gaps) != 0 {
				t.Errorf("left: %d objects, gaps %v", m.objects, m.gaps)
			}
		})
	}
}

// roots makes the order of gaps irrelevant.
func roots(updates []aci.Update) []aci.Update {
	set := map[aci.DN]aci.Update{}
	for _, u := range updates {
		set[u.Root] = u
	}
	return []aci.Update{set["uni/tn-t/out-a"], set["uni/tn-t/out-b"], set["uni/tn-t/out-c"]}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`a,b(c)|d=e:f/g[h]`:       `a,b(c)|d=e:f/g[h]`,
		`"quoted" + #1 %`:         `%22quoted%22%20%2B%20%231%20%25`,
		"uni/tn-ü?x&y\n":          `uni/tn-%C3%BC%3Fx%26y%0A`,
		"10.0.0.0/8 2001:db8::/3": "10.0.0.0/8%202001:db8::/3",
	} {
		got := encode(in)
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if back, err := url.PathUnescape(got); err != nil || back != in {
			t.Errorf("%q comes back as %q, %v", in, back, err)
		}
	}
}

func TestSubscriptionID_of_answers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`{"l3extSubnet":{"attributes":{"dn":"uni/tn-t/out-o/instP-e/extsubnet-[10.0.0.0/8]"}}},`, 1000)
	for in, want := range map[string]string{
		`{"totalCount":"1000","subscriptionId":"72057598349803562","imdata":[` + long + `]}`: "72057598349803562",
		`{"subscriptionId":["72057598349803562"],"imdata":[]}`:                               "72057598349803562",
		`{"totalCount":"0","imdata":[],"subscriptionId":"7"}`:                                "7",
		`{"totalCount":"0","subscriptionId":7,"imdata":[]}`:                                  "7",
		`{"totalCount":"0","imdata":[]}`:                                                     "",
		`{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"1","text":"x"}}}]}`:     "",
		`<html>`: "",
		``:       "",
	} {
		got, err := subscriptionID(request{op: "subscribe"}, 200, strings.NewReader(in))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.80s: got %q, %v", in, got, err)
		}
	}
}

// FuzzDispatch feeds frames: whatever comes, every update is about what is subscribed to, and every object
// of an event is of that and knows its DN.
func FuzzDispatch(f *testing.F) {
	for _, s := range []string{
		`{"subscriptionId":["1","2"],"imdata":[{"l3extSubnet":{"attributes":{"dn":"uni/tn-t/out-a/instP-e/extsubnet-[10.0.0.0/8]","status":"deleted"}}}]}`,
		`{"subscriptionId":"1","imdata":[{"fvTenant":{"attributes":{"dn":"uni/tn-t"},"children":[{"l3extOut":{"attributes":{"rn":"out-a"}}}]}}]}`,
		`{"imdata":[{"faultInst":{"attributes":{"dn":"topology/pod-1/node-101/sys/actrl/dbgStatsReport/fault-F3544","status":"deleted"}}}]}`,
		`{"imdata":[{"l3extRsEctx":{"attributes":{"dn":"uni/tn-t/out-c/rsectx","tnFvCtxName":"v","status":"modified"}}}]}`,
		`{"imdata":[{"l3extOut":{"attributes":{}}}]}`, `{`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := New([]*url.URL{{Scheme: "https", Host: "apic1"}}, "u", Options{Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		a, b := ofL3Out(aci.L3Out{Tenant: "t", Name: "a"}), ofL3Out(aci.L3Out{Tenant: "t", Name: "b"})
		for _, of := range []topic{a, b, faults(), relations()} {
			c.subs[of.root] = &subscription{topic: of}
		}
		c.dispatch(data)
		for u, ok := c.mail.take(); ok; u, ok = c.mail.take() {
			of := map[aci.DN]func(aci.MO) bool{
				a.root:       func(m aci.MO) bool { return m.DN.Within(a.root) },
				b.root:       func(m aci.MO) bool { return m.DN.Within(b.root) },
				aci.Topology: func(m aci.MO) bool { return m.Class == aci.ClassFaultInst },
				aci.Universe: func(m aci.MO) bool { return m.Class == aci.ClassRsEctx },
			}[u.Root]
			if of == nil {
				t.Fatalf("an update of %s", u.Root)
			}
			if (u.Kind == aci.Gap) != (len(u.Objects) == 0) {
				t.Errorf("a %v with %d objects", u.Kind, len(u.Objects))
			}
			for _, m := range u.Objects {
				if m.Children != nil || m.DN == "" || !of(m) {
					t.Errorf("%s %s of %s, children %v", m.Class, m.DN, u.Root, m.Children)
				}
			}
		}
	})
}

// FuzzSubscriptionID feeds answers to a subscription: an id is never empty, and nothing else is taken for one.
func FuzzSubscriptionID(f *testing.F) {
	for _, s := range []string{
		`{"totalCount":"1","subscriptionId":"72057598349672449","imdata":[]}`, `{"subscriptionId":["1"],"imdata":[]}`,
		`{"imdata":[{"error":{"attributes":{"code":"120","text":"x"}}}]}`, `<html>`, `{"subscriptionId":""}`, `{"subscriptionId`, ``,
	} {
		f.Add(200, []byte(s))
		f.Add(400, []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		id, err := subscriptionID(request{op: "subscribe"}, status, bytes.NewReader(data))
		if (id == "") != (err != nil) || err == nil && status != 200 {
			t.Errorf("%q, %v", id, err)
		}
	})
}

// What is not at or below what was asked for is no answer to that.
func TestAnswers_about_something_else_are_errors(t *testing.T) {
	t.Parallel()
	l := aci.L3Out{Tenant: "t", Name: "a"}
	r := request{op: "read", dn: l.DN(), path: moPath(l.DN())}
	in, out := aci.MO{Class: aci.ClassExtEPG, DN: l.DN() + "/instP-e"}, aci.MO{Class: aci.ClassExtEPG, DN: "uni/tn-t/out-ab/instP-e"}
	if _, err := flat(r, []aci.MO{in}); err != nil {
		t.Error(err)
	}
	if _, err := flat(r, []aci.MO{in, out}); err == nil {
		t.Errorf("%s is taken for something in %s", out.DN, l.DN())
	}
	if _, err := flat(request{op: "read", dn: aci.Topology, path: faults().path}, []aci.MO{in}); err != nil {
		t.Errorf("of a class: %v", err)
	}
}

// FuzzDecode feeds answers of any kind: what is no success is an error that says so shortly, whatever came.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"totalCount":"1","imdata":[{"fvTenant":{"attributes":{"dn":"uni/tn-t"}}}]}`, `{"imdata":[{"error":{"attributes":{"code":"120","text":"x"}}}]}`,
		`<html><title>503</title><p>busy`, `<`, `{"totalCount":"-1"}`, `{"imdata":[{"error":{}}]}`, "\xff", ``,
	} {
		for _, status := range []int{200, 202, 302, 400, 403, 503} {
			f.Add(status, []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		rep, err := decode(request{op: "read", dn: "uni/tn-t"}, status, bytes.NewReader(data))
		e, answered := errors.AsType[*aci.Error](err)
		switch {
		case err == nil && status != http.StatusOK && status != http.StatusAccepted:
			t.Errorf("%d is taken for a success", status)
		case err == nil && rep.Err != nil:
			t.Errorf("an error is handed out as an answer: %v", rep.Err)
		case answered && (e.Op != "read" || e.DN != "uni/tn-t" || e.Status != status):
			t.Errorf("%+v is of another request", e)
		case answered && strings.HasPrefix(strings.TrimSpace(string(data)), "<") && len(e.Text) > maxErrorText+len("…"):
			t.Errorf("a page of %d bytes makes an error of %d", len(data), len(e.Text))
		}
	})
}

// FuzzParseMembers feeds ACI_APIC: each member is an https URL with nothing but a host, once, and an error tells no password.
func FuzzParseMembers(f *testing.F) {
	for _, s := range []string{"apic1,apic2:7777", "https://apic1/", "fd00::1", "[fd00::1]:443", "https://u:hunter2@apic1", "http://apic1", ",", "a b", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		members, err := ParseMembers(s)
		if (len(members) == 0) != (err != nil) {
			t.Errorf("%v, %v", members, err)
		}
		seen := map[string]bool{}
		for _, u := range members {
			if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || seen[u.Host] {
				t.Errorf("%q makes %+v", s, u)
			}
			seen[u.Host] = true
		}
		if err != nil && strings.Contains(s, "u:hunter2@") && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("told: %v", err)
		}
	})
}

// FuzzParseKey feeds key files: whatever they hold, there is a key or an error, and the error tells nothing of it.
func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := parseKey(aci.Secret(data))
		if (key == nil) != (err != nil) {
			t.Errorf("%v, %v", key != nil, err)
		}
		if err != nil && len(data) > 20 && strings.Contains(err.Error(), string(data)) {
			t.Errorf("told: %v", err)
		}
	})
}

// What is hidden of a request is what lets somebody in, and not the words that an APIC may need to say why not.
func TestErrors_hide_what_is_secret_in_a_cookie_and_nothing_else(t *testing.T) {
	t.Parallel()
	const cookie = "APIC-Request-Signature=c2lnbmF0dXJl==; APIC-Certificate-Algorithm=v1.0; APIC-Certificate-Fingerprint=fingerprint; " +
		"APIC-Certificate-DN=uni/userext/user-robot/usercert-ops.crt; APIC-WebSocket-Session=dG9rZW4="
	for header, want := range map[string][]string{
		cookie: {"c2lnbmF0dXJl==", "dG9rZW4="}, "APIC-cookie=eyJhbGciOi.x+/y==": {"eyJhbGciOi.x+/y=="}, "": nil,
	} {
		if diff := cmp.Diff(want, cookieSecrets(header)); diff != "" {
			t.Errorf("of %q (-want +got)\n%s", header, diff)
		}
	}
	err := hideIn(&aci.Error{Op: "read", Status: 403, Text: "no certificate uni/userext/user-robot/usercert-ops.crt with fingerprint of c2lnbmF0dXJl=="},
		cookieSecrets(cookie))
	if got := err.Error(); !strings.Contains(got, "usercert-ops.crt with fingerprint of [redacted]") {
		t.Error(got)
	}
}
