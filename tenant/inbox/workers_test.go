package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// poolFunc lends tenants without bots, or fails.
type poolFunc func(id string) error

func (p poolFunc) Do(ctx context.Context, id string, f func(context.Context, *tenant.Tenant) error) error {
	if p != nil {
		if err := p(id); err != nil {
			return err
		}
	}
	return f(ctx, &tenant.Tenant{Record: tenant.Record{ID: id}})
}

func newMemory(t testing.TB) *inbox.Memory {
	m, err := inbox.NewMemory(inbox.MemoryConfig{})
	require.NoError(t, err)
	return m
}

func message(tenant string, chat, id int64) inbox.Update {
	u, err := inbox.Parse(tenant, fmt.Appendf(nil, `{"update_id":%d,"message":{"chat":{"id":%d},"text":"secret"}}`, id, chat), time.Now())
	if err != nil {
		panic(err)
	}
	return u
}

func put(t testing.TB, in inbox.Inbox, updates ...inbox.Update) {
	t.Helper()
	outcomes, err := in.Put(bg, updates)
	require.NoError(t, err)
	for _, o := range outcomes {
		require.NoError(t, o.Err)
	}
}

// work runs workers until the test ends.
func work(t testing.TB, in inbox.Inbox, p inbox.Pool, cfg inbox.WorkersConfig, f inbox.HandlerFunc) *inbox.Workers {
	t.Helper()
	w, err := inbox.NewWorkers(in, p, f, cfg)
	require.NoError(t, err)
	require.NoError(t, w.Start(bg))
	t.Cleanup(func() { _ = w.Stop(bg) })
	return w
}

// pass lets time pass, and what it brings happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// handled collects what was handled.
type handled struct {
	mu  sync.Mutex
	all []inbox.Update
}

func (h *handled) add(u inbox.Update) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, u)
}

func (h *handled) ids() (ids []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range h.all {
		ids = append(ids, u.ID)
	}
	return ids
}

func isEmpty(t testing.TB, in inbox.Inbox) {
	t.Helper()
	d, err := in.Depth(bg, "")
	require.NoError(t, err)
	assert.Zero(t, d)
}

func TestEveryUpdateIsHandledOnceAndInItsChatsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var mu sync.Mutex
		last, count := make(map[string]int64), 0
		running := make(map[string]bool)
		for range 2 { // two processes, as it were
			work(t, m, poolFunc(nil), inbox.WorkersConfig{Concurrency: 20, PerTenant: 8}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
				chat := u.Tenant + "/" + u.Chat
				mu.Lock()
				assert.False(t, running[chat], "two at once")
				running[chat] = true
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				running[chat] = false
				if rand.IntN(20) == 0 {
					return errors.New("no luck")
				}
				assert.Equal(t, last[chat]+1, u.ID/10)
				last[chat] = u.ID / 10
				count++
				return nil
			})
		}
		for n := int64(1); n <= 50; n++ {
			for tenant := range 5 {
				for chat := range int64(8) {
					put(t, m, message(fmt.Sprint(tenant), chat+1, n*10+chat))
				}
			}
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		}
		pass(10 * time.Minute)
		assert.Equal(t, 50*5*8, count)
		isEmpty(t, m)
	})
}

func TestAFailedUpdateIsTriedAgainAndThenSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var h handled
		var at []time.Duration
		start := time.Now()
		var logs bytes.Buffer
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{
			MaxAttempts: 3, Backoff: func(n int) time.Duration { return time.Duration(n) * 10 * time.Second },
			Logger: slog.New(slog.NewTextHandler(&logs, nil)),
		}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			h.add(u)
			if u.ID == 1 {
				at = append(at, time.Since(start).Truncate(time.Second))
				return errors.New("secret 123456:AAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00")
			}
			return nil
		})
		put(t, m, message("a", 1, 1), message("a", 1, 2), message("a", 2, 3))
		pass(5 * time.Second)
		assert.ElementsMatch(t, []int64{1, 3}, h.ids(), "the chat waits, others do not")
		pass(time.Minute)
		assert.Equal(t, []time.Duration{0, 10 * time.Second, 30 * time.Second}, at)
		assert.Equal(t, []int64{1, 1, 2}, h.ids()[2:], "and no later update overtakes")
		dead, err := m.Dead(bg, inbox.DeadFilter{})
		require.NoError(t, err)
		require.Len(t, dead, 1)
		assert.Equal(t, 3, dead[0].Attempt)
		assert.Equal(t, "internal: secret 123456:***", dead[0].Reason, "no token, nothing that a store can't keep")
		assert.NotContains(t, logs.String(), "secret")
		s := w.Stats()
		assert.Equal(t, [3]uint64{2, 2, 1}, [3]uint64{s.Handled, s.Retried, s.Buried})
	})
}

func TestTheDefaultBackoffGrowsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var at []time.Time
		work(t, m, poolFunc(nil), inbox.WorkersConfig{MaxAttempts: 10, PollEvery: time.Hour}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			at = append(at, time.Now())
			return errors.New("no")
		})
		put(t, m, message("a", 1, 1))
		pass(time.Hour)
		require.Len(t, at, 10)
		for i := 1; i < len(at); i++ {
			d := at[i].Sub(at[i-1])
			least := min(time.Minute, time.Second<<(i-1))
			assert.GreaterOrEqual(t, d, least)
			assert.LessOrEqual(t, d, least*3/2)
		}
	})
}

func TestRetryAfterIsAFloorAndCostsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		start := time.Now()
		var at []time.Duration
		var attempts []int
		work(t, m, poolFunc(nil), inbox.WorkersConfig{MaxAttempts: 2}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			at = append(at, time.Since(start).Truncate(time.Second))
			attempts = append(attempts, u.Attempt)
			switch len(at) {
			case 1, 2, 3:
				return fmt.Errorf("send: %w", &errors.Error{Kind: errors.RateLimited, RetryAfter: 100 * time.Second})
			case 4:
				return &errors.Error{Kind: errors.Unavailable, RetryAfter: 200 * time.Second}
			}
			return nil
		})
		put(t, m, message("a", 1, 1))
		pass(time.Hour)
		assert.Equal(t, []int{1, 1, 1, 1, 2}, attempts)
		for i, least := range []time.Duration{0, 100, 200, 300, 500} {
			assert.Equal(t, least*time.Second, at[i])
		}
		isEmpty(t, m)
	})
}

func TestAnUpdateIsNotReturnedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			return &errors.Error{Kind: errors.RateLimited, RetryAfter: time.Hour}
		})
		put(t, m, message("a", 1, 1))
		pass(26 * time.Hour)
		d, err := m.Depth(bg, "a")
		require.NoError(t, err)
		assert.Equal(t, inbox.Depth{Dead: 1}, d)
	})
}

func TestAPermanentErrorIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		n := 0
		work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			n++
			return fmt.Errorf("handle: %w", inbox.Permanent(errors.NotModified))
		})
		put(t, m, message("a", 1, 1))
		pass(time.Hour)
		assert.Equal(t, 1, n)
		dead, err := m.Dead(bg, inbox.DeadFilter{})
		require.NoError(t, err)
		require.Len(t, dead, 1)
		assert.NoError(t, inbox.Permanent(nil))
		assert.ErrorIs(t, inbox.Permanent(errors.NotModified), errors.NotModified)
	})
}

func TestAPanicAndAGoexitAreFailedAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var h handled
		var logs bytes.Buffer
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{MaxAttempts: 1, Logger: slog.New(slog.NewTextHandler(&logs, nil))}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			h.add(u)
			switch u.ID {
			case 1:
				panic("the user wrote: secret")
			case 2:
				runtime.Goexit()
			case 3:
				var none []int
				_ = none[u.ID]
			}
			return nil
		})
		put(t, m, message("a", 1, 1), message("a", 1, 2), message("a", 1, 3), message("a", 1, 4))
		pass(time.Minute)
		assert.Equal(t, []int64{1, 2, 3, 4}, h.ids())
		d, err := m.Depth(bg, "a")
		require.NoError(t, err)
		assert.Equal(t, inbox.Depth{Dead: 3}, d)
		assert.Equal(t, uint64(2), w.Stats().Panics)
		assert.Zero(t, w.Stats().Running)
		assert.NotContains(t, logs.String(), "secret")
		assert.Contains(t, logs.String(), "index out of range")
		assert.Contains(t, logs.String(), "workers_test.go")
		dead, err := m.Dead(bg, inbox.DeadFilter{})
		require.NoError(t, err)
		var reasons []string
		for _, letter := range dead {
			reasons = append(reasons, letter.Reason)
		}
		assert.Equal(t, []string{
			"internal: panic of type string", "internal: the handler ended its goroutine",
			"internal: panic: runtime error: index out of range [3] with length 0",
		}, reasons, "no text of the panic, no stack")
	})
}

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func TestAnErrorOrABackoffThatPanicsHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var h handled
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{MaxAttempts: 2, Backoff: func(int) time.Duration { panic("boom") }}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			h.add(u)
			switch u.ID {
			case 1:
				var none *nilError
				return none
			case 2:
				return errors.New("no")
			}
			return nil
		})
		put(t, m, message("a", 1, 1), message("a", 1, 2), message("a", 1, 3))
		pass(time.Minute)
		assert.Equal(t, []int64{1, 1, 2, 2, 3}, h.ids())
		assert.Equal(t, uint64(2), w.Stats().Buried)
	})
}

func TestAHandlerHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var took time.Duration
		work(t, m, poolFunc(nil), inbox.WorkersConfig{HandlerTimeout: 7 * time.Second, MaxAttempts: 1}, func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			start := time.Now()
			<-ctx.Done()
			took = time.Since(start)
			return ctx.Err()
		})
		put(t, m, message("a", 1, 1))
		pass(time.Minute)
		assert.Equal(t, 7*time.Second, took)
		d, err := m.Depth(bg, "a")
		require.NoError(t, err)
		assert.Equal(t, inbox.Depth{Dead: 1}, d, "too slow is a failure")
	})
}

func TestALeaseIsKeptHoweverLongItsHandlerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var h handled
		for range 2 {
			work(t, m, poolFunc(nil), inbox.WorkersConfig{LeaseTTL: 10 * time.Second}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
				h.add(u)
				time.Sleep(10 * time.Minute) // and does not care about its deadline
				return nil
			})
		}
		put(t, m, message("a", 1, 1))
		pass(time.Hour)
		assert.Equal(t, []int64{1}, h.ids())
		isEmpty(t, m)
	})
}

func TestWhatACrashedWorkerWasAtComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		put(t, m, message("a", 1, 1), message("a", 1, 2))
		_, err := m.Lease(bg, inbox.Want{Limit: 1, TTL: 30 * time.Second}) // and then silence
		require.NoError(t, err)
		var h handled
		work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			h.add(u)
			return nil
		})
		pass(29 * time.Second)
		assert.Empty(t, h.ids())
		pass(3 * time.Second)
		assert.Equal(t, []int64{1, 2}, h.ids())
		assert.Equal(t, 2, h.all[0].Attempt)
	})
}

func TestAnUpdateThatBringsTheProcessDownIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		put(t, m, message("a", 1, 1), message("a", 1, 2), message("a", 2, 3))
		for n := range 10 {
			if n == 9 { // one that was at hand once less is still tried
				leases, err := m.Lease(bg, inbox.Want{Limit: 1, TTL: time.Second})
				require.NoError(t, err)
				require.Equal(t, int64(1), leases[0].ID)
				time.Sleep(2 * time.Second)
				break
			}
			leases, err := m.Lease(bg, inbox.Want{Limit: 2, TTL: time.Second})
			require.NoError(t, err)
			require.Len(t, leases, 2)
			time.Sleep(2 * time.Second)
		}
		var h handled
		work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			h.add(u)
			return nil
		})
		pass(time.Minute)
		assert.ElementsMatch(t, []int64{2, 3}, h.ids())
		dead, err := m.Dead(bg, inbox.DeadFilter{})
		require.NoError(t, err)
		assert.Len(t, dead, 1)
	})
}

func TestUpdatesOfATenantThatCantBeHadWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var state, asked atomic.Int64
		pool := poolFunc(func(id string) error {
			if id != "a" {
				return nil
			}
			asked.Add(1)
			switch state.Load() {
			case 0:
				return &errors.Error{Kind: errors.Suspended}
			case 1:
				return &errors.Error{Kind: errors.Unavailable, RetryAfter: 20 * time.Second}
			}
			return nil
		})
		var h handled
		work(t, m, pool, inbox.WorkersConfig{MaxAttempts: 1}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			h.add(u)
			return nil
		})
		for id := int64(1); id <= 500; id++ {
			put(t, m, message("a", id, id))
		}
		put(t, m, message("b", 1, 1))
		pass(10 * time.Minute)
		assert.Equal(t, []int64{1}, h.ids(), "others go on")
		assert.Less(t, asked.Load(), int64(20*16+17), "and nobody asks all the time")
		state.Store(1)
		asked.Store(0)
		pass(10 * time.Minute)
		assert.Less(t, asked.Load(), int64(33*16))
		state.Store(2)
		pass(time.Minute)
		assert.Len(t, h.ids(), 501)
		for _, u := range h.all {
			assert.Equal(t, 1, u.Attempt, "none of that was an attempt")
		}
		isEmpty(t, m)
	})
}

func TestUpdatesOfATenantThatIsGoneAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		pool := poolFunc(func(id string) error { return &errors.Error{Kind: errors.NotFound} })
		work(t, m, pool, inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			t.Error("handled")
			return nil
		})
		put(t, m, message("a", 1, 1), message("a", 1, 2))
		pass(time.Second)
		isEmpty(t, m)
	})
}
