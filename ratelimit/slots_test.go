package ratelimit_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// hold takes a slot that must be free.
func hold(t *testing.T, s *ratelimit.Scheduler[string], r request) ratelimit.Permit[string] {
	t.Helper()
	r.MaxWait = time.Nanosecond
	p, err := s.Admit(t.Context(), r)
	require.NoError(t, err)
	return p
}

// inFlight returns how many slots each tenant holds.
func inFlight(s *ratelimit.Scheduler[string], tenants ...string) (n []int) {
	synctest.Wait()
	for _, tenant := range tenants {
		n = append(n, s.TenantStats(tenant).InFlight)
	}
	return n
}

func TestATenantFillsAtMostHalfOfTheSlotsAndAllButAQuarterAreForAnyone(t *testing.T) {
	for _, test := range []struct{ slots, one, two int }{
		{1, 1, 1}, {2, 1, 2}, {3, 2, 3}, {4, 2, 3}, {5, 3, 4}, {6, 3, 4}, {7, 4, 5}, {8, 4, 6}, {9, 5, 6}, {100, 50, 75}, {0, 150, 300}, {-1, 150, 300},
	} {
		t.Run(fmt.Sprint(test.slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScheduler[string](t, ratelimit.Config{InFlight: test.slots})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				use(ctx, s, 150, request{Tenant: "a"}, time.Hour.Abs)
				synctest.Wait()
				assert.Equal(t, test.one, s.Stats(0).InFlight)
				use(ctx, s, 150, request{Tenant: "b", Free: true}, time.Hour.Abs)
				synctest.Wait()
				assert.Equal(t, test.two, s.Stats(0).InFlight)
				cancel()
				time.Sleep(time.Hour)
			})
		})
	}
}

func TestTheLastSlotsAreForTenantsThatHoldNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 8})
		a := []ratelimit.Permit[string]{hold(t, s, request{Tenant: "a"}), hold(t, s, request{Tenant: "a"}), hold(t, s, request{Tenant: "a"}), hold(t, s, request{Tenant: "a"})}
		b := []ratelimit.Permit[string]{hold(t, s, request{Tenant: "b"}), hold(t, s, request{Tenant: "b"})}
		third := later(t.Context(), s, request{Tenant: "b"})
		waiting(t, third)
		c := hold(t, s, request{Tenant: "c"})
		d := hold(t, s, request{Tenant: "d", Free: true})
		e := later(t.Context(), s, request{Tenant: "e"}) // gives its slot back at once
		waiting(t, e)

		a[0].Release()
		assert.NoError(t, finished(t, e), "the slot is for a tenant that holds none, though another one came sooner")
		waiting(t, third)
		c.Release()
		waiting(t, third)
		d.Release()
		assert.NoError(t, finished(t, third), "more than a quarter is free")

		// A tenant that gave back its last slot is one that holds none.
		c, d = hold(t, s, request{Tenant: "c"}), hold(t, s, request{Tenant: "d"})
		again := later(t.Context(), s, request{Tenant: "b"})
		waiting(t, again)
		fill := hold(t, s, request{Tenant: "e"})
		b[0].Release()
		waiting(t, again)
		b[1].Release()
		assert.NoError(t, finished(t, again))
		for _, p := range append(a[1:], c, d, fill) {
			p.Release()
		}
	})
}

// The requests that may not take the slots that are left do not hold up others
// behind them, whatever queue they are in.
func TestATenantThatMayNotTakeAFreeSlotHoldsUpNoOther(t *testing.T) {
	for _, first := range []request{{Tenant: "greedy"}, {Tenant: "greedy", Free: true}} {
		for _, next := range []request{{Tenant: "next"}, {Tenant: "next", Free: true}, {Tenant: "next", Slotless: true}} {
			t.Run(fmt.Sprintf("free %v, then free %v, slotless %v", first.Free, next.Free, next.Slotless), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newScheduler[string](t, ratelimit.Config{InFlight: 4, Starts: []ratelimit.Limit{{Rate: 1, Burst: 10}}, WarmFor: time.Second})
					var held []ratelimit.Permit[string]
					for _, tenant := range []string{"greedy", "x", "y"} {
						held = append(held, hold(t, s, request{Tenant: tenant}))
					}
					time.Sleep(time.Minute) // all are cold
					kept := later(t.Context(), s, first)
					waiting(t, kept)
					assert.NoError(t, finished(t, later(t.Context(), s, next)))
					waiting(t, kept)
					for _, p := range held {
						p.Release()
					}
					assert.NoError(t, finished(t, kept))
				})
			})
		}
	}
}

func TestSlotsMayChangeWhileTheyAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 16})
		ctx, cancel := context.WithCancel(t.Context())
		for _, tenant := range []string{"a", "b", "c"} {
			for range 20 {
				go func() {
					p, err := s.Admit(ctx, request{Tenant: tenant})
					if err == nil {
						<-ctx.Done()
						time.Sleep(time.Second)
						p.Release()
					}
				}()
			}
			synctest.Wait()
		}
		set := func(n int) {
			t.Helper()
			require.NoError(t, s.SetTotal(ratelimit.Unlimited, n))
		}
		// Whoever came first filled the half, the next the rest of what any may
		// have, and the last has one of the quarter that is kept for it.
		assert.Equal(t, []int{8, 4, 1}, inFlight(s, "a", "b", "c"))
		set(20)
		assert.Equal(t, []int{9, 5, 1}, inFlight(s, "a", "b", "c"), "who has waited for longest goes next")
		set(4)
		assert.Equal(t, []int{9, 5, 1}, inFlight(s, "a", "b", "c"), "fewer than are taken: nothing is cut off")
		refused := later(t.Context(), s, request{Tenant: "d", MaxWait: time.Second})
		time.Sleep(2 * time.Second)
		assert.ErrorIs(t, finished(t, refused), ratelimit.ErrTooLate)
		set(32)
		n := inFlight(s, "a", "b", "c")
		assert.Equal(t, 24, n[0]+n[1]+n[2])
		assert.LessOrEqual(t, max(n[0], n[1], n[2]), 16)
		set(0)
		assert.Equal(t, []int{20, 20, 20}, inFlight(s, "a", "b", "c"))
		assert.Zero(t, s.Stats(0).Waiting)
		cancel()
		time.Sleep(2 * time.Second)
		assert.Zero(t, s.Stats(0).InFlight)
	})
}

func TestATenantsOwnSlotsBindBesideThoseOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 8, Tenant: ratelimit.Limits{InFlight: 2}})
		ctx, cancel := context.WithCancel(t.Context())
		use(ctx, s, 20, request{Tenant: "a"}, time.Hour.Abs)
		assert.Equal(t, []int{2}, inFlight(s, "a"))
		require.NoError(t, s.SetTotal(ratelimit.Unlimited, 20))
		assert.Equal(t, []int{2}, inFlight(s, "a"))
		require.NoError(t, s.SetTenant("a", ratelimit.Limits{InFlight: 15}))
		assert.Equal(t, []int{10}, inFlight(s, "a"), "half of the slots")
		require.NoError(t, s.SetTotal(ratelimit.Unlimited, 40))
		assert.Equal(t, []int{15}, inFlight(s, "a"))
		cancel()
		time.Sleep(time.Hour)
	})
}

// Three tenants that take all slots they can get and keep them for long leave
// enough for the others.
func TestQuietTenantsDoNotWaitForTheSlotsOfGreedyOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 40})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 3 {
			use(ctx, s, 200, request{Tenant: fmt.Sprint("greedy ", i), Free: i == 0}, (10 * time.Second).Abs)
		}
		for i := range 10 {
			time.Sleep(time.Second)
			go func() {
				for n := range 100 {
					asked := time.Now()
					p, err := s.Admit(ctx, request{Tenant: fmt.Sprint("quiet ", i), Free: n%2 == 0})
					if assert.NoError(t, err) {
						assert.Zero(t, time.Since(asked))
						time.Sleep(100 * time.Millisecond)
						p.Release()
					}
					time.Sleep(time.Second)
				}
			}()
		}
		time.Sleep(3 * time.Minute)
		assert.Equal(t, 30, s.Stats(0).InFlight)
		cancel()
		time.Sleep(time.Minute)
	})
}
