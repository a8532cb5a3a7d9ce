package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// Each test here is for a mistake that a well-known limiter made, and is named
// after it; those of buckets alone are in bucket_test.go.

type request = ratelimit.Request[string]

// admit waits for an admission and gives its slot back at once.
func admit(s *ratelimit.Scheduler[string], r request) error {
	p, err := s.Admit(context.Background(), r)
	p.Release()
	return err
}

// later makes a request in the background and returns where its outcome will
// be, once it waits.
func later(ctx context.Context, s *ratelimit.Scheduler[string], r request) <-chan error {
	done := make(chan error, 1)
	go func() {
		p, err := s.Admit(ctx, r)
		p.Release()
		done <- err
	}()
	synctest.Wait()
	return done
}

func waiting(t *testing.T, done <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("it does not wait: %v", err)
	default:
	}
}

func finished(t *testing.T, done <-chan error) error {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		return err
	default:
		t.Fatal("it still waits")
		return nil
	}
}

func TestTakingFromSeveralBucketsIsAllOrNothing(t *testing.T) {
	one := ratelimit.Limit{Rate: 1e-9, Burst: 1}
	two := ratelimit.Limit{Rate: 1e-9, Burst: 2}
	for _, test := range []struct {
		name               string
		total, tenant, key ratelimit.Limit
		shared             ratelimit.Limiter
		second, third      request
	}{
		{"refused by the key", two, two, one, nil, request{Tenant: "a", Key: "x"}, request{Tenant: "a", Key: "y"}},
		{"refused by the tenant", two, one, two, nil, request{Tenant: "a", Key: "x"}, request{Tenant: "b", Key: "x"}},
		{"refused by what all share", one, two, two, nil, request{Tenant: "a", Key: "x"}, request{Tenant: "a", Key: "x", Free: true}},
		{"refused by what others share", two, two, two, ratelimit.NewBucket(one), request{Tenant: "a", Key: "x"}, request{Tenant: "a", Free: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := threeLevels(test.total, test.tenant, test.key)
			cfg.Shared = test.shared
			s := newScheduler[string](t, cfg)
			require.NoError(t, admit(s, request{Tenant: "a", Key: "x"}))
			for range 5 {
				r := test.second
				r.MaxWait = time.Nanosecond
				require.Error(t, admit(s, r))
			}
			assert.NoError(t, admit(s, test.third), "what was refused took nothing from the others")
			if b, ok := test.shared.(*ratelimit.Bucket); ok {
				assert.Zero(t, b.Tokens(time.Now()))
			}
		})
	}
}

func TestRaisingALimitWakesThoseWhoWait(t *testing.T) {
	slow, fast := ratelimit.Limit{Rate: 1.0 / 3600, Burst: 1}, ratelimit.Limit{Rate: 1.0 / 3600, Burst: 2}
	limits := func(tenant, key ratelimit.Limit) ratelimit.Limits {
		return ratelimit.Limits{Classes: []ratelimit.Limit{tenant}, Keys: []ratelimit.Limit{key}}
	}
	for name, test := range map[string]struct {
		cfg   ratelimit.Config
		raise func(s *ratelimit.Scheduler[string]) error
	}{
		"of all": {ratelimit.Config{Total: slow}, func(s *ratelimit.Scheduler[string]) error { return s.SetTotal(fast, 0) }},
		"of one tenant": {ratelimit.Config{Tenant: limits(slow, fast)}, func(s *ratelimit.Scheduler[string]) error {
			return s.SetTenant("a", limits(fast, fast))
		}},
		"of every tenant": {ratelimit.Config{Tenant: limits(slow, fast)}, func(s *ratelimit.Scheduler[string]) error {
			return s.SetDefault(limits(fast, fast))
		}},
		"of keys": {ratelimit.Config{Tenant: limits(fast, slow)}, func(s *ratelimit.Scheduler[string]) error {
			return s.SetDefault(limits(fast, fast))
		}},
		"from nothing": {ratelimit.Config{Tenant: limits(ratelimit.Limit{Burst: 1}, fast)}, func(s *ratelimit.Scheduler[string]) error {
			return s.SetDefault(limits(fast, fast))
		}},
		"of slots": {ratelimit.Config{InFlight: 1}, func(s *ratelimit.Scheduler[string]) error { return s.SetTotal(ratelimit.Unlimited, 4) }},
		"of a tenant's slots": {ratelimit.Config{Tenant: ratelimit.Limits{InFlight: 1}}, func(s *ratelimit.Scheduler[string]) error {
			return s.SetTenant("a", ratelimit.Limits{})
		}},
		"back to the default": {ratelimit.Config{Tenant: limits(fast, fast)}, func(s *ratelimit.Scheduler[string]) error {
			s.ResetTenant("a")
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScheduler[string](t, test.cfg)
				if name == "back to the default" {
					require.NoError(t, s.SetTenant("a", limits(slow, slow)))
				}
				p, err := s.Admit(t.Context(), request{Tenant: "a", Key: "x"})
				require.NoError(t, err)
				defer p.Release()
				done := later(t.Context(), s, request{Tenant: "a", Key: "x"})
				waiting(t, done)
				require.NoError(t, test.raise(s))
				assert.NoError(t, finished(t, done))
			})
		})
	}
}

