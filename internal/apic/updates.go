package apic

import (
	"context"
	"slices"
	"sync"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// maxQueuedObjects bounds what waits for a slow receiver of Updates.
const maxQueuedObjects = 50_000

// mailbox holds updates between the WebSocket, which must not wait, and the receiver of
// Updates. When it is full, everything in it becomes one Gap for each root.
type mailbox struct {
	wake chan struct{} // holds one token when the queue may have grown

	mu sync.Mutex
	// mu guards the fields below.
	queue   []aci.Update
	objects int             // in queue
	gaps    map[aci.DN]bool // roots with a Gap in queue
}

func (m *mailbox) init() {
	m.wake = make(chan struct{}, 1)
	m.gaps = map[aci.DN]bool{}
}

// put appends u. Nothing is told of a root after a Gap for it until that was received:
// the read that answers the Gap knows it all.
func (m *mailbox) put(u aci.Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gaps[u.Root] {
		return
	}
	if u.Kind == aci.Gap {
		m.drop(u.Root)
		m.gaps[u.Root] = true
	}
	m.queue = append(m.queue, u)
	if m.objects += len(u.Objects); m.objects > maxQueuedObjects {
		m.overflow()
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// overflow replaces the queue by a Gap for each root in it. m.mu is held.
func (m *mailbox) overflow() {
	queue := m.queue
	m.queue, m.objects = nil, 0
	clear(m.gaps)
	for _, u := range queue {
		if !m.gaps[u.Root] {
			m.gaps[u.Root] = true
			m.queue = append(m.queue, aci.Update{Kind: aci.Gap, Root: u.Root})
		}
	}
}

// forget drops what waits for root.
func (m *mailbox) forget(root aci.DN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(root)
}

// drop is forget with m.mu held.
func (m *mailbox) drop(root aci.DN) {
	delete(m.gaps, root)
	m.queue = slices.DeleteFunc(m.queue, func(u aci.Update) bool {
		if u.Root == root {
			m.objects -= len(u.Objects)
		}
		return u.Root == root
	})
}

func (m *mailbox) take() (aci.Update, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		return aci.Update{}, false
	}
	u := m.queue[0]
	m.queue[0] = aci.Update{}
	m.queue = m.queue[1:]
	m.objects -= len(u.Objects)
	if u.Kind == aci.Gap {
		delete(m.gaps, u.Root)
	}
	return u, true
}

// deliver sends what is put to out, in order, until ctx ends.
func (m *mailbox) deliver(ctx context.Context, out chan<- aci.Update) {
	for {
		u, ok := m.take()
		if !ok {
			select {
			case <-m.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case out <- u:
		case <-ctx.Done():
			return
		}
	}
}
