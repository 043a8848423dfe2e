package stories_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/haystacknetworks/aci-sync/api/v1alpha1"
)

const annotation = "aci.haystacknetworks.com/l3o"

// expand puts the script's variables into a file's text; ${NAME} only, so that JSON may have $.
func expand(ts *testscript.TestScript, text string) string {
	s := ts.Value(storyKey{}).(*story)
	return s.own(regexp.MustCompile(`\$\{\w+\}`).ReplaceAllStringFunc(text, func(v string) string {
		return ts.Getenv(v[2 : len(v)-1])
	}))
}

// kubeVerb is kubectl in the story's namespace: kube [-into VAR] ARG... A file of the script that
// --filename or -f names may use its variables. What it prints can be put into one.
func kubeVerb(s *story, ts *testscript.TestScript, args []string) error {
	stdin, into := "", ""
	args = slices.Clone(args)
	if len(args) > 2 && args[0] == "-into" {
		into, args = args[1], args[2:]
	}
	for i, a := range args {
		if i > 0 && args[i-1] == "-f" {
			stdin, args[i] = expand(ts, ts.ReadFile(a)), "-"
		}
	}
	cmd := exec.CommandContext(s.ctx, shared.lab.KubectlPath(), append([]string{"--kubeconfig=" + s.kubeconfig}, args...)...)
	cmd.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	ts.Logf("%s%s", &stdout, &stderr)
	if err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	if into != "" {
		ts.Setenv(into, strings.TrimSpace(stdout.String()))
	}
	return nil
}

// deployVerb makes a Deployment that is annotated for an EPG of the L3Out OUT: deploy NAME
// REPLICAS EPG; with "-" for EPG it has no annotation.
func deployVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: deploy NAME REPLICAS EPG")
	}
	replicas, err := strconv.ParseInt(args[1], 10, 32)
	if err != nil {
		return err
	}
	labels := map[string]string{"app": args[0]}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: args[0]},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(replicas)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(int64(0)),
					Containers:                    []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}},
				},
			},
		},
	}
	if args[2] != "-" {
		d.Annotations = map[string]string{annotation: fmt.Sprintf(`{"tenant":%q, "l3out":"OUT", "epg":%q}`, s.tenant, args[2])}
	}
	_, err = s.client.AppsV1().Deployments(s.ns).Create(s.ctx, d, metav1.CreateOptions{})
	return err
}

// exposeVerb makes a LoadBalancer Service of both IP families: expose NAME APP.
func exposeVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: expose NAME APP")
	}
	_, err := s.client.CoreV1().Services(s.ns).Create(s.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: args[0]},
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeLoadBalancer,
			IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
			Selector:       map[string]string{"app": args[1]},
			Ports:          []corev1.ServicePort{{Port: 80}},
		},
	}, metav1.CreateOptions{})
	return err
}

// bearer is who has an address on the Kubernetes side.
type bearer struct {
	ip   netip.Addr
	name string // NAMESPACE::NAME, as its subnet is called
}

// bearers reads from the API server who has an address: KEY=VALUE is the Pods with this label,
// svc/NAME a Service. Pods count as a person would say that they do.
func (s *story) bearers(what string) ([]bearer, error) {
	var list []bearer
	add := func(name, ip string) error {
		a, err := netip.ParseAddr(ip)
		list = append(list, bearer{a, s.ns + "::" + name})
		return err
	}
	if name, ok := strings.CutPrefix(what, "svc/"); ok {
		svc, err := s.client.CoreV1().Services(s.ns).Get(s.ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			return nil, fmt.Errorf("Service %s has no address yet", name)
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if err := add(name, in.IP); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	pods, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: what})
	if err != nil {
		return nil, err
	}
	for _, p := range pods.Items {
		if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if err := add(p.Name, ip.IP); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// podsVerb checks how many Pods with a label have all their addresses: pods LABEL COUNT.
func podsVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: pods LABEL COUNT")
	}
	pods, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: args[0]})
	if err != nil {
		return err
	}
	n := 0
	for _, p := range pods.Items {
		if len(p.Status.PodIPs) > 0 {
			n++
		}
	}
	if ok, err := compare(float64(n), args[1]); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%d of %d Pods have addresses, want %s", n, len(pods.Items), args[1]))
	}
	return nil
}

