package inbox_test

import (
	"context"
	"runtime"
	"strings"
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

func TestStopFinishesWhatWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var h handled
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			time.Sleep(3 * time.Second)
			h.add(u)
			return ctx.Err()
		})
		put(t, m, message("a", 1, 1), message("a", 1, 2), message("a", 2, 3))
		pass(time.Second)
		start := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { assert.NoError(t, w.Stop(bg)) })
		}
		wg.Wait()
		assert.Equal(t, 2*time.Second, time.Since(start))
		assert.ElementsMatch(t, []int64{1, 3}, h.ids())
		d, err := m.Depth(bg, "")
		require.NoError(t, err)
		assert.Equal(t, [2]int{1, 0}, [2]int{d.Waiting, d.Leased}, "what was not taken is as it was")
		assert.NoError(t, w.Stop(bg))
		ended, cancel := context.WithCancel(bg)
		cancel()
		assert.NoError(t, w.Stop(ended), "there is nothing left to wait for")
		require.ErrorIs(t, w.Start(bg), errors.Closed)
	})
}

func TestStopWithoutStart(t *testing.T) {
	w, err := inbox.NewWorkers(newMemory(t), poolFunc(nil), &inbox.Mux{}, inbox.WorkersConfig{})
	require.NoError(t, err)
	require.NoError(t, w.Stop(bg))
	require.NoError(t, w.Stop(bg))
	require.ErrorIs(t, w.Start(bg), errors.Closed)
}

func TestStopThatCantWaitGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var cause error
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		})
		put(t, m, message("a", 1, 1))
		pass(time.Second)
		ctx, cancel := context.WithTimeout(bg, 2*time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, w.Stop(ctx), context.DeadlineExceeded)
		assert.Equal(t, 2*time.Second, time.Since(start))
		assert.EqualError(t, cause, "the service is stopping")
		leases, err := m.Lease(bg, inbox.Want{Limit: 1, TTL: time.Minute})
		require.NoError(t, err)
		require.Len(t, leases, 1, "at once, not when the lease would have lapsed")
		assert.Equal(t, 1, leases[0].Attempt, "it was no attempt")
	})
}

func TestStopDoesNotWaitForEverForAHandlerThatWontEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			time.Sleep(time.Hour)
			return nil
		})
		put(t, m, message("a", 1, 1))
		pass(time.Second)
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, w.Stop(ctx), context.DeadlineExceeded)
		assert.Equal(t, 6*time.Second, time.Since(start))
		pass(time.Minute)
		leases, err := m.Lease(bg, inbox.Want{Limit: 1, TTL: time.Minute})
		require.NoError(t, err)
		assert.Len(t, leases, 1)
		pass(time.Hour)
	})
}

func TestTheEndOfStartsContextEndsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w, err := inbox.NewWorkers(m, poolFunc(nil), inbox.HandlerFunc(func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			<-ctx.Done()
			return ctx.Err()
		}), inbox.WorkersConfig{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(bg)
		require.NoError(t, w.Start(ctx))
		require.ErrorIs(t, w.Start(ctx), errors.Closed)
		put(t, m, message("a", 1, 1))
		pass(time.Second)
		cancel()
		synctest.Wait()
		d, err := m.Depth(bg, "")
		require.NoError(t, err)
		assert.Equal(t, [2]int{1, 0}, [2]int{d.Waiting, d.Leased})
		require.NoError(t, w.Stop(bg))
	})
}

// faulty is an inbox that fails and counts.
type faulty struct {
	inbox.Inbox
	broken   atomic.Bool
	stuck    atomic.Bool // Settle fails
	loses    atomic.Bool // Extend answers that leases are lost
	leases   atomic.Int64
	failures atomic.Int64
}

var errBroken = errors.New("disk on fire")

func (f *faulty) fails() error {
	if f.broken.Load() {
		f.failures.Add(1)
		return errBroken
	}
	return nil
}

func (f *faulty) Lease(ctx context.Context, want inbox.Want) ([]inbox.Lease, error) {
	f.leases.Add(1)
	if err := f.fails(); err != nil {
		return nil, err
	}
	return f.Inbox.Lease(ctx, want)
}

func (f *faulty) Settle(ctx context.Context, s []inbox.Settlement) ([]bool, error) {
	if f.stuck.Load() {
		f.failures.Add(1)
		return nil, errBroken
	}
	if err := f.fails(); err != nil {
		return nil, err
	}
	return f.Inbox.Settle(ctx, s)
}

func (f *faulty) Extend(ctx context.Context, leases []inbox.Lease, ttl time.Duration) ([]bool, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	if f.loses.Load() {
		return make([]bool, len(leases)), nil
	}
	return f.Inbox.Extend(ctx, leases, ttl)
}

func TestABrokenInboxIsAskedEverMoreRarelyAndNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{Inbox: newMemory(t)}
		var h handled
		work(t, f, poolFunc(nil), inbox.WorkersConfig{}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			pass(time.Second)
			h.add(u)
			return nil
		})
		put(t, f, message("a", 1, 1), message("a", 1, 2), message("b", 1, 1))
		pass(1500 * time.Millisecond)
		f.broken.Store(true)
		put(t, f, message("c", 1, 1))
		pass(20 * time.Second)
		assert.Less(t, f.failures.Load(), int64(20))
		f.broken.Store(false)
		pass(20 * time.Second)
		assert.ElementsMatch(t, []int64{1, 2, 1, 1}, h.ids())
		isEmpty(t, f)
	})
}

