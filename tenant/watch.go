package tenant

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// watcher is the manager's goroutine that hears of others' changes.
type watcher struct {
	mu       sync.Mutex // guards what follows
	cancel   context.CancelFunc
	done     chan struct{}
	confirms bool // Telegram is asked about rejected tokens
}

// confirming calls add where Telegram is asked about rejected tokens, and reports
// whether it did.
func (w *watcher) confirming(add func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.confirms {
		add()
	}
	return w.confirms
}

// Start begins to follow the changes that other processes make in the same
// store, so that a token rotated or a tenant suspended there closes the bot
// here. It returns at once; the store may come later or go meanwhile, and is
// then asked again, less and less often. The work ends with ctx or with
// [Manager.Stop]. Starting what runs is an error.
//
// Start also has Telegram asked again about rejected tokens, for
// ConfirmFor of [ManagerConfig], before a tenant is quarantined, and about quarantined
// tenants once a day. What was not decided when the manager stops begins anew with
// the next 401.
//
// It also tells Health of [ManagerConfig] how all tenants stand that are stored
// already. If that has a method Ready() error, as health.Monitor does, it is
// told once Ready returns nil.
//
// A service of one process without Health needs it for these questions only.
func (m *Manager) Start(ctx context.Context) error {
	m.watcher.mu.Lock()
	defer m.watcher.mu.Unlock()
	if m.watcher.done != nil {
		select {
		case <-m.watcher.done: // by its context or Stop
		default:
			return fail("start manager", "", errors.Internal, errors.New("it runs already"))
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	m.watcher.cancel, m.watcher.done = cancel, done
	m.watcher.confirms = true
	var work sync.WaitGroup
	work.Go(func() { m.follow(ctx) })
	work.Go(func() {
		m.confirm(ctx)
		m.watcher.mu.Lock()
		defer m.watcher.mu.Unlock()
		m.watcher.confirms = false
		m.confirming.dropAll()
	})
	if m.retryEvery > 0 {
		work.Go(func() { m.retryQuarantined(ctx) })
	}
	if m.standing.health != nil {
		work.Go(func() { m.tellAll(ctx) })
	}
	go func() {
		defer close(done)
		work.Wait()
		m.notices.all.Wait()
	}()
	return nil
}

// Stop ends what Start began, and waits for its end, and for OnQuarantine and
// OnAccepted of [ManagerConfig], whose contexts it does not end: what they hear
// is told no second time. It may be called without Start, and more than once.
// Stop the manager before its pool is closed.
func (m *Manager) Stop() {
	m.watcher.mu.Lock()
	cancel, done := m.watcher.cancel, m.watcher.done
	m.watcher.mu.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	<-done
}

// How long to wait before a watch that ended is begun again.
const (
	firstRewatch = 100 * time.Millisecond
	maxRewatch   = 30 * time.Second
)

func (m *Manager) follow(ctx context.Context) {
	wait := firstRewatch
	for {
		err := m.store.Watch(ctx, func(c Change) {
			wait = firstRewatch
			if c == (Change{}) {
				m.standing.miss()
				m.pool.loader.dropAll()
				m.pool.watchers.tell("")
				m.recheck(ctx, m.pool.core.Keys())
			} else {
				m.heard(ctx, c)
			}
		})
		if ctx.Err() != nil {
			return
		}
		m.log.WarnContext(ctx, "changes of others are not heard for now", slog.String("error", session.Redact(errText(err))))
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, maxRewatch)
	}
}

func errText(err error) string {
	if err == nil {
		return "the watch ended"
	}
	return err.Error()
}

// pause waits, about that long, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// heard closes the bot of a tenant whose record has changed. Changes are heard
// late, this process's own too, so a bot that is open may be of a later record:
// what is stored decides.
func (m *Manager) heard(ctx context.Context, c Change) {
	t, opening, _ := m.pool.core.Peek(c.ID)
	switch {
	case t == nil || opening:
		// One that opens may have read an older record.
		m.pool.evict(c.ID, c.Version == 0 || c.Status == Suspended)
	default: // whatever the versions: those of a restored copy may come again
		m.pool.loader.drop(c.ID)
		m.recheck(ctx, []string{c.ID})
	}
	m.pool.watchers.tell(c.ID) // an instance that is still in use was not evicted
	switch {
	case c.Version == 0:
		m.forget(ctx, c.ID)
	case m.standing.health != nil && (c.Status != Active || m.standing.doubted(c.ID)):
		m.look(ctx, c.ID)
	}
}

// forget takes the bot and the limits of a tenant that was removed, and lets
// others forget it, unless it is back.
func (m *Manager) forget(ctx context.Context, id string) {
	defer m.begin(id)()
	if _, err := m.store.Get(ctx, id); errors.Is(err, errors.NotFound) {
		m.ended(id, news{gone: true, guess: true})
		_ = m.absent(ctx, id) // which is logged
	}
}

// absent lets others forget a tenant that is not stored, and tells them if it is
// there again by then.
func (m *Manager) absent(ctx context.Context, id string) error {
	if m.standing.silent() {
		return nil
	}
	err := m.standing.tell(ctx, id, news{gone: true, guess: true})
	m.look(ctx, id)
	return err
}

// look reads a tenant and tells how it stands.
func (m *Manager) look(ctx context.Context, id string) {
	defer m.standing.begin(id)()
	r, err := m.store.Get(ctx, id)
	switch {
	case err == nil:
		_ = m.standing.tell(ctx, id, newsOf(r))
	case !errors.Is(err, errors.NotFound) && ctx.Err() == nil:
		m.log.WarnContext(ctx, "tenant can't be read for now", slog.String("tenant", id), slog.String("error", session.Redact(err.Error())))
		m.standing.miss()
	}
}

// tellAll tells how all tenants stand whenever changes may have been missed.
func (m *Manager) tellAll(ctx context.Context) {
	ready := func() bool { return true }
	if h, ok := m.standing.health.(interface{ Ready() error }); ok {
		// What it loads later would be taken for the later word.
		ready = func() bool { return h.Ready() == nil }
	}
	for {
		select {
		case <-m.standing.missed:
		case <-ctx.Done():
			return
		}
		for wait := firstRewatch; !ready() || !m.walk(ctx); wait = min(2*wait, maxRewatch) {
			if !pause(ctx, wait) {
				return
			}
		}
	}
}

// walk reads all tenants, tells how they stand, and reports whether it could.
func (m *Manager) walk(ctx context.Context) bool {
	defer m.standing.beginAll()()
	for r, err := range m.List(ctx, Filter{Limit: maxBatch}) {
		if err != nil {
			if ctx.Err() == nil {
				m.log.WarnContext(ctx, "tenants can't be read for now", slog.String("error", session.Redact(err.Error())))
			}
			return false
		}
		_ = m.standing.tell(ctx, r.ID, newsOf(r))
	}
	return true
}

// recheck compares what is open with what is stored.
func (m *Manager) recheck(ctx context.Context, ids []string) {
	wait := firstRewatch
	for len(ids) > 0 {
		some := ids[:min(len(ids), maxBatch)]
		err := m.recheckSome(ctx, some)
		if ctx.Err() != nil || errors.Is(err, errors.Closed) {
			return // with the watch
		}
		if err != nil {
			m.log.WarnContext(ctx, "open bots can't be compared with the store for now", slog.String("error", session.Redact(err.Error())))
			if !pause(ctx, wait) {
				return
			}
			wait = min(2*wait, maxRewatch)
			continue
		}
		ids = ids[len(some):]
	}
}

// recheckSome is recheck for as many as are read in one query.
func (m *Manager) recheckSome(ctx context.Context, ids []string) error {
	open := make(map[string]*Tenant, len(ids)) // before what is stored now is read
	for _, id := range ids {
		defer m.pool.limits.begin(id)()
		open[id], _, _ = m.pool.core.Peek(id)
	}
	// Nobody whose bot is to be closed is left out, whatever it takes.
	stored, unread, err := readEach(ctx, m.store, ids, unbounded)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if len(ids) > 1 && len(unread) == len(ids) {
		return unread[ids[0]] // it is rather the store
	}
	for _, id := range ids {
		if err := unread[id]; err != nil {
			// What can't be read can't be opened either. Those who use the
			// bot may go on.
			m.log.ErrorContext(ctx, "tenant can't be read", slog.String("tenant", id), slog.String("error", session.Redact(err.Error())))
			m.pool.evict(id, false)
			continue
		}
		m.compare(id, stored, open[id])
	}
	return nil
}

// compare closes a bot that the stored record no longer allows, and makes the
// record's limits known. One that is opening may have read another record. It
// was read after [limits.begin], and after was was open.
//
// A bot stays open for other changes: a poller may hold it for days, and
// nobody could use the tenant until it gave it back.
func (m *Manager) compare(id string, stored map[string]Record, was *Tenant) {
	t, opening, found := m.pool.core.Peek(id)
	r, there := stored[id]
	if !there {
		m.pool.evict(id, true)
		return
	}
	if !found || opening || !sameBot(t.Record, r) {
		// One that ends is in use still, and whoever uses it may have to stop:
		// its tenant is suspended, or another has its id.
		m.pool.supersede(id, newsOf(r), was, r.Status == Suspended || t != nil && !r.CreatedAt.Equal(t.Record.CreatedAt))
		return
	}
	// Not only where they differ from those it was opened with, or the version
	// does: others may have been made known since, and a restored copy is older.
	if err := m.pool.limits.set(id, newsOf(r), r.Limits); err != nil {
		m.log.Error("limits were not taken", slog.String("tenant", id), slog.String("error", session.Redact(err.Error())))
	}
}

// sameBot reports whether a bot that was opened from one record is what the
// stored one would open.
func sameBot(open, stored Record) bool {
	if stored.Status != Active || stored.BotID != open.BotID || !stored.CreatedAt.Equal(open.CreatedAt) {
		return false
	}
	if stored.TokenErr != nil { // it may be another token, unless nothing changed
		return stored.Version == open.Version
	}
	return stored.Token.Equal(open.Token)
}
