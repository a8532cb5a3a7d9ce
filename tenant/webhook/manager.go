package webhook

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Pool lends tenants. [*tenant.Pool] is one.
type Pool interface {
	// Do calls f with the tenant, or returns why it can't.
	Do(ctx context.Context, id string, f func(ctx context.Context, t *tenant.Tenant) error) error
}

// Lister walks the tenants. [*tenant.Manager] is one.
type Lister interface {
	// List walks the records that filter selects, by ascending id. It ends
	// after the first error.
	List(ctx context.Context, filter tenant.Filter) iter.Seq2[tenant.Record, error]
}

// ManagerConfig configures a [Manager].
type ManagerConfig struct {
	// URL is where the receiver is mounted, as Telegram reaches it, without
	// the tenant's path: "https://hooks.example.com/webhook". It must be https,
	// on port 443, 80, 88 or 8443, but for an address of this machine.
	URL string
	// AllowedUpdates are the kinds of updates to ask for; [inbox.KindsOf]
	// returns those that a handler wants. Nil or empty means Telegram's usual
	// ones: there is no way to ask for none.
	AllowedUpdates []string
	// MaxConnections is how many updates of one bot Telegram delivers at a
	// time, from 1 to 100. 0 means 40, which is Telegram's default.
	MaxConnections int
	// IPAddress is the IPv4 address that Telegram is to deliver to, whatever DNS
	// says. "" leaves it to DNS, which Telegram asks again every half an hour.
	//
	// getWebhookInfo shows the address in use, and not whether it is fixed. So
	// where this field is set, the two are compared: one that is right because
	// DNS happens to say so is left until DNS says something else. Where it is
	// "" nothing is compared, and a webhook that somebody has fixed to an
	// address stays so. That does no harm until the service moves; then Telegram
	// goes on delivering to the old address. After a time with an address here
	// or set by others, run [Reconcile] once with Anew, or [Manager.Ensure] with
	// Options.Force: a webhook that is set without an address has none fixed.
	IPAddress string

	// Starts bound how many bots are called for the first time, or the first
	// time in an hour: Telegram loads few at once for one source address. Nil
	// means [session.ColdStarts], by which 10,000 bots take some 17 h; an empty
	// list is no limit. Replicas that call from one address, and begin at
	// different places of the fleet, share what it may start: give each its part.
	Starts []ratelimit.Limit
	// Concurrency bounds how many bots are worked on at once. 0 means 8.
	Concurrency int
	// MaxWait is how long one tenant is waited for, where Telegram says when to
	// come back, before it counts as failed. A run goes on with others
	// meanwhile. 0 means 10 min.
	MaxWait time.Duration
	// Wants selects the tenants that have a webhook, such as those that are not
	// polled; a run skips the others. It is asked before a tenant gets its turn,
	// which it may wait for as long as Starts say, and sees the record as it was
	// when some Concurrency tenants before were worked on. Nil selects all.
	Wants func(r tenant.Record) bool
	// Claim asks for the right to work on a tenant's webhook, so that several
	// replicas share the work. Where it returns false another one has it, and
	// the tenant is skipped. release is called afterwards; that may take as long
	// as Starts keep a bot waiting for its turn. Nil claims nothing:
	// replicas then all look, and set the same where it differs, which is safe.
	Claim func(ctx context.Context, id string) (release func(), ok bool, err error)

	// Logger hears of every webhook that is set or deleted, and of failures.
	// Nil discards.
	Logger *slog.Logger
}

// Manager sets the fleet's webhooks: it asks Telegram how a bot's webhook is,
// and changes what differs from how it should be, and nothing else.
//
// Telegram shows a webhook's URL, kinds, connections, address and whether it has
// a certificate of its own, which ours never have. It does not show the secret.
// So a delivery that was turned away lately with 401, 403 or 404 is a
// difference too: the webhook is set for it once, and again only when later
// deliveries are turned away, after an hour, two and so on up to a day.
//
// It is safe for concurrent use, by several replicas too. A webhook that was
// set with a newer key it leaves alone, unless that key is retired; see [Keys].
type Manager struct {
	cfg     ManagerConfig
	keys    *Keys
	pool    Pool
	tenants Lister
	base    string   // the URL, with a slash at its end
	allowed []string // sorted; nil for the usual ones
	shown   atomic.Pointer[[]string]
	log     *slog.Logger
	pace    *pace
	cures   refusals
}

