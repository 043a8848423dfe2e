//go:debug randseednop=0
package history_test

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	oldrand "math/rand" //nolint:depguard // see below
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"

	"github.com/haystacknetworks/aci-sync/test/history"
)

// wire is what a world has in place of chance, and all that was asked of its APIC: a history that is played again
// should ask the same, at the same times.
type wire struct {
	seed uint64 // of all that is random, so that it is that of the history alone

	mu sync.Mutex
	// mu guards the fields below.
	streams uint64
	log     bytes.Buffer
}

func (w *wire) begin(h history.History) {
	sum := fnv.New64a()
	_, _ = io.WriteString(sum, h.String())
	w.seed = sum.Sum64()
	oldrand.Seed(int64(w.seed)) //nolint:staticcheck // it is what electors of client-go take their jitter from
}

// random is chance for one client or controller: each has its own, so that none depends on how often another asks.
func (w *wire) random() func() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams++
	r := rand.New(rand.NewPCG(w.seed, w.streams))
	var mu sync.Mutex
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}

// note notes a request. Tokens and what names a subscription are the simulator's own chance.
func (w *wire) note(from *run, r *http.Request) {
	what, _, _ := strings.Cut(r.URL.RequestURI(), "?id=")
	if strings.HasPrefix(what, "/socket") {
		what = "/socket"
	}
	who := ""
	if from != nil && from.replica != nil {
		who = from.replica.id
	}
	var body []byte
	if r.Method == http.MethodPost {
		body, _ = io.ReadAll(r.Body) // before any lock: nobody may wait for one while time passes
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(&w.log, "%s %s %s %s %s\n", clock(), who, r.Method, what, body)
}

// String is all that was asked.
func (w *wire) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}
