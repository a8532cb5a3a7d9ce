package usage

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// Call is an attempt of a call after its end.
type Call struct {
	// At is when it ended; the zero time is now.
	At time.Time
	// Method is the Bot API method.
	Method string
	// Chat is where it went; zero for methods without a chat.
	Chat Chat
	// Kind is [errors.None] for success.
	Kind errors.Kind
	// Latency is how long it took. Those of getUpdates are not counted: a long
	// poll's says nothing.
	Latency time.Duration
}

// Update is an update that a bot received.
type Update struct {
	// At is when; the zero time is now.
	At time.Time
	// Type is the name of its field, such as "message".
	Type string
	// Chat is where it came from; zero for updates without a chat.
	Chat Chat
}

// Config configures a [Recorder]. Store is required.
type Config struct {
	// Store is where roll-ups are added.
	Store Store
	// FlushEvery is the time between flushes, give or take a tenth: what a
	// crash loses at most, as long as the store works. 0 means 30 s.
	FlushEvery time.Duration
	// Batch is how many roll-ups are added at once. 0 means 500.
	Batch int
	// MaxRollups bounds how many roll-ups wait while the store fails; there is
	// one for each tenant and hour. What would need more is not counted: see
	// [Recorder.Dropped]. Most take about 2 KB, and one with 64 methods, types
	// and chats 10 KB. 0 means 50,000: 100 MB as a rule, 500 MB at worst.
	MaxRollups int

	// Hourly and Daily are how long roll-ups are kept: those of hours are
	// turned into those of days after the one, which are removed after the
	// other. 0 means 35 days and 400 days, or as long as Hourly where that is
	// longer; negative keeps them for ever.
	Hourly, Daily time.Duration
	// TidyEvery is the time between two looks for such, give or take a tenth. 0
	// means 1 h. Replicas may all look.
	TidyEvery time.Duration

	// Gone says which of some tenants are there no longer. What is stored of
	// them is then removed, but for the last hour, which a tenant who registers
	// meanwhile with the same id may have begun: that is for the next time. It is
	// asked for up to 500 at once, at the start and then once a day, or an hour
	// after an error, on which nothing is removed; its context ends after 30 s.
	// Nil removes nobody. See package tenant's Gone.
	Gone func(ctx context.Context, tenants []string) ([]string, error)

	// Logger is told of a store that fails. Nil discards it.
	Logger *slog.Logger
}

// Recorder counts what tenants' bots do, and adds it to a [Store]. Make it with
// [New], tell it of calls and updates, and [Recorder.Start] it. It is safe for
// concurrent use, and nothing that reports to it ever waits for the store.
type Recorder struct {
	cfg    Config
	log    *slog.Logger
	seed   maphash.Seed
	shards [shardCount]shard
	count  atomic.Int64 // roll-ups in shards and on their way
	lost   atomic.Uint64
	life   loop.Life
	writer string

	// turn holds one token: whoever has it talks to the store and owns what
	// follows. It is no mutex, since who waits for it obeys a context.
	turn    chan struct{}
	seq     uint64
	flying  []Rollup   // the pending flush, which may or may not have been applied
	waiting [][]Rollup // those after it
	refused loop.Seldom
}

// shardCount keeps those who report apart. A power of two.
const shardCount = 64

// shard is a part of the tenants.
type shard struct {
	mu sync.Mutex // guards what follows; nothing is called under it
	// current are the tenants' newest hours that are not flushed yet, and past
	// what came late for an hour before.
	current map[string]*hour
	past    map[lateKey]*hour
	_       [64]byte // no two shards on one cache line
}

type lateKey struct {
	tenant string
	hour   int64
}

// hour is a roll-up that is being counted.
type hour struct {
	Rollup
	at   int64 // in hours since 1970
	last int64 // LastActive, in ns
}

