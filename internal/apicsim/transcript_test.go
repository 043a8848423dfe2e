package apicsim_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/memnet"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/transcripts")

// TestTranscripts replays testdata/transcripts/*.txt: what is asked, and what the wire
// must hold in answer, in a bubble whose clock starts at 2000-01-01. Lines:
//
//	options NAME[=VALUE] …   fields of apicsim.Options; first line only
//	login [USER PASSWORD]    log in, keep the cookie
//	cookie VALUE             send this Cookie header from now on; TOKEN stands for the newest
//	                         token, OLD for the one before it; "cookie" alone sends none
//	socket [OLD]             open a WebSocket with the newest token
//	METHOD /path             a request; lines after it that begin with two spaces are its body
//	sleep 61s                let time pass
//	fault {…}                arm a Fault
//	drop N MATCH             lose events
//	seed …                   write as the fabric itself: Sim.Seed
//	reload                   the leafs reload: Sim.ReloadLeafs
//	cut                      close the sockets
//	# words                  a comment
//
// and what -update writes: "< STATUS BODY" for an answer, "~ FRAME" for an event, "! …"
// for an opened or closed socket.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = replay(t, string(want)) })
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("answers differ (-want +got):\n%s", diff)
			}
		})
	}
}

// replay runs the questions of script and returns it with the answers it got.
func replay(t *testing.T, script string) string {
	var questions []string
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if line == "" || !strings.ContainsRune("<~!", rune(line[0])) {
			questions = append(questions, line)
		}
	}
	var o apicsim.Options
	if rest, ok := strings.CutPrefix(questions[0], "options "); ok {
		setOptions(t, &o, strings.Fields(rest))
	}
	c := connect(t, o)
	var out strings.Builder
	for i := 0; i < len(questions); i++ {
		line := questions[i]
		out.WriteString(line + "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#", "options":
			continue
		case "login":
			user, password, _ := strings.Cut(rest, " ")
			if user == "" {
				user, password = "admin", "apic-sim"
			}
			out.WriteString(c.login(user, password))
		case "cookie":
			c.cookie = rest
		case "socket":
			out.WriteString(c.open(rest))
		case "sleep":
			d, err := time.ParseDuration(rest)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
		case "fault":
			var f apicsim.Fault
			if err := json.Unmarshal([]byte(rest), &f); err != nil {
				t.Fatal(err)
			}
			if err := c.sim.AddFault(f); err != nil {
				t.Fatal(err)
			}
		case "drop":
			var n int
			var match string
			if _, err := fmt.Sscan(rest, &n, &match); err != nil {
				t.Fatal(err)
			}
			if err := c.sim.DropEvents(n, match); err != nil {
				t.Fatal(err)
			}
		case "seed":
			if err := c.sim.Seed([]byte(rest)); err != nil {
				out.WriteString("! " + err.Error() + "\n")
			}
		case "reload":
			c.sim.ReloadLeafs()
		case "cut":
			c.sim.CloseSockets()
		default:
			var body []string
			for i+1 < len(questions) && strings.HasPrefix(questions[i+1], "  ") {
				i++
				out.WriteString(questions[i] + "\n")
				body = append(body, questions[i])
			}
			out.WriteString(c.ask(word, rest, strings.Join(body, "\n")))
		}
		synctest.Wait()
		out.WriteString(c.news())
	}
	return out.String()
}

func setOptions(t *testing.T, o *apicsim.Options, fields []string) {
	for _, f := range fields {
		name, value, given := strings.Cut(f, "=")
		field := reflect.ValueOf(o).Elem().FieldByName(name)
		switch field.Interface().(type) {
		case bool:
			field.SetBool(!given || value == "true")
		case string:
			field.SetString(value)
		case int:
			var n int64
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatal(err)
			}
			field.SetInt(n)
		case time.Duration:
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			field.SetInt(int64(d))
		case []int:
			var n int
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatal(err)
			}
			o.Leafs = append(o.Leafs, n)
		case []apicsim.User: // name/password/tenant
			p := strings.Split(value, "/")
			o.Users = append(o.Users, apicsim.User{Name: p[0], Password: p[1], Tenants: p[2:]})
		default:
			t.Fatalf("no option %s", name)
		}
	}
}

