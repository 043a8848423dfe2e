package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
)

// rightsTimeout bounds the questions for our own rights, which hold up the start.
const rightsTimeout = 10 * time.Second

// Right is something that the API server must let aci-sync do.
type Right struct {
	Verb      string
	Group     string // of the API; "" is the core
	Resource  string // a subresource follows behind a slash
	Name      string // of the only object that is meant; "" is all
	Namespace string // the only one that is meant; "" is all, or none
	// Optional is what aci-sync does its work without, and tells that it is missing.
	Optional bool
}

// String is r as a sentence has it, such as "update leases.coordination.k8s.io/aci-sync in kube-system".
func (r Right) String() string {
	what, sub, _ := strings.Cut(r.Resource, "/")
	if r.Group != "" {
		what += "." + r.Group
	}
	if sub != "" {
		what += "/" + sub
	}
	if r.Name != "" {
		what += "/" + r.Name
	}
	if r.Namespace != "" {
		what += " in " + r.Namespace
	}
	return r.Verb + " " + what
}

// Needs says what aci-sync is going to do, on which its rights depend.
type Needs struct {
	ClusterID      bool   // the UID of kube-system is asked for
	Records        bool   // ExternalEPGs are kept
	LeaseNamespace string // where replicas elect a leader; "" is nowhere
	DryRun         bool   // nothing is written
}

// Rights are what aci-sync must be allowed to do, and nothing else: the roles of the Helm chart are
// these.
func Rights(n Needs) []Right {
	var rights []Right
	add := func(r Right, verbs ...string) {
		for _, r.Verb = range verbs {
			rights = append(rights, r)
		}
	}
	add(Right{Resource: "pods"}, "list", "watch")
	add(Right{Resource: "services"}, "list", "watch")
	add(Right{Resource: "namespaces"}, "list", "watch")
	for _, resource := range []string{"deployments", "statefulsets", "daemonsets", "replicasets"} {
		add(Right{Group: "apps", Resource: resource}, "list", "watch")
	}
	add(Right{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: v1alpha1.CRDName}, "get")
	if n.ClusterID {
		add(Right{Resource: "namespaces", Name: metav1.NamespaceSystem}, "get")
	}
	if n.Records {
		add(Right{Group: v1alpha1.GroupVersion().Group, Resource: "externalepgs"}, "get", "list", "watch") // get: prune and adopt with these rights
	}
	if n.DryRun {
		return rights
	}
	add(Right{Resource: "events", Optional: true}, "create", "patch")
	if n.Records {
		add(Right{Group: v1alpha1.GroupVersion().Group, Resource: "externalepgs"}, "create", "update", "delete")
		add(Right{Group: v1alpha1.GroupVersion().Group, Resource: "externalepgs/status"}, "update")
	}
	if n.LeaseNamespace != "" {
		lease := Right{Group: "coordination.k8s.io", Resource: "leases", Namespace: n.LeaseNamespace}
		add(lease, "create") // a name cannot be asked for: it is not known before the object is there
		lease.Name = leaseName
		add(lease, "get", "update")
	}
	return rights
}

// Missing returns those of rights that the API server does not grant whoever cfg is, and as whom it knows
// them. It asks by SelfSubjectAccessReviews, which change nothing and which every user may create. An error
// means that it is not known.
func Missing(ctx context.Context, cfg *rest.Config, rights []Right) (missing []Right, err error) {
	ctx, cancel := context.WithTimeout(ctx, rightsTimeout)
	defer cancel()
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1 // two dozen questions, once
	client, err := authorizationclient.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	refused := make([]bool, len(rights))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, r := range rights {
		g.Go(func() error {
			resource, sub, _ := strings.Cut(r.Resource, "/")
			answer, err := client.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: r.Verb, Group: r.Group, Resource: resource, Subresource: sub, Name: r.Name, Namespace: r.Namespace,
				}},
			}, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask for the right to %s: %w", r, err)
			}
			refused[i] = !answer.Status.Allowed
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, r := range rights {
		if refused[i] {
			missing = append(missing, r)
		}
	}
	return missing, nil
}
