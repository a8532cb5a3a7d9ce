package tenant

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"maps"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// ManagerConfig configures a [Manager]. Its zero value is a good one.
type ManagerConfig struct {
	// ConfirmFor is how long Telegram must reject a token before the manager
	// quarantines its tenant. Meanwhile the tenant's calls and leases fail here
	// with [errors.Unauthorized], and the manager asks Telegram with getMe: after 1,
	// 3, 7 and 15 s, then every 30 s, and after 10 min less and less often, down to
	// every 5 min. While the tenant is in use it asks every 10 s. An answer that is not
	// Telegram's, such as a proxy's HTML page, a time-out or a 5xx, does not count.
	//
	// Telegram rejects a token with 401, or with 404 "Not Found" or 421. A 404 may be
	// about the method, so calls go on until a getMe is rejected too.
	//
	// 0 means 1 h; negative quarantines at the first rejection. It takes effect between
	// [Manager.Start] and [Manager.Stop]. Otherwise nobody asks again: the first 401
	// quarantines, and a 404 does not.
	ConfirmFor time.Duration
	// RetryQuarantined is how long a tenant stays quarantined, at most, before the
	// manager asks Telegram about its token again. If Telegram accepts the token, the
	// manager resumes the tenant as [Manager.Resume] does. It does not touch tenants
	// that [Manager.Suspend] suspended. 0 means 24 h; negative disables it. It needs
	// [Manager.Start].
	//
	// The next question comes after half to seven eighths of this time, so that
	// tenants quarantined together spread. The manager asks about one tenant after the
	// other, and about at most 4,320 in this time that are rejected again. Replicas share
	// the work. Each question stores the record, so UpdatedAt is the time of the
	// last one, and a change of the record postpones the next.
	RetryQuarantined time.Duration
	// OnQuarantine hears of each tenant that was quarantined. err is Telegram's first
	// answer: an [errors.Unauthorized], or an [errors.InvalidToken] for 404 "Not Found"
	// and 421. The record is stored and the bot evicted by then.
	//
	// It is called once for each quarantine. If the database's answer was lost,
	// several replicas may call it. If the process was killed between the two, nobody
	// calls it; the log has the entry ([ActionQuarantine]).
	//
	// It is called on a goroutine of its own with 10 s of time, and up to 64 at
	// once for as many tenants: one that hangs holds up nothing else. If the
	// manager was not started, the call that met the 401 calls it.
	OnQuarantine func(ctx context.Context, r Record, err error)
	// MaxQuarantines is how many tenants Telegram may reject within a minute, or
	// go on to reject, before their tokens can't be the cause. Above it, the manager
	// quarantines only tenants that Telegram has rejected for an hour, so it matters
	// where ConfirmFor is less than that. 0 means 10; negative is no bound.
	//
	// It is a number and no share of the bots, because the manager does not know how
	// many are in use. With a short ConfirmFor, set it to a third of the bots of a
	// small service, such as 1 of 3 or 4.
	MaxQuarantines int
	// OnHold hears that more than MaxQuarantines tenants are rejected, and how many:
	// once each time it begins, on the goroutine of the call that met the 401. The
	// manager logs it as an error too.
	OnHold func(ctx context.Context, tenants int)
	// OnAccepted hears of a tenant whose token Telegram rejected and accepts again:
	// before a quarantine, or after one when RetryQuarantined has resumed the tenant. A
	// poller that backs off may go on, by Add of package polling's Supervisor. It is
	// called as OnQuarantine is; one tenant's calls come in order.
	OnAccepted func(ctx context.Context, r Record)
	// OnActive hears of a tenant after each Register, Rotate and Resume that left
	// it active, and after RetryQuarantined has resumed it: the place to have its updates received, such as by Ensure of
	// package webhook's Manager, since a token that is new has no webhook. It hears
	// of it too where nothing was changed, since an earlier call may have made
	// the change and not come so far. What other processes or [Import] store is not
	// heard, nor what this one did when it was killed before: have that looked for,
	// as webhook's Reconcile does.
	//
	// The call that it hears of waits for it, on whose goroutine and with whose ctx
	// it is called: hand over what takes time. After RetryQuarantined it is called as
	// OnQuarantine is.
	OnActive func(ctx context.Context, r Record)
	// Health is told who is suspended, quarantined, active again or gone, after
	// it was stored, such as a health.Monitor. Of tenants that are stored
	// already it is told by [Manager.Start]. Nil tells nobody.
	Health Health
	// Forget hear of tenants that were removed, such as a usage.Recorder, so
	// that whoever gets the id next does not get what was counted.
	Forget []Forgetter
	// Logger hears of every change. Nil discards.
	Logger *slog.Logger
}

