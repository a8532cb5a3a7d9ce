package tenant

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/session"
)

const (
	// tellers is how many hooks hear of something at a time. A few may hang, and
	// the others are told all the same.
	tellers = 64
	// noticeTime is how long a hook's context lasts.
	noticeTime = 10 * time.Second
)

// notices tells the caller's hooks what became of tenants, each on a goroutine
// of its own, so that one that is slow or hangs holds up nothing but what the
// same tenant's hooks hear next. What is told does not end with the manager's
// context: it would be told no second time.
type notices struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows; nobody is told anything under it
	waiting []notice
	busy    map[string]struct{} // tenants whose hooks hear something now
	all     sync.WaitGroup      // who waits and who is told
}

type notice struct {
	id, hook string
	tell     func(context.Context)
}

// add has a hook told. It is not called while others wait for the end of all.
func (n *notices) add(id, hook string, tell func(context.Context)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all.Add(1)
	n.waiting = append(n.waiting, notice{id, hook, tell})
	n.next()
}

// next begins what may begin. The lock is held.
func (n *notices) next() {
	for len(n.busy) < tellers {
		i := slices.IndexFunc(n.waiting, func(one notice) bool { _, busy := n.busy[one.id]; return !busy })
		if i < 0 {
			return
		}
		one := n.waiting[i]
		n.waiting = slices.Delete(n.waiting, i, i+1)
		n.busy[one.id] = struct{}{}
		go func() {
			defer func() { // also after a Goexit in the hook
				n.mu.Lock()
				defer n.mu.Unlock()
				delete(n.busy, one.id)
				n.next()
				n.all.Done()
			}()
			ctx, cancel := context.WithTimeout(context.Background(), noticeTime)
			defer cancel()
			n.call(ctx, one)
		}()
	}
}

// call harms nobody when the hook panics.
func (n *notices) call(ctx context.Context, one notice) {
	defer func() {
		if p := recover(); p != nil {
			n.log.ErrorContext(ctx, "panic in "+one.hook, slog.String("tenant", one.id), slog.String("panic", session.Redact(fmt.Sprint(p))))
		}
	}()
	one.tell(ctx)
}
