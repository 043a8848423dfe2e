package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// patience is how long a step may take on a machine that is busy.
const patience = 30 * time.Second

// tell plays the story. Each step does something, waits until the APIC's REST API shows what
// must follow, and fails if it does not.
func (s *stage) tell(ctx context.Context) error {
	steps := []struct {
		title string
		play  func(context.Context) error
	}{
		{"Somebody annotates a Deployment", s.appear},
		{"What the cluster knows of it", s.inform},
		{"The Deployment grows", s.grow},
		{"Pods come one by one: how long until the fabric knows?", s.measure},
		{"Somebody deletes a subnet on the APIC", s.deleteSubnet},
		{"Somebody changes a subnet on the APIC", s.editSubnet},
		{"Somebody deletes the whole external EPG, contract and all", s.deleteEPG},
		{"The Deployment is deleted", s.leaveFabric},
	}
	for i, step := range steps {
		say("\n%d. %s", i+1, step.title)
		if err := step.play(ctx); err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, step.title, err)
		}
	}
	say("\nAll of it happened, checked over the APIC's REST API. The demo is done.")
	return nil
}

func (s *stage) appear(ctx context.Context) error {
	command("kubectl apply -f test/demo/app.yaml    # 3 Pods and a LoadBalancer Service")
	manifest, err := os.ReadFile("test/demo/app.yaml")
	if err != nil {
		return err
	}
	if err := s.lab.Apply(ctx, string(manifest)); err != nil {
		return err
	}
	subnets, err := s.inSync(ctx, 3)
	if err != nil {
		return err
	}
	say("   the APIC has a new external EPG, EPG_K8_APP_MCAST, with a subnet for every address:")
	for _, n := range subnets {
		say("     %-22s %-34s %s", n.IP, n.Name, n.Scope)
	}
	return nil
}

// inform shows the ExternalEPG, which follows the fabric with a delay.
func (s *stage) inform(ctx context.Context) error {
	command("kubectl get xepg -o wide")
	var table string
	err := poll(ctx, patience, func() error {
		out, err := s.lab.Kubectl(ctx, "get", "xepg", "-o", "json")
		if err != nil {
			return err
		}
		if err := inSyncAndManaged(out, 7); err != nil {
			return err
		}
		table, err = s.lab.Kubectl(ctx, "get", "xepg", "-o", "wide")
		return err
	})
	if err != nil {
		return err
	}
	for line := range strings.Lines(table) {
		say("     %s", strings.TrimRight(line, "\n"))
	}
	say("   so it is known after a restart what is aci-sync's, also if somebody strips its marks meanwhile")
	return nil
}

// inSyncAndManaged checks a list of ExternalEPGs: one, managed, with so many subnets, all of them present.
func inSyncAndManaged(list string, subnets int) error {
	var l struct {
		Items []struct {
			Spec   struct{ Managed bool }
			Status struct {
				Desired, Present int
				Conditions       []metav1.Condition
			}
		}
	}
	if err := json.Unmarshal([]byte(list), &l); err != nil {
		return err
	}
	if len(l.Items) != 1 {
		return fmt.Errorf("there are %d ExternalEPGs", len(l.Items))
	}
	x := l.Items[0]
	ready := slices.ContainsFunc(x.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == "Ready" && c.Status == metav1.ConditionTrue
	})
	if !ready || !x.Spec.Managed || x.Status.Desired != subnets || x.Status.Present != subnets {
		return fmt.Errorf("it is not managed, ready and with %d subnets: %+v", subnets, x)
	}
	return nil
}

func (s *stage) grow(ctx context.Context) error {
	command("kubectl scale deployment mcast --replicas=50")
	posts := s.posts()
	if err := s.scale(ctx, 50); err != nil {
		return err
	}
	subnets, err := s.inSync(ctx, 50)
	if err != nil {
		return err
	}
	say("   %d subnets: every Pod has an IPv4 and an IPv6 address; it took %s", len(subnets), requests(s.posts()-posts))
	return nil
}

// samples is how many single Pods are measured.
const samples = 20

