package apic

import (
	"errors"
	"net/url"
	"testing"
	"testing/synctest"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// While a login is under way, a request may turn out to be refused although a login was made for it: that makes
// the next logins rarer, also when this one works. Who needs a session meanwhile is told why there is none.
func TestLoginThatWaitsSaysWhy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New([]*url.URL{{Scheme: "http", Host: "apic1"}}, "admin", Options{Password: aci.Secret("secret")})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.useless(errors.New("token was invalid"))
		// As a login does that works.
		c.backoff.worked()
		s, err := c.login(t.Context(), nil)
		if s != nil || err == nil {
			t.Fatalf("got session %v and error %v", s, err)
		}
		if st := c.Status(); st.Err != "" {
			t.Errorf("all is well, and the status says %q", st.Err)
		}
	})
}