// Manager is where tenants come from and go: it checks tokens, keeps the
// records and makes every change known to the pool at once. After a method has
// returned, no lease that begins sees what was before; leases that are out end
// as the method says. It is safe for concurrent use, also for one tenant.
//
// Each change is one transaction with an entry of the log, which says who
// ([WithActor]), when and what. A method that failed, or whose process was
// killed, can be called again with the same arguments, whether or not the
// change was made: what is so already is not changed and not logged a second
// time. Only Remove then says [errors.NotFound].
type Manager struct {
	session    *session.Session
	store      Store
	pool       *Pool
	cfg        ManagerConfig
	log        *slog.Logger
	watcher    watcher
	standing   standing
	confirming *confirming
	retryEvery time.Duration // negative: never
	notices    notices
}

// NewManager returns the manager of a pool's tenants, in the pool's store. A
// pool has one manager; the last made is the one that quarantines.
func NewManager(p *Pool, cfg ManagerConfig) *Manager {
	m := &Manager{session: p.session, store: p.store, pool: p, cfg: cfg, log: cfg.Logger}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.standing = newStanding(cfg, m.log)
	m.confirming = newConfirming(cfg, m.log)
	m.retryEvery = cmp.Or(cfg.RetryQuarantined, defaultRetry)
	m.notices = notices{log: m.log, busy: make(map[string]struct{})}
	p.manager.Store(m)
	return m
}

// Option adds to a record that is registered.
type Option func(*Record)

// WithMetadata stores the caller's own data with the record.
func WithMetadata(metadata map[string]string) Option {
	return func(r *Record) { r.Metadata = maps.Clone(metadata) }
}

// WithLimits gives the tenant limits of its own.
func WithLimits(limits session.Limits) Option {
	return func(r *Record) { r.Limits = limits }
}

// Register checks a token and stores a new tenant with it. It asks Telegram
// who the bot is, so the token was valid a moment ago. Registering a tenant
// again with the token it has is no error and changes nothing.
//
// Each way it fails has a kind: [errors.BadRequest] for the id,
// [errors.InvalidToken], [errors.Unauthorized], [errors.TokenTaken] when the
// bot belongs to another tenant, [errors.Exists] when the tenant has another
// token already (see [Manager.Rotate]), and what may befall a call of getMe.
func (m *Manager) Register(ctx context.Context, id, token string, options ...Option) (Record, error) {
	r, err := m.register(ctx, id, token, options)
	return m.activated(ctx, r, err)
}

func (m *Manager) register(ctx context.Context, id, token string, options []Option) (Record, error) {
	if err := checkID(id); err != nil {
		return Record{}, err
	}
	t, err := session.ParseToken(token)
	if err != nil {
		return Record{}, err
	}
	if old, found, err := m.registered(ctx, id, t); found || err != nil {
		return old, err
	}
	r, err := m.identify(ctx, id, t)
	if err != nil {
		return Record{}, err
	}
	for _, o := range options {
		o(&r)
	}
	r.CreatedAt = r.UpdatedAt
	defer m.begin(id)()
	stored, err := m.store.Put(ctx, r, entry(ctx, ActionRegister, ""))
	if errors.Is(err, errors.Exists) { // somebody else was quicker
		old, found, err := m.registered(ctx, id, t)
		if err == nil && !found { // and has removed it since
			err = fail("register tenant", id, errors.Stale, nil)
		}
		return old, err
	}
	if err != nil {
		m.doubtful(id, err)
		return Record{}, err
	}
	m.changed(ctx, "tenant registered", stored, false)
	return stored, nil
}