// New returns a Recorder. The error names every bad field of cfg.
func New(cfg Config) (*Recorder, error) {
	var bad []error
	if cfg.Store == nil {
		bad = append(bad, errors.New("Store is missing"))
	}
	duration := func(name string, d *time.Duration, zero time.Duration) {
		if *d == 0 {
			*d = zero
		}
		if *d < time.Second {
			bad = append(bad, fmt.Errorf("%s is below 1 s", name))
		}
	}
	count := func(name string, n *int, zero int) {
		if *n == 0 {
			*n = zero
		}
		if *n < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
	}
	duration("FlushEvery", &cfg.FlushEvery, 30*time.Second)
	duration("TidyEvery", &cfg.TidyEvery, time.Hour)
	count("Batch", &cfg.Batch, 500)
	count("MaxRollups", &cfg.MaxRollups, 50_000)
	if cfg.Hourly == 0 {
		cfg.Hourly = 35 * Day
	}
	if cfg.Daily == 0 {
		cfg.Daily = max(400*Day, cfg.Hourly)
		if cfg.Hourly < 0 {
			cfg.Daily = -1
		}
	}
	if cfg.Hourly > 0 && cfg.Hourly < Day {
		bad = append(bad, errors.New("Hourly is below a day"))
	}
	if cfg.Daily > 0 && (cfg.Daily < cfg.Hourly || cfg.Hourly < 0) {
		bad = append(bad, errors.New("Daily is below Hourly"))
	}
	if err := errors.Join(bad...); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{cfg: cfg, log: cfg.Logger, seed: maphash.MakeSeed(), writer: rand.Text(), seq: 1, turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	for i := range r.shards {
		r.shards[i].current = make(map[string]*hour)
		r.shards[i].past = make(map[lateKey]*hour)
	}
	return r, nil
}

const getUpdates = "getUpdates"

// Observe counts a call. It does not block, and allocates only for what a
// tenant does for the first time since the last flush.
func (r *Recorder) Observe(tenant string, c Call) {
	if c.Kind == errors.Canceled {
		return
	}
	if refused(c.Kind) {
		sh, h := r.begin(tenant, c.At)
		defer sh.mu.Unlock()
		if h != nil {
			h.Refused++
		}
		return
	}
	poll := len(c.Method) == len(getUpdates) && strings.EqualFold(c.Method, getUpdates)
	c.Chat = c.Chat.normal()
	hash := c.Chat.hash()
	sh, h := r.begin(tenant, c.At)
	defer sh.mu.Unlock()
	if h == nil {
		return
	}
	h.Requests++
	m := h.method(c.Method)
	m.Requests++
	if c.Kind.Fault() != errors.FaultNone {
		h.Failures++
		m.Failures++
		h.kind(c.Kind).Count++
	}
	if !poll {
		h.Timed++
		h.Latency += c.Latency
		h.Latencies.Add(c.Latency)
	}
	if !c.Chat.IsZero() {
		h.Unique.add(hash, exactMost)
		h.Top.add(c.Chat, hash, 0, 1)
	}
}

// Update counts an update that was received. It blocks as little as Observe.
func (r *Recorder) Update(tenant string, u Update) {
	u.Chat = u.Chat.normal()
	hash := u.Chat.hash()
	sh, h := r.begin(tenant, u.At)
	defer sh.mu.Unlock()
	if h == nil {
		return
	}
	h.Received++
	h.update(u.Type).Count++
	if !u.Chat.IsZero() {
		h.Unique.add(hash, exactMost)
		h.Top.add(u.Chat, hash, 1, 0)
	}
}

// begin returns what is being counted of the tenant's hour, nil where there is
// no room for it. The shard is locked.
func (r *Recorder) begin(tenant string, t time.Time) (*shard, *hour) {
	if t.IsZero() {
		t = time.Now()
	}
	ns := t.UnixNano()
	at := ns / int64(time.Hour)
	if ns%int64(time.Hour) < 0 {
		at--
	}
	sh := r.shard(tenant)
	sh.mu.Lock()
	if tenant == "" { // no store takes it
		r.lost.Add(1)
		return sh, nil
	}
	h := sh.current[tenant]
	if h == nil || h.at != at {
		if h = r.open(sh, tenant, h, at); h == nil {
			r.lost.Add(1)
			return sh, nil
		}
	}
	h.last = max(h.last, ns)
	return sh, h
}

func (r *Recorder) shard(tenant string) *shard {
	return &r.shards[maphash.String(r.seed, tenant)%shardCount]
}

// open returns an hour that is not the current one.
func (r *Recorder) open(sh *shard, tenant string, current *hour, at int64) *hour {
	if current != nil && current.at > at {
		if h := sh.past[lateKey{tenant, at}]; h != nil {
			return h
		}
	}
	if r.count.Add(1) > int64(r.cfg.MaxRollups) {
		r.count.Add(-1)
		return nil
	}
	h := &hour{at: at}
	h.Tenant = tenant
	if current != nil && current.at > at {
		sh.past[lateKey{tenant, at}] = h
		return h
	}
	if current != nil {
		sh.past[lateKey{tenant, current.at}] = current
	}
	sh.current[tenant] = h
	return h
}

// Dropped returns how many calls and updates were not counted: since too many
// roll-ups were waiting for a store that failed, since no tenant was named, or
// since the store refused the roll-up for good.
func (r *Recorder) Dropped() uint64 { return r.lost.Load() }

// Start flushes and tidies up in the background, until [Recorder.Stop] or until
// ctx ends, which ends it at once, with nothing flushed. The error, of kind [errors.Closed] or
// [errors.Exists], says that it was stopped or started before.
func (r *Recorder) Start(ctx context.Context) error {
	return r.life.Start(ctx, "usage recorder", func(ctx context.Context, stop <-chan struct{}) (err error) {
		var running sync.WaitGroup
		running.Go(func() { err = r.run(ctx, stop) })
		running.Go(func() { r.tidyOften(ctx, stop) })
		if r.cfg.Gone != nil {
			running.Go(func() { r.dropOften(ctx, stop) })
		}
		running.Wait()
		return err
	})
}

// Stop flushes what is left, and returns when nothing runs any more. When ctx
// ends first, or the store fails for a minute, it gives up what is left; the
// error then says so. It may be called many times, also without Start.
func (r *Recorder) Stop(ctx context.Context) error { return r.life.Stop(ctx, "usage recorder") }

// Flush adds what has been counted so far to the store, without waiting for
// its time. After an error what is left is flushed later.
func (r *Recorder) Flush(ctx context.Context) error {
	return r.flushAll(ctx, func() (bool, error) { return r.flushBatch(ctx) })
}

// Forget drops what is not flushed yet of a tenant, and what is stored of it.
// What is reported later counts again, so call it once the tenant is gone.
func (r *Recorder) Forget(ctx context.Context, tenant string) error {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return loop.Ended("forget usage", ctx)
	}
	defer func() { r.turn <- struct{}{} }()
	gone := r.shard(tenant).forget(tenant)
	drop := func(list []Rollup) []Rollup {
		before := len(list)
		list = slices.DeleteFunc(list, func(u Rollup) bool { return u.Tenant == tenant })
		gone += before - len(list)
		return list
	}
	if r.flying != nil {
		if r.flying = drop(r.flying); len(r.flying) == 0 {
			r.flying = nil
			r.seq++ // it may have been applied, so its number is not for another one
		}
	}
	for i := range r.waiting {
		r.waiting[i] = drop(r.waiting[i])
	}
	r.count.Add(-int64(gone))
	return r.cfg.Store.Delete(ctx, tenant, time.Time{})
}

// forget drops a tenant's hours and returns how many there were.
func (sh *shard) forget(tenant string) (n int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.current[tenant] != nil {
		n++
		delete(sh.current, tenant)
	}
	for key := range sh.past {
		if key.tenant == tenant {
			n++
			delete(sh.past, key)
		}
	}
	return n
}
