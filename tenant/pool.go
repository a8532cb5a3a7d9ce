package tenant

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant/internal/pool"
)

// PoolConfig configures a [Pool]. Its zero value is a good one. Negative
// values are errors.
type PoolConfig struct {
	// MaxOpen bounds the bots that are open at one time, those that are
	// opening or closing included. 0 means 10,000.
	MaxOpen int
	// IdleTTL is how long an unused bot stays open. It closes that long after
	// its last lease, or up to half as much later. 0 means 10 min.
	IdleTTL time.Duration
	// OpenTimeout bounds an open, hooks included. 0 means 30 s.
	OpenTimeout time.Duration
	// AcquireTimeout bounds the wait for a place when MaxOpen bots are in
	// use; past it the error is [errors.PoolFull]. 0 means 10 s.
	AcquireTimeout time.Duration
	// CloseTimeout bounds the end of one instance's hooks. 0 means 30 s.
	CloseTimeout time.Duration
	// Limiter is told of each tenant's limits when its bot is opened and when
	// the manager changes them, such as [session.Guard]. Nil tells nobody.
	Limiter Limiter
	// OnOpen are run, in this order, when a bot is opened.
	OnOpen []Hook
	// TrackLeases records where every lease is taken, for the message about a
	// lost one. That takes longer than all the rest of an Acquire; without it
	// one lease in 64 is recorded, and every one from the first loss on.
	TrackLeases bool
	// Logger hears of lost leases, of errors of hooks that end, and of bots
	// whose token Telegram no longer accepts. Nil discards.
	Logger *slog.Logger
}

// Pool turns a tenant's id into a live bot. It opens a bot when it is first
// asked for, once for all who ask, lends it to any number of callers at once,
// and closes it when it was not used for a while. What is lent is never
// closed, and while an instance closes no second one of its tenant starts.
//
// Most callers want [Pool.Do]. [Pool.Acquire] is for uses that do not fit into
// a function; each lease must be released.
//
// A Pool is safe for concurrent use. Callbacks and hooks run without its lock
// and may call it; one that waits for the end of an instance it uses itself
// waits until its context ends.
type Pool struct {
	core    *pool.Pool[*Tenant]
	session *session.Session
	store   Store
	loader  loader
	hooks   []Hook
	limits  limits
	log     *slog.Logger

	closeTimeout time.Duration

	watchers watchers

	// manager is made after the pool, and nil before.
	manager atomic.Pointer[Manager]
}

