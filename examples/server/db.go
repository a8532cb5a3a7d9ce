package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// stored returns the tenants that an earlier run has left. One whose token
// can't be unsealed is an error of the log.
func (f *fleet) stored(ctx context.Context) (all []tenant.Record, err error) {
	for r, err := range f.manager.List(ctx, tenant.Filter{Limit: 500}) {
		if err != nil {
			return nil, err
		}
		if r.TokenErr != nil {
			f.log.Error("token can't be unsealed", "tenant", r.ID, "err", r.TokenErr)
			continue
		}
		all = append(all, r)
	}
	return all, nil
}

// adopt makes the bots of an earlier run known to the fake Telegram, which
// began anew, and opens them. It returns those of the demo.
func (f *fleet) adopt(ctx context.Context, srv *bottest.Server, o options, stdout io.Writer) (map[string]*bottest.Bot, error) {
	stored, err := f.stored(ctx)
	if err != nil {
		return nil, err
	}
	bots := make(map[string]*bottest.Bot, len(stored))
	var ids []string // of those that may be used
	for _, r := range stored {
		bot, err := srv.RestoreBot(r.Username, r.Token.Reveal())
		if err != nil {
			return nil, err
		}
		bots[r.ID] = bot
		if r.Status == tenant.Active {
			ids = append(ids, r.ID)
		}
	}
	start := time.Now()
	n, err := f.pool.Warm(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(ids) > 0 {
		f.log.Info("opened the tenants of an earlier run", "tenants", n, "took", time.Since(start).Round(time.Millisecond))
	}
	if o.churn {
		fmt.Fprintf(stdout, "opened %d of %d\n", n, len(ids))
	}
	return bots, nil
}

// churn lets tenants come, change and go until ctx ends, and says what it is
// about to do and what is done, so that somebody can compare after a crash.
type churn struct {
	fleet  *fleet
	srv    *bottest.Server
	run    string // differs from other runs
	failed *atomic.Int64
	wg     sync.WaitGroup

	mu  sync.Mutex // guards out
	out io.Writer
}

const churners = 4

func startChurn(ctx context.Context, f *fleet, srv *bottest.Server, failed *atomic.Int64, out io.Writer) *churn {
	c := &churn{fleet: f, srv: srv, run: strconv.FormatInt(time.Now().UnixNano(), 36), failed: failed, out: out}
	for i := range churners {
		c.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				c.life(ctx, fmt.Sprintf("churn-%s-%d-%d", c.run, i, n))
			}
		})
	}
	return c
}

// life is a tenant's, from registration on and for one in three to its removal.
func (c *churn) life(end context.Context, id string) {
	ctx := context.WithoutCancel(end) // what is begun is finished
	m := c.fleet.manager
	bot := c.srv.NewBot(id + "_bot")
	step := func(name string, do func() (tenant.Record, error)) bool {
		if end.Err() != nil {
			return false
		}
		c.say("begin %s %s\n", name, id)
		r, err := do()
		if err != nil {
			c.failed.Add(1)
			c.fleet.log.Error("churn", "step", name, "tenant", id, "err", err)
			return false
		}
		c.say("done %s %s %d\n", name, id, r.Version)
		return true
	}
	_ = step("register", func() (tenant.Record, error) { return m.Register(ctx, id, bot.Token()) }) &&
		step("rotate", func() (tenant.Record, error) { return m.Rotate(ctx, id, bot.RotateToken()) }) &&
		step("suspend", func() (tenant.Record, error) { return m.Suspend(ctx, id, "churn") }) &&
		step("resume", func() (tenant.Record, error) { return m.Resume(ctx, id) }) &&
		step("limit", func() (tenant.Record, error) { return m.SetLimits(ctx, id, session.Limits{Weight: 2}) }) &&
		step("use", func() (r tenant.Record, err error) {
			err = c.fleet.pool.Do(ctx, id, func(ctx context.Context, t *tenant.Tenant) error {
				r = t.Record
				_, err := t.Bot.GetMeWithContext(ctx, nil)
				return err
			})
			return r, err
		}) && rand.N(3) == 0 &&
		step("remove", func() (tenant.Record, error) { return tenant.Record{}, m.Remove(ctx, id) })
}

func (c *churn) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, format, args...)
}

// countStored returns how many tenants may be used.
func (f *fleet) countStored(ctx context.Context) (int, error) {
	stored, err := f.stored(ctx)
	n := 0
	for _, r := range stored {
		if r.Status == tenant.Active {
			n++
		}
	}
	return n, err
}