// addrVerb puts the Nth lowest address of a family into a variable: addr VAR LABEL|svc/NAME v4|v6
// [N]. A second variable VAR_OF is the name of who has it.
func addrVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) < 3 || args[2] != "v4" && args[2] != "v6" {
		return errors.New("usage: addr VAR LABEL|svc/NAME v4|v6 [N]")
	}
	n := 1
	if len(args) > 3 {
		var err error
		if n, err = strconv.Atoi(args[3]); err != nil {
			return err
		}
	}
	list, err := s.bearers(args[1])
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(b bearer) bool { return b.ip.Is4() != (args[2] == "v4") })
	slices.SortFunc(list, func(a, b bearer) int { return a.ip.Compare(b.ip) })
	if len(list) < n {
		return fmt.Errorf("%s has %d addresses of %s", args[1], len(list), args[2])
	}
	ts.Setenv(args[0], list[n-1].ip.String())
	_, name, _ := strings.Cut(list[n-1].name, "::")
	ts.Setenv(args[0]+"_OF", name)
	return nil
}

// eventVerb checks that a Deployment, or the ExternalEPG of an external EPG of the L3Out OUT, has a
// Kubernetes Event: event TYPE REASON Deployment/NAME|ExternalEPG/EPG [REGEXP]. It looks for the UID of
// the object, as kubectl describe does.
func eventVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: event TYPE REASON KIND/NAME [REGEXP]")
	}
	kind, name, _ := strings.Cut(args[2], "/")
	ns, uid, err := s.subject(kind, name)
	if err != nil {
		return err
	}
	text := regexp.MustCompile("")
	if len(args) > 3 {
		if text, err = regexp.Compile(args[3]); err != nil {
			return err
		}
	}
	list, err := s.client.CoreV1().Events(ns).List(s.ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + string(uid) + ",involvedObject.kind=" + kind,
	})
	if err != nil {
		return err
	}
	var seen []string
	for _, e := range list.Items {
		if e.Type == args[0] && e.Reason == args[1] && text.MatchString(e.Message) {
			return nil
		}
		seen = append(seen, fmt.Sprintf("%s %s %s", e.Type, e.Reason, e.Message))
	}
	return fmt.Errorf("no Event %s on %s, but:\n%s", strings.Join(args[:2], " "), args[2], strings.Join(seen, "\n"))
}

// subject is where the Events of an object are, and its UID.
func (s *story) subject(kind, name string) (namespace string, uid types.UID, err error) {
	if kind == "ExternalEPG" {
		x, err := s.record(v1alpha1.Name(s.tenant, "OUT", name))
		return metav1.NamespaceDefault, x.UID, err
	}
	d, err := s.client.AppsV1().Deployments(s.ns).Get(s.ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	return s.ns, d.UID, nil
}

// robotVerb makes a ServiceAccount and a kubeconfig of it: robot NAME FILE. What it may do is up to
// the script.
func robotVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: robot NAME FILE")
	}
	accounts := s.client.CoreV1().ServiceAccounts(s.ns)
	_, err := accounts.Create(s.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: args[0]}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	token, err := accounts.CreateToken(s.ctx, args[0], &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return writeKubeconfigOf(token.Status.Token, s.kubeconfig, ts.MkAbs(args[1]))
}

// way is another way to the API server, on which it calls its version something else, and on which
// lists may miss objects.
type way struct {
	*httptest.Server
	version string

	mu      sync.Mutex     // guards the fields below
	shown   map[string]int // resource -> how many objects its lists show at most
	expired map[string]bool
}

// show changes how many objects of a resource are listed, and has them listed anew: who watches is told
// that he comes too late, as after a compaction.
func (w *way) show(resource string, most int) {
	w.mu.Lock()
	w.shown[resource], w.expired[resource] = most, true
	w.mu.Unlock()
	w.CloseClientConnections()
}

