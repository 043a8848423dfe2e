package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	l3outDN = "uni/tn-TEN_K8_C1/out-L3O_K8_C1"
	epgDN   = l3outDN + "/instP-EPG_K8_APP_MCAST"
)

// fabric is the APIC as a person with curl sees it. It shares no code with aci-sync's own
// client, so that a mistake there cannot hide itself.
type fabric struct {
	url  string
	http *http.Client
}

// subnet is an l3extSubnet as the REST API shows it.
type subnet struct {
	IP, Name, Scope, Descr string
	Since                  time.Time // modTs
	Marked                 bool
}

func newFabric(url, caFile string) (*fabric, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	f := &fabric{url: url, http: &http.Client{
		Jar: jar, Timeout: 20 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}}
	_, err = f.ask(context.Background(), http.MethodPost, "/api/aaaLogin.json",
		fmt.Sprintf(`{"aaaUser":{"attributes":{"name":%q,"pwd":%q}}}`, user, password))
	return f, err
}

type object struct {
	Attributes map[string]string
	Children   []map[string]object
}

// ask makes one request and returns its objects with their classes.
func (f *fabric) ask(ctx context.Context, method, path, body string) ([]map[string]object, error) {
	req, err := http.NewRequestWithContext(ctx, method, f.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, data)
	}
	var reply struct{ Imdata []map[string]object }
	if err := json.Unmarshal(data, &reply); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return reply.Imdata, nil
}

// post and del are what a person does by hand.
func (f *fabric) post(ctx context.Context, dn, body string) error {
	_, err := f.ask(ctx, http.MethodPost, "/api/mo/"+dn+".json", body)
	return err
}

func (f *fabric) del(ctx context.Context, dn string) error {
	_, err := f.ask(ctx, http.MethodDelete, "/api/mo/"+dn+".json", "")
	return err
}

var errNoEPG = errors.New("there is no external EPG")

// epg reads the demo's external EPG with its subnets, sorted by IP.
func (f *fabric) epg(ctx context.Context) ([]subnet, error) {
	found, err := f.ask(ctx, http.MethodGet, "/api/mo/"+epgDN+".json?rsp-subtree=full&rsp-subtree-class=l3extSubnet,tagAnnotation", "")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errNoEPG
	}
	var subnets []subnet
	marked := false
	for _, child := range found[0]["l3extInstP"].Children {
		marked = marked || isMark(child, epgDN)
		s, ok := child["l3extSubnet"]
		if !ok {
			continue
		}
		a := s.Attributes
		since, err := time.Parse("2006-01-02T15:04:05.000-07:00", a["modTs"])
		if err != nil {
			return nil, err
		}
		n := subnet{IP: a["ip"], Name: a["name"], Scope: a["scope"], Descr: a["descr"], Since: since}
		for _, tag := range s.Children {
			n.Marked = n.Marked || isMark(tag, epgDN+"/extsubnet-["+n.IP+"]")
		}
		subnets = append(subnets, n)
	}
	if !marked {
		return nil, errors.New("the external EPG does not bear aci-sync's owner mark")
	}
	slices.SortFunc(subnets, func(a, b subnet) int { return strings.Compare(a.IP, b.IP) })
	return subnets, nil
}

func isMark(child map[string]object, dn string) bool {
	a := child["tagAnnotation"].Attributes
	return a["key"] == "aci-sync" && strings.HasSuffix(a["value"], " "+dn)
}

// l3outChildren are the RNs of what is directly below the L3Out.
func (f *fabric) l3outChildren(ctx context.Context) ([]string, error) {
	found, err := f.ask(ctx, http.MethodGet, "/api/mo/"+l3outDN+".json?query-target=children", "")
	var rns []string
	for _, o := range found {
		for class, mo := range o {
			rns = append(rns, class+" "+strings.TrimPrefix(mo.Attributes["dn"], l3outDN+"/"))
		}
	}
	slices.Sort(rns)
	return rns, err
}
