package session

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// LimitConfig configures the limits of a [Guard]. Its zero value keeps
// Telegram's limits for each bot and sets none on all bots together, since
// Telegram sets none.
type LimitConfig struct {
	// Default are the limits of every bot that has none of its own. Zero
	// fields mean those of [TelegramLimits]. [ReactiveLimits] holds back only
	// what Telegram has refused.
	Default Limits
	// Total bounds the messages of all bots together. Zero is no limit, as
	// Telegram has none across bots but those per source address; a cautious
	// service may want ratelimit.Per(25, time.Second).
	Total ratelimit.Limit
	// Shared is a bound of all bots that other processes draw on too. Nil is
	// none.
	Shared ratelimit.Limiter
	// Concurrent bounds the calls of all bots under way, long polls not
	// counted. 0 means 1000, negative none. Over HTTP/1.1, where a call needs a
	// connection for itself, [Config].MaxConnsPerHost bounds them too. A quarter
	// of the places is kept for bots that have none.
	Concurrent int
	// ColdStarts bound how many bots may begin to call. Nil means those of
	// [ColdStarts]; an empty list is no limit, which is right for a fake
	// server and for one of your own. Bots that were called within WarmFor (0
	// means an hour, a guess) have begun, and so have those that
	// [Guard.Warm] is told of: after a restart of this process Telegram
	// still has loaded what was called shortly before.
	ColdStarts []ratelimit.Limit
	WarmFor    time.Duration

	// MaxWait bounds how long a call waits for its turn. 0 means 1 min,
	// negative no bound but the context's: gotgbot's methods without a context
	// then may wait for ever.
	MaxWait time.Duration
	// MaxWaiting and MaxWaitingPerBot bound how many calls wait. 0 means
	// 100,000 and 10,000.
	MaxWaiting, MaxWaitingPerBot int

	// OnMigrate hears of a group that became a supergroup with another id, on
	// the goroutine of the call that was told so. Nil hears nothing.
	OnMigrate func(ctx context.Context, key string, from, to int64)
	// Logger hears of freezes. Nil discards.
	Logger *slog.Logger
}

// limiter makes calls wait so that Telegram need not refuse them: each bot
// keeps to its limits, all bots share fairly what binds them together, and
// what Telegram refuses all the same freezes the narrowest scope that explains
// it, for as long as Telegram says.
//
// A bot's state is kept by its key, so it outlives the bot.
type limiter struct {
	scheduler *ratelimit.Scheduler[place]
	defaults  Limits
	maxWait   time.Duration
	facts     *attribution
	wide      wideFreeze
	names     *usernames
	onMigrate func(ctx context.Context, key string, from, to int64)
	log       *slog.Logger
}