// through answers what is not the API server's to answer, before the request goes there.
func (w *way) through(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		resource := path.Base(r.URL.Path)
		w.mu.Lock()
		_, lists := w.shown[resource]
		query := r.URL.Query()
		var refusal *apierrors.StatusError
		switch {
		case !lists:
		case !query.Has("watch"):
			r.Header.Set("Accept", "application/json")
			r.Header.Del("Accept-Encoding") // long lists come compressed where the client can take it
		case query.Has("sendInitialEvents"): // as an API server that does not stream the initial state
			refusal = apierrors.NewInvalid(schema.GroupKind{Kind: "ListOptions"}, "", field.ErrorList{
				field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"),
			})
		case w.expired[resource]:
			refusal = apierrors.NewResourceExpired("too old resource version")
			delete(w.expired, resource)
		}
		w.mu.Unlock()
		if refusal == nil {
			next.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(int(refusal.ErrStatus.Code))
		status := refusal.ErrStatus
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		_ = json.NewEncoder(rw).Encode(status)
	})
}

// answer changes what the API server answers.
func (w *way) answer(resp *http.Response) error {
	at := resp.Request.URL
	w.mu.Lock()
	most, lists := w.shown[path.Base(at.Path)]
	w.mu.Unlock()
	switch {
	case at.Path == "/version":
		return rewrite(resp, func(info map[string]any) {
			info["gitVersion"], info["major"], info["minor"] = w.version, "", ""
		})
	case lists && resp.StatusCode == http.StatusOK && resp.Request.Method == http.MethodGet && !at.Query().Has("watch"):
		return rewrite(resp, func(list map[string]any) {
			if items, ok := list["items"].([]any); ok {
				list["items"] = items[:min(most, len(items))]
			}
		})
	}
	return nil
}

// rewrite changes the JSON object that is the body of an answer.
func rewrite(resp *http.Response, change func(map[string]any)) error {
	var object map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&object); err != nil {
		return err
	}
	change(object)
	body, err := json.Marshal(object)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return err
}

// calledVerb opens another way to the API server, on which it calls its version something else:
// called VERSION FILE [KUBECONFIG]. The file is a kubeconfig for that way, with the token of another
// one, or the rights of the story. "called cut" closes all connections on it; "called shows RESOURCE
// COUNT" has its lists show no more than so many objects of a resource.
func calledVerb(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) == 1 && args[0] == "cut" && s.way != nil {
		s.way.CloseClientConnections()
		return nil
	}
	if len(args) == 3 && args[0] == "shows" && s.way != nil {
		most, err := strconv.Atoi(args[2])
		s.way.show(args[1], most)
		return err
	}
	if len(args) != 2 && len(args) != 3 {
		return errors.New("usage: called VERSION FILE [KUBECONFIG], called cut, called shows RESOURCE COUNT")
	}
	lab := shared.lab.RESTConfig()
	as := &clientcmdapi.AuthInfo{}
	if len(args) == 3 {
		robot, err := clientcmd.LoadFromFile(ts.MkAbs(args[2]))
		if err != nil {
			return err
		}
		as = robot.AuthInfos[robot.Contexts[robot.CurrentContext].AuthInfo]
		lab = rest.AnonymousClientConfig(lab)
	}
	target, err := url.Parse(lab.Host)
	if err != nil {
		return err
	}
	transport, err := rest.TransportFor(lab)
	if err != nil {
		return err
	}
	w := &way{version: args[0], shown: map[string]int{}, expired: map[string]bool{}}
	w.Server = httptest.NewTLSServer(w.through(&httputil.ReverseProxy{
		Transport:      transport,
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: w.answer,
	}))
	s.way = w
	s.t.Cleanup(func() {
		w.CloseClientConnections() // watches, too
		w.Close()
	})
	cfg, err := clientcmd.LoadFromFile(s.kubeconfig)
	if err != nil {
		return err
	}
	cfg.Clusters[cfg.Contexts[cfg.CurrentContext].Cluster] = &clientcmdapi.Cluster{
		Server: w.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw}),
	}
	cfg.AuthInfos[cfg.Contexts[cfg.CurrentContext].AuthInfo] = as
	return clientcmd.WriteToFile(*cfg, ts.MkAbs(args[1]))
}