// NewManager returns a manager of the webhooks of a pool's tenants. The error
// names every bad field.
func NewManager(p Pool, tenants Lister, keys *Keys, cfg ManagerConfig) (*Manager, error) {
	var bad []error
	if p == nil {
		bad = append(bad, errors.New("pool is nil"))
	}
	if tenants == nil {
		bad = append(bad, errors.New("tenants are nil"))
	}
	if !keys.made() {
		bad = append(bad, errors.New("keys are nil or not from NewKeys"))
	}
	base, err := checkURL(cfg.URL)
	if err != nil {
		bad = append(bad, err)
	}
	known := inbox.Kinds()
	for _, kind := range cfg.AllowedUpdates {
		if !slices.Contains(known, kind) {
			bad = append(bad, fmt.Errorf("%q in AllowedUpdates is no kind of update", kind))
		}
	}
	if cfg.MaxConnections < 0 || cfg.MaxConnections > 100 {
		bad = append(bad, errors.New("MaxConnections is not between 1 and 100"))
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 40
	}
	if ip, err := netip.ParseAddr(cfg.IPAddress); cfg.IPAddress != "" && (err != nil || !ip.Is4()) {
		bad = append(bad, errors.New("IPAddress is no IPv4 address"))
	}
	if cfg.Concurrency < 0 {
		bad = append(bad, errors.New("Concurrency is negative"))
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 8
	}
	if cfg.MaxWait < 0 {
		bad = append(bad, errors.New("MaxWait is negative"))
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = 10 * time.Minute
	}
	if cfg.Starts == nil {
		cfg.Starts = session.ColdStarts()
	}
	for i, l := range cfg.Starts {
		if err := l.Check(); err != nil {
			bad = append(bad, fmt.Errorf("field Starts[%d]: %w", i, err))
		}
	}
	if len(bad) > 0 {
		return nil, fail("configure webhooks", "", errors.Internal, errors.Join(bad...))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Manager{
		cfg: cfg, keys: keys, pool: p, tenants: tenants, base: base, allowed: normal(cfg.AllowedUpdates), log: cfg.Logger,
		pace: newPace(cfg.Starts),
	}, nil
}

func checkURL(text string) (base string, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return "", errors.New("field URL is not one that a path can be added to")
	case u.Scheme == "http" && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1"):
	case u.Scheme != "https":
		return "", errors.New("field URL is not https")
	default:
		if !slices.Contains([]string{"", "443", "80", "88", "8443"}, u.Port()) {
			return "", errors.New("field URL has a port that Telegram does not deliver to")
		}
	}
	u.Host = strings.ToLower(u.Host) // as the server tells it (td, HttpUrl.cpp)
	return strings.TrimSuffix(u.String(), "/") + "/", nil
}

// URL returns the webhook's URL of a tenant.
func (m *Manager) URL(id string) string { return m.base + m.keys.Path(id) }

// Options say how to set or delete a webhook. The zero Options lose nothing.
type Options struct {
	// DropPending makes Telegram forget the updates that wait for the bot, also
	// where the webhook is as it should be, or there is none to delete.
	DropPending bool
	// Force sets or deletes the webhook whatever it is now.
	Force bool
}

// Result is how a tenant's webhook was, and what was done.
type Result struct {
	// Changed is set where the webhook was set or deleted, or its updates
	// dropped.
	Changed bool
	// Newer is set where a newer key has set it, so that it was left as it is.
	Newer bool
	// Refused is set where deliveries to it were turned away lately, for their
	// secret or path, and since it was last set for that. Where it comes again
	// the cause is elsewhere: a proxy, or a replica without the key.
	Refused bool
	// Before is what Telegram said of it before. A token that an earlier service
	// put into the URL, as Telegram once advised, is masked.
	Before gotgbot.WebhookInfo
}

// Ensure sets a tenant's webhook if it is not as it should be. It waits for its
// turn when many bots are called for the first time. Errors have the kinds of
// calls and of the pool; a tenant that is suspended is [errors.Suspended].
func (m *Manager) Ensure(ctx context.Context, id string, o Options) (Result, error) {
	return m.ensure(ctx, id, o, false, m.cfg.MaxWait)
}