func TestACancelledWaitersTurnGoesToTheNextAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Rate: 1, Burst: 10}))
		require.NoError(t, admit(s, request{Tenant: "a", Key: "x", Cost: 9}))
		ctx, cancel := context.WithCancel(t.Context())
		first := later(ctx, s, request{Tenant: "a", Key: "x", Cost: 10})
		second := later(t.Context(), s, request{Tenant: "a", Key: "x"})
		waiting(t, second)
		cancel()
		assert.ErrorIs(t, finished(t, first), context.Canceled)
		assert.NoError(t, finished(t, second))
		stats := s.Stats(0)
		assert.EqualValues(t, 1, stats.Refused)
		assert.Zero(t, stats.Waiting)
	})
}

func TestAContextThatIsDoneTakesNothing(t *testing.T) {
	s := newScheduler[string](t, threeLevels(ratelimit.Limit{Burst: 1}, plenty, plenty))
	cause := errors.New("the caller went home")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	_, err := s.Admit(ctx, request{Tenant: "a"})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, cause)
	assert.ErrorContains(t, err, "not admitted: context canceled: the caller went home")
	past, cancelPast := context.WithDeadline(context.Background(), time.Now().Add(-time.Hour))
	defer cancelPast()
	_, err = s.Admit(past, request{Tenant: "a"})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NoError(t, admit(s, request{Tenant: "a"}))
}

func TestAnImpossibleDeadlineFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Rate: 0.1, Burst: 1}))
		require.NoError(t, admit(s, request{Tenant: "a", Key: "x"}))
		behind := later(t.Context(), s, request{Tenant: "a", Key: "x"})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		_, err := s.Admit(ctx, request{Tenant: "a", Key: "x"})
		assert.Zero(t, time.Since(began))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, ratelimit.ErrTooLate)
		var refusal *ratelimit.Refusal
		require.ErrorAs(t, err, &refusal)
		assert.Equal(t, 20*time.Second, refusal.Wait, "the one that waits already goes first")
		assert.Equal(t, ratelimit.LevelKey, refusal.Level)
		assert.Contains(t, refusal.Error(), "key level, 20s or more")

		assert.NoError(t, admit(s, request{Tenant: "a", Key: "x", MaxWait: 20 * time.Second}), "what fits to the moment goes")
		assert.Equal(t, 20*time.Second, time.Since(began))
		assert.NoError(t, finished(t, behind))

		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelTenant, Tenant: "b"}, time.Now().AddDate(10_000, 0, 0))
		err = admit(s, request{Tenant: "b", MaxWait: time.Hour})
		require.ErrorAs(t, err, &refusal)
		assert.Equal(t, ratelimit.Forever, refusal.Wait)
		assert.Contains(t, refusal.Error(), "for ever")
	})
}

func TestAWaitThatLastsLongerThanWasKnownEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 1})
		p, err := s.Admit(t.Context(), request{Tenant: "a"})
		require.NoError(t, err)
		defer p.Release()
		began := time.Now()
		err = admit(s, request{Tenant: "b", MaxWait: time.Minute})
		assert.ErrorIs(t, err, ratelimit.ErrTooLate)
		assert.Equal(t, time.Minute, time.Since(began).Round(time.Microsecond))
	})
}

