package apic_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

const allClasses = "l3extOut,l3extRsEctx,l3extInstP,l3extSubnet,fvRsProv,fvRsCons,l3extRsNodeL3OutAtt,tagAnnotation,faultInst,faultDelegate"

// dns are the DNs of objects, sorted.
func dns(objects []aci.MO) []string {
	out := make([]string, len(objects))
	for i, m := range objects {
		out[i] = string(m.DN)
	}
	slices.Sort(out)
	return out
}

func post(w *world, under aci.DN, mo aci.MO) {
	w.t.Helper()
	if err := w.client.Post(w.t.Context(), under, mo); err != nil {
		w.t.Fatal(err)
	}
}

// marked is an external subnet of prod/wan/web with the mark of owner.
func marked(owner aci.Owner, ips ...string) aci.MO {
	epg := aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}}
	for _, ip := range ips {
		epg.Children = append(epg.Children, aci.MO{
			Class: aci.ClassSubnet, Attrs: map[string]string{"ip": ip},
			Children: []aci.MO{{Class: aci.ClassTagAnnotation, Attrs: map[string]string{
				"key": aci.OwnerKey, "value": owner.Mark(web.DN().Child(aci.SubnetRN(ip))),
			}}},
		})
	}
	return epg
}

func TestRead_on_the_wire(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(apicsim.Options{}, apic.Options{})
		time.Sleep(time.Second)
		w.requests()
		post(w, wan.DN(), marked("c1", "10.0.0.1/32", "2001:db8::/64"))
		u := w.read()
		if u.Kind != aci.FullRead || u.Root != wan.DN() {
			t.Errorf("got %v of %s", u.Kind, u.Root)
		}
		w.read() // is subscribed already
		const epg, tag = "uni/tn-prod/out-wan/instP-web", "/annotationKey-[aci-sync]"
		want := []string{
			"uni/tn-prod/out-wan", epg,
			epg + "/extsubnet-[10.0.0.1/32]", epg + "/extsubnet-[10.0.0.1/32]" + tag,
			epg + "/extsubnet-[2001:db8::/64]", epg + "/extsubnet-[2001:db8::/64]" + tag,
			"uni/tn-prod/out-wan/rsectx",
		}
		if diff := cmp.Diff(want, dns(u.Objects)); diff != "" {
			t.Errorf("objects (-want +got)\n%s", diff)
		}
		read := "GET /api/mo/uni/tn-prod/out-wan.json?query-target=subtree&target-subtree-class=" + allClasses + "&page=0&page-size=5000"
		wire := []string{
			`POST /api/mo/uni/tn-prod/out-wan.json {"l3extInstP":{"attributes":{"name":"web"},"children":[` +
				`{"l3extSubnet":{"attributes":{"ip":"10.0.0.1/32"},"children":[{"tagAnnotation":{"attributes":{"key":"aci-sync",` +
				`"value":"c1 uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.0.1/32]"}}}]}},` +
				`{"l3extSubnet":{"attributes":{"ip":"2001:db8::/64"},"children":[{"tagAnnotation":{"attributes":{"key":"aci-sync",` +
				`"value":"c1 uni/tn-prod/out-wan/instP-web/extsubnet-[2001:db8::/64]"}}}]}}]}}`,
			"GET /api/mo/uni/tn-prod/out-wan.json?query-target=subtree&target-subtree-class=" + allClasses +
				"&subscription=yes&refresh-timeout=1800",
			read, read,
		}
		if diff := cmp.Diff(wire, w.requests()); diff != "" {
			t.Errorf("wire (-want +got)\n%s", diff)
		}
		w.mu.Lock()
		cookies, length := w.sent["Cookie"], w.sent.Get("Content-Length")
		w.mu.Unlock()
		if len(cookies) != 1 || !regexp.MustCompile(`^APIC-cookie=[^;= ]+$`).MatchString(cookies[0]) || length != "" {
			t.Errorf("cookies %q, length of the body of a GET %q", cookies, length)
		}
	})
}