// ensure is Ensure. anew sets what does not differ too, but for what a newer key
// has set.
func (m *Manager) ensure(ctx context.Context, id string, o Options, anew bool, patience time.Duration) (Result, error) {
	return m.change(ctx, id, patience, func(ctx context.Context, t *tenant.Tenant, info *gotgbot.WebhookInfo, r *Result) error {
		for again := false; ; again = true {
			set := m.keys.set.Load() // path and secret of one key
			if g, ours := m.generation(info.Url); ours && set.ahead(g) && !o.Force {
				r.Newer = true
				return nil
			}
			at := m.base + set.current.path(id)
			cure := false
			if info.Url == at {
				r.Refused, cure = m.cures.look(id, info, time.Now())
			}
			if !o.Force && !o.DropPending && !anew && !cure && !again && !m.differs(info, at) {
				return nil
			}
			_, err := t.Bot.SetWebhookWithContext(ctx, at, &gotgbot.SetWebhookOpts{
				SecretToken:    set.current.secret(id),
				AllowedUpdates: append([]string{}, m.allowed...), // not nil: that would leave them as they are
				MaxConnections: int64(m.cfg.MaxConnections), IpAddress: m.cfg.IPAddress, DropPendingUpdates: o.DropPending,
			})
			if err != nil {
				return err
			}
			r.Changed, o.DropPending = true, false
			m.cures.set(id, info, time.Now())
			if m.keys.set.Load().current == set.current {
				if info.Url == at {
					m.learn(ctx, t, at)
				}
				return nil
			} // the key was rotated meanwhile, and may have no grace
		}
	})
}

// Remove deletes a tenant's webhook, as before it is polled or removed. One
// that leads elsewhere is somebody else's, and stays, with the updates that
// wait for it, unless o.Force is set.
func (m *Manager) Remove(ctx context.Context, id string, o Options) (Result, error) {
	return m.change(ctx, id, m.cfg.MaxWait, func(ctx context.Context, t *tenant.Tenant, info *gotgbot.WebhookInfo, r *Result) error {
		_, ours := m.generation(info.Url)
		if !ours && !o.Force && !(o.DropPending && info.Url == "") {
			return nil
		}
		_, err := t.Bot.DeleteWebhookWithContext(ctx, &gotgbot.DeleteWebhookOpts{DropPendingUpdates: o.DropPending})
		r.Changed = err == nil
		return err
	})
}

// change asks how a webhook is and lets f change it, until that works or is no
// use, or would wait for longer than patience in all. Between two tries the
// tenant is given back.
func (m *Manager) change(ctx context.Context, id string, patience time.Duration, f func(context.Context, *tenant.Tenant, *gotgbot.WebhookInfo, *Result) error) (Result, error) {
	var r Result
	if err := m.pace.wait(ctx, id); err != nil {
		return r, err
	}
	for try := 1; ; try++ {
		err := m.pool.Do(ctx, id, func(ctx context.Context, t *tenant.Tenant) error {
			info, err := t.Bot.GetWebhookInfoWithContext(ctx, nil)
			if err != nil {
				return err
			}
			if !r.Changed { // by an earlier try
				r.Before = *info
				r.Before.Url = t.Record.Token.Redact(info.Url)
				r.Before.LastErrorMessage = t.Record.Token.Redact(info.LastErrorMessage)
			}
			return f(ctx, t, info, &r)
		})
		if err == nil {
			if r.Changed {
				m.log.InfoContext(ctx, "webhook changed", slog.String("tenant", id))
			}
			if r.Refused {
				m.log.WarnContext(ctx, "webhook's updates were turned away", slog.String("tenant", id))
			}
			return r, nil
		}
		wait, more := again(err, try)
		if patience -= wait; !more || patience < 0 {
			return r, fail("change webhook", id, errors.KindOf(err), err)
		}
		if err := sleep(ctx, wait); err != nil {
			return r, err
		}
	}
}

// tries of one tenant, for failures that tell no time to wait, and for those
// that do.
const (
	maxTries  = 4
	maxWaited = 20
)

