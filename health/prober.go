package health

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// ProberConfig configures a [Prober]. Monitor and Me are required.
type ProberConfig struct {
	// Monitor says who is silent, and is told what getWebhookInfo says.
	Monitor *Monitor
	// Me calls getMe for a tenant's bot. It must go the way of all calls, so
	// that the limits hold for it and the monitor is told of its outcome by
	// the session's observer; the prober itself does not count it.
	Me func(ctx context.Context, tenant string) error
	// Webhook calls getWebhookInfo likewise. Nil does not ask.
	Webhook func(ctx context.Context, tenant string) (WebhookInfo, error)
	// List returns the ids of tenants that may be asked after, by ascending
	// id, beginning after the given one; an empty list is the end. Nil means
	// those that the monitor knows.
	List func(ctx context.Context, after string) ([]string, error)

	// Silence is how long a bot must have made no call, or received no update,
	// before it is asked after. 0 means 10 min.
	Silence time.Duration
	// Again is the time after which a bot that is well is asked after again. One
	// that is ill is asked after a minute, then two, and so on up to this. 0
	// means 1 h.
	Again time.Duration
	// Every is the time between two bots, give or take a tenth. A bot that was
	// silent is likely to cost a cold start, of which Telegram allows 600 an
	// hour for each address: 0 means 12 s, which uses half of them. With a
	// server of one's own it can be much shorter.
	Every time.Duration
	// Parallel bounds how many bots are asked after at a time. 0 means 4.
	Parallel int
	// Timeout bounds asking after one. 0 means 1 min.
	Timeout time.Duration
	// Logger is told of lists that fail and of panics. Nil discards it.
	Logger *slog.Logger
}

// Prober asks after bots of which nothing was heard, so that one that fails in
// silence is found, and one that is ill can show that it is well again. It
// finds bots whose updates pile up at Telegram while they seem connected. It
// asks slowly and one after the other, those first that are ill or have been
// silent for longest.
type Prober struct {
	cfg   ProberConfig
	m     *Monitor
	log   *slog.Logger
	slots chan struct{}
	rests time.Duration // between two searches for silent bots

	mu      sync.Mutex // guards what follows; nothing is called under it
	started bool
	stopped bool
	end     context.CancelFunc
	done    chan struct{}
	soon    []appointment // by time

	// The loop's own.
	searched time.Time
	queue    []string // who was silent then
	// strangers are those that were asked after before the monitor knew them,
	// and when. It may have no room for them, and they must not be asked after
	// for ever.
	strangers map[string]time.Time
}

// appointment is with a bot that is to be looked at once more, since there was
// more waiting for it than before.
type appointment struct {
	tenant string
	at     time.Time
}

const (
	// lookAgain is how soon that is.
	lookAgain = 2 * time.Minute
	maxSoon   = 10_000
)

// NewProber returns a Prober. The error names every bad field of cfg.
func NewProber(cfg ProberConfig) (*Prober, error) {
	var bad []error
	if cfg.Monitor == nil {
		bad = append(bad, errors.New("Monitor is missing"))
	}
	if cfg.Me == nil {
		bad = append(bad, errors.New("Me is missing"))
	}
	duration := func(name string, d *time.Duration, zero time.Duration) {
		if *d == 0 {
			*d = zero
		}
		if *d < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
	}
	duration("Silence", &cfg.Silence, 10*time.Minute)
	duration("Again", &cfg.Again, time.Hour)
	duration("Every", &cfg.Every, 12*time.Second)
	duration("Timeout", &cfg.Timeout, time.Minute)
	if cfg.Parallel == 0 {
		cfg.Parallel = 4
	}
	if cfg.Parallel < 0 {
		bad = append(bad, errors.New("Parallel is negative"))
	}
	if err := errors.Join(bad...); err != nil {
		return nil, fmt.Errorf("health: prober: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Prober{
		cfg:   cfg,
		m:     cfg.Monitor,
		log:   cfg.Logger,
		slots: make(chan struct{}, cfg.Parallel),
		rests: max(cfg.Silence/10, cfg.Every),

		strangers: make(map[string]time.Time),
	}, nil
}

// Start begins to ask, until [Prober.Stop] or until ctx ends. The error, of
// kind [errors.Closed] or [errors.Exists], says that it was stopped or started
// before.
func (p *Prober) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return &errors.Error{Kind: errors.Closed, Op: "start prober", Delivery: errors.NotDelivered}
	case p.started:
		return &errors.Error{Kind: errors.Exists, Op: "start prober", Delivery: errors.NotDelivered}
	}
	p.started, p.done = true, make(chan struct{})
	ctx, p.end = context.WithCancel(ctx)
	go p.run(ctx)
	return nil
}