// conn is a client that knows nothing of an APIC but what a transcript tells it.
type conn struct {
	t      *testing.T
	sim    *apicsim.Sim
	http   *http.Client
	cookie string
	tokens []string

	mu   sync.Mutex // guards the fields below
	said []string
}

func connect(t *testing.T, o apicsim.Options) *conn {
	c := &conn{t: t, sim: apicsim.New(o)}
	var network memnet.Network
	l, err := network.Listen("apic:80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: c.sim}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(l) })
	transport := &http.Transport{DialContext: network.DialContext}
	c.http = &http.Client{Transport: transport}
	t.Cleanup(func() {
		c.sim.Close()
		transport.CloseIdleConnections()
		_ = srv.Close()
		serving.Wait()
	})
	return c
}

func (c *conn) header() http.Header {
	if c.cookie == "" {
		return nil
	}
	var last, old string
	if n := len(c.tokens); n > 0 {
		last, old = c.tokens[n-1], c.tokens[max(0, n-2)]
	}
	// In one pass, for a token can hold any three letters.
	v := strings.NewReplacer("TOKEN", last, "OLD", old).Replace(c.cookie)
	return http.Header{"Cookie": {v}}
}

var tokenRule = regexp.MustCompile(`"token":"([^"]*)"`)

// ask sends a request and returns its answer as a line of a transcript.
func (c *conn) ask(method, path, body string) string {
	status, got := c.do(method, path, body)
	if m := tokenRule.FindStringSubmatch(got); m != nil {
		c.tokens = append(c.tokens, m[1])
	}
	return fmt.Sprintf("< %d %s\n", status, mask(got))
}

func (c *conn) do(method, path, body string) (int, string) {
	c.t.Helper()
	path, query, _ := strings.Cut(path, "?")
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://apic/", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.URL = &url.URL{Scheme: "http", Host: "apic", Opaque: path, RawQuery: strings.ReplaceAll(query, " ", "%20")}
	maps.Copy(req.Header, c.header())
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "no answer"
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (c *conn) login(user, password string) string {
	body, err := json.Marshal(map[string]any{"aaaUser": map[string]any{"attributes": map[string]string{"name": user, "pwd": password}}})
	if err != nil {
		c.t.Fatal(err)
	}
	answer := c.ask(http.MethodPost, "/api/aaaLogin.json", string(body))
	c.cookie = "APIC-cookie=TOKEN"
	if strings.HasPrefix(answer, "< 200") {
		return ""
	}
	return answer
}

// open opens a socket and collects what it says.
func (c *conn) open(which string) string {
	token := c.tokens[len(c.tokens)-1]
	if which == "OLD" {
		token = c.tokens[len(c.tokens)-2]
	}
	ws, resp, err := websocket.Dial(c.t.Context(), "ws://apic/socket"+token, &websocket.DialOptions{HTTPClient: c.http})
	if err != nil {
		return fmt.Sprintf("! refused with %d\n", resp.StatusCode)
	}
	go func() {
		defer ws.CloseNow()
		for {
			_, frame, err := ws.Read(c.t.Context())
			c.mu.Lock()
			if err != nil {
				c.said = append(c.said, "! socket closed")
			} else {
				c.said = append(c.said, "~ "+mask(string(frame)))
			}
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return "! socket open\n"
}

// news returns what the sockets said since the last call.
func (c *conn) news() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, s := range c.said {
		b.WriteString(s + "\n")
	}
	c.said = nil
	return b.String()
}

var (
	secrets = regexp.MustCompile(`"(token|sessionId|siteFingerprint|urlToken)":"[^"]+"`)
	stamps  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d`)
)

// mask hides what differs between runs: random values and the zone of the machine.
func mask(s string) string {
	s = secrets.ReplaceAllString(s, `"$1":"…"`)
	s = stamps.ReplaceAllStringFunc(s, func(v string) string {
		at, err := time.Parse("2006-01-02T15:04:05.000-07:00", v)
		if err != nil {
			return v
		}
		return at.UTC().Format("2006-01-02T15:04:05.000-07:00")
	})
	var line strings.Builder
	scan := bufio.NewScanner(strings.NewReader(s))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		line.WriteString(strings.TrimRight(scan.Text(), "\r"))
	}
	return line.String()
}
