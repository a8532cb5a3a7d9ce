package ratelimit_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

func TestEveryBadFieldIsNamed(t *testing.T) {
	bad := ratelimit.Limit{Rate: math.NaN()}
	_, err := ratelimit.NewScheduler[string](ratelimit.Config{
		Total: bad, Starts: []ratelimit.Limit{bad}, Lanes: -1, LaneShare: 1, MaxWaiting: -1, MaxWaitingPerTenant: -2,
		MaxTenants: -3, MaxKeys: -4, WarmFor: -1,
		Tenant: ratelimit.Limits{Weight: -1, Classes: make([]ratelimit.Limit, 17), Keys: []ratelimit.Limit{bad}},
	})
	for _, want := range []string{"Lanes is -1", "LaneShare is 1", "MaxWaiting is -1", "MaxWaitingPerTenant is -2", "MaxTenants is -3",
		"MaxKeys is -4", "WarmFor is negative", "rate is not a number", "weight -1", "more than 16 classes", "field Tenant", "limit 0:"} {
		assert.ErrorContains(t, err, want)
	}
	s := newScheduler[string](t, ratelimit.Config{})
	assert.Error(t, s.SetTenant("a", ratelimit.Limits{Weight: ratelimit.MaxWeight + 1}))
	assert.Error(t, s.SetDefault(ratelimit.Limits{Keys: []ratelimit.Limit{bad}}))
	assert.Error(t, s.SetTotal(bad, 0))
	for name, r := range map[string]request{
		"cost -1": {Cost: -1}, "cost 2147483648": {Cost: 1 << 31}, "class -1": {Class: -1}, "class 16": {Class: 16}, "class 0, 16": {KeyClass: 16},
		"lane 2 of 2": {Lane: 2}, "lane -1": {Lane: -1},
	} {
		assert.ErrorContains(t, admit(s, r), name)
	}
	assert.Zero(t, s.Stats(0).Refused, "they were not requests")
}

func TestACloseEndsAllThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 1, Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 0.001, Burst: 1}}}})
		p, err := s.Admit(t.Context(), request{Tenant: "a", Key: "x"})
		require.NoError(t, err)
		var all []<-chan error
		for i := range 6 {
			all = append(all, later(t.Context(), s, request{Tenant: fmt.Sprint(i % 2), Key: []string{"", "x"}[i%2], Free: i == 2}))
		}
		s.Close()
		s.Close()
		for _, done := range all {
			assert.ErrorIs(t, finished(t, done), ratelimit.ErrClosed)
		}
		assert.ErrorIs(t, admit(s, request{}), ratelimit.ErrClosed)
		p.Release()
		stats := s.Stats(0)
		assert.Zero(t, stats.Waiting)
		assert.Zero(t, stats.InFlight)
		assert.EqualValues(t, 7, stats.Refused)
	})
}

func TestQueuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 1, MaxWaiting: 3, MaxWaitingPerTenant: 2})
		p, err := s.Admit(t.Context(), request{Tenant: "a"})
		require.NoError(t, err)
		first, second := later(t.Context(), s, request{Tenant: "a"}), later(t.Context(), s, request{Tenant: "a"})
		err = admit(s, request{Tenant: "a"})
		var refusal *ratelimit.Refusal
		require.ErrorAs(t, err, &refusal)
		assert.ErrorIs(t, err, ratelimit.ErrQueueFull)
		assert.Equal(t, ratelimit.LevelTenant, refusal.Level)
		third := later(t.Context(), s, request{Tenant: "b"})
		require.ErrorAs(t, admit(s, request{Tenant: "c"}), &refusal)
		assert.Equal(t, ratelimit.LevelAll, refusal.Level)
		assert.Equal(t, "not admitted: too many are waiting", refusal.Error())
		p.Release()
		for _, done := range []<-chan error{first, second, third} {
			assert.NoError(t, finished(t, done))
		}
	})
}

