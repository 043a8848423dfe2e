package aci_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

func TestError_kinds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err                                  aci.Error
		temporary, exists, missing, rejected bool
	}{
		{aci.Error{Status: 400, Code: "103"}, false, true, false, false},
		{aci.Error{Status: 400, Code: "102"}, false, false, true, false},
		{aci.Error{Status: 400, Code: "120"}, false, false, false, true},
		{aci.Error{Status: 400, Code: "801"}, false, false, false, true},
		{aci.Error{Status: 400, Code: "100"}, true, false, false, false},
		{aci.Error{Status: 401, Code: "401"}, false, false, false, false},
		{aci.Error{Status: 403, Code: "403"}, false, false, false, false},
		{aci.Error{Status: 404}, false, false, false, false},
		{aci.Error{Status: 405, Code: "405"}, false, false, false, true},
		{aci.Error{Status: 405}, true, false, false, false}, // throttled, by old releases
		{aci.Error{Status: 429}, true, false, false, false},
		{aci.Error{Status: 503}, true, false, false, false},
	} {
		e := &tt.err
		if e.Temporary() != tt.temporary || e.Exists() != tt.exists || e.MissingParent() != tt.missing || e.Rejected() != tt.rejected {
			t.Errorf("%d/%s: temporary %v, exists %v, missing parent %v, rejected %v",
				e.Status, e.Code, e.Temporary(), e.Exists(), e.MissingParent(), e.Rejected())
		}
	}
}

func TestError_text_and_culprit(t *testing.T) {
	t.Parallel()
	e := &aci.Error{
		Op: "post", DN: "uni/tn-t/out-o", Status: 400, Code: "102",
		Text: "configured object ((Dn0)) not found Dn0=uni/tn-t/out-o/instP-e/extsubnet-[10.0.0.0/8], ",
	}
	want := "post uni/tn-t/out-o: APIC answered 400, code 102: configured object ((Dn0)) not found " +
		"Dn0=uni/tn-t/out-o/instP-e/extsubnet-[10.0.0.0/8],"
	if got := e.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := e.Culprit(); got != "uni/tn-t/out-o/instP-e/extsubnet-[10.0.0.0/8]" {
		t.Errorf("culprit %q", got)
	}
	if got := (&aci.Error{Text: "Invalid RN x"}).Culprit(); got != "" {
		t.Errorf("culprit %q of a text without DN", got)
	}
}

func TestSecret_shows_nothing(t *testing.T) {
	t.Parallel()
	const s aci.Secret = "hunter2"
	js, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "err", s)
	for _, got := range []string{
		string(js), log.String(), fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s),
		fmt.Sprintf("%+v", struct{ S aci.Secret }{s}),
	} {
		if strings.Contains(got, string(s)) {
			t.Errorf("shown in %s", got)
		}
	}
}
