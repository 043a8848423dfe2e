package stories_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// account is what the ServiceAccount of aci-sync, its role and its bindings are called.
const account = "aci-sync"

// chartRoles are the roles that an installation without Helm gets, which are those of the chart.
func chartRoles() (all rbacv1.ClusterRole, lease rbacv1.Role, err error) {
	text, err := os.ReadFile("../../charts/install.yaml")
	if err != nil {
		return all, lease, err
	}
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var what metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(doc), &what); err != nil {
			return all, lease, err
		}
		switch {
		case what.Kind == "ClusterRole" && what.Name == account:
			err = yaml.UnmarshalStrict([]byte(doc), &all)
		case what.Kind == "Role":
			err = yaml.UnmarshalStrict([]byte(doc), &lease)
		}
		if err != nil {
			return all, lease, err
		}
	}
	if len(all.Rules) == 0 || len(lease.Rules) == 0 {
		return all, lease, errors.New("charts/install.yaml has not both of aci-sync's roles")
	}
	return all, lease, nil
}

// applyRole gives a cluster the role that the chart does.
func applyRole(ctx context.Context, l *lab.Lab) error {
	all, _, err := chartRoles()
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		return err
	}
	return l.Apply(ctx, string(text), "--server-side")
}

// startAccount makes the ServiceAccount that aci-sync runs as in this story, with the rights that the chart
// gives it, its lease being in the story's namespace; and a kubeconfig with its token.
func (s *story) startAccount() error {
	_, lease, err := chartRoles()
	if err != nil {
		return err
	}
	accounts := s.client.CoreV1().ServiceAccounts(s.ns)
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: s.ns}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.ns + "-" + account}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: account},
	}
	s.t.Cleanup(func() {
		ctx := context.WithoutCancel(s.ctx)
		if err := s.client.RbacV1().ClusterRoleBindings().DeleteCollection(ctx, metav1.DeleteOptions{},
			metav1.ListOptions{FieldSelector: "metadata.name=" + binding.Name}); err != nil {
			s.t.Error(err) // that a script deleted it is none
		}
	})
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: account}, Rules: lease.Rules}
	_, err1 := accounts.Create(s.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	_, err2 := s.client.RbacV1().ClusterRoleBindings().Create(s.ctx, binding, metav1.CreateOptions{})
	_, err3 := s.client.RbacV1().Roles(s.ns).Create(s.ctx, role, metav1.CreateOptions{})
	_, err4 := s.client.RbacV1().RoleBindings(s.ns).Create(s.ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
	}, metav1.CreateOptions{})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	token, err := accounts.CreateToken(s.ctx, account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("a token for %s: %w", account, err)
	}
	s.account = filepath.Join(s.dir, "kubeconfig-"+account)
	return writeKubeconfigOf(token.Status.Token, s.kubeconfig, s.account)
}

// writeKubeconfigOf copies a kubeconfig and puts whoever has token for its user.
func writeKubeconfigOf(token, from, to string) error {
	cfg, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return err
	}
	cfg.AuthInfos[cfg.Contexts[cfg.CurrentContext].AuthInfo] = &clientcmdapi.AuthInfo{Token: token}
	return clientcmd.WriteToFile(*cfg, to)
}
