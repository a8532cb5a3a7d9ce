package tenant

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// Health is told which tenants may be used, such as health.Monitor. It is called
// concurrently, and must not wait for anything but in Forget.
type Health interface {
	// Suspend says that a tenant was switched off, and why.
	Suspend(tenant, reason string)
	// Quarantine says that Telegram no longer accepts a tenant's token.
	Quarantine(tenant, reason string)
	// Resume says that a tenant may be used. It is called for those that never
	// were suspended too.
	Resume(tenant string)
	Forgetter
}

// Forgetter drops what it keeps of tenants that are gone, such as
// usage.Recorder. Forgetting one of whom nothing is kept is no error.
type Forgetter interface {
	// Forget drops what there is of a tenant. After an error it may be called again.
	Forget(ctx context.Context, tenant string) error
}

// standing tells others what is stored of tenants: who may be used, and who is
// gone. Several may change a tenant at the same time, and it is told in the order
// of what was stored.
type standing struct {
	health Health // nil hears nothing
	forget []Forgetter
	log    *slog.Logger
	// missed holds one: not all may have been told.
	missed chan struct{}

	mu sync.Mutex // guards what follows; nobody is told anything under it
	// changing are the tenants that somebody is reading or changing, so that
	// who comes late with what was before is known to be late.
	changing map[string]*telling
	// walks counts those who read all tenants. Who has changed one stays in
	// changing meanwhile.
	walks int
	// off are those of which was last told that they may not be used.
	off map[string]struct{}
}

// telling is what there is to tell of a tenant.
type telling struct {
	users  int  // who read, change or tell it
	kept   bool // somebody may have changed it
	busy   bool // somebody is telling
	told   bool // all that follows was told
	latest news
}

// news is a stored record, as far as it is told.
type news struct {
	version int64
	status  Status
	reason  string
	gone    bool // it was removed, at this version
	// guess says that it was not there when somebody looked, whatever the
	// version was.
	guess bool
}

func newsOf(r Record) news {
	return news{version: r.Version, status: r.Status, reason: r.Reason}
}

// after reports whether n is of a later change. A tenant that is created anew goes
// on above the versions it had, and may have been created before them by the
// clock: processes differ, and what is imported keeps its time. What is found
// after a guess shows it wrong.
func (n news) after(o news) bool {
	return n.version > o.version || n.version == o.version && n.gone != o.gone && (n.gone || o.guess)
}

// newStanding returns a standing that nobody has begun anything with.
func newStanding(cfg ManagerConfig, log *slog.Logger) standing {
	return standing{
		health: cfg.Health, forget: cfg.Forget, log: log, missed: make(chan struct{}, 1),
		changing: make(map[string]*telling), off: make(map[string]struct{}),
	}
}

// silent reports whether there is nobody to tell.
func (s *standing) silent() bool { return s.health == nil && len(s.forget) == 0 }

// miss says that what is stored is to be told anew, of all tenants.
func (s *standing) miss() {
	select {
	case s.missed <- struct{}{}:
	default:
	}
}

// begin is called before a tenant is read or changed. What it returns is called
// after others were told.
func (s *standing) begin(id string) (end func()) {
	if s.silent() {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(id).kept = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leave(id)
	}
}

// enter and leave hold a tenant in changing. The lock is held.
func (s *standing) enter(id string) *telling {
	t := s.changing[id]
	if t == nil {
		t = &telling{told: true}
		s.changing[id] = t
	}
	t.users++
	return t
}

func (s *standing) leave(id string) {
	t := s.changing[id]
	if t.users--; t.users == 0 && (s.walks == 0 || !t.kept) {
		delete(s.changing, id)
	}
}

// beginAll is begin for all tenants.
func (s *standing) beginAll() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.walks++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.walks--; s.walks > 0 {
			return
		}
		for id, t := range s.changing {
			if t.users == 0 {
				delete(s.changing, id)
			}
		}
	}
}

// doubted reports whether a tenant that may be used could be taken for one
// that may not.
func (s *standing) doubted(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, off := s.off[id]
	return off || s.changing[id] != nil
}

// tell tells what is stored of a tenant, unless something later was told.
// Whoever finds that somebody is telling leaves it to them, so nobody waits. The
// error is what was not forgotten of one that is gone.
func (s *standing) tell(ctx context.Context, id string, n news) (err error) {
	if s.silent() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.enter(id)
	defer s.leave(id)
	if n.guess {
		n.version = t.latest.version
	}
	if !n.after(t.latest) {
		return nil
	}
	t.latest, t.told = n, false
	if t.busy {
		return nil
	}
	t.busy = true
	defer func() { t.busy = false }()
	for !t.told {
		n, t.told = t.latest, true
		if n.gone || n.status == Active {
			delete(s.off, id)
		} else {
			s.off[id] = struct{}{}
		}
		err = s.unlocked(func() error { return s.tellOne(ctx, id, n) })
	}
	return err
}

// unlocked calls f without the lock, which is held again afterwards, also when
// f ends its goroutine.
func (s *standing) unlocked(f func() error) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	return f()
}

// tellOne harms nobody when who is told panics.
func (s *standing) tellOne(ctx context.Context, id string, n news) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "panic in who is told of a tenant", slog.String("tenant", id),
				slog.String("panic", session.Redact(fmt.Sprint(p))))
			err = fail("tell of tenant", id, errors.Internal, errors.New("panic in who is told"))
		}
	}()
	switch {
	case n.gone:
		return s.forgetOne(ctx, id)
	case s.health == nil:
	case n.status == Suspended:
		s.health.Suspend(id, n.reason)
	case n.status == Quarantined:
		s.health.Quarantine(id, n.reason)
	default:
		s.health.Resume(id)
	}
	return nil
}

// forgetTimeout bounds how long a removal waits for what others keep.
const forgetTimeout = 10 * time.Second

// forgetOne lets all forget a tenant, although some may fail. The tenant is gone
// whether or not the caller still waits.
func (s *standing) forgetOne(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	var all []error
	if s.health != nil {
		all = append(all, s.health.Forget(ctx, id))
	}
	for _, f := range s.forget {
		all = append(all, f.Forget(ctx, id))
	}
	err := errors.Join(all...)
	if err != nil {
		s.log.ErrorContext(ctx, "tenant is gone and not forgotten", slog.String("tenant", id), slog.String("error", session.Redact(err.Error())))
		err = fail("forget tenant", id, errors.KindOf(err), err)
	}
	return err
}