// Settle alone fails: no busy loop, and the leases are kept meanwhile.
func TestAnInboxThatTakesNoSettlementIsNotAskedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{Inbox: newMemory(t)}
		f.stuck.Store(true)
		var h handled
		for range 2 {
			work(t, f, poolFunc(nil), inbox.WorkersConfig{LeaseTTL: 3 * time.Second}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
				h.add(u)
				return nil
			})
		}
		put(t, f, message("a", 1, 1), message("a", 1, 2), message("b", 1, 1))
		pass(10 * time.Minute)
		assert.Less(t, f.failures.Load(), int64(2*(600/5+20)))
		assert.ElementsMatch(t, []int64{1, 1}, h.ids(), "what is not settled is neither lost nor done twice")
		f.stuck.Store(false)
		pass(10 * time.Second)
		assert.ElementsMatch(t, []int64{1, 1, 2}, h.ids())
		isEmpty(t, f)
	})
}

func TestAHandlerWhoseLeaseIsLostIsToldToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, way := range []string{"the inbox says so", "the inbox can't be reached"} {
			f := &faulty{Inbox: newMemory(t)}
			var cause error
			var took time.Duration
			w := work(t, f, poolFunc(nil), inbox.WorkersConfig{HandlerTimeout: time.Hour}, func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
				start := time.Now()
				<-ctx.Done()
				if cause == nil {
					cause, took = context.Cause(ctx), time.Since(start)
				}
				return ctx.Err()
			})
			put(t, f, message("a", 1, 1))
			pass(time.Second)
			f.loses.Store(way == "the inbox says so")
			f.broken.Store(way != "the inbox says so")
			pass(time.Minute)
			assert.Equal(t, context.Canceled, cause, way)
			assert.LessOrEqual(t, took, 42*time.Second, way)
			f.broken.Store(false)
			ctx, cancel := context.WithTimeout(bg, time.Second)
			_ = w.Stop(ctx)
			cancel()
			assert.NotZero(t, w.Stats().Lost, way)
			assert.Zero(t, w.Stats().Handled, way)
		}
	})
}

func TestIdleWorkersHardlyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{Inbox: newMemory(t)}
		work(t, f, poolFunc(nil), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
		pass(time.Hour)
		assert.InDelta(t, 3600, f.leases.Load(), 10)
	})
}

// workers counts the goroutines that run handlers or wait to.
func workers() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "inbox.(*loop).worker(")
}

func TestWorkersThatAreIdleGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		work(t, m, poolFunc(nil), inbox.WorkersConfig{PerTenant: 100}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			time.Sleep(time.Second)
			return nil
		})
		for id := int64(1); id <= 300; id++ {
			put(t, m, message("a", id, id))
		}
		pass(500 * time.Millisecond)
		assert.Equal(t, 100, workers(), "one for each update")
		pass(2 * time.Second)
		assert.Equal(t, 100, workers(), "the same ones")
		pass(time.Minute)
		assert.Zero(t, workers())
		isEmpty(t, m)
		put(t, m, message("a", 1, 1000))
		pass(2 * time.Second)
		isEmpty(t, m)
	})
}

func TestAnInboxThatCantWakeIsAskedEveryNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{Inbox: newMemory(t)} // hides Wake
		var at []time.Duration
		start := time.Now()
		work(t, f, poolFunc(nil), inbox.WorkersConfig{PollEvery: 10 * time.Second}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			at = append(at, time.Since(start))
			return nil
		})
		pass(time.Second)
		put(t, f, message("a", 1, 1), message("a", 1, 2))
		pass(time.Minute)
		assert.Equal(t, []time.Duration{10 * time.Second, 10 * time.Second}, at, "the second at once after the first")
	})
}

func TestBadConfigurationIsReportedAtOnce(t *testing.T) {
	_, err := inbox.NewWorkers(nil, nil, nil, inbox.WorkersConfig{Concurrency: -1, LeaseTTL: -1})
	for _, want := range []string{"inbox is nil", "pool is nil", "handler is nil", "Concurrency is negative", "LeaseTTL is negative"} {
		assert.ErrorContains(t, err, want)
	}
	for _, h := range []inbox.Handler{inbox.HandlerFunc(nil), (*inbox.Mux)(nil), (*inbox.Dispatcher)(nil)} {
		_, err = inbox.NewWorkers(newMemory(t), poolFunc(nil), h, inbox.WorkersConfig{})
		assert.ErrorContains(t, err, "handler is nil", "%T", h)
	}
	_, err = inbox.NewMemory(inbox.MemoryConfig{MaxUpdates: -1, MaxBytes: -1, Remember: -1})
	for _, want := range []string{"MaxUpdates is negative", "MaxBytes is negative", "Remember is negative"} {
		assert.ErrorContains(t, err, want)
	}
}