func TestReads_of_some_objects_on_the_wire(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{ReadOnce: true})
		time.Sleep(time.Second)
		post(w, wan.DN(), marked("c.1", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"))
		post(w, wan.DN(), aci.MO{Class: aci.ClassTagAnnotation, Attrs: map[string]string{"key": aci.PauseKey, "value": "incident 7"}})
		// A copy of a mark, and the mark of a cluster whose id the dot would match.
		post(w, wan.DN(), aci.MO{
			Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "copy"},
			Children: []aci.MO{{Class: aci.ClassTagAnnotation, Attrs: map[string]string{"key": aci.OwnerKey, "value": "c.1 " + string(web.DN())}}},
		})
		if err := s.Seed([]byte(`{"fvTenant":{"attributes":{"name":"other"},"children":[{"l3extOut":{"attributes":{"name":"o"},` +
			`"children":[{"tagAnnotation":{"attributes":{"key":"aci-sync","value":"cx1 uni/tn-other/out-o"}}}]}}]}}`)); err != nil {
			t.Fatal(err)
		}
		w.requests()
		const epg, tag = "uni/tn-prod/out-wan/instP-web", "/annotationKey-[aci-sync]"

		u, err := w.client.ReadEPG(t.Context(), web)
		if err != nil || u.Root != web.DN() || len(u.Objects) < 7 {
			t.Errorf("EPG: %v, %v", dns(u.Objects), err)
		}
		objects, err := w.client.ReadObjects(t.Context(), []aci.DN{
			epg + "/extsubnet-[10.0.0.2/32]", epg, epg + "/extsubnet-[10.0.0.9/32]", epg + "/extsubnet-[10.0.0.1/32]", epg, "uni/tn-gone",
		})
		want := []string{
			epg, epg + "/extsubnet-[10.0.0.1/32]", epg + "/extsubnet-[10.0.0.1/32]" + tag,
			epg + "/extsubnet-[10.0.0.2/32]", epg + "/extsubnet-[10.0.0.2/32]" + tag,
		}
		if diff := cmp.Diff(want, dns(objects)); diff != "" || err != nil {
			t.Errorf("objects: %v (-want +got)\n%s", err, diff)
		}
		paused, err := w.client.PauseTags(t.Context(), wan)
		if diff := cmp.Diff([]aci.DN{wan.DN()}, paused); diff != "" || err != nil {
			t.Errorf("pauses: %v (-want +got)\n%s", err, diff)
		}
		marks, err := w.client.Marks(t.Context(), "c.1")
		if diff := cmp.Diff([]aci.DN{wan.DN()}, marks); diff != "" || err != nil {
			t.Errorf("marks: %v (-want +got)\n%s", err, diff)
		}
		wire := []string{
			"GET /api/mo/" + epg + ".json?query-target=subtree",
			"GET /api/mo/uni/tn-gone.json?rsp-subtree=children&rsp-subtree-class=tagAnnotation",
			"GET /api/mo/" + epg + ".json?rsp-subtree=children&rsp-subtree-class=tagAnnotation",
			"GET /api/mo/uni/tn-prod/out-wan.json?query-target=subtree&target-subtree-class=l3extSubnet&query-target-filter=or(" +
				"eq(l3extSubnet.dn,%22" + epg + "/extsubnet-[10.0.0.1/32]%22),eq(l3extSubnet.dn,%22" + epg + "/extsubnet-[10.0.0.2/32]%22)," +
				"eq(l3extSubnet.dn,%22" + epg + "/extsubnet-[10.0.0.9/32]%22))&rsp-subtree=children&rsp-subtree-class=tagAnnotation",
			"GET /api/mo/uni/tn-prod/out-wan.json?query-target=subtree&target-subtree-class=tagAnnotation&" +
				"query-target-filter=eq(tagAnnotation.key,%22aci-sync-paused%22)",
			"GET /api/class/tagAnnotation.json?query-target-filter=and(eq(tagAnnotation.key,%22aci-sync%22)," +
				"wcard(tagAnnotation.value,%22%5Ec[.]1%20uni/%22))&order-by=tagAnnotation.dn|asc&page=0&page-size=5000",
		}
		if diff := cmp.Diff(wire, w.requests()); diff != "" {
			t.Errorf("wire (-want +got)\n%s", diff)
		}
	})
}

func TestReadObjects_splits_what_does_not_fit_a_request_line(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(apicsim.Options{}, apic.Options{ReadOnce: true})
		var ips []string
		var want []aci.DN
		for i := range 300 {
			ips = append(ips, fmt.Sprintf("10.1.%d.%d/32", i/256, i%256))
			want = append(want, web.DN().Child(aci.SubnetRN(ips[i])))
		}
		post(w, wan.DN(), marked("c1", ips...))
		w.requests()
		got, err := w.client.ReadObjects(t.Context(), want)
		if err != nil || len(got) != 600 {
			t.Errorf("%d objects, %v", len(got), err)
		}
		for _, line := range w.requests() {
			if len(line) > 7000 {
				t.Errorf("a request line of %d bytes", len(line))
			}
		}
	})
}