func TestTenantsAndKeysAreForgottenOnlyWhenThatLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{
			MaxTenants: 4, MaxKeys: 4, Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 1.0 / 60, Burst: 1}}, Classes: []ratelimit.Limit{{Rate: 1.0 / 60, Burst: 2}}},
		})
		p, err := s.Admit(t.Context(), request{Tenant: "permit", Key: "x"})
		require.NoError(t, err)
		require.NoError(t, admit(s, request{Tenant: "waiter", Key: "x"}))
		waiter := later(t.Context(), s, request{Tenant: "waiter", Key: "x", Free: false})
		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelKey, Tenant: "frozen", Key: "x"}, time.Now().Add(time.Hour))
		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelTenant, Tenant: "frozen too"}, time.Now().Add(time.Hour))
		assert.ErrorIs(t, admit(s, request{Tenant: "one more"}), ratelimit.ErrQueueFull)
		require.NoError(t, admit(s, request{Tenant: "permit", Key: "y"}))
		assert.ErrorIs(t, admit(s, request{Tenant: "permit", Key: "z"}), ratelimit.ErrQueueFull)
		assert.Equal(t, 4, s.Stats(0).Tenants)
		assert.Equal(t, 4, s.Stats(0).Keys)

		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelTenant, Tenant: "over the bound"}, time.Now().Add(time.Hour))
		assert.Equal(t, 5, s.Stats(0).Tenants, "a freeze is never lost")

		time.Sleep(59 * time.Second)
		assert.Error(t, admit(s, request{Tenant: "waiter", Key: "x", MaxWait: time.Second}), "it was not forgotten")
		assert.ErrorIs(t, admit(s, request{Tenant: "one more"}), ratelimit.ErrQueueFull)
		assert.NoError(t, <-waiter)
		time.Sleep(2 * time.Minute)
		for i := range 20 { // all but the frozen and the one with a permit go
			_ = admit(s, request{Tenant: fmt.Sprint(i), Free: true})
		}
		stats := s.Stats(0)
		assert.LessOrEqual(t, stats.Tenants, 4)
		assert.Equal(t, 1, s.TenantStats("permit").InFlight)
		assert.NotZero(t, s.TenantStats("frozen too").Frozen)
		p.Release()
		assert.Zero(t, s.Stats(0).InFlight)
		assert.Equal(t, ratelimit.TenantStats{Tenant: "nobody"}, s.TenantStats("nobody"))
	})
}

// Tenants are kept as long as a key of theirs is, and it takes new ones for
// these to be looked at.
func TestNewTenantsAreNotRefusedForTheOldKeysOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{MaxTenants: 100, Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 1, Burst: 1}}}})
		for i := range 100 {
			for j := range 5 {
				require.NoError(t, admit(s, request{Tenant: fmt.Sprint(i), Key: fmt.Sprint(j)}))
			}
		}
		time.Sleep(time.Minute)
		for i := range 1000 {
			require.NoError(t, admit(s, request{Tenant: fmt.Sprint("new ", i), Free: true}))
		}
		assert.LessOrEqual(t, s.Stats(0).Tenants, 100)
		assert.Zero(t, s.Stats(0).Keys)
	})
}

func TestAMillionFrozenKeysAreForgottenInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[int](t, ratelimit.Config{MaxKeys: 1000})
		freeze := func(key int) {
			s.Freeze(ratelimit.Scope[int]{Level: ratelimit.LevelKey, Tenant: "a", Key: key}, time.Now().Add(time.Millisecond))
		}
		for key := range 100_000 {
			freeze(key + 1)
			if key%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		assert.LessOrEqual(t, s.Stats(0).Keys, 1000)
		assert.Zero(t, s.Stats(0).FrozenKeys)
	})
}

func TestATenantThatIsResetHasTheDefaultAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{Classes: []ratelimit.Limit{{Rate: 1, Burst: 2}}}})
		s.ResetTenant("a") // which has none
		require.NoError(t, s.SetTenant("a", ratelimit.Limits{Classes: []ratelimit.Limit{{Rate: 1, Burst: 5}}}))
		require.NoError(t, admit(s, request{Tenant: "a", Cost: 5}))
		large := later(t.Context(), s, request{Tenant: "a", Cost: 4})
		small := later(t.Context(), s, request{Tenant: "a"})
		s.ResetTenant("a")
		assert.ErrorIs(t, finished(t, large), ratelimit.ErrTooLarge)
		began := time.Now()
		assert.NoError(t, <-small)
		assert.Equal(t, 4*time.Second, time.Since(began), "five are missing of two")
		require.NoError(t, s.SetDefault(ratelimit.Limits{Classes: []ratelimit.Limit{{Rate: 1, Burst: 9}}}))
		time.Sleep(time.Minute)
		assert.NoError(t, admit(s, request{Tenant: "a", Cost: 9, MaxWait: 1}))
	})
}

func TestTheClassesOfAKeyDrawOnOneBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 1, Burst: 4}, {Rate: 10, Burst: 2}}}})
		require.NoError(t, admit(s, request{Tenant: "a", Key: "x", Cost: 4}))
		for range 10 {
			assert.Error(t, admit(s, request{Tenant: "a", Key: "x", KeyClass: 1, MaxWait: 1}))
			assert.NoError(t, admit(s, request{Tenant: "a", Key: "x", KeyClass: 2, MaxWait: 1}), "that class has no limit")
			assert.Error(t, admit(s, request{Tenant: "a", Key: "x", MaxWait: 1}), "and fills none")
		}
	})
}

func TestAFreeRequestTakesUnitsOfItsKeyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := ratelimit.Limit{Rate: 0.001, Burst: 1}
		cfg := threeLevels(few, few, ratelimit.Limit{Rate: 1, Burst: 3})
		cfg.Shared = ratelimit.NewBucket(few)
		s := newScheduler[string](t, cfg)
		typing := request{Tenant: "a", Key: "x", Free: true}
		for range 3 {
			require.NoError(t, admit(s, typing))
		}
		first, second := later(t.Context(), s, typing), later(t.Context(), s, typing)
		elsewhere := request{Tenant: "a", Key: "y", Free: true, MaxWait: 1}
		assert.NoError(t, admit(s, elsewhere), "another key has its own units")
		unlimited := request{Tenant: "a", Key: "x", Free: true, KeyClass: 1, MaxWait: 1}
		assert.NoError(t, admit(s, unlimited), "that class has no limit, and passes those that wait")

		waiting(t, first)
		time.Sleep(time.Second)
		assert.NoError(t, finished(t, first))
		waiting(t, second)
		time.Sleep(time.Second)
		assert.NoError(t, finished(t, second))
		message := later(t.Context(), s, request{Tenant: "a", Key: "x"})
		waiting(t, message)
		time.Sleep(time.Second)
		assert.NoError(t, finished(t, message), "the units of all and of the tenant are there")
		assert.Error(t, admit(s, request{Tenant: "a", Key: "z", MaxWait: 1}), "and are used up now")

		s = newScheduler[string](t, cfg)
		require.NoError(t, admit(s, unlimited))
		assert.Zero(t, s.Stats(0).Keys, "nothing needs to be known of a key without a limit")
	})
}

func TestAFreeRequestIsRefusedByItsKeyAsOthersAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 0.1, Burst: 2}}}})
		r := request{Tenant: "a", Key: "x", Free: true, Cost: 3}
		var refusal *ratelimit.Refusal
		require.ErrorAs(t, admit(s, r), &refusal)
		assert.ErrorIs(t, refusal, ratelimit.ErrTooLarge)
		assert.Equal(t, ratelimit.LevelKey, refusal.Level)
		r.Debt = true
		require.NoError(t, admit(s, r))
		r.Cost, r.MaxWait = 1, time.Second
		require.ErrorAs(t, admit(s, r), &refusal)
		assert.ErrorIs(t, refusal, ratelimit.ErrTooLate)
		assert.Equal(t, ratelimit.LevelKey, refusal.Level)
		assert.Equal(t, 20*time.Second, refusal.Wait)

		r.MaxWait = 0
		done := later(t.Context(), s, r)
		waiting(t, done)
		require.NoError(t, s.SetTenant("a", ratelimit.Limits{}))
		assert.NoError(t, finished(t, done), "it has no limit any more")
	})
}

func TestAFreezeHoldsBackFreeRequestsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for level := range ratelimit.Level(4) {
			s := newScheduler[string](t, ratelimit.Config{Starts: []ratelimit.Limit{{Rate: 1, Burst: 9}}})
			scope := ratelimit.Scope[string]{Level: level, Tenant: "a", Key: "x"}
			s.Freeze(scope, time.Now().Add(time.Hour))
			s.Freeze(scope, time.Now().Add(time.Minute)) // never shortens
			stats := s.Stats(0)
			assert.Equal(t, level == ratelimit.LevelAll, stats.Frozen > 0)
			assert.Equal(t, level == ratelimit.LevelStarts, stats.StartsFrozen > 0)
			assert.Equal(t, level == ratelimit.LevelTenant, stats.FrozenTenants == 1)
			assert.Equal(t, level == ratelimit.LevelKey, stats.FrozenKeys == 1)
			done := later(t.Context(), s, request{Tenant: "a", Key: "x", Free: true})
			if level > ratelimit.LevelStarts {
				assert.NoError(t, finished(t, later(t.Context(), s, request{Tenant: "b", Key: "x", Free: true})), "others are not slowed")
			}
			time.Sleep(59 * time.Minute)
			waiting(t, done)
			if level%2 == 0 {
				s.Thaw(scope)
			} else {
				time.Sleep(time.Minute)
			}
			assert.NoError(t, finished(t, done))
			s.Thaw(ratelimit.Scope[string]{Level: level, Tenant: "unknown"})
		}
	})
}

func TestARequestThatIsMadeAgainWaitsInItsOldPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 1, Burst: 1}}}})
		p, err := s.Admit(t.Context(), request{Tenant: "a", Key: "x"})
		require.NoError(t, err)
		p.Release()
		second := later(t.Context(), s, request{Tenant: "a", Key: "x"})
		third := later(t.Context(), s, request{Tenant: "a", Key: "x"})
		again := later(t.Context(), s, request{Tenant: "a", Key: "x", Ticket: p.Ticket()})
		for _, done := range []<-chan error{again, second, third} {
			waiting(t, done)
			time.Sleep(time.Second)
			assert.NoError(t, finished(t, done))
		}
	})
}

func TestStatsTellOfThoseWhoWaitMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 1})
		p, err := s.Admit(t.Context(), request{Tenant: "a"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		for i, tenant := range []string{"a", "b", "b", "c", "c", "d"} {
			later(ctx, s, request{Tenant: tenant, Key: fmt.Sprint(i)})
		}
		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelTenant, Tenant: "b"}, time.Now().Add(time.Minute))
		stats := s.Stats(3)
		assert.Equal(t, []ratelimit.TenantStats{
			{Tenant: "b", Waiting: 2, Frozen: time.Minute}, {Tenant: "c", Waiting: 2}, {Tenant: "a", Waiting: 1, InFlight: 1, Admitted: 1},
		}, stats.Top)
		assert.Empty(t, s.Stats(-1).Top)
		cancel()
		synctest.Wait()
		p.Release()
	})
}

func TestADebtOnASharedBucketIsAsSmallAsItCanBe(t *testing.T) {
	b := ratelimit.NewBucket(ratelimit.Limit{Rate: 0.001, Burst: 6})
	s := newScheduler[string](t, ratelimit.Config{Shared: b})
	require.NoError(t, admit(s, request{Tenant: "a", Cost: 3, Debt: true}))
	assert.ErrorIs(t, admit(s, request{Tenant: "a", Cost: 4, Debt: true, MaxWait: 1}), ratelimit.ErrTooLate, "it would fit in, so it makes no debt")
	b = ratelimit.NewBucket(ratelimit.Limit{Rate: 1, Burst: 6})
	s = newScheduler[string](t, ratelimit.Config{Shared: b})
	require.NoError(t, admit(s, request{Tenant: "a", Cost: 17, Debt: true}))
	assert.Less(t, b.Tokens(time.Now()), -10)
}