// registered returns the tenant's record if it has this token, and an error if
// it has another.
func (m *Manager) registered(ctx context.Context, id string, t session.Token) (Record, bool, error) {
	defer m.begin(id)()
	old, err := m.store.Get(ctx, id)
	switch {
	case errors.Is(err, errors.NotFound):
		return Record{}, false, nil
	case err != nil:
		return Record{}, false, err
	case old.TokenErr != nil && old.BotID == t.ID():
		// It may be the same; Rotate sets it anew.
		return Record{}, false, fail("register tenant", id, errors.Exists, old.TokenErr)
	case !old.Token.Equal(t):
		return Record{}, false, fail("register tenant", id, errors.Exists, nil)
	}
	m.compare(id, map[string]Record{id: old}, nil) // as in rotate
	return old, true, nil
}

// maxName bounds the names kept, in bytes. Telegram allows 64 characters.
const maxName = 256

// identify asks Telegram who the bot of a token is.
func (m *Manager) identify(ctx context.Context, id string, t session.Token) (Record, error) {
	bot, err := m.session.NewBot(ctx, id, t)
	if err != nil {
		return Record{}, err
	}
	return Record{
		ID:        id,
		BotID:     bot.Id,
		Username:  clean(bot.Username, maxName),
		Name:      clean(bot.FirstName, maxName),
		Token:     t,
		UpdatedAt: now(),
	}, nil
}

// Rotate gives a tenant a new token of the same bot, after asking Telegram
// about it. A quarantined tenant becomes active again; a suspended one stays
// suspended. Leases that are out keep the old token, which Telegram no longer
// accepts, until they end; no new instance opens before that.
//
// Telegram keeps a webhook by the token, so it is gone with the old one: have it
// set again by OnActive of [ManagerConfig]. Updates wait meanwhile.
//
// A token of another bot is [errors.WrongBot].
func (m *Manager) Rotate(ctx context.Context, id, token string) (Record, error) {
	t, err := session.ParseToken(token)
	if err != nil {
		return Record{}, err
	}
	for range maxTries {
		r, again, err := m.rotate(ctx, id, t)
		if !again {
			return m.activated(ctx, r, err)
		}
	}
	return Record{}, fail("rotate token", id, errors.Stale, nil)
}

// rotate asks Telegram about a token and stores it. again says that somebody
// else rotated meanwhile: Telegram's answer may be older than the other token,
// which then is the one it accepts, so it is to be asked anew.
func (m *Manager) rotate(ctx context.Context, id string, t session.Token) (r Record, again bool, err error) {
	old, err := m.store.Get(ctx, id)
	if err != nil {
		return Record{}, false, err
	}
	if old.BotID != t.ID() {
		return Record{}, false, fail("rotate token", id, errors.WrongBot, nil)
	}
	seen, err := m.identify(ctx, id, t)
	if err != nil {
		return Record{}, false, err
	}
	defer m.begin(id)()
	r, changed, err := m.update(ctx, id, ActionRotate, "", func(r *Record) (bool, error) {
		if again = !r.Token.Equal(t) && !sameToken(old, *r); again {
			return false, nil
		}
		if r.BotID != t.ID() {
			return false, fail("rotate token", id, errors.WrongBot, nil)
		}
		if r.Token.Equal(t) && r.Status != Quarantined && r.Username == seen.Username && r.Name == seen.Name {
			return false, nil
		}
		r.Token, r.TokenErr, r.Username, r.Name = t, nil, seen.Username, seen.Name
		if r.Status == Quarantined {
			r.Status, r.Reason = Active, ""
		}
		return true, nil
	})
	switch {
	case err != nil || again:
		return Record{}, again, err
	case changed:
		m.changed(ctx, "token rotated", r, false)
	default:
		// It may have been stored by a call that failed before it came here,
		// and the old token's bot been opened since.
		m.compare(id, map[string]Record{r.ID: r}, nil)
	}
	return r, false, nil
}

// sameToken reports whether a record still has the token that it had. Of tokens
// that can't be unsealed that is only known while nothing has changed.
func sameToken(old, r Record) bool {
	if old.TokenErr != nil || r.TokenErr != nil {
		return old.Version == r.Version && old.CreatedAt.Equal(r.CreatedAt)
	}
	return old.CreatedAt.Equal(r.CreatedAt) && old.Token.Equal(r.Token)
}