func TestRead_of_what_is_not_there(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		nowhere := aci.L3Out{Tenant: "nobody", Name: "nothing"}
		u, err := w.client.Read(t.Context(), nowhere)
		if err != nil || len(u.Objects) != 0 || u.Root != nowhere.DN() {
			t.Fatalf("got %+v, %v", u, err)
		}
		if err := s.Post("uni", `{"fvTenant":{"attributes":{"name":"nobody"},"children":[{"l3extOut":{"attributes":{"name":"nothing"}}}]}}`); err != nil {
			t.Fatal(err)
		}
		if u := w.update(); u.Kind != aci.Event || u.Root != nowhere.DN() || u.Objects[0].Class != aci.ClassL3Out {
			t.Errorf("got %+v", u)
		}
	})
}

// Of a large L3Out what is many is read by itself, in ordered pages.
func TestRead_of_a_large_L3Out(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		const n = 5200
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,{"l3extSubnet":{"attributes":{"ip":"10.2.%d.%d/32"}}}`, i/256, i%256)
		}
		if err := s.Post(string(wan.DN()), `{"l3extInstP":{"attributes":{"name":"web"},"children":[`+b.String()[1:]+`]}}`); err != nil {
			t.Fatal(err)
		}
		u := w.read()
		if len(u.Objects) != n+3 {
			t.Errorf("%d objects", len(u.Objects))
		}
		got := w.requests()
		if count(got, "GET /api/mo/") != 1+1+1+2+1 || count(got, "GET /api/mo/uni/tn-prod/out-wan.json?query-target=subtree&"+
			"target-subtree-class=l3extSubnet&order-by=l3extSubnet.dn|asc&page=1&page-size=5000") != 1 {
			t.Errorf("requests:\n%s", strings.Join(got, "\n"))
		}
		// The APIC refuses an answer of that size to the subscription of the next session.
		s.CloseSockets()
		w.wantGap()
		arm(t, s, apicsim.Fault{
			Match: "subscription=yes&refresh-timeout=1800$", Status: 400, Code: "400",
			Text: "Unable to process the query, result dataset is too big",
		})
		w.requests()
		if u := w.read(); len(u.Objects) != n+3 {
			t.Errorf("%d objects", len(u.Objects))
		}
		got = w.requests()
		if count(got, "GET /api/mo/uni/tn-prod/out-wan.json?query-target=subtree&target-subtree-class="+allClasses+
			"&subscription=yes&refresh-timeout=1800&page=0&page-size=1") != 1 {
			t.Errorf("requests:\n%s", strings.Join(got, "\n"))
		}
	})
}

// scripted answers the reads of an L3Out with these bodies, in turn; the last one again.
func scripted(status int, bodies ...string) http.Handler {
	n := 0
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/aaaLogin.json":
			_, _ = rw.Write([]byte(`{"totalCount":"1","imdata":[{"aaaLogin":{"attributes":{"token":"t","version":"6.0(9c)","refreshTimeoutSeconds":"600"}}}]}`))
		case r.URL.Path == "/api/aaaLogout.json":
			_, _ = rw.Write([]byte(`{"imdata":[]}`))
		default:
			rw.WriteHeader(status)
			_, _ = rw.Write([]byte(bodies[min(n, len(bodies)-1)]))
			n++
		}
	})
}

func subnets(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, `,{"l3extSubnet":{"attributes":{"dn":"uni/tn-prod/out-wan/instP-web/extsubnet-[10.%d.%d.0/24]"}}}`, i/256, i%256)
	}
	return strings.TrimPrefix(b.String(), ",")
}

func TestRead_takes_no_incomplete_answer(t *testing.T) {
	const none = `{"totalCount":"0","imdata":[]}`
	page := func(total int, objects string) string {
		return fmt.Sprintf(`{"totalCount":"%d","imdata":[%s]}`, total, objects)
	}
	full := page(5002, subnets(0, 5000))
	for name, bodies := range map[string][]string{
		"overloaded: a count and nothing else": {page(1, "")},
		"fewer than counted":                   {page(3, subnets(0, 2))},
		"more than counted":                    {page(1, subnets(0, 2))},
		"no count":                             {`{"imdata":[` + subnets(0, 2) + `]}`},
		"twice the same":                       {page(2, subnets(0, 1)+","+subnets(0, 1))},
		"no DN":                                {page(1, `{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}`)},
		"cut off":                              {page(2, subnets(0, 2))[:60]},
		"HTML":                                 {"<html><head><title>502</title></head><body><center>Cisco APIC</center></body></html>"},
		"an error object":                      {`{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"1","text":"no"}}}]}`},
		"pages of two readings":                {full, none, full, page(5001, subnets(5000, 5001))},
		"an empty second page":                 {full, none, full, page(5002, "")},
		"a short second page":                  {full, none, full, page(5002, subnets(5000, 5001))},
		"a page that repeats":                  {full, none, full, page(5002, subnets(4999, 5001))},
		"a count that vanishes":                {full, none, full, none},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.serve("apic1", scripted(200, bodies...))
				w.connect(apic.Options{ReadOnce: true}, "apic1")
				w.run()
				u, err := w.client.Read(t.Context(), wan)
				if err == nil {
					t.Fatalf("taken: %d objects", len(u.Objects))
				}
				t.Log(err)
				if e, ok := errors.AsType[*aci.Error](err); ok && e.Rejected() {
					t.Errorf("%v passes for a rejection", err)
				}
			})
		})
	}
}

func TestReads_of_some_objects_take_no_incomplete_answer(t *testing.T) {
	for _, body := range []string{`{"totalCount":"1","imdata":[]}`, `{"imdata":[]}`} {
		bubbleSub(t, body, func(t *testing.T, w *world) {
			w.serve("apic1", scripted(200, body))
			c := w.connect(apic.Options{ReadOnce: true}, "apic1")
			_, epg := c.ReadEPG(t.Context(), web)
			_, one := c.ReadObjects(t.Context(), []aci.DN{web.DN()})
			_, two := c.ReadObjects(t.Context(), []aci.DN{web.DN() + "1", web.DN() + "2"})
			_, tags := c.PauseTags(t.Context(), wan)
			_, marks := c.Marks(t.Context(), "c1")
			for i, err := range []error{epg, one, two, tags, marks} {
				if err == nil || !strings.Contains(err.Error(), "incomplete answer") {
					t.Errorf("read %d: %v", i, err)
				}
			}
		})
	}
}

func TestRead_of_objects_with_rn_and_children(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.serve("apic1", scripted(200, `{"totalCount":"1","imdata":[{"l3extSubnet":{"attributes":{"dn":"uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.0.0/8]"},`+
			`"children":[{"tagAnnotation":{"attributes":{"rn":"annotationKey-[aci-sync]","key":"aci-sync"}}}]}}]}`))
		w.connect(apic.Options{ReadOnce: true}, "apic1")
		got, err := w.client.ReadObjects(t.Context(), []aci.DN{"uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.0.0/8]"})
		want := []string{
			"uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.0.0/8]",
			"uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.0.0/8]/annotationKey-[aci-sync]",
		}
		if diff := cmp.Diff(want, dns(got)); diff != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
	})
}

func TestErrors_of_calls(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   aci.Error
	}{
		"missing parent": {
			400, `{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"102","text":"configured object ((Dn0)) not found Dn0=x, "}}}]}`,
			aci.Error{Status: 400, Code: "102", Text: "configured object ((Dn0)) not found Dn0=x, "},
		},
		"exists": {
			400, `{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"103","text":"already exists."}}}]}`,
			aci.Error{Status: 400, Code: "103", Text: "already exists."},
		},
		"throttled": {
			503, "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body><center>Cisco APIC</center></body></html>",
			aci.Error{Status: 503, Text: "503 Service Temporarily Unavailable Cisco APIC"},
		},
		"redirect":        {302, "", aci.Error{Status: 302}},
		"HTML that is OK": {200, "<html>Welcome</html>", aci.Error{Status: 200, Text: "Welcome"}},
		"error in a 200": {
			200, `{"imdata":[{"error":{"attributes":{"code":"120","text":"unknown property value"}}}]}`,
			aci.Error{Status: 200, Code: "120", Text: "unknown property value"},
		},
		"error in a 202": {
			202, `{"imdata":[{"error":{"attributes":{"code":"120","text":"unknown property value"}}}]}`,
			aci.Error{Status: 202, Code: "120", Text: "unknown property value"},
		},
		"long HTML": {500, "<p>" + strings.Repeat("ü", 1000), aci.Error{Status: 500, Text: strings.Repeat("ü", 150) + "…"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.serve("apic1", scripted(tt.status, tt.body))
				codes := map[string]int{}
				w.connect(apic.Options{ReadOnce: true, OnRequest: func(op string, code int, _ time.Duration) { codes[op] = code }}, "apic1")
				err := w.client.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG})
				e, ok := errors.AsType[*aci.Error](err)
				if !ok {
					t.Fatalf("got %v", err)
				}
				tt.want.Op, tt.want.DN = "post", wan.DN()
				if diff := cmp.Diff(&tt.want, e); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				if diff := cmp.Diff(map[string]int{"login": 200, "post": tt.status}, codes); diff != "" {
					t.Errorf("requests (-want +got)\n%s", diff)
				}
			})
		})
	}
}

func TestPost_takes_202_for_a_success(t *testing.T) {
	for _, body := range []string{"", `{"totalCount":"0","imdata":[]}`, "<html>"} {
		bubbleSub(t, "body "+body, func(t *testing.T, w *world) {
			w.serve("apic1", scripted(202, body))
			w.connect(apic.Options{}, "apic1")
			post(w, wan.DN(), aci.MO{Class: aci.ClassExtEPG})
		})
	}
}

func bubbleSub(t *testing.T, name string, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { bubble(t, f) })
}

func TestCall_ends_with_its_deadline(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{ReadOnce: true})
		w.read()
		arm(t, s, apicsim.Fault{Match: "POST /api/mo", Times: 2, Delay: time.Hour})
		start := time.Now()
		err := w.client.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 1m0s") ||
			!strings.HasPrefix(err.Error(), "post uni/tn-prod/out-wan: ") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("after %v", d)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the lease is over"))
		defer cancel()
		err = w.client.Post(ctx, wan.DN(), aci.MO{Class: aci.ClassExtEPG})
		if err == nil || !strings.Contains(err.Error(), "the lease is over") {
			t.Errorf("got %v", err)
		}
	})
}

func TestCalls_share_the_rate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var waited atomic.Int64
		w.start(apicsim.Options{}, apic.Options{ReadOnce: true, Rate: 10, OnWait: func(d time.Duration) { waited.Add(int64(d)) }})
		w.read()
		time.Sleep(time.Minute)
		if d := waited.Load(); d != 0 {
			t.Errorf("at first requests waited %v", time.Duration(d))
		}
		start := time.Now()
		done := make(chan error)
		for range 120 {
			go func() {
				_, err := w.client.PauseTags(t.Context(), wan)
				done <- err
			}()
		}
		for range 120 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(start).Round(time.Second); d != 10*time.Second {
			t.Errorf("120 requests at 10/s with a burst of 20 took %v", d)
		}
		// The 21st waits 0.1 s, the 120th 10 s.
		if d := time.Duration(waited.Load()).Round(time.Second); d != 505*time.Second {
			t.Errorf("together they waited %v", d)
		}
	})
}

func TestCountEPGs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{ReadOnce: true})
		check := func(want int) {
			t.Helper()
			if n, err := w.client.CountEPGs(t.Context()); err != nil || n != want {
				t.Errorf("counted %d, %v, want %d", n, err, want)
			}
		}
		check(0)
		subnet(w, s, "10.0.0.1/32", "")
		subnet(w, s, "10.0.0.2/32", "")
		check(1)
		for i := range 30 {
			if err := s.Post("uni/tn-common", fmt.Sprintf(`{"l3extOut":{"attributes":{"name":"o"},"children":[{"l3extInstP":{"attributes":{"name":"e%d"}}}]}}`, i)); err != nil {
				t.Fatal(err)
			}
		}
		w.requests()
		check(31)
		if got := w.requests(); len(got) != 1 || got[0] != "GET /api/class/l3extInstP.json?rsp-subtree-include=count" {
			t.Errorf("asked %q", got)
		}
	})
}

// What is no count is not taken for none.
func TestCountEPGs_takes_nothing_but_a_count(t *testing.T) {
	for _, body := range []string{
		`{"totalCount":"1","imdata":[]}`, `{"totalCount":"0","imdata":[]}`, `{"imdata":[]}`,
		`{"totalCount":"1","imdata":[{"moCount":{"attributes":{}}}]}`,
		`{"totalCount":"1","imdata":[{"moCount":{"attributes":{"count":"-1"}}}]}`,
		`{"totalCount":"1","imdata":[{"l3extInstP":{"attributes":{"count":"1"}}}]}`,
		`{"totalCount":"2","imdata":[{"moCount":{"attributes":{"count":"1"}}},{"moCount":{"attributes":{"count":"1"}}}]}`,
	} {
		bubbleSub(t, body, func(t *testing.T, w *world) {
			w.serve("apic1", scripted(200, body))
			c := w.connect(apic.Options{ReadOnce: true}, "apic1")
			if n, err := c.CountEPGs(t.Context()); err == nil || !strings.Contains(err.Error(), "incomplete answer") {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
}
