package apic

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// rightsTimeout bounds the questions for the rights of the user, which hold up a new session.
const rightsTimeout = 10 * time.Second

var errRights = fmt.Errorf("no answer about the user within %v: %w", rightsTimeout, context.DeadlineExceeded)

// askRights asks for the domains of the user of a certificate, whom no login tells them: for his
// roles in them, and unless one is the whole fabric, for the tenants that are part of them. Without
// an answer the rights stay as they were told, if ever. s.told says whether he was shown himself.
//
// Source: the classes aaaUser, aaaUserDomain, aaaUserRole and aaaDomainRef of the public object
// model. unverified: that a user may read himself, and the aaaDomainRef of what he may read. Whoever may
// not is treated as one whose login tells nothing, or shows nothing: no empty answer is trusted.
func (c *Client) askRights(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeoutCause(ctx, rightsTimeout, errRights)
	defer cancel()
	dn, _, _ := strings.Cut(string(s.signer.dn), "/usercert-")
	user, err := c.send(ctx, s, request{
		op: "rights", dn: aci.DN(dn), path: moPath(aci.DN(dn)),
		query: query("rsp-subtree=full", "rsp-subtree-class=aaaUserDomain,aaaUserRole"),
	})
	if err != nil || len(user.Objects) != 1 || user.Objects[0].Class != "aaaUser" {
		return err
	}
	said := aci.ParseUser(user.Objects[0], nil)
	if !said.ReadsAll() {
		refs, err := c.send(ctx, s, request{op: "rights", path: "/api/class/aaaDomainRef.json"})
		if err != nil {
			return err
		}
		said = aci.ParseUser(user.Objects[0], refs.Objects)
	}
	s.told = true
	s.said = s.said.Update(said)
	return nil
}

// refreshSigned asks anew for what no login tells, and with that whether what s signs is taken. s is a
// copy that nobody else has.
func (c *Client) refreshSigned(ctx context.Context, s *session) (*session, error) {
	sent, told := time.Now(), s.told
	err := c.askRights(ctx, s)
	if sessionRefused(err) && !told && !refusesSignature(err) {
		err = nil // the user may not read himself, and never could
	}
	if err != nil {
		return nil, err
	}
	c.askVersion(ctx, s)
	s.refreshed = sent
	return s, nil
}
