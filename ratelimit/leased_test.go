package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// store is a shared bucket a few milliseconds away, which may fail.
type store struct {
	mu     sync.Mutex
	bucket *ratelimit.Bucket
	asked  int
	leased int
	fail   error
}

func newStore(limit ratelimit.Limit) *store { return &store{bucket: ratelimit.NewBucket(limit)} }

func (s *store) Lease(ctx context.Context, need, most int) (int, time.Duration, error) {
	select {
	case <-time.After(3 * time.Millisecond):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.fail != nil {
		return 0, 0, s.fail
	}
	now := time.Now()
	units := max(need, min(most, s.bucket.Tokens(now)))
	if wait := s.bucket.Take(now, units, units); wait > 0 {
		return 0, wait, nil
	}
	s.leased += units
	return units, 0, nil
}

func (s *store) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *store) handedOut() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leased
}

func (s *store) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func newLeased(t *testing.T, cfg ratelimit.LeasedConfig) *ratelimit.Leased {
	l, err := ratelimit.NewLeased(cfg)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

func TestThreeSchedulersNeverExceedWhatTheyShare(t *testing.T) {
	const rate, burst, keep = 50, 40, 200 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		shared := newStore(ratelimit.Limit{Rate: rate, Burst: burst - int(rate*keep/time.Second)})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var mu sync.Mutex
		var admitted []time.Time
		var of [3]int
		var all sync.WaitGroup
		var schedulers []*ratelimit.Scheduler[int]
		for i := range 3 {
			s := newScheduler[int](t, ratelimit.Config{Shared: newLeased(t, ratelimit.LeasedConfig{Store: shared, KeepFor: keep})})
			schedulers = append(schedulers, s)
			for j := range 5 << i { // they want different amounts
				all.Go(func() {
					for ctx.Err() == nil {
						p, err := s.Admit(ctx, ratelimit.Request[int]{Tenant: fmt.Sprint(j), Cost: 1 + j%3, Debt: true})
						if err != nil {
							continue
						}
						mu.Lock()
						for range 1 + j%3 {
							admitted = append(admitted, time.Now())
						}
						of[i] += 1 + j%3
						mu.Unlock()
						p.Release()
						time.Sleep(time.Duration(j) * time.Millisecond)
					}
				})
			}
		}
		all.Wait()
		for i := range admitted {
			// A request of several units may leave a debt of two.
			for _, n := range []int{burst + 1, 200, 1000, 10000} {
				if j := i + n + 2; j < len(admitted) {
					span := admitted[j].Sub(admitted[i]).Seconds()
					require.LessOrEqual(t, float64(n), burst+rate*span+1e-6, "%d from %v on", n, admitted[i])
				}
			}
		}
		assert.GreaterOrEqual(t, len(admitted), 600*rate*98/100, "and nearly all of it is used")
		for _, n := range of {
			assert.Greater(t, n, 600*rate/10, "by all of them: %v", of)
		}
		for _, s := range schedulers {
			assert.Zero(t, s.Stats(0).Waiting)
		}
	})
}

func TestAFewRequestsLeaseNoMoreThanTheyUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newStore(ratelimit.Limit{Rate: 25, Burst: 25})
		s := newScheduler[int](t, ratelimit.Config{Shared: newLeased(t, ratelimit.LeasedConfig{Store: shared})})
		for range 100 {
			p, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t"})
			require.NoError(t, err)
			p.Release()
			time.Sleep(time.Second)
		}
		assert.Equal(t, 100, shared.handedOut())
	})
}

func TestManyRequestsAskTheStoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newStore(ratelimit.Limit{Rate: 1000, Burst: 1000})
		s := newScheduler[int](t, ratelimit.Config{Shared: newLeased(t, ratelimit.LeasedConfig{Store: shared, Chunk: 50})})
		for range 5000 {
			p, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t"})
			require.NoError(t, err)
			p.Release()
			time.Sleep(2 * time.Millisecond)
		}
		assert.Less(t, shared.count(), 5000/20)
		assert.InDelta(t, 5000, shared.handedOut(), 150)
	})
}

func TestAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newStore(ratelimit.Limit{Rate: 100, Burst: 100})
		var told []error
		own := ratelimit.NewBucket(ratelimit.Limit{Rate: 0, Burst: 3})
		l := newLeased(t, ratelimit.LeasedConfig{Store: shared, Fallback: own, OnError: func(err error) { told = append(told, err) }})
		s := newScheduler[int](t, ratelimit.Config{Shared: l})
		admit := func() error {
			p, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t", MaxWait: 3 * time.Second})
			p.Release()
			return err
		}
		broken := errors.New("no route to host")
		shared.failWith(broken)
		for range 3 {
			require.NoError(t, admit(), "from the fallback")
		}
		assert.ErrorIs(t, admit(), ratelimit.ErrTooLarge, "which has no more and never will")
		require.NotEmpty(t, told)
		assert.ErrorIs(t, told[0], broken)
		asked := shared.count()
		_ = admit()
		assert.Equal(t, asked, shared.count(), "left alone for a second")

		shared.failWith(nil)
		time.Sleep(time.Second)
		_ = admit() // asks
		time.Sleep(10 * time.Millisecond)
		for range 50 {
			require.NoError(t, admit())
		}
		assert.GreaterOrEqual(t, shared.handedOut(), 50)
	})
}

func TestAStoreThatFailsLetsNothingPassByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newStore(ratelimit.Unlimited)
		shared.failWith(errors.New("down"))
		s := newScheduler[int](t, ratelimit.Config{Shared: newLeased(t, ratelimit.LeasedConfig{Store: shared})})
		_, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t", MaxWait: 5 * time.Second})
		assert.ErrorIs(t, err, ratelimit.ErrTooLate)
		begin := time.Now()
		time.AfterFunc(10*time.Second, func() { shared.failWith(nil) })
		p, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t"})
		require.NoError(t, err)
		p.Release()
		assert.InDelta(t, 10, time.Since(begin).Seconds(), 1.1, "who waits is let go once it answers")
	})
}

type storeFunc func(ctx context.Context, need, most int) (int, time.Duration, error)

func (f storeFunc) Lease(ctx context.Context, need, most int) (int, time.Duration, error) {
	return f(ctx, need, most)
}

func TestAStoreThatMisbehaves(t *testing.T) {
	for name, lease := range map[string]storeFunc{
		"panics":          func(context.Context, int, int) (int, time.Duration, error) { panic("store") },
		"gives too many":  func(_ context.Context, _, most int) (int, time.Duration, error) { return most + 1, 0, nil },
		"takes":           func(context.Context, int, int) (int, time.Duration, error) { return -1, 0, nil },
		"never answers":   func(ctx context.Context, _, _ int) (int, time.Duration, error) { <-ctx.Done(); return 0, 0, ctx.Err() },
		"gives nothing":   func(context.Context, int, int) (int, time.Duration, error) { return 0, 0, nil },
		"waits backwards": func(context.Context, int, int) (int, time.Duration, error) { return 0, -time.Hour, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				l := newLeased(t, ratelimit.LeasedConfig{Store: storeFunc(func(ctx context.Context, need, most int) (int, time.Duration, error) {
					asked.Add(1)
					return lease(ctx, need, most)
				})})
				s := newScheduler[int](t, ratelimit.Config{Shared: l})
				_, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t", MaxWait: 10 * time.Second})
				assert.ErrorIs(t, err, ratelimit.ErrTooLate)
				assert.Less(t, asked.Load(), int64(11_000), "it is not asked in a loop")
			})
		})
	}
}

func TestWhatTheStoreNeverHasIsRefusedAndTheRestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newStore(ratelimit.Limit{Rate: 10, Burst: 5})
		s := newScheduler[int](t, ratelimit.Config{Shared: newLeased(t, ratelimit.LeasedConfig{Store: shared})})
		_, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t", Cost: 6})
		assert.ErrorIs(t, err, ratelimit.ErrTooLarge)
		for range 20 {
			p, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t"})
			require.NoError(t, err)
			p.Release()
		}
	})
}

func TestLeasedUnitsThatWereNotUsedInTimeAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeased(t, ratelimit.LeasedConfig{Store: newStore(ratelimit.Unlimited)})
		assert.Equal(t, time.Second, l.Take(time.Now(), 1, 1), "the longest that the store may take")
		time.Sleep(10 * time.Millisecond)
		assert.Zero(t, l.Take(time.Now(), 1, 1))
		l.Give(time.Now(), 1)
		assert.Zero(t, l.Take(time.Now(), 1, 1))
		l.Give(time.Now(), 1)
		time.Sleep(200 * time.Millisecond)
		assert.NotZero(t, l.Take(time.Now(), 1, 1), "given back, but too old")
		synctest.Wait()
		l.Close()
		time.Sleep(10 * time.Millisecond)
		assert.Equal(t, ratelimit.Forever, l.Take(time.Now(), 1, 1))
	})
}

func TestBadFieldsOfALeasedAreNamed(t *testing.T) {
	_, err := ratelimit.NewLeased(ratelimit.LeasedConfig{Chunk: -1, KeepFor: -1, Timeout: -1, RetryAfter: -1})
	for _, field := range []string{"Store", "Chunk", "KeepFor", "Timeout", "RetryAfter"} {
		assert.ErrorContains(t, err, field)
	}
}