func (s *stage) measure(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.lab.RESTConfig())
	if err != nil {
		return err
	}
	watch, err := client.CoreV1().Pods(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{LabelSelector: "app=mcast"})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	seen := map[string]time.Time{} // address -> when a watch first showed it
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ev := range watch.ResultChan() {
			pod, ok := ev.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			mu.Lock()
			for _, ip := range pod.Status.PodIPs {
				if _, old := seen[ip.IP]; !old {
					seen[ip.IP] = time.Now()
				}
			}
			mu.Unlock()
		}
	}()
	stop := sync.OnceFunc(func() { watch.Stop(); <-done })
	defer stop()
	before, err := s.inSync(ctx, 50)
	if err != nil {
		return err
	}
	command("kubectl scale deployment mcast --replicas=51, 52, ... %d", 50+samples)
	for i := range samples {
		select { // let it be quiet again: changes in a row wait for company
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(1200 * time.Millisecond):
		}
		if err := s.scale(ctx, 51+i); err != nil {
			return err
		}
		if _, err := s.inSync(ctx, 51+i); err != nil {
			return err
		}
	}
	stop()
	after, err := s.fabric.epg(ctx)
	if err != nil {
		return err
	}
	var took []time.Duration
	for _, n := range after {
		ip, _, _ := strings.Cut(n.IP, "/")
		old := slices.ContainsFunc(before, func(m subnet) bool { return m.IP == n.IP })
		if at, ok := seen[ip]; ok && !old {
			took = append(took, max(0, n.Since.Sub(at)))
		}
	}
	if len(took) < samples {
		return fmt.Errorf("only %d of %d new addresses could be timed", len(took), 2*samples)
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(time.Millisecond) }
	say("   from \"the Pod has an IP\" to \"the APIC has the subnet\", %d addresses:", len(took))
	say("     fastest %v   half within %v   95 %% within %v   slowest %v", at(0), at(.5), at(.95), at(1))
	say("     (50 ms of it aci-sync waits on purpose, so that changes travel together)")
	return nil
}

