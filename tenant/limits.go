package tenant

import (
	"sync"

	"github.com/tgfleet/tgfleet/session"
)

// Limiter is told of tenants' limits. Zero limits mean the fleet's. It is told
// of one tenant by one goroutine at a time, in the order of what was stored,
// and must not call the pool or its manager.
type Limiter interface {
	// SetTenant says which limits a tenant has from now on. The error names what
	// makes no sense.
	SetTenant(id string, limits session.Limits) error
}

// limits tells the limiter. Several may open or change a tenant at the same
// time, and what was stored last is what binds.
type limits struct {
	limiter Limiter // nil hears nothing

	mu sync.Mutex // guards what follows
	// tenants are those whose record somebody is reading or changing: nobody
	// else can come with what was before.
	tenants map[string]*limited
}

// limited is what the limiter was last told of a tenant.
type limited struct {
	users int // guarded by the lock of limits

	turn   chan struct{} // of one place: who is in it tells the limiter
	latest news          // guarded by turn
}

// begin is called before a tenant is read or changed. What it returns is called
// after set.
func (l *limits) begin(id string) (end func()) {
	if l.limiter == nil {
		return func() {}
	}
	l.enter(id)
	return func() { l.leave(id) }
}

func (l *limits) enter(id string) *limited {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tenants[id]
	if t == nil {
		if l.tenants == nil {
			l.tenants = make(map[string]*limited)
		}
		t = &limited{turn: make(chan struct{}, 1)}
		l.tenants[id] = t
	}
	t.users++
	return t
}

func (l *limits) leave(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tenants[id]
	if t.users--; t.users == 0 {
		delete(l.tenants, id)
	}
}

// set makes the limits of a stored record known, unless something later was.
func (l *limits) set(id string, n news, limits session.Limits) error {
	if l.limiter == nil {
		return nil
	}
	t := l.enter(id)
	defer l.leave(id)
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	if n.guess {
		n.version = t.latest.version
	}
	if !n.after(t.latest) {
		return nil
	}
	if err := l.limiter.SetTenant(id, limits); err != nil {
		return err
	}
	t.latest = n
	return nil
}