// SetLimits changes a tenant's limits; zero fields mean the fleet's. They bind
// at once, calls that wait already included. Limits that make no sense are
// [errors.BadRequest].
func (m *Manager) SetLimits(ctx context.Context, id string, limits session.Limits) (Record, error) {
	limits = Record{Limits: limits}.Normal().Limits // to compare with what is stored
	defer m.begin(id)()
	r, changed, err := m.update(ctx, id, ActionLimit, "", func(r *Record) (bool, error) {
		if r.Limits == limits {
			return false, nil
		}
		r.Limits = limits
		return true, nil
	})
	if err != nil {
		return Record{}, err
	}
	m.pool.loader.drop(id)
	if err := m.pool.limits.set(id, newsOf(r), r.Limits); err != nil {
		return Record{}, err
	}
	if changed {
		// The bot stays as it is: a poller may hold it for days.
		m.log.InfoContext(ctx, "limits changed", slog.String("tenant", r.ID), slog.String("bot", r.Username))
	}
	return r, nil
}

// Suspend switches a tenant off. Contexts of leases that are out end, so that
// those who use the bot stop; new leases fail with [errors.Suspended]. The
// reason is for the operator, and cut to 1 KiB. Suspending twice keeps the
// later reason.
func (m *Manager) Suspend(ctx context.Context, id, reason string) (Record, error) {
	reason = clean(reason, maxDetail)
	defer m.begin(id)()
	r, changed, err := m.update(ctx, id, ActionSuspend, reason, func(r *Record) (bool, error) {
		if r.Status == Suspended && r.Reason == reason {
			return false, nil
		}
		r.Status, r.Reason = Suspended, reason
		return true, nil
	})
	if err != nil {
		return Record{}, err
	}
	if !changed {
		// It may have been stored by a call that failed before it came here.
		m.pool.supersede(id, newsOf(r), nil, true)
		_ = m.standing.tell(ctx, id, newsOf(r))
		return r, nil
	}
	m.changed(ctx, "tenant suspended", r, true)
	return r, nil
}

// Resume makes a suspended tenant active. One that was quarantined is asked
// about first: its token may have come to be accepted again, and if not, the
// error is [errors.Unauthorized] and it stays quarantined. Resuming an active
// tenant changes nothing.
func (m *Manager) Resume(ctx context.Context, id string) (Record, error) {
	r, err := m.resume(ctx, id)
	return m.activated(ctx, r, err)
}

func (m *Manager) resume(ctx context.Context, id string) (Record, error) {
	old, err := m.store.Get(ctx, id)
	if err != nil {
		return Record{}, err
	}
	if old.Status == Quarantined {
		if old.TokenErr != nil {
			return Record{}, fail("resume tenant", id, errors.Internal, old.TokenErr)
		}
		if _, err := m.identify(ctx, id, old.Token); err != nil {
			return Record{}, err
		}
	}
	defer m.begin(id)()
	r, changed, err := m.update(ctx, id, ActionResume, "", func(r *Record) (bool, error) {
		if r.Status == Active {
			return false, nil
		}
		if r.Status == Quarantined && !r.Token.Equal(old.Token) {
			return false, fail("resume tenant", id, errors.Stale, nil)
		}
		r.Status, r.Reason = Active, ""
		return true, nil
	})
	if err == nil && !changed {
		_ = m.standing.tell(ctx, id, newsOf(r)) // as in Suspend
	}
	if err != nil || !changed {
		return r, err
	}
	m.changed(ctx, "tenant resumed", r, false)
	return r, nil
}