// NewPool returns a pool of the bots whose records are in store, and whose
// calls go through s. The error names every bad field. No goroutine is started
// before the first open. Close the pool before the session.
func NewPool(s *session.Session, store Store, cfg PoolConfig) (*Pool, error) {
	var bad []error
	if s == nil {
		bad = append(bad, errors.New("session is nil"))
	}
	if store == nil {
		bad = append(bad, errors.New("store is nil"))
	}
	if cfg.MaxOpen < 0 {
		bad = append(bad, errors.New("MaxOpen is negative"))
	}
	if cfg.MaxOpen == 0 {
		cfg.MaxOpen = 10_000
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{
		{"IdleTTL", &cfg.IdleTTL, 10 * time.Minute},
		{"OpenTimeout", &cfg.OpenTimeout, 30 * time.Second},
		{"AcquireTimeout", &cfg.AcquireTimeout, 10 * time.Second},
		{"CloseTimeout", &cfg.CloseTimeout, 30 * time.Second},
	} {
		if *d.value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", d.name))
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	for i, h := range cfg.OnOpen {
		if h == nil {
			bad = append(bad, fmt.Errorf("OnOpen[%d] is nil", i))
		}
	}
	if len(bad) > 0 {
		return nil, fail("configure pool", "", errors.Internal, errors.Join(bad...))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pool{session: s, store: store, loader: loader{store: store}, hooks: cfg.OnOpen, limits: limits{limiter: cfg.Limiter}, log: cfg.Logger, closeTimeout: cfg.CloseTimeout}
	p.core = pool.New(pool.Config[*Tenant]{
		Open:           p.open,
		Close:          p.end,
		Cooldown:       cooldown,
		Lost:           p.lost,
		MaxOpen:        cfg.MaxOpen,
		IdleTTL:        cfg.IdleTTL,
		OpenTimeout:    cfg.OpenTimeout,
		AcquireTimeout: cfg.AcquireTimeout,
		CloseTimeout:   cfg.CloseTimeout,
		TrackSites:     cfg.TrackLeases,
	})
	return p, nil
}

// Do calls f with the tenant's bot. f's context ends with ctx, and when the
// instance is to be given up: the tenant was suspended or removed, or the pool
// no longer waits. The tenant must not be used after f has returned.
//
// The error is f's, or one of kind [errors.NotFound], [errors.Suspended],
// [errors.PoolFull], [errors.Closed], [errors.Canceled], [errors.Timeout], or
// of what failed in a hook. [errors.Unauthorized] means that Telegram rejected the
// token and the [Manager] is asking it again; RetryAfter says when to come back.
func (p *Pool) Do(ctx context.Context, id string, f func(ctx context.Context, t *Tenant) error) error {
	lease, err := p.Acquire(ctx, id)
	if err != nil {
		return err
	}
	defer lease.Release()
	instance := lease.Context()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(instance, func() { cancel(context.Cause(instance)) })()
	return f(ctx, lease.Tenant())
}

// Acquire lends the tenant's bot until the lease is released. Its errors are
// those of [Pool.Do].
func (p *Pool) Acquire(ctx context.Context, id string) (Lease, error) {
	l, err := p.core.Acquire(ctx, id)
	if err != nil {
		return Lease{}, p.typed(ctx, id, err)
	}
	if t := l.Value(); t.revoked.Load() {
		defer l.Release()
		return Lease{}, p.refusal("open tenant", t)
	}
	return Lease{l}, nil
}

// Evict closes a tenant's bot: at once when it is not in use, else with its
// last lease. The next Acquire opens it anew, from what is stored then.
func (p *Pool) Evict(id string) { p.evict(id, false) }

// evict ends a tenant's instance, an open that is under way and what was read
// for one to come, in the order in which none of them escapes.
func (p *Pool) evict(id string, abort bool) {
	p.loader.drop(id)
	p.core.Evict(id, abort)
	p.watchers.tell(id)
}

// supersede is evict for what was opened, or may be about to be, from an older
// record than what is stored now. Whoever comes late with a change leaves what
// was opened since alone. What was open before the record was read, if not nil,
// is older whatever its version: a store that was restored has gone back.
func (p *Pool) supersede(id string, n news, was *Tenant, abort bool) {
	if n.guess {
		p.evict(id, abort)
		return
	}
	p.loader.drop(id)
	p.core.EvictIf(id, abort, func(t *Tenant) bool { return t == was || n.after(newsOf(t.Record)) })
	p.watchers.tell(id)
}

// Close ends the pool: no new leases, those out are waited for, then every bot
// is closed. When ctx ends first, the leases' contexts end, the bots are
// closed although in use, and ctx's error is returned, after at most
// [PoolConfig.CloseTimeout] for that and as much for a store that does not
// answer. Close may be called more than once; each call waits.
func (p *Pool) Close(ctx context.Context) error {
	err := p.core.Close(ctx)
	if p.loader.wait(ctx) != nil {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.closeTimeout)
		defer cancel()
		if p.loader.wait(grace) != nil {
			err = errors.Join(err, errors.New("the store does not end a query that nobody waits for"))
		}
	}
	if err != nil {
		return fail("close pool", "", errors.KindOf(ctx.Err()), err)
	}
	return nil
}

// Stats are a pool's figures.
type Stats struct {
	// Open, Opening and Closing count instances, and Leased leases, now. An
	// instance that closes with its last lease counts as Closing.
	Open    int `json:"open"`
	Opening int `json:"opening"`
	Closing int `json:"closing"`
	Leased  int `json:"leased"`
	// Opens, Failures (of opens), Evictions and Lost (leases) count since the
	// pool was made. Evictions are instances closed for whatever reason but
	// the pool's end.
	Opens     uint64 `json:"opens"`
	Failures  uint64 `json:"failures"`
	Evictions uint64 `json:"evictions"`
	Lost      uint64 `json:"lost"`
}

// Stats returns the figures of this moment. It takes time in proportion to the
// open bots.
func (p *Pool) Stats() Stats { return Stats(p.core.Stats()) }

func (p *Pool) open(ctx context.Context, id string) (*Tenant, error) {
	if checkID(id) != nil {
		// No store has it, and not every one can be asked for it.
		return nil, fail("open tenant", "", errors.NotFound, nil)
	}
	defer p.limits.begin(id)()
	r, err := p.loader.load(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Status != Active {
		return nil, fail("open tenant", id, errors.Suspended, fmt.Errorf("tenant is %v", r.Status))
	}
	if r.TokenErr != nil {
		return nil, fail("open tenant", id, errors.Internal, r.TokenErr)
	}
	if err := p.limits.set(id, newsOf(r), r.Limits); err != nil {
		return nil, err
	}
	bot := p.session.Bot(id, r.Token, r.user())
	t := &Tenant{Bot: bot, Record: r}
	bot.BotClient = &client{Client: bot.BotClient.(session.Client), tenant: t, pool: p}
	opened := false
	defer func() {
		if !opened { // by an error, a panic or a Goexit
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.closeTimeout)
			defer cancel()
			p.end(ctx, id, t)
		}
	}()
	if err := t.runHooks(ctx, p.hooks); err != nil {
		return nil, err
	}
	opened = true
	if m := p.manager.Load(); m != nil {
		m.confirming.adopt(t)
	}
	return t, nil
}

func (p *Pool) end(ctx context.Context, id string, t *Tenant) {
	if err := t.end(ctx); err != nil {
		p.log.ErrorContext(ctx, "tenant closed with errors", slog.String("tenant", id), slog.String("error", session.Redact(err.Error())))
	}
}

// Cool-downs of opens that fail again and again.
const (
	firstCooldown = time.Second
	maxCooldown   = time.Minute
)

// cooldown doubles with every failure in a row and is spread by half, so that
// tenants that failed together do not come back together. What a change of the
// record mends is not remembered at all, since that change may be any moment.
func cooldown(err error, failures int) time.Duration {
	switch errors.KindOf(err) {
	case errors.NotFound, errors.Suspended, errors.Canceled:
		return 0
	}
	d := maxCooldown
	if failures < 7 {
		d = min(firstCooldown<<(failures-1), maxCooldown)
	}
	return d + rand.N(d/2+1)
}

func (p *Pool) lost(id string, site uintptr) {
	where := "not recorded; from now on every lease's is"
	if site != 0 {
		frame, _ := runtime.CallersFrames([]uintptr{site}).Next()
		where = fmt.Sprintf("%s (%s:%d)", frame.Function, frame.File, frame.Line)
	}
	p.log.Error("lease was never released", slog.String("tenant", id), slog.String("taken", where))
}

// rejected handles a 401, once for each instance.
func (p *Pool) rejected(ctx context.Context, t *Tenant, cause error) {
	p.warnRejected(ctx, t.ID(), cause)
	m := p.manager.Load()
	if m == nil {
		return
	}
	// The caller may be about to give up; what it has learned still counts.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := m.rejected(ctx, t, cause); err != nil {
		t.reported.Store(false) // the next 401 tries again
		p.log.ErrorContext(ctx, "quarantine failed", slog.String("tenant", t.ID()), slog.String("err", session.Redact(err.Error())))
	}
}

// formRejected handles a 404 or 421, at most once a minute for each instance.
func (p *Pool) formRejected(t *Tenant, cause error) {
	if m := p.manager.Load(); m != nil {
		m.formRejected(t, cause)
	}
}

func (p *Pool) warnRejected(ctx context.Context, id string, cause error) {
	p.log.WarnContext(ctx, "token rejected by Telegram", slog.String("tenant", id), slog.String("err", session.Redact(cause.Error())))
}

// refusal returns the error of a call or lease of a tenant whose token Telegram
// rejected.
func (p *Pool) refusal(op string, t *Tenant) error {
	e := &errors.Error{
		Kind: errors.Unauthorized, Op: op, Key: t.ID(), Delivery: errors.NotDelivered,
		Err: errors.New("Telegram rejected this token; nothing was sent"),
	}
	if m := p.manager.Load(); m != nil {
		e.RetryAfter = m.confirming.want(t)
	}
	return e
}

// typed gives an error of the core its kind.
func (p *Pool) typed(ctx context.Context, id string, err error) error {
	const op = "open tenant"
	var cooling *pool.Cooling
	var panicked *pool.PanicError
	switch {
	case errors.Is(err, pool.ErrClosed):
		return fail(op, id, errors.Closed, err)
	case errors.Is(err, pool.ErrFull):
		return fail(op, id, errors.PoolFull, err)
	case errors.As(err, &cooling):
		return &errors.Error{
			Kind: errors.KindOf(cooling.Err), Op: op, Key: id, RetryAfter: cooling.Left,
			Delivery: errors.NotDelivered, Err: cooling.Err,
		}
	case errors.As(err, &panicked):
		p.log.Error("panic while opening a tenant", slog.String("tenant", id),
			slog.String("panic", session.Redact(panicked.Error())), slog.String("stack", session.Redact(string(panicked.Stack))))
		return fail(op, id, errors.Internal, errors.New(session.Redact(panicked.Error())))
	case ctx.Err() != nil && err == context.Cause(ctx):
		return fail(op, id, errors.KindOf(ctx.Err()), err)
	default:
		return fail(op, id, errors.KindOf(err), err)
	}
}