// again says whether a failure may be gone after a while.
func again(err error, try int) (time.Duration, bool) {
	after := errors.RetryAfter(err)
	switch {
	case !errors.Temporary(err):
		return 0, false
	case after > 0: // another replica has set it a moment ago, or too many bots start
		return after, try < maxWaited
	default:
		return time.Second << (try - 1), try < maxTries
	}
}

// differs reports whether a webhook is not as it should be. The address that
// Telegram tells is the one in use, be it fixed or what DNS says
// (telegram-bot-api, Client.cpp, JsonWebhookInfo).
func (m *Manager) differs(info *gotgbot.WebhookInfo, at string) bool {
	if info.Url != at || info.MaxConnections != int64(m.cfg.MaxConnections) || info.HasCustomCertificate {
		return true
	}
	if m.cfg.IPAddress != "" && info.IpAddress != m.cfg.IPAddress {
		return true
	}
	allowed := normal(info.AllowedUpdates)
	if shown := m.shown.Load(); shown != nil && slices.Equal(allowed, *shown) {
		return false
	}
	return !slices.Equal(allowed, m.allowed)
}

// learn finds out how the server shows the kinds that were asked for, once a
// webhook that was ours has been set again: a server that is older than a kind
// leaves that kind out, and would be told of it for ever. What a failure hides,
// the next set shows.
func (m *Manager) learn(ctx context.Context, t *tenant.Tenant, at string) {
	if m.shown.Load() != nil {
		return
	}
	info, err := t.Bot.GetWebhookInfoWithContext(ctx, nil)
	if err != nil || info.Url != at {
		return
	}
	shown := normal(info.AllowedUpdates)
	if len(shown) == 0 || slices.ContainsFunc(shown, func(kind string) bool { return !slices.Contains(m.allowed, kind) }) {
		return // not ours: somebody has set it in between
	}
	m.shown.Store(&shown)
}

// normal brings kinds into the form that they are compared in: sorted, and nil
// for Telegram's usual ones, which the server does not tell.
func normal(kinds []string) []string {
	kinds = slices.Clone(kinds)
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	usual := slices.DeleteFunc(inbox.Kinds(), func(kind string) bool {
		return kind == "chat_member" || kind == "message_reaction" || kind == "message_reaction_count"
	})
	slices.Sort(usual)
	if len(kinds) == 0 || slices.Equal(kinds, usual) {
		return nil
	}
	return kinds
}

// generation returns that of the key that a webhook's URL was made with, if
// the URL is one of ours.
func (m *Manager) generation(at string) (uint32, bool) {
	path, ok := strings.CutPrefix(at, m.base)
	if !ok {
		return 0, false
	}
	g, _, ok := cutGeneration(path)
	return g, ok
}

// pace keeps to the rate at which Telegram loads bots.
type pace struct {
	mu      sync.Mutex // guards what follows
	buckets []*ratelimit.Bucket
	warm    map[string]time.Time
	tidied  time.Time
}

// warmFor is how long a bot is taken to stay loaded after a call; a guess.
const warmFor = time.Hour

func newPace(limits []ratelimit.Limit) *pace {
	p := &pace{warm: make(map[string]time.Time)}
	for _, l := range limits {
		if !l.IsUnlimited() {
			p.buckets = append(p.buckets, ratelimit.NewBucket(l))
		}
	}
	return p
}

// wait waits until a bot may be called.
func (p *pace) wait(ctx context.Context, id string) error {
	for {
		d := p.take(time.Now(), id)
		if d == 0 {
			return nil
		}
		if d == ratelimit.Forever {
			return fail("pace webhooks", id, errors.Throttled, errors.New("Starts let no bot begin"))
		}
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

func (p *pace) take(now time.Time, id string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buckets) == 0 {
		return 0
	}
	if now.Sub(p.tidied) > warmFor {
		p.tidied = now
		for id, until := range p.warm {
			if now.After(until) {
				delete(p.warm, id)
			}
		}
	}
	if now.After(p.warm[id]) {
		for i, b := range p.buckets {
			if d := b.Take(now, 1, 1); d > 0 {
				for _, taken := range p.buckets[:i] {
					taken.Give(now, 1)
				}
				return d
			}
		}
	}
	p.warm[id] = now.Add(warmFor)
	return 0
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fail("change webhook", "", errors.KindOf(ctx.Err()), context.Cause(ctx))
	}
}
