package webhook_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

type listOf []string

func (l listOf) List(context.Context, tenant.Filter) iter.Seq2[tenant.Record, error] {
	return func(yield func(tenant.Record, error) bool) {
		for _, id := range l {
			if !yield(tenant.Record{ID: id}, nil) {
				return
			}
		}
	}
}

func TestBotsThatMustWaitHoldUpNoRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids listOf
		for i := range 100 {
			ids = append(ids, fmt.Sprintf("t%03d", i))
		}
		begun := time.Now()
		var mu sync.Mutex
		claimed := make(map[string]bool)
		seen := make(map[string]time.Duration)  // when first asked for
		again := make(map[string]time.Duration) // when last asked for
		asked := make(map[string]int)
		pool := poolFunc(func(_ context.Context, id string, _ func(context.Context, *tenant.Tenant) error) error {
			mu.Lock()
			defer mu.Unlock()
			assert.True(t, claimed[id])
			if asked[id]++; asked[id] == 1 {
				seen[id] = time.Since(begun)
			} else {
				again[id] = time.Since(begun)
			}
			switch {
			case id < "t010": // frozen for ever
				return &errors.Error{Kind: errors.RateLimited, RetryAfter: 4 * time.Minute, Err: errors.New("x")}
			case id < "t020" && asked[id] == 1:
				return &errors.Error{Kind: errors.RateLimited, RetryAfter: time.Minute, Err: errors.New("x")}
			}
			return &errors.Error{Kind: errors.Suspended, Err: errors.New("x")}
		})
		m, err := webhook.NewManager(pool, ids, newKeys(t), unpaced(webhook.ManagerConfig{
			URL: hookURL, Claim: func(_ context.Context, id string) (func(), bool, error) {
				mu.Lock()
				defer mu.Unlock()
				assert.False(t, claimed[id])
				claimed[id] = true
				return func() {
					mu.Lock()
					defer mu.Unlock()
					delete(claimed, id)
				}, true, nil
			},
		}))
		require.NoError(t, err)
		var wg sync.WaitGroup
		var report webhook.Report
		wg.Go(func() { report, err = m.Reconcile(bg, webhook.Reconcile{}) })
		pass(30 * time.Second)
		mu.Lock()
		assert.Len(t, seen, 100)
		for id, after := range seen {
			assert.Zero(t, after, id)
		}
		assert.Empty(t, claimed, "who waits claims nothing")
		mu.Unlock()
		wg.Wait()
		require.NoError(t, err)
		assert.Equal(t, 10, report.Failed, "those that were frozen for longer than MaxWait")
		assert.Equal(t, 90, report.Skipped)
		assert.Equal(t, "t099", report.Next)
		assert.Equal(t, 8*time.Minute, time.Since(begun))
		assert.Equal(t, 3, asked["t000"])
		assert.Equal(t, 2, asked["t015"])
		assert.Equal(t, time.Minute, again["t015"], "though others wait longer")
		assert.Equal(t, 8*time.Minute, again["t000"])
	})
}

func TestARunThatIsBrokenOffWhileBotsWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := poolFunc(func(context.Context, string, func(context.Context, *tenant.Tenant) error) error {
			return &errors.Error{Kind: errors.RateLimited, RetryAfter: time.Minute, Err: errors.New("x")}
		})
		m, err := webhook.NewManager(pool, listOf{"a", "b"}, newKeys(t), unpaced(webhook.ManagerConfig{URL: hookURL}))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(bg, 10*time.Second)
		defer cancel()
		report, err := m.Reconcile(ctx, webhook.Reconcile{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Empty(t, report.Next, "they are to be worked on by the next run")
		assert.Zero(t, report.Failed)
	})
}

func TestARunWorksOnSomeBotsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids listOf
		for i := range 16 {
			ids = append(ids, fmt.Sprintf("t%03d", i))
		}
		pool := poolFunc(func(context.Context, string, func(context.Context, *tenant.Tenant) error) error {
			time.Sleep(time.Second)
			return nil
		})
		for concurrency, want := range map[int]time.Duration{0: 2 * time.Second, 1: 16 * time.Second, 16: time.Second} {
			m, err := webhook.NewManager(pool, ids, newKeys(t), unpaced(webhook.ManagerConfig{URL: hookURL, Concurrency: concurrency}))
			require.NoError(t, err)
			begun := time.Now()
			_, err = m.Reconcile(bg, webhook.Reconcile{})
			require.NoError(t, err)
			assert.Equal(t, want, time.Since(begun))
		}
	})
}