// newLimiter returns a limiter. The error names every bad field of cfg.
func newLimiter(cfg LimitConfig, facts *attribution) (*limiter, error) {
	orElse(&cfg.Concurrent, 1000)
	orElse(&cfg.MaxWait, time.Minute)
	if cfg.ColdStarts == nil {
		cfg.ColdStarts = ColdStarts()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &limiter{
		defaults:  cfg.Default.or(TelegramLimits()),
		maxWait:   max(cfg.MaxWait, 0),
		facts:     facts,
		names:     newUsernames(),
		onMigrate: cfg.OnMigrate,
		log:       cfg.Logger,
	}
	common := l.defaults.scheduler()
	if len(cfg.ColdStarts) > 0 {
		common.Keys = append(common.Keys, findingLimit(cfg.ColdStarts[0]))
	}
	var err error
	l.scheduler, err = ratelimit.NewScheduler[place](ratelimit.Config{
		Total:               cfg.Total,
		Shared:              cfg.Shared,
		InFlight:            cfg.Concurrent,
		Tenant:              common,
		Starts:              cfg.ColdStarts,
		WarmFor:             cfg.WarmFor,
		Lanes:               lanes,
		MaxWaiting:          cfg.MaxWaiting,
		MaxWaitingPerTenant: cfg.MaxWaitingPerBot,
	})
	if err != nil {
		return nil, &errors.Error{Kind: errors.Internal, Op: "configure limits", Err: err}
	}
	return l, nil
}

// setTenant gives a bot limits of its own, at once; zero fields, and so zero
// Limits, mean the default.
func (l *limiter) setTenant(key string, limits Limits) error {
	if limits.IsZero() {
		l.scheduler.ResetTenant(key)
		return nil
	}
	if err := l.scheduler.SetTenant(key, limits.or(l.defaults).scheduler()); err != nil {
		return &errors.Error{Kind: errors.BadRequest, Op: "set limits", Key: key, Err: err}
	}
	return nil
}

// admit waits for a call's turn. A call that can't have it in time, before its
// context's deadline and within MaxWait, fails at once with [errors.Throttled]
// and the wait in RetryAfter. A call that is made again waits in its old place.
func (l *limiter) admit(ctx context.Context, call *Call) (ratelimit.Permit[place], error) {
	l.wide.hold(l, tenantOf(ctx, call))
	permit, err := l.scheduler.Admit(ctx, l.request(ctx, call))
	if err != nil {
		return permit, throttled(ctx, call, err)
	}
	call.ticket = permit.Ticket()
	return permit, nil
}

// request says what a call takes.
func (l *limiter) request(ctx context.Context, call *Call) ratelimit.Request[place] {
	r := ratelimit.Request[place]{
		Tenant:   tenantOf(ctx, call),
		Key:      l.place(call),
		KeyClass: classNone,
		Free:     !counts(call.Method),
		Debt:     true,
		Slotless: isLongPoll(call.Method),
		MaxWait:  l.maxWait,
		Ticket:   call.ticket,
	}
	switch {
	case findsOut(ctx):
		r.KeyClass = classFinding
	case strings.EqualFold(call.Method, "sendChatAction"):
		r.KeyClass = classAction
	}
	if r.Free {
		return r
	}
	r.Cost = cost(call)
	switch {
	case call.Chat.ID > 0:
		r.KeyClass = classPrivate
	case !call.Chat.IsZero():
		r.KeyClass = classGroup // only these have a username that bots may use
	}
	if paid(call) {
		r.Class = classPaid
	}
	if isBulk(ctx) {
		r.Lane = laneBulk
	}
	return r
}

// findingTenant is the scheduler's tenant of all questions about unknown tokens.
// Strangers' tokens thus wait for each other and not before the fleet's bots.
const findingTenant = "(unknown tokens)"

func tenantOf(ctx context.Context, call *Call) string {
	if findsOut(ctx) {
		return findingTenant
	}
	return call.Key
}

// place is the key by which a call is limited and frozen: its chat, by number
// where the username's is known, and its method. All methods that send messages
// share one place in a chat, since they share its limit. Each other method has
// one of its own, because Telegram limits it apart (createForumTopic,
// setChatTitle, sendChatAction): its 429 says nothing about messages.
type place struct {
	chat   ChatID
	method string // empty for messages
}

func (l *limiter) place(call *Call) place {
	p := place{chat: call.Chat}
	if call.Chat.Username != "" {
		p.chat = l.names.resolve(call.Chat)
	}
	if call.Chat.IsZero() || !counts(call.Method) {
		p.method = call.Method
	}
	return p
}

// scopeOf is the narrowest scope of a call.
func (l *limiter) scopeOf(ctx context.Context, call *Call) ratelimit.Scope[place] {
	return ratelimit.Scope[place]{Level: ratelimit.LevelKey, Tenant: tenantOf(ctx, call), Key: l.place(call)}
}

// learn draws conclusions from an outcome, and returns the error.
func (l *limiter) learn(ctx context.Context, call *Call, began bool, start time.Time, result json.RawMessage, err error) error {
	if err == nil {
		l.succeeded(tenantOf(ctx, call), began, start)
		if findsOut(ctx) {
			l.scheduler.Warm(call.Key, time.Now()) // Telegram has loaded it now
		}
		if call.Chat.Username != "" {
			l.learnName(call, result)
		}
		return nil
	}
	e, ok := errors.AsType[*errors.Error](err)
	if !ok {
		return err
	}
	switch e.Kind {
	case errors.RateLimited:
		return l.freeze(ctx, call, began, start, e)
	case errors.Migrated:
		if to := e.MigrateTo; to != 0 {
			l.scheduler.Move(call.Key, place{chat: l.names.resolve(call.Chat)}, place{chat: ChatID{ID: to}})
			if l.onMigrate != nil {
				l.onMigrate(ctx, call.Key, call.Chat.ID, to)
			}
		}
	}
	return err
}

// succeeded ends what a success shows to be over.
func (l *limiter) succeeded(tenant string, began bool, start time.Time) {
	refused, starts := l.facts.succeeded(tenant, began, start, l.facts.clock())
	if refused {
		l.wide.end(l)
	}
	if starts {
		l.scheduler.Thaw(ratelimit.Scope[place]{Level: ratelimit.LevelStarts})
	}
}

// freeze holds back what a 429 is about: its method in its chat for exactly as
// long as it says, and what else it belongs to; see attribution.
func (l *limiter) freeze(ctx context.Context, call *Call, began bool, start time.Time, e *errors.Error) error {
	now := l.facts.clock()
	wait := max(e.RetryAfter, time.Second)
	own := l.scopeOf(ctx, call)
	v := l.facts.of429(own.Tenant, own.Key, began, start, now, now.Add(wait))
	l.scheduler.Freeze(own, now.Add(wait))
	switch v.scope {
	case errors.ScopeTenant:
		l.scheduler.Freeze(ratelimit.Scope[place]{Level: ratelimit.LevelTenant, Tenant: own.Tenant}, v.until)
	case errors.ScopeAll:
		l.wide.begin(l, v.until, own.Tenant)
	}
	if v.starts {
		l.scheduler.Freeze(ratelimit.Scope[place]{Level: ratelimit.LevelStarts}, v.startsUntil)
	}
	attrs := []slog.Attr{
		slog.String("key", call.Key), slog.String("method", call.Method),
		slog.Duration("retry_after", wait), slog.String("scope", v.scope.String()),
	}
	if v.scope != errors.ScopeChat {
		attrs = append(attrs, slog.Duration("scope_frozen", v.until.Sub(now)))
	}
	if v.starts {
		attrs = append(attrs, slog.Duration("starts_frozen", v.startsUntil.Sub(now)))
	}
	l.log.LogAttrs(ctx, slog.LevelWarn, "refused by Telegram for too many requests", attrs...)
	scoped := *e
	scoped.Scope = v.scope
	return &scoped
}

// throttled is the error of a call that was not admitted.
func throttled(ctx context.Context, call *Call, err error) error {
	e := &errors.Error{Kind: errors.Throttled, Op: call.Method, Key: call.Key, Delivery: errors.NotDelivered, Err: err}
	refusal, ok := errors.AsType[*ratelimit.Refusal](err)
	if !ok {
		e.Kind = errors.Internal
		return e
	}
	if ctx.Err() != nil { // whose cause is the caller's text
		if cause, ok := redactError(refusal.Err, call.token).(*redacted); ok {
			hidden := *refusal
			hidden.Err = cause
			e.Err = &hidden
		}
	}
	switch {
	case errors.Is(err, ratelimit.ErrClosed), errors.Is(err, errClosing):
		e.Kind = errors.Closed
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Kind = errors.Canceled
	case refusal.Wait < ratelimit.Forever:
		e.RetryAfter = refusal.Wait
	}
	return e
}