func TestARequestAboveTheBurstFailsAtOnce(t *testing.T) {
	few := ratelimit.Limit{Rate: 100, Burst: 3}
	for level, cfg := range map[ratelimit.Level]ratelimit.Config{
		ratelimit.LevelAll:    threeLevels(few, plenty, plenty),
		ratelimit.LevelTenant: threeLevels(plenty, few, plenty),
		ratelimit.LevelKey:    threeLevels(plenty, plenty, few),
	} {
		s := newScheduler[string](t, cfg)
		err := admit(s, request{Tenant: "a", Key: "x", Cost: 4})
		assert.ErrorIs(t, err, ratelimit.ErrTooLarge)
		var refusal *ratelimit.Refusal
		require.ErrorAs(t, err, &refusal)
		assert.Equal(t, level, refusal.Level)
		assert.NoError(t, admit(s, request{Tenant: "a", Key: "x", Cost: 3}), "and took nothing")
	}
	shared := newScheduler[string](t, ratelimit.Config{Shared: ratelimit.NewBucket(few)})
	assert.ErrorIs(t, admit(shared, request{Tenant: "a", Cost: 4}), ratelimit.ErrTooLarge)
	assert.NoError(t, admit(shared, request{Tenant: "a", Cost: 3}))
	nothing := newScheduler[string](t, threeLevels(ratelimit.Per(0, time.Second), plenty, plenty))
	assert.ErrorIs(t, admit(nothing, request{Tenant: "a", Debt: true}), ratelimit.ErrTooLarge, "a burst of zero holds no debt")
}

func TestALimitThatIsLoweredFailsWhoIsTooLargeNow(t *testing.T) {
	few := ratelimit.Limit{Rate: 1, Burst: 3}
	many := ratelimit.Limit{Rate: 1, Burst: 5}
	for _, level := range []ratelimit.Level{ratelimit.LevelAll, ratelimit.LevelTenant, ratelimit.LevelKey} {
		synctest.Test(t, func(t *testing.T) {
			s := newScheduler[string](t, threeLevels(many, many, many))
			require.NoError(t, admit(s, request{Tenant: "a", Key: "x", Cost: 5}))
			large := later(t.Context(), s, request{Tenant: "a", Key: "x", Cost: 5})
			small := later(t.Context(), s, request{Tenant: "a", Key: "x", Cost: 1})
			limits := ratelimit.Limits{Classes: []ratelimit.Limit{many}, Keys: []ratelimit.Limit{many}}
			switch level {
			case ratelimit.LevelAll:
				require.NoError(t, s.SetTotal(few, 0))
			case ratelimit.LevelTenant:
				limits.Classes[0] = few
			case ratelimit.LevelKey:
				limits.Keys[0] = few
			}
			require.NoError(t, s.SetTenant("a", limits))
			assert.ErrorIs(t, <-large, ratelimit.ErrTooLarge)
			assert.NoError(t, <-small)
		})
	}
}

// A clock that steps back, and rates near zero, are for buckets; this is what
// waits on them.
func TestWhoWaitsForWhatNeverComesEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []float64{0, 1e-300, 1e-12} {
			s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Rate: rate, Burst: 1}))
			require.NoError(t, admit(s, request{Tenant: "a", Key: "x"}))
			ctx, cancel := context.WithCancel(t.Context())
			done := later(ctx, s, request{Tenant: "a", Key: "x"})
			time.Sleep(1000 * time.Hour)
			waiting(t, done)
			assert.ErrorIs(t, admit(s, request{Tenant: "a", Key: "x", MaxWait: time.Hour}), ratelimit.ErrTooLate)
			cancel()
			assert.ErrorIs(t, finished(t, done), context.Canceled)
		}
	})
}

func TestASweeperDoesNotResetABucketThatWasJustUsed(t *testing.T) {
	now := time.Now().Add(time.Second)
	k := ratelimit.NewKeyed[int](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Rate: 1, Burst: 2}, MaxKeys: 100})
	for i := range 100 {
		require.True(t, k.AllowAt(now, i, 2).OK)
	}
	now = now.Add(2 * time.Second) // all are full
	require.True(t, k.AllowAt(now, 7, 2).OK)
	for i := range 99 { // all but one make room
		require.True(t, k.AllowAt(now, 1000+i, 1).OK)
	}
	assert.False(t, k.AllowAt(now, 7, 1).OK, "it was used, so it was not forgotten")
	assert.Equal(t, 100, k.Len())
	assert.True(t, k.AllowAt(now, 5000, 1).Full)
}

func TestFIFOHoldsUnderCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Rate: 10, Burst: 1}))
		var mu sync.Mutex
		var order []int
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			ctx, cancel := context.WithCancel(t.Context())
			if r.IntN(3) == 0 {
				time.AfterFunc(time.Duration(r.IntN(30_000))*time.Millisecond, cancel)
			}
			go func() {
				defer cancel()
				if _, err := s.Admit(ctx, request{Tenant: "a", Key: "x", Slotless: true}); err == nil {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, i)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.IsIncreasing(t, order)
		assert.Greater(t, len(order), 190)
		assert.Zero(t, s.Stats(0).Waiting)
	})
}