// Stop ends the calls that are under way and returns when none is. It may be
// called many times, also without Start.
func (p *Prober) Stop() {
	p.mu.Lock()
	p.stopped = true
	started := p.started
	p.mu.Unlock()
	if started {
		p.end()
		<-p.done
	}
}

func (p *Prober) run(ctx context.Context) {
	defer close(p.done)
	var asking sync.WaitGroup
	defer asking.Wait()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(loop.Jitter(p.cfg.Every)):
		}
		tenant, found := p.next(ctx, turn)
		if !found {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case p.slots <- struct{}{}:
		}
		if !p.m.asked(tenant) {
			p.strangers[tenant] = time.Now()
		}
		asking.Go(func() {
			defer func() { <-p.slots }()
			p.ask(ctx, tenant)
		})
	}
}

// next returns whom to ask after now. The ill, those with an appointment and the
// silent take turns to be first, so that many of the ones do not hide the others.
func (p *Prober) next(ctx context.Context, turn int) (string, bool) {
	for i := range 3 {
		tenant, found := "", false
		switch (turn + i) % 3 {
		case 0:
			tenant, found = p.nextIll()
		case 1:
			tenant, found = p.nextSoon()
		case 2:
			tenant, found = p.nextSilent(ctx)
		}
		if found {
			return tenant, true
		}
	}
	return "", false
}

func (p *Prober) nextIll() (string, bool) { return p.m.illDue(p.cfg.Again) }

func (p *Prober) nextSoon() (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.soon) == 0 || p.soon[0].at.After(time.Now()) {
		return "", false
	}
	tenant := p.soon[0].tenant
	p.soon = p.soon[1:]
	return tenant, p.m.inUse(tenant)
}

// nextSilent returns the next of those that were silent when last searched for,
// if it still is.
func (p *Prober) nextSilent(ctx context.Context) (string, bool) {
	for {
		if len(p.queue) == 0 {
			if time.Since(p.searched) < p.rests {
				return "", false
			}
			p.searched = time.Now()
			if p.queue = p.search(ctx); len(p.queue) == 0 {
				return "", false
			}
		}
		tenant := p.queue[0]
		p.queue = p.queue[1:]
		if at, asked := p.strangers[tenant]; asked && time.Since(at) < p.cfg.Again {
			continue
		}
		if p.m.silent(tenant, p.cfg.Silence, p.cfg.Again, p.cfg.List != nil) {
			return tenant, true
		}
	}
}

// search returns who is silent, the longest first.
func (p *Prober) search(ctx context.Context) []string {
	maps.DeleteFunc(p.strangers, func(_ string, at time.Time) bool { return time.Since(at) >= p.cfg.Again })
	if p.cfg.List == nil {
		return p.m.silentOnes(p.cfg.Silence, p.cfg.Again)
	}
	var unknown, known []string
	after := ""
	for {
		page, err := p.list(ctx, after)
		if err != nil {
			p.log.Error("list tenants to ask after", slog.Any("err", errors.Classify(err)))
			break
		}
		if len(page) == 0 || page[len(page)-1] <= after {
			break
		}
		for _, tenant := range page {
			if p.m.knows(tenant) {
				known = append(known, tenant)
			} else {
				unknown = append(unknown, tenant)
			}
		}
		after = page[len(page)-1]
	}
	return append(unknown, p.m.silentOf(known, p.cfg.Silence, p.cfg.Again)...)
}

func (p *Prober) list(ctx context.Context, after string) (page []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	defer p.recovered("list", &err)
	return p.cfg.List(ctx, after)
}

// ask asks after a tenant. What becomes of the calls the monitor hears from
// the session.
func (p *Prober) ask(ctx context.Context, tenant string) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	if p.me(ctx, tenant) != nil || p.cfg.Webhook == nil {
		return
	}
	info, err := p.webhook(ctx, tenant)
	if err != nil {
		return
	}
	before, known := p.m.pendingOf(tenant)
	p.m.SetWebhook(tenant, info)
	// One that is ill is asked after as such.
	if info.Pending > 0 && (!known || info.Pending > before) && !p.m.isIll(tenant) {
		p.mu.Lock()
		if len(p.soon) < maxSoon {
			p.soon = append(p.soon, appointment{tenant, time.Now().Add(lookAgain)})
		}
		p.mu.Unlock()
	}
}

func (p *Prober) me(ctx context.Context, tenant string) (err error) {
	defer p.recovered("getMe", &err)
	return p.cfg.Me(ctx, tenant)
}

func (p *Prober) webhook(ctx context.Context, tenant string) (info WebhookInfo, err error) {
	defer p.recovered("getWebhookInfo", &err)
	return p.cfg.Webhook(ctx, tenant)
}

func (p *Prober) recovered(what string, err *error) {
	if v := recover(); v != nil {
		p.log.Error("panic while asking after a bot", slog.String("during", what), slog.String("panic", short(fmt.Sprint(v))))
		*err = errors.Internal
	}
}