// Remove forgets a tenant, and lets Health and Forget of [ManagerConfig] do so
// too. Contexts of leases that are out end. Removing one that is not there is
// [errors.NotFound]. Telegram is told nothing: the bot stays its owner's.
//
// An error of Health or Forget comes after the tenant was removed. Removing it
// again lets them try again, and is NotFound once they have done it.
func (m *Manager) Remove(ctx context.Context, id string) error {
	defer m.begin(id)()
	for range maxTries {
		r, err := m.store.Get(ctx, id)
		if errors.Is(err, errors.NotFound) && checkID(id) == nil {
			// It may have been removed by a call that failed before it came
			// here.
			m.ended(id, news{gone: true, guess: true})
			if err := m.absent(ctx, id); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		err = m.store.Delete(ctx, id, r.Version, entry(ctx, ActionRemove, ""))
		if err == nil {
			gone := newsOf(r)
			gone.gone = true
			m.ended(id, gone)
			m.said(ctx, "tenant removed", r)
			return m.standing.tell(ctx, id, gone)
		}
		if !errors.Is(err, errors.Stale) {
			m.doubtful(id, err)
			return err
		}
	}
	return fail("remove tenant", id, errors.Stale, nil)
}

// ended gives up a removed tenant's bot and limits. The limits come first:
// whoever opens the bot of one that is registered anew makes its own known.
func (m *Manager) ended(id string, gone news) {
	_ = m.pool.limits.set(id, gone, session.Limits{}) // zero limits are always right
	m.pool.supersede(id, gone, nil, true)
}

// begin is called before a tenant is read or changed. What it returns is called
// after all who are to know do.
func (m *Manager) begin(id string) (end func()) {
	standing, limits := m.standing.begin(id), m.pool.limits.begin(id)
	return func() {
		limits()
		standing()
	}
}

// Get returns a tenant's record.
func (m *Manager) Get(ctx context.Context, id string) (Record, error) { return m.store.Get(ctx, id) }

// List walks the records that filter selects, by ascending id; filter.Limit is
// the size of the pages it reads. It ends after the first error.
func (m *Manager) List(ctx context.Context, filter Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			page, err := m.store.List(ctx, filter)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			filter.After = page[len(page)-1].ID
		}
	}
}

// Log walks the log entries that filter selects, oldest first; filter.Limit is
// the size of the pages it reads. It ends after the first error.
func (m *Manager) Log(ctx context.Context, filter LogFilter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for {
			page, err := m.store.Log(ctx, filter)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			filter.After = page[len(page)-1].Seq
		}
	}
}

// maxTries bounds how often a change is tried again because others change the
// same record. Each try that fails means that another change went through.
const maxTries = 10

// update reads a record, changes it and stores it with an entry of the log,
// again when somebody else changed it meanwhile. change returns false to leave
// it as it is.
func (m *Manager) update(ctx context.Context, id string, action Action, detail string, change func(*Record) (bool, error)) (Record, bool, error) {
	for range maxTries {
		r, err := m.store.Get(ctx, id)
		if err != nil {
			return Record{}, false, err
		}
		before := r.TokenErr
		if ok, err := change(&r); !ok || err != nil {
			return r, false, err
		}
		if errors.Is(before, ErrNotUnderstood) { // a new token does not mend that
			return Record{}, false, fail("change tenant", id, errors.Internal, before)
		}
		r.UpdatedAt = now()
		stored, err := m.store.Put(ctx, r, entry(ctx, action, detail))
		if err == nil {
			return stored, true, nil
		}
		if !errors.Is(err, errors.Stale) {
			m.doubtful(id, err)
			return Record{}, false, err
		}
	}
	return Record{}, false, fail("change tenant", id, errors.Stale, nil)
}

// doubtful gives up a tenant's bot after a change that failed in a way that
// does not say whether it was made. What opens next reads what is stored.
func (m *Manager) doubtful(id string, err error) {
	switch errors.KindOf(err) {
	case errors.NotFound, errors.Exists, errors.TokenTaken, errors.BadRequest:
	default:
		m.pool.evict(id, false)
	}
}

// changed makes a stored change known.
func (m *Manager) changed(ctx context.Context, what string, r Record, abort bool) {
	m.pool.supersede(r.ID, newsOf(r), nil, abort)
	m.said(ctx, what, r)
	_ = m.standing.tell(ctx, r.ID, newsOf(r))
}

// activated calls OnActive after what has succeeded, and returns what it got.
func (m *Manager) activated(ctx context.Context, r Record, err error) (Record, error) {
	if err == nil && r.Status == Active && m.cfg.OnActive != nil {
		m.notices.call(ctx, notice{r.ID, "OnActive", func(ctx context.Context) { m.cfg.OnActive(ctx, r) }})
	}
	return r, err
}

func (m *Manager) said(ctx context.Context, what string, r Record) {
	m.log.InfoContext(ctx, what, slog.String("tenant", r.ID), slog.String("bot", r.Username), slog.String("status", r.Status.String()))
}