func TestOnlyTenantsThatAreSelectedGetAWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for _, id := range []string{"a", "polled", "z"} {
			f.add(t, id)
		}
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{Wants: func(r tenant.Record) bool { return r.ID != "polled" }}))
		report, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Changed: 2, Skipped: 1, Next: "z"}, report)
		assert.Len(t, f.set(), 2)
	})
}

// Tenants that are removed while a run lists them are no failures, and of many
// failures the first are told.
func TestARunTellsOfAHundredFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids listOf
		for i := range 150 {
			ids = append(ids, fmt.Sprintf("t%03d", i))
		}
		pool := poolFunc(func(_ context.Context, id string, _ func(context.Context, *tenant.Tenant) error) error {
			if id < "t010" {
				return &errors.Error{Kind: errors.NotFound, Err: errors.New("x")}
			}
			return &errors.Error{Kind: errors.BadRequest, Err: errors.New("x")}
		})
		m, err := webhook.NewManager(pool, ids, newKeys(t), unpaced(webhook.ManagerConfig{URL: hookURL}))
		require.NoError(t, err)
		r, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, [2]int{10, 140}, [2]int{r.Skipped, r.Failed})
		assert.Len(t, r.Failures, 100)
		assert.Equal(t, "t149", r.Next)
	})
}

// What a service hands in may panic: a tenant's panic is that tenant's failure,
// and one of the run's ends it and leaves no goroutine.
func TestAPanicEndsNoMoreThanItMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids, claimed := listOf{"a", "b", "c"}, 0
		pool := poolFunc(func(_ context.Context, id string, _ func(context.Context, *tenant.Tenant) error) error {
			if id == "a" {
				panic("secret")
			}
			return &errors.Error{Kind: errors.Suspended, Err: errors.New("x")}
		})
		var mu sync.Mutex
		cfg := unpaced(webhook.ManagerConfig{URL: hookURL, Claim: func(_ context.Context, id string) (func(), bool, error) {
			if id == "b" {
				panic("secret")
			}
			mu.Lock()
			defer mu.Unlock()
			claimed++
			return func() {
				mu.Lock()
				defer mu.Unlock()
				claimed--
			}, true, nil
		}})
		m, err := webhook.NewManager(pool, ids, newKeys(t), cfg)
		require.NoError(t, err)
		r, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, [2]int{1, 2}, [2]int{r.Skipped, r.Failed})
		assert.Equal(t, "c", r.Next)
		for _, f := range r.Failures {
			assert.ErrorIs(t, f.Err, errors.Internal)
			assert.NotContains(t, f.Err.Error(), "secret")
		}
		assert.Zero(t, claimed)

		cfg.Wants = func(r tenant.Record) bool {
			if r.ID == "c" {
				panic("mine")
			}
			return true
		}
		m, err = webhook.NewManager(pool, ids, newKeys(t), cfg)
		require.NoError(t, err)
		assert.PanicsWithValue(t, "mine", func() { _, _ = m.Reconcile(bg, webhook.Reconcile{}) })

		cfg.Wants = nil
		m, err = webhook.NewManager(pool, ids, newKeys(t), cfg)
		require.NoError(t, err)
		assert.PanicsWithValue(t, "told", func() { // by a worker, but where it can be recovered
			_, _ = m.Reconcile(bg, webhook.Reconcile{Progress: func(string) { panic("told") }})
		})
		synctest.Wait() // and the test ends only if all goroutines have
	})
}

// A run that waits for its turn for hours goes by what is stored now: a webhook
// that is set for a tenant which is polled by now would end its polling.
func TestWantsSeesRecentRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.Limits{})
		for i := range 100 {
			f.add(t, fmt.Sprintf("t%02d", i))
		}
		m := f.webhooks(t, webhook.ManagerConfig{
			Starts: []ratelimit.Limit{{Rate: 1. / 60, Burst: 1}}, Concurrency: 2,
			Wants: func(r tenant.Record) bool { return r.Metadata["polled"] == "" },
		})
		go func() {
			time.Sleep(30 * time.Minute)
			r, err := f.store.Get(bg, "t90")
			assert.NoError(t, err)
			r.Metadata = map[string]string{"polled": "yes"}
			_, err = f.store.Put(bg, r)
			assert.NoError(t, err)
		}()
		r, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, [2]int{99, 1}, [2]int{r.Changed, r.Skipped})
	})
}
