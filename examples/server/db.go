package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
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
func (f *fleet) adopt(ctx context.Context, telegram *bots, o options, stdout io.Writer) (map[string]*bottest.Bot, error) {
	stored, err := f.stored(ctx)
	if err != nil {
		return nil, err
	}
	bots := make(map[string]*bottest.Bot, len(stored))
	var ids []string // of those that may be used
	for _, r := range stored {
		bot, err := telegram.restore(r.Username, r.Token.Reveal())
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
		f.askAll(ctx, ids, stdout)
		fmt.Fprintf(stdout, "opened %d of %d\n", n, len(ids))
	}
	return bots, nil
}

// askAll has each tenant's bot ask Telegram who it is, and says what the answer
// was.
func (f *fleet) askAll(ctx context.Context, ids []string, stdout io.Writer) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards stdout
	next := make(chan string)
	for range 8 {
		wg.Go(func() {
			for id := range next {
				answer := ""
				err := f.pool.Do(ctx, id, func(ctx context.Context, t *tenant.Tenant) error {
					me, err := t.Bot.GetMeWithContext(ctx, nil)
					if err == nil {
						answer = me.Username
					}
					return err
				})
				if err != nil {
					answer = "error:" + strings.ReplaceAll(errors.KindOf(err).String(), " ", "-")
				}
				mu.Lock()
				fmt.Fprintf(stdout, "me %s %s\n", id, answer)
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		next <- id
	}
	close(next)
	wg.Wait()
}

// churn lets tenants come, change and go until ctx ends, and says what it is
// about to do and what is done, so that somebody can compare after a crash.
type churn struct {
	fleet  *fleet
	bots   *bots
	run    string // differs from other runs
	failed *atomic.Int64
	wg     sync.WaitGroup

	mu  sync.Mutex // guards out
	out io.Writer
}

const (
	churners = 4
	// churnPrefix begins the ids of its tenants, which nobody writes to.
	churnPrefix = "churn-"
)

func startChurn(ctx context.Context, f *fleet, telegram *bots, failed *atomic.Int64, out io.Writer) *churn {
	c := &churn{fleet: f, bots: telegram, run: strconv.FormatInt(time.Now().UnixNano(), 36), failed: failed, out: out}
	for i := range churners {
		c.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				c.life(ctx, fmt.Sprintf("%s%s-%d-%d", churnPrefix, c.run, i, n))
			}
		})
	}
	return c
}

// life is a tenant's, from registration on and for one in three to its removal.
func (c *churn) life(end context.Context, id string) {
	ctx := context.WithoutCancel(end) // what is begun is finished
	m := c.fleet.manager
	name := id + "_bot"
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
	_ = step("register", func() (tenant.Record, error) {
		bot, err := c.bots.get(name)
		if err != nil {
			return tenant.Record{}, err
		}
		return m.Register(ctx, id, bot.Token())
	}) &&
		step("rotate", func() (tenant.Record, error) {
			token, err := c.bots.rotate(name)
			if err != nil {
				return tenant.Record{}, err
			}
			return m.Rotate(ctx, id, token)
		}) &&
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