func (s *stage) deleteSubnet(ctx context.Context) error {
	subnets, err := s.fabric.epg(ctx)
	if err != nil {
		return err
	}
	victim := subnets[0]
	command("DELETE %s/extsubnet-[%s]    # on the APIC, by hand", epgDN, victim.IP)
	asked := time.Now()
	if err := s.fabric.del(ctx, epgDN+"/extsubnet-["+victim.IP+"]"); err != nil {
		return err
	}
	back, err := s.await(ctx, victim.IP, func(n subnet) error {
		if n.Since.Before(asked.Truncate(time.Millisecond)) {
			return errors.New("it has not been deleted yet")
		}
		if n.Name != victim.Name || n.Scope != victim.Scope || !n.Marked {
			return fmt.Errorf("it came back otherwise: %+v", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	say("   it is back, as it was: %s %s %s", back.IP, back.Name, back.Scope)
	return nil
}

func (s *stage) editSubnet(ctx context.Context) error {
	subnets, err := s.fabric.epg(ctx)
	if err != nil {
		return err
	}
	ip := subnets[1].IP
	command(`POST scope "shared-rtctrl", descr "asked for by Jo"    # on %s: import-security is gone, another flag is new`, ip)
	body := fmt.Sprintf(`{"l3extSubnet":{"attributes":{"ip":%q,"scope":"shared-rtctrl","descr":"asked for by Jo"}}}`, ip)
	if err := s.fabric.post(ctx, epgDN, body); err != nil {
		return err
	}
	n, err := s.await(ctx, ip, func(n subnet) error {
		if n.Scope != "import-security,shared-rtctrl" {
			return fmt.Errorf("its scope is %s", n.Scope)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n.Descr != "asked for by Jo" {
		return fmt.Errorf("the description is gone: %+v", n)
	}
	say("   import-security, which classifies the traffic, is put back: scope %s", n.Scope)
	say("   the flag and the description that were added stay: they are Jo's")
	return nil
}

func (s *stage) deleteEPG(ctx context.Context) error {
	command("POST fvRsProv CON_MCAST; then DELETE %s    # by hand", epgDN)
	if err := s.fabric.post(ctx, epgDN, `{"fvRsProv":{"attributes":{"tnVzBrCPName":"CON_MCAST"}}}`); err != nil {
		return err
	}
	posts := s.posts()
	asked := time.Now()
	if err := s.fabric.del(ctx, epgDN); err != nil {
		return err
	}
	subnets, err := s.inSyncSince(ctx, 50+samples, asked)
	if err != nil {
		return err
	}
	say("   it is back with all its %d subnets, after %s", len(subnets), requests(s.posts()-posts-1))
	var told string
	err = poll(ctx, patience, func() error {
		told, err = s.lab.Kubectl(ctx, "get", "events", "--field-selector", "reason=ContractsLost", "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(told, "CON_MCAST") {
			err = fmt.Errorf("no event tells of the contract: %q", told)
		}
		return err
	})
	if err != nil {
		return err
	}
	say("   the contract was the network team's and is not aci-sync's to restore; an event on the Deployment says so:")
	say("     %s", told)
	return nil
}

func (s *stage) leaveFabric(ctx context.Context) error {
	command("kubectl delete -f test/demo/app.yaml")
	if _, err := s.lab.Kubectl(ctx, "delete", "-f", "test/demo/app.yaml", "--wait=false"); err != nil {
		return err
	}
	var left []string
	err := poll(ctx, patience, func() error {
		var err error
		left, err = s.fabric.l3outChildren(ctx)
		if err == nil && len(left) != 1 {
			err = fmt.Errorf("below the L3Out there still is %s", strings.Join(left, ", "))
		}
		return err
	})
	if err != nil {
		return err
	}
	err = poll(ctx, patience, func() error {
		out, err := s.lab.Kubectl(ctx, "get", "xepg", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("the cluster still has %s", out)
		}
		return err
	})
	if err != nil {
		return err
	}
	say("   the external EPG, its subnets and its ExternalEPG are gone; the L3Out is as the network team made it: %s", left[0])
	return nil
}

func (s *stage) scale(ctx context.Context, n int) error {
	_, err := s.lab.Kubectl(ctx, "scale", "deployment", "mcast", fmt.Sprintf("--replicas=%d", n))
	return err
}

func (s *stage) inSync(ctx context.Context, pods int) ([]subnet, error) {
	return s.inSyncSince(ctx, pods, time.Time{})
}

// inSyncSince waits until the APIC has exactly the addresses of the Deployment's Pods, of
// which there must be so many, and of its Service, none of them older than since.
func (s *stage) inSyncSince(ctx context.Context, pods int, since time.Time) ([]subnet, error) {
	var subnets []subnet
	err := poll(ctx, patience, func() error {
		if err := s.sync.alive(); err != nil {
			return err
		}
		want, err := s.addresses(ctx, pods)
		if err != nil {
			return err
		}
		if subnets, err = s.fabric.epg(ctx); err != nil {
			return err
		}
		var have []string
		for _, n := range subnets {
			if !n.Marked || n.Name == "" || !strings.Contains(n.Scope, "import-security") {
				return fmt.Errorf("subnet %s is not as it must be: %+v", n.IP, n)
			}
			if n.Since.Before(since.Truncate(time.Millisecond)) {
				return fmt.Errorf("subnet %s is still the old one", n.IP)
			}
			have = append(have, n.IP)
		}
		if !slices.Equal(have, want) {
			return fmt.Errorf("the APIC has %d subnets, the cluster %d addresses", len(have), len(want))
		}
		return nil
	})
	return subnets, err
}

// addresses are those of the Deployment's Pods and its Service in the cluster, as prefixes.
func (s *stage) addresses(ctx context.Context, pods int) ([]string, error) {
	out, err := s.lab.Kubectl(ctx, "get", "pods", "-l", "app=mcast", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct{ Status corev1.PodStatus }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	if len(list.Items) != pods {
		return nil, fmt.Errorf("the Deployment has %d Pods yet", len(list.Items))
	}
	ip, err := s.lab.Kubectl(ctx, "get", "service", "mcast", "-o", "jsonpath={range .status.loadBalancer.ingress[*]}{.ip} {end}")
	if err != nil {
		return nil, err
	}
	ips := strings.Fields(ip)
	if len(ips) == 0 {
		return nil, errors.New("the Service has no address yet")
	}
	for _, pod := range list.Items {
		if len(pod.Status.PodIPs) == 0 {
			return nil, errors.New("a Pod has no address yet")
		}
		for _, ip := range pod.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
	}
	for i, ip := range ips {
		if strings.Contains(ip, ":") {
			ips[i] += "/128"
		} else {
			ips[i] += "/32"
		}
	}
	slices.Sort(ips)
	return ips, nil
}

// await waits until the subnet ip is there and good.
func (s *stage) await(ctx context.Context, ip string, good func(subnet) error) (subnet, error) {
	var found subnet
	err := poll(ctx, patience, func() error {
		subnets, err := s.fabric.epg(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(subnets, func(n subnet) bool { return n.IP == ip })
		if i < 0 {
			return fmt.Errorf("subnet %s is not there", ip)
		}
		found = subnets[i]
		return good(found)
	})
	return found, err
}

// posts counts the writes that the APIC has seen below the L3Out.
func (s *stage) posts() int {
	f, err := os.Open(filepath.Join(dir, "requests.jsonl"))
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	n := 0
	for lines.Scan() {
		var r struct{ Method, Path string }
		if json.Unmarshal(lines.Bytes(), &r) == nil && r.Method != "GET" && strings.HasPrefix(r.Path, "/api/mo/") {
			n++
		}
	}
	return n
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

func command(format string, args ...any) { say("   $ "+format, args...) }
