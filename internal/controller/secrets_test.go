package controller_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// An APIC that gives back what it was sent tells it to nobody: not by Events, the status of an ExternalEPG, a metric,
// what plan prints, or the log.
func TestSecretsReachNobody(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{metrics: r}, func(w *world) {
		var tokens []string // as the APIC got them
		w.whenRead(func(r *http.Request) {
			if token, ok := strings.CutPrefix(r.Header.Get("Cookie"), "APIC-cookie="); ok {
				w.mu.Lock()
				defer w.mu.Unlock()
				tokens = append(tokens, token)
			}
		})
		w.refuse("10.0.0.2", "no such thing for $COOKIE")
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.1*")
		w.opts.metrics = nil // those of the controller that runs are looked at
		preview, err := w.preview()
		if err != nil {
			t.Fatal(err)
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for where, text := range map[string]string{
			"Events": fmt.Sprint(w.said), "the log": w.log.String(), "the status": fmt.Sprintf("%+v", w.statuses),
		} {
			if !strings.Contains(text, "no such thing for APIC-cookie=[redacted]") {
				t.Errorf("%s do not say why it was refused: %s", where, text)
			}
		}
		all := fmt.Sprintf("%v %+v %s %+v %v", w.said, w.statuses, w.log.String(), preview, families)
		if len(tokens) == 0 {
			t.Fatal("no token was sent")
		}
		for _, secret := range append(tokens, "apic-sim\"") {
			if i := strings.Index(all, secret); secret == "" || i >= 0 {
				t.Errorf("%q is told: %s", secret, all[max(0, i-200):max(0, i)])
			}
		}
		if s := regexp.MustCompile(`eyJ[A-Za-z0-9_-]{20}`).FindString(all); s != "" {
			t.Errorf("something like a token is told: %s", s)
		}
	})
}
