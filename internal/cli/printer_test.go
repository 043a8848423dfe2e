package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// People copy what is printed, and compare it.
func TestText_is_aligned_and_ends_where_its_words_end(t *testing.T) {
	t.Parallel()
	e := aci.ExtEPG{L3Out: aci.L3Out{Tenant: "T", Name: "O"}, Name: "E"}
	subnet := func(action plan.Action, reason plan.Reason, prefix string, by ...desired.Ref) plan.Change {
		at := aci.Place{ExtEPG: e, Prefix: netip.MustParsePrefix(prefix)}
		return plan.Change{Action: action, Place: at, DN: e.DN().Child("extsubnet-[" + prefix + "]"), Reason: reason, By: by}
	}
	pod := desired.Ref{Kind: desired.KindPod, Namespace: "shop", Name: "web-1"}
	p := controller.Preview{
		Changes: []plan.Change{
			{Action: plan.Create, Place: aci.Place{ExtEPG: e}, DN: e.DN(), Reason: plan.Claimed},
			subnet(plan.Create, plan.Restored, "10.0.0.1/32", pod),
			subnet(plan.Delete, plan.Unclaimed, "10.0.0.100/32"),
		},
		Problems: []desired.Problem{{Ref: pod, Reason: "Refused", Message: "the APIC says: no "}},
		Posts:    1,
	}
	var out strings.Builder
	if err := printText(&out, "c1", p); err != nil {
		t.Fatal(err)
	}
	want := `T/O/E
  + external EPG   Claimed
  + 10.0.0.1/32    Restored   Pod shop/web-1
  - 10.0.0.100/32  Unclaimed

For a person to see to:
  Pod shop/web-1: Refused: the APIC says: no

2 to create, 0 to change, 1 to delete, in 1 request.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