// Real goroutines on the real clock, for the race detector.
func TestNoWakeUpIsLost(t *testing.T) {
	s := newScheduler[string](t, ratelimit.Config{
		Total:    ratelimit.Limit{Rate: 1e6, Burst: 10},
		InFlight: 3,
		Tenant:   ratelimit.Limits{InFlight: 2, Classes: []ratelimit.Limit{{Rate: 5e5, Burst: 5}}, Keys: []ratelimit.Limit{{Rate: 2e5, Burst: 2}}},
		Starts:   []ratelimit.Limit{{Rate: 1e5, Burst: 1}},
		WarmFor:  time.Millisecond,
	})
	var wg sync.WaitGroup
	var admitted atomic.Uint64
	for i := range 32 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			for n := range 300 {
				ctx, cancel := context.WithCancel(context.Background())
				if r.IntN(4) == 0 {
					time.AfterFunc(time.Duration(r.IntN(50))*time.Microsecond, cancel)
				}
				p, err := s.Admit(ctx, request{
					Tenant: fmt.Sprint(r.IntN(4)), Key: fmt.Sprint(r.IntN(3)), Cost: 1 + r.IntN(2), Lane: r.IntN(2),
					Free: r.IntN(4) == 0, Slotless: r.IntN(4) == 0, Class: r.IntN(2),
				})
				if err == nil {
					admitted.Add(1)
				}
				switch n % 50 {
				case 10:
					s.Freeze(ratelimit.Scope[string]{Level: ratelimit.Level(r.IntN(4)), Tenant: "1", Key: "1"}, time.Now().Add(100*time.Microsecond))
				case 20:
					_ = s.SetTenant("2", ratelimit.Limits{Weight: 1 + r.IntN(3), InFlight: r.IntN(3)})
				case 30:
					s.Move("0", "1", "2")
				}
				p.Release()
				cancel()
			}
		})
	}
	wg.Wait()
	stats := s.Stats(0)
	assert.Zero(t, stats.Waiting)
	assert.Zero(t, stats.InFlight)
	assert.Equal(t, admitted.Load(), stats.Admitted)
	assert.EqualValues(t, 32*300, stats.Admitted+stats.Refused)
}

func TestThereIsNoGoroutinePerWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 1})
		before := runtime.NumGoroutine()
		p, err := s.Admit(t.Context(), request{Tenant: "a"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 100 {
			later(ctx, s, request{Tenant: fmt.Sprint(i), MaxWait: time.Hour})
		}
		assert.LessOrEqual(t, runtime.NumGoroutine(), before+100, "those of the callers")
		cancel()
		synctest.Wait()
		for n := 0; runtime.NumGoroutine() > before && n < 1_000_000; n++ {
			runtime.Gosched() // those that have returned are counted until they are cleared away
		}
		assert.LessOrEqual(t, runtime.NumGoroutine(), before)
		p.Release()
	})
}

func TestWhatASharedBucketDeniesTakesNothingFromIt(t *testing.T) {
	b := ratelimit.NewBucket(ratelimit.Limit{Burst: 2})
	s := newScheduler[string](t, ratelimit.Config{Shared: b, Tenant: ratelimit.Limits{Classes: []ratelimit.Limit{{Burst: 1}}}})
	require.NoError(t, admit(s, request{Tenant: "a"}))
	assert.Error(t, admit(s, request{Tenant: "a", MaxWait: 1}), "the tenant has none")
	assert.Equal(t, 1, b.Tokens(time.Now()))
	require.NoError(t, admit(s, request{Tenant: "b"}))
	assert.ErrorIs(t, admit(s, request{Tenant: "c", MaxWait: 1}), ratelimit.ErrTooLarge, "the bucket gets no more")
	assert.Zero(t, b.Tokens(time.Now()))
}

func TestOddKeysAreKeysOfTheirOwn(t *testing.T) {
	s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Burst: 1}))
	k := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Burst: 1}})
	keys := []string{"NaN", "nan", "-1001", "@news", "@NEWS", " ", "\x00", "\xff", "1", "1.0", "null"}
	for _, key := range keys {
		assert.NoError(t, admit(s, request{Tenant: "a", Key: key}), "%q", key)
		assert.True(t, k.Allow(key, 1).OK, "%q", key)
	}
	for _, key := range keys {
		assert.Error(t, admit(s, request{Tenant: "a", Key: key, MaxWait: 1}), "%q", key)
		assert.False(t, k.Allow(key, 1).OK, "%q", key)
	}
	assert.NoError(t, admit(s, request{Tenant: "a"}), "the zero key is none")
	assert.NoError(t, admit(s, request{Tenant: "a"}))
	assert.True(t, k.Allow("", 1).OK, "but for Keyed it is one like others")
	assert.False(t, k.Allow("", 1).OK)
}
