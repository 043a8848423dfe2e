package aci_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

func TestMO_MarshalJSON(t *testing.T) {
	t.Parallel()
	epg := aci.MO{
		Class: aci.ClassExtEPG,
		DN:    "uni/tn-t/out-o/instP-web",
		Attrs: map[string]string{"name": "web", "annotation": "orchestrator:aci-sync:c1", "status": "created"},
		Children: []aci.MO{
			{Class: aci.ClassSubnet, Attrs: map[string]string{"ip": "10.1.2.3/32"}},
			{Class: aci.ClassTagAnnotation, Attrs: map[string]string{"key": "aci-sync", "value": `a "quoted" \ value`}},
		},
	}
	got, err := json.Marshal(epg)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"l3extInstP":{"attributes":{"annotation":"orchestrator:aci-sync:c1","name":"web","status":"created"},` +
		`"children":[{"l3extSubnet":{"attributes":{"ip":"10.1.2.3/32"}}},` +
		`{"tagAnnotation":{"attributes":{"key":"aci-sync","value":"a \"quoted\" \\ value"}}}]}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMO_UnmarshalJSON(t *testing.T) {
	t.Parallel()
	const subnet = "uni/tn-t/out-o/instP-e/extsubnet-[10.0.0.0/8]"
	tests := map[string]struct {
		in   string
		want aci.MO
	}{
		"strings, numbers and null": {
			`{"l3extSubnet":{"attributes":{"dn":"` + subnet + `","seg":2621440,"up":true,"descr":null,"name":"a\/b"}}}`,
			aci.MO{Class: "l3extSubnet", DN: subnet, Attrs: map[string]string{
				"dn": subnet, "seg": "2621440", "up": "true", "descr": "", "name": "a/b",
			}},
		},
		"children get their DN from rn": {
			`{"l3extInstP":{"attributes":{"dn":"uni/tn-t/out-o/instP-e"},"children":[{"l3extSubnet":{"attributes":` +
				`{"rn":"extsubnet-[10.0.0.0/8]"},"children":[{"tagAnnotation":{"attributes":{"rn":"annotationKey-[k]"}}}]}}]}}`,
			aci.MO{
				Class: "l3extInstP", DN: "uni/tn-t/out-o/instP-e", Attrs: map[string]string{"dn": "uni/tn-t/out-o/instP-e"},
				Children: []aci.MO{{
					Class: "l3extSubnet", DN: subnet, Attrs: map[string]string{"rn": "extsubnet-[10.0.0.0/8]"},
					Children: []aci.MO{{
						Class: "tagAnnotation", DN: subnet + "/annotationKey-[k]", Attrs: map[string]string{"rn": "annotationKey-[k]"},
					}},
				}},
			},
		},
		"children before attributes": {
			` { "fvTenant" : { "children" : [ { "fvCtx" : { "attributes" : { "rn" : "ctx-v" } } } ], "more" : [ {} , 1 ],` +
				` "attributes" : { "dn" : "uni/tn-t" } } } `,
			aci.MO{
				Class: "fvTenant", DN: "uni/tn-t", Attrs: map[string]string{"dn": "uni/tn-t"},
				Children: []aci.MO{{Class: "fvCtx", DN: "uni/tn-t/ctx-v", Attrs: map[string]string{"rn": "ctx-v"}}},
			},
		},
		"no attributes": {`{"fvTenant":{}}`, aci.MO{Class: "fvTenant", Attrs: map[string]string{}}},
		"nulls": {
			`{"fvTenant":{"attributes":null,"children":null}}`,
			aci.MO{Class: "fvTenant", Attrs: map[string]string{}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got aci.MO
			if err := json.Unmarshal([]byte(tt.in), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestMO_UnmarshalJSON_refuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		`{}`, `null`, `[]`, `{"a":{},"b":{}}`, `{"a":{"attributes":{"x":{}}}}`, `{"a":{"attributes":{"x":[1]}}}`,
		`{"a":{"attributes":[]}}`, `{"a":{"children":[{}]}}`, `{"a":{"attributes":{"x":1 2}}}`, `{"a":{}`, `{"a":{"x":nul}}`,
		`{"a":{"attributes":{"x":"` + "\n" + `"}}}`, `{"a":{"attributes":{"x":"\q"}}}`, `{"a":{}} x`, `{a:{}}`, `{"a":{},}`,
		strings.Repeat(`{"a":{"children":[`, 200) + strings.Repeat(`]}}`, 200),
	} {
		var m aci.MO
		if err := m.UnmarshalJSON([]byte(in)); err == nil {
			t.Errorf("%.60s: no error, but %v", in, m)
		}
	}
}

func TestDecodeReply(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in       string
		want     aci.Reply
		complete bool
	}{
		"success": {`{"totalCount":"0","imdata":[]}`, aci.Reply{}, true},
		"event": {
			`{"subscriptionId":["72057598349803562","72057598349803563"],"imdata":[{"fvTenant":{"attributes":{"dn":"uni/tn-t"}}}]}`,
			aci.Reply{
				TotalCount: -1, SubscriptionIDs: []string{"72057598349803562", "72057598349803563"},
				Objects: []aci.MO{{Class: "fvTenant", DN: "uni/tn-t", Attrs: map[string]string{"dn": "uni/tn-t"}}},
			},
			true,
		},
		"subscription":       {`{"totalCount":"0","subscriptionId":"72057598349803562","imdata":[]}`, aci.Reply{SubscriptionIDs: []string{"72057598349803562"}}, true},
		"id as a number":     {`{"totalCount":0,"subscriptionId":72057598349803562,"imdata":[]}`, aci.Reply{SubscriptionIDs: []string{"72057598349803562"}}, true},
		"refresh of 2014":    {`{"imdata":[]}`, aci.Reply{TotalCount: -1}, true},
		"overload":           {`{"totalCount":"3","imdata":[]}`, aci.Reply{TotalCount: 3}, false},
		"nothing, in nulls":  {`{"totalCount":null,"subscriptionId":null,"imdata":null,"more":{"a":[1,"x"]}}`, aci.Reply{TotalCount: -1}, true},
		"error object":       {`{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"103","text":"already exists."}}}]}`, aci.Reply{TotalCount: 1, Err: &aci.Error{Code: "103", Text: "already exists."}}, false},
		"error code, number": {`{"imdata":[{"error":{"attributes":{"code":103,"text":"x"}}}]}`, aci.Reply{TotalCount: -1, Err: &aci.Error{Code: "103", Text: "x"}}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := aci.DecodeReply(strings.NewReader(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.Complete() != tt.complete {
				t.Errorf("complete: %v, want %v", got.Complete(), tt.complete)
			}
		})
	}
}

func TestDecodeReply_refuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "<html><center>Cisco APIC</center></html>", `{"totalCount":"-1","imdata":[]}`, `{"totalCount":"x"}`,
		`{"imdata":[`, `{"imdata":[]} <html>`, `{"imdata":[1]}`, `{"subscriptionId":[{}]}`,
	} {
		if rep, err := aci.DecodeReply(strings.NewReader(in)); err == nil {
			t.Errorf("%q: no error, but %+v", in, rep)
		}
	}
}

func TestDecodeReply_of_20000_objects(t *testing.T) {
	t.Parallel()
	rep, err := aci.DecodeReply(strings.NewReader(string(subnets(10_000))))
	if err != nil || !rep.Complete() || len(rep.Objects) != 20_000 {
		t.Fatalf("%d objects, %v", len(rep.Objects), err)
	}
	if got := rep.Objects[19_999].DN; got != "uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.39.15/32]/annotationKey-[aci-sync]" {
		t.Errorf("the last is %s", got)
	}
}

// FuzzDecodeReply checks that nothing is taken that encoding/json refuses, and that what was
// read is read again after it was written.
func FuzzDecodeReply(f *testing.F) {
	for _, s := range []string{
		`{"totalCount":"1","subscriptionId":"72057598349803562","imdata":[{"fvTenant":{"attributes":{"dn":"uni/tn-t","n":1}}}]}`,
		`{"subscriptionId":["1"],"imdata":[{"a":{"attributes":{"rn":"é\u00e9"},"children":[{"b":{}}]}}]}`,
		`{"imdata":[{"error":{"attributes":{"code":"1","text":"t"}}}]}`, "<html>", "{\"imdata\":[{\"\xff\":{}}]}",
		`{"totalCount": -0, "x": [1e5, {"y": null}]}`,
		`{"imdata":[{"aaaLogin":{"attributes":{"version":"6.0(9c)"},"children":[{"aaaUserDomain":{"attributes":{"name":"all"},"children":[{"aaaReadRoles":{}}]}}]}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := aci.DecodeReply(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("took %q, which is not JSON", data)
		}
		for _, m := range rep.Objects {
			if l := aci.ParseLogin(m); !l.Equal(l.Update(l)) {
				t.Errorf("what the login %v says differs when it is said again", m)
			}
			out, err := m.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var again aci.MO
			if err := json.Unmarshal(out, &again); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
			if diff := cmp.Diff(m, again); diff != "" {
				t.Errorf("round trip of %q (-want +got)\n%s", data, diff)
			}
		}
	})
}
