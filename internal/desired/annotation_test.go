package desired_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	epg := aci.ExtEPG{L3Out: aci.L3Out{Tenant: "TEN_K8_C1", Name: "L3O_K8_C1"}, Name: "EPG_K8_APP_MCAST"}
	tests := map[string]struct {
		in   string
		want desired.Target
	}{
		"the example of the documentation": {
			`{"tenant":"TEN_K8_C1", "l3out":"L3O_K8_C1", "epg":"EPG_K8_APP_MCAST"}`, desired.Target{EPG: epg},
		},
		"order and white space are free": {
			" {\n\t\"epg\" : \"EPG_K8_APP_MCAST\",\n\"l3out\":\"L3O_K8_C1\",\"tenant\":\"TEN_K8_C1\"}\n ", desired.Target{EPG: epg},
		},
		"expose": {
			`{"tenant":"TEN_K8_C1","l3out":"L3O_K8_C1","epg":"EPG_K8_APP_MCAST","expose":["services"]}`,
			desired.Target{EPG: epg, Expose: &desired.Expose{Services: true}},
		},
		"expose both": {
			`{"tenant":"TEN_K8_C1","l3out":"L3O_K8_C1","epg":"EPG_K8_APP_MCAST","expose":["services","pods"]}`,
			desired.Target{EPG: epg, Expose: &desired.Expose{Pods: true, Services: true}},
		},
		"escapes are what they stand for": {
			`{"tenant":"\u0054EN_K8_C1","l3out":"L3O_K8_C1","\u0065pg":"EPG_K8_APP_MCAST"}`, desired.Target{EPG: epg},
		},
		"all characters that a name may have": {
			`{"tenant":"aZ09_.:-","l3out":"o","epg":"` + strings.Repeat("e", 64) + `"}`,
			desired.Target{EPG: aci.ExtEPG{L3Out: aci.L3Out{Tenant: "aZ09_.:-", Name: "o"}, Name: strings.Repeat("e", 64)}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := desired.ParseTarget(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseTarget_says_what_is_wrong(t *testing.T) {
	t.Parallel()
	const noObject = `is not a JSON object such as {"tenant":"T", "l3out":"O", "epg":"E"}`
	const noList = `expose: is not a list such as ["pods", "services"]`
	tests := map[string]struct{ in, want string }{
		"nothing":                  {``, noObject},
		"white space":              {" \n", noObject},
		"a name alone":             {`EPG`, noObject},
		"a list":                   {`[]`, noObject},
		"null":                     {`null`, noObject},
		"a string":                 {`"x"`, noObject},
		"a path":                   {`T/O/E`, noObject},
		"an empty object":          {`{}`, `tenant, l3out, epg missing`},
		"two keys missing":         {`{"l3out":"O"}`, `tenant, epg missing`},
		"one key missing":          {`{"tenant":"T","l3out":"O"}`, `epg missing`},
		"an unknown key":           {`{"tenant":"T","l3out":"O","epg":"E","vrf":"V"}`, `key "vrf" is unknown; the keys are tenant, l3out, epg and expose`},
		"another case":             {`{"Tenant":"T","l3out":"O","epg":"E"}`, `key "Tenant" is unknown; the keys are tenant, l3out, epg and expose`},
		"an unknown key, a line":   {`{"a\nb":1}`, `key "a\nb" is unknown; the keys are tenant, l3out, epg and expose`},
		"a key twice":              {`{"tenant":"T","l3out":"O","epg":"E","epg":"E"}`, `key "epg" stands twice`},
		"a key twice, escaped":     {`{"tenant":"T","l3out":"O","epg":"E","\u0065pg":"E"}`, `key "epg" stands twice`},
		"an unknown key twice":     {`{"x":1,"x":2}`, `key "x" stands twice`},
		"an empty value":           {`{"tenant":"","l3out":"O","epg":"E"}`, `tenant: is empty`},
		"a number":                 {`{"tenant":1,"l3out":"O","epg":"E"}`, `tenant: 1 is not a JSON string`},
		"a null":                   {`{"tenant":null,"l3out":"O","epg":"E"}`, `tenant: null is not a JSON string`},
		"a long value":             {`{"tenant":"T","l3out":"O","epg":{` + strings.Repeat(`"a":1,`, 100) + `"b":2}}`, `epg: an object is not a JSON string`},
		"a list of lines":          {"{\"tenant\":\"T\",\"l3out\":\"O\",\"epg\":[\n1,\n2]}", `epg: a list is not a JSON string`},
		"a space in a name":        {`{"tenant":"T","l3out":"L3 O","epg":"E"}`, `l3out: "L3 O" has characters other than letters, digits and _ . : -`},
		"a slash in a name":        {`{"tenant":"T","l3out":"O","epg":"E/F"}`, `epg: "E/F" has characters other than letters, digits and _ . : -`},
		"a line in a name":         {`{"tenant":"T","l3out":"O","epg":"E\n"}`, `epg: "E\n" has characters other than letters, digits and _ . : -`},
		"a letter of no such name": {`{"tenant":"T","l3out":"O","epg":"é"}`, `epg: "é" has characters other than letters, digits and _ . : -`},
		"a name too long":          {`{"tenant":"T","l3out":"O","epg":"` + strings.Repeat("e", 65) + `"}`, `epg: "` + strings.Repeat("e", 65) + `" has 65 characters, the APIC takes 64`},
		"expose is a string":       {`{"tenant":"T","l3out":"O","epg":"E","expose":"pods"}`, noList},
		"expose is null":           {`{"tenant":"T","l3out":"O","epg":"E","expose":null}`, noList},
		"expose is empty":          {`{"tenant":"T","l3out":"O","epg":"E","expose":[]}`, `expose is empty`},
		"expose has an unknown":    {`{"tenant":"T","l3out":"O","epg":"E","expose":["pod"]}`, `expose knows pods and services, not "pod"`},
		"expose has a number":      {`{"tenant":"T","l3out":"O","epg":"E","expose":[1]}`, `expose: 1 is not a JSON string`},
		"expose has one twice":     {`{"tenant":"T","l3out":"O","epg":"E","expose":["pods","pods"]}`, `expose names pods twice`},
		"something behind it":      {`{"tenant":"T","l3out":"O","epg":"E"} x`, `has something behind the JSON object`},
		"a second object":          {`{"tenant":"T","l3out":"O","epg":"E"}{}`, `has something behind the JSON object`},
		"a comment":                {`{"tenant":"T","l3out":"O","epg":"E"} // x`, `has something behind the JSON object`},
		"single quotes":            {`{'tenant':'T'}`, `is not JSON: invalid character '\''`},
		"a comma too many":         {`{"tenant":"T","l3out":"O","epg":"E",}`, `is not JSON: invalid character '}' looking for beginning of object key string`},
		"no comma":                 {`{"tenant":"T" "l3out":"O"}`, `is not JSON: invalid character '"' after object key:value pair`},
		"the end missing":          {`{"tenant":"T","l3out":"O","epg":"E"`, `is not JSON: its end is missing`},
		"a value missing":          {`{"tenant":}`, `is not JSON: invalid character '}' looking for beginning of value`},
		"no quotes":                {`{tenant:"T"}`, `is not JSON: invalid character 't'`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := desired.ParseTarget(tt.in)
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			if strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 200 {
				t.Errorf("not one line: %q", err)
			}
		})
	}
}

func TestParseExpose(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"pods", "services", "pods,services"} {
		e, err := desired.ParseExpose(strings.Split(s, ","))
		if err != nil || e.String() != s {
			t.Errorf("%s: got %s, %v", s, e, err)
		}
	}
}

// FuzzParseTarget holds ParseTarget against encoding/json: what it takes encodes to something
// that it takes for the same, and what a strict reader would refuse it refuses.
func FuzzParseTarget(f *testing.F) {
	for _, s := range someAnnotations {
		f.Add(s)
	}
	f.Add(`{"tenant":"T","l3out":"O","epg":"E","expose":["pods","services"]}`)
	f.Add(`{"tenant":"T","l3out":"O","epg":"E","epg":"F"}`)
	f.Add(`{"tenant":"T","l3out":"O","EPG":"E"} `)
	f.Add(`{"tenant":"T","l3out":"O","epg":"E"}]`)
	f.Add("{\"tenant\":\"\xff\",\"l3out\":\"O\",\"epg\":\"E\"}")
	f.Add(`{"tenant":"T","l3out":"O","epg":"E",}`)
	f.Fuzz(func(t *testing.T, value string) {
		got, err := desired.ParseTarget(value)
		if err != nil {
			if msg := err.Error(); msg == "" || strings.ContainsAny(msg, "\r\n") {
				t.Errorf("the error of %q is not one line: %q", value, msg)
			}
			return
		}
		var exact map[string]any
		if err := json.Unmarshal([]byte(value), &exact); err != nil {
			t.Fatalf("%q is taken for %+v, but is not JSON: %v", value, got, err)
		}
		for key := range exact {
			if key != "tenant" && key != "l3out" && key != "epg" && key != "expose" {
				t.Errorf("%q: key %q is taken", value, key)
			}
		}
		if exact["tenant"] != got.EPG.Tenant || exact["l3out"] != got.EPG.L3Out.Name || exact["epg"] != got.EPG.Name {
			t.Errorf("%q is taken for %+v", value, got)
		}
		if _, exposes := exact["expose"]; exposes != (got.Expose != nil) {
			t.Errorf("%q is taken for %+v", value, got)
		}
		again := map[string]any{"tenant": got.EPG.Tenant, "l3out": got.EPG.L3Out.Name, "epg": got.EPG.Name}
		if got.Expose != nil {
			again["expose"] = strings.Split(got.Expose.String(), ",")
		}
		encoded, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		target, err := desired.ParseTarget(string(encoded))
		if diff := cmp.Diff(got, target); err != nil || diff != "" {
			t.Errorf("%q comes back from %s otherwise: %v (-first +second)\n%s", value, encoded, err, diff)
		}
		// A member more makes an object either twofold or strange.
		end := strings.LastIndex(value, "}")
		for _, member := range []string{`"epg":"E"`, `"x":1`} {
			if more := value[:end] + "," + member + value[end:]; more != value {
				if _, err := desired.ParseTarget(more); err == nil {
					t.Errorf("%q is taken", more)
				}
			}
		}
		if _, err := desired.ParseTarget(value + "x"); err == nil {
			t.Errorf("%q is taken", value+"x")
		}
	})
}
