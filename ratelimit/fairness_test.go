package ratelimit_test

import (
	"context"
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

// want makes n callers ask for as much as they get until the context ends.
func want(ctx context.Context, s *ratelimit.Scheduler[string], n int, r request) {
	for range n {
		go func() {
			for {
				p, err := s.Admit(ctx, r)
				if err != nil {
					return
				}
				p.Release()
			}
		}()
	}
}

// use makes n callers take slots, hold each of them for a time, and ask again,
// until the context ends.
func use(ctx context.Context, s *ratelimit.Scheduler[string], n int, r request, hold func() time.Duration) {
	for range n {
		go func() {
			for {
				p, err := s.Admit(ctx, r)
				if err != nil {
					return
				}
				time.Sleep(hold())
				p.Release()
			}
		}()
	}
}

func TestEveryTenantGetsItsShareWhateverTheOthersAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{
			Total: ratelimit.Limit{Rate: 25, Burst: 25},
			Tenant: ratelimit.Limits{
				Classes: []ratelimit.Limit{ratelimit.Per(30, time.Second)},
				Keys:    []ratelimit.Limit{{Rate: 1, Burst: 3}},
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		const tenants = 20
		for i := range tenants {
			n := 40
			if i == 0 {
				n = 4000
			}
			require.NoError(t, s.SetTenant(fmt.Sprint(i), ratelimit.Limits{Weight: 1 + i%2}))
			for j := range n {
				want(ctx, s, 1, request{Tenant: fmt.Sprint(i), Key: fmt.Sprint(j)})
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		stats := s.Stats(3)
		assert.InDelta(t, 25*3600, int(stats.Admitted), 30)
		for i := range tenants {
			want := 25.0 * 3600 / 30 * float64(1+i%2)
			assert.InEpsilon(t, want, s.TenantStats(fmt.Sprint(i)).Admitted, 0.01)
		}
		cancel()
		synctest.Wait()
		assert.Zero(t, s.Stats(0).Waiting)
		assert.Zero(t, s.Stats(0).InFlight)
	})
}

func TestMoreClassesAreNoMoreShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Total: ratelimit.Limit{Rate: 100, Burst: 1}})
		ctx, cancel := context.WithCancel(t.Context())
		want(ctx, s, 2, request{Tenant: "one"})
		for class := range 16 {
			want(ctx, s, 2, request{Tenant: "many", Class: class})
			want(ctx, s, 2, request{Tenant: "many", Class: class, Slotless: true})
		}
		time.Sleep(100 * time.Second)
		cancel()
		synctest.Wait()
		assert.InDelta(t, 5000, int(s.TenantStats("one").Admitted), 20)
		assert.InDelta(t, 5000, int(s.TenantStats("many").Admitted), 20)
	})
}

func TestSlotsAreSharedByWeightToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 64})
		require.NoError(t, s.SetTenant("heavy", ratelimit.Limits{Weight: 3}))
		ctx, cancel := context.WithCancel(t.Context())
		for _, tenant := range []string{"heavy", "light 1", "light 2", "light 3"} {
			use(ctx, s, 40, request{Tenant: tenant, Free: true}, func() time.Duration { return time.Second })
		}
		time.Sleep(1000 * time.Second)
		cancel()
		time.Sleep(time.Second)
		synctest.Wait()
		// A quarter of the slots is for tenants that hold none, which are none
		// of these.
		assert.InDelta(t, 24_000, int(s.TenantStats("heavy").Admitted), 50)
		for _, light := range []string{"light 1", "light 2", "light 3"} {
			assert.InDelta(t, 8_000, int(s.TenantStats(light).Admitted), 50)
		}
	})
}

func TestALowerLaneGetsItsTurn(t *testing.T) {
	for _, test := range []struct {
		name        string
		cfg         ratelimit.Config
		urgent, low request
		want        float64 // of the lower lane, in all
	}{
		{"of the tenant's units", ratelimit.Config{Tenant: ratelimit.Limits{Classes: []ratelimit.Limit{{Rate: 100, Burst: 1}}}},
			request{Tenant: "a", Key: "x"}, request{Tenant: "a", Key: "y", Lane: 1}, 0.1},
		{"of a key's units", ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 100, Burst: 1}}}},
			request{Tenant: "a", Key: "x"}, request{Tenant: "a", Key: "x", Lane: 1}, 0.1},
		{"of slots", ratelimit.Config{Total: ratelimit.Limit{Rate: 100, Burst: 1}, InFlight: 1},
			request{Tenant: "a", Key: "x"}, request{Tenant: "a", Key: "y", Lane: 1}, 0.1},
		{"another share", ratelimit.Config{LaneShare: 4, Total: ratelimit.Limit{Rate: 100, Burst: 1}},
			request{Tenant: "a"}, request{Tenant: "a", Lane: 1}, 0.25},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScheduler[string](t, test.cfg)
				ctx, cancel := context.WithCancel(t.Context())
				var low atomic.Int64
				want(ctx, s, 5, test.urgent)
				go func() {
					for {
						p, err := s.Admit(ctx, test.low)
						if err != nil {
							return
						}
						p.Release()
						low.Add(1)
					}
				}()
				time.Sleep(100 * time.Second)
				cancel()
				synctest.Wait()
				assert.InDelta(t, test.want*10_000, low.Load(), 30)
				assert.InDelta(t, 10_000, int(s.TenantStats("a").Admitted), 10, "no room is left unused")
			})
		})
	}
}

func TestOfManyLanesNoneStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Lanes: 5, LaneShare: 2, Total: ratelimit.Limit{Rate: 100, Burst: 1}})
		ctx, cancel := context.WithCancel(t.Context())
		var got [5]atomic.Int64
		for lane := range got {
			for range 2 {
				go func() {
					for {
						p, err := s.Admit(ctx, request{Tenant: "a", Lane: lane})
						if err != nil {
							return
						}
						p.Release()
						got[lane].Add(1)
					}
				}()
			}
		}
		time.Sleep(100 * time.Second)
		cancel()
		synctest.Wait()
		for lane := range got {
			assert.InDelta(t, 2000, got[lane].Load(), 20, "lane %d", lane)
		}
	})
}

// A request for many units of a key must see them together, though others that
// need less, of another lane or class, would take each as it comes.
func TestARequestForManyUnitsOfAKeyIsNotStarvedByThoseForOne(t *testing.T) {
	for name, r := range map[string]request{
		"less urgent":            {Tenant: "a", Key: "x", Lane: 1, Cost: 5},
		"more urgent":            {Tenant: "a", Key: "x", Cost: 5},
		"another class":          {Tenant: "a", Key: "x", Lane: 1, Cost: 5, Class: 1},
		"with no slot":           {Tenant: "a", Key: "x", Lane: 1, Cost: 5, Slotless: true},
		"free":                   {Tenant: "a", Key: "x", Lane: 1, Cost: 5, Free: true},
		"for one that is free":   {Tenant: "a", Key: "x", Lane: 1, Cost: 5},
		"more than there can be": {Tenant: "a", Key: "x", Lane: 1, Cost: 8, Debt: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 1, Burst: 5}}}})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				small := request{Tenant: "a", Key: "x", Lane: 0}
				if name == "more urgent" {
					small.Lane = 1
				}
				small.Free = name == "for one that is free"
				want(ctx, s, 3, small)
				time.Sleep(10 * time.Second)
				began := time.Now()
				require.NoError(t, admit(s, r))
				assert.LessOrEqual(t, time.Since(began), 16*time.Second)
				before := s.Stats(0).Admitted
				time.Sleep(100 * time.Second)
				assert.InDelta(t, 100, int(s.Stats(0).Admitted-before), 6, "the others go on")
			})
		})
	}
}

func TestAKeyThatWaitsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Rate: 0.01, Burst: 1}))
		require.NoError(t, admit(s, request{Tenant: "a", Key: "slow"}))
		slow := later(t.Context(), s, request{Tenant: "a", Key: "slow"})
		for i := range 100 {
			require.NoError(t, admit(s, request{Tenant: "a", Key: fmt.Sprint(i), MaxWait: 1}))
		}
		waiting(t, slow)
		assert.NoError(t, <-slow)
	})
}

// Who comes while others wait for the same must not pass them, yet nobody may
// wait for what is there.
func TestTheFastPathPassesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Total: ratelimit.Limit{Rate: 1, Burst: 5}})
		require.NoError(t, admit(s, request{Tenant: "a", Cost: 4}))
		big := later(t.Context(), s, request{Tenant: "a", Cost: 5})
		small := later(t.Context(), s, request{Tenant: "b"})
		waiting(t, small)
		assert.NoError(t, admit(s, request{Tenant: "c", Free: true}), "what needs no units goes")
		time.Sleep(4 * time.Second)
		assert.NoError(t, finished(t, big))
		waiting(t, small)
		time.Sleep(time.Second)
		assert.NoError(t, finished(t, small))
	})
}

func TestWhatNeedsNoSlotPassesThoseThatWaitForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{InFlight: 1})
		p, err := s.Admit(t.Context(), request{Tenant: "a"})
		require.NoError(t, err)
		for _, free := range []bool{true, false} {
			slotted := later(t.Context(), s, request{Tenant: "a", Free: free})
			assert.NoError(t, finished(t, later(t.Context(), s, request{Tenant: "a", Free: free, Slotless: true})))
			assert.NoError(t, finished(t, later(t.Context(), s, request{Tenant: "b", Free: free, Slotless: true})))
			waiting(t, slotted)
			defer func() { assert.NoError(t, finished(t, slotted)) }()
		}
		p.Release()
	})
}

func TestSlotsThatFreeRequestsTakeDoNotKeepOthersFromTheUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Total: ratelimit.Limit{Rate: 1, Burst: 3}, InFlight: 1})
		require.NoError(t, admit(s, request{Tenant: "a", Cost: 2}))
		head := later(t.Context(), s, request{Tenant: "a", Cost: 3})
		slotless := later(t.Context(), s, request{Tenant: "b", Slotless: true})
		waiting(t, slotless) // it is not its turn
		p, err := s.Admit(t.Context(), request{Tenant: "c", Free: true})
		require.NoError(t, err)
		assert.NoError(t, finished(t, slotless), "the one whose turn it was has no slot now")
		p.Release()
		assert.NoError(t, <-head)
	})
}

func TestColdTenantsBeginAtTheirPaceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{
			Starts:  []ratelimit.Limit{ratelimit.Per(20, time.Minute), ratelimit.Per(600, time.Hour)},
			WarmFor: 10 * time.Hour,
		})
		begin := time.Now()
		var mu sync.Mutex
		var order []int
		var at []time.Duration
		for i := range 1000 {
			go func() {
				time.Sleep(time.Duration(i))
				for range 3 {
					p, err := s.Admit(t.Context(), request{Tenant: fmt.Sprint(i), Free: i%3 == 0})
					assert.NoError(t, err)
					p.Release()
					if p.Began() {
						mu.Lock()
						order, at = append(order, i), append(at, time.Since(begin))
						mu.Unlock()
					}
				}
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, 980, s.Stats(0).Starting)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, order, 1000, "each began once")
		for i := range at {
			for j := range i {
				n, stretch := float64(i-j+1), at[i]-at[j]
				if n > 20+20*stretch.Minutes()+1e-6 || n > 600+600*stretch.Hours()+1e-6 {
					t.Fatalf("%g tenants began in %v", n, stretch)
				}
			}
		}
		metered := order[:0:0]
		for _, i := range order {
			if i%3 != 0 {
				metered = append(metered, i)
			}
		}
		assert.IsIncreasing(t, metered)
		assert.Zero(t, s.Stats(0).Starting)
	})
}

// What waits for something else takes no start yet. Otherwise all that waited
// would begin in a crowd when that comes.
func TestStartsAreNotTakenWhileSomethingElseIsWaitedFor(t *testing.T) {
	all := ratelimit.Scope[string]{}
	for name, test := range map[string]struct {
		hold, let func(s *ratelimit.Scheduler[string])
	}{
		"a freeze": {
			func(s *ratelimit.Scheduler[string]) { s.Freeze(all, time.Now().Add(time.Hour)) },
			func(s *ratelimit.Scheduler[string]) { s.Thaw(all) },
		},
		"a freeze of starts": {
			func(s *ratelimit.Scheduler[string]) {
				s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelStarts}, time.Now().Add(time.Hour))
			},
			func(s *ratelimit.Scheduler[string]) { s.Thaw(ratelimit.Scope[string]{Level: ratelimit.LevelStarts}) },
		},
		"units": {
			func(s *ratelimit.Scheduler[string]) {
				_ = s.SetTotal(ratelimit.Limit{Rate: 1e-9, Burst: 1}, 0)
				_ = admit(s, request{Tenant: "warm"})
			},
			func(s *ratelimit.Scheduler[string]) { _ = s.SetTotal(ratelimit.Unlimited, 0) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScheduler[string](t, ratelimit.Config{Starts: []ratelimit.Limit{{Rate: 1, Burst: 2}}})
				require.NoError(t, admit(s, request{Tenant: "warm", Free: true}))
				test.hold(s)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for i := range 50 {
					go func() {
						p, _ := s.Admit(ctx, request{Tenant: fmt.Sprint(i)})
						p.Release()
					}()
				}
				time.Sleep(10 * time.Minute)
				before := s.Stats(0).Admitted
				test.let(s)
				synctest.Wait()
				assert.EqualValues(t, 2, s.Stats(0).Admitted-before, "no more than there are starts")
				time.Sleep(10 * time.Second)
				synctest.Wait()
				assert.EqualValues(t, 12, s.Stats(0).Admitted-before)
			})
		})
	}
}

func TestAFrozenTenantHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{
			Total:  ratelimit.Limit{Rate: 1, Burst: 5},
			Starts: []ratelimit.Limit{{Rate: 0.1, Burst: 5}},
		})
		require.NoError(t, admit(s, request{Tenant: "a", Cost: 5}))
		big := later(t.Context(), s, request{Tenant: "b", Cost: 5})
		small := later(t.Context(), s, request{Tenant: "a"})
		time.Sleep(time.Second)
		waiting(t, small)
		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelTenant, Tenant: "b"}, time.Now().Add(time.Hour))
		assert.NoError(t, finished(t, small), "the one that was before it is frozen")
		waiting(t, big)
		time.Sleep(time.Hour)
		assert.NoError(t, finished(t, big))
	})
}

func TestATenantThatComesBackHasSavedUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Total: ratelimit.Limit{Rate: 10, Burst: 1}})
		ctx, cancel := context.WithCancel(t.Context())
		want(ctx, s, 3, request{Tenant: "always"})
		once := later(ctx, s, request{Tenant: "back"})
		time.Sleep(1000 * time.Second)
		assert.NoError(t, finished(t, once))
		before := s.TenantStats("always").Admitted
		began := time.Now()
		require.NoError(t, admit(s, request{Tenant: "back"}))
		assert.LessOrEqual(t, time.Since(began), 200*time.Millisecond, "one that asks for less than its share hardly waits")
		want(ctx, s, 3, request{Tenant: "back"})
		time.Sleep(100 * time.Second)
		cancel()
		synctest.Wait()
		assert.InDelta(t, 500, int(s.TenantStats("always").Admitted-before), 5)
		assert.InDelta(t, 500, int(s.TenantStats("back").Admitted), 5)
	})
}

// After the turn of a less urgent request the more urgent ones of the key go on.
func TestAKeysTurnEndsWithTheRequestWhoseItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{LaneShare: 3, Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 1, Burst: 1}}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		require.NoError(t, admit(s, request{Tenant: "a", Key: "x"}))
		var mu sync.Mutex
		var order []int
		for i := range 12 {
			go func() {
				p, err := s.Admit(ctx, request{Tenant: "a", Key: "x", Lane: i % 2})
				if err == nil {
					mu.Lock()
					order = append(order, i%2)
					mu.Unlock()
					p.Release()
				}
			}()
			synctest.Wait()
		}
		time.Sleep(9 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, []int{0, 0, 1, 0, 0, 1, 0, 0, 1}, order)
	})
}

// A gate that waits for its tenant's units for one request must look at the
// others when that one has to wait for its key after all.
func TestWhoLosesItsKeysUnitsHoldsUpNoOtherKey(t *testing.T) {
	for name, lose := range map[string]func(s *ratelimit.Scheduler[string]) error{
		"to another class": func(s *ratelimit.Scheduler[string]) error {
			return admit(s, request{Tenant: "a", Key: "x", Class: 1, MaxWait: 1})
		},
		"to a free request": func(s *ratelimit.Scheduler[string]) error {
			return admit(s, request{Tenant: "a", Key: "x", Free: true, MaxWait: 1})
		},
		"to a freeze": func(s *ratelimit.Scheduler[string]) error {
			s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelKey, Tenant: "a", Key: "x"}, time.Now().Add(time.Hour))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{
					Classes: []ratelimit.Limit{{Rate: 0.01, Burst: 2}},
					Keys:    []ratelimit.Limit{{Rate: 0.1, Burst: 2}},
				}})
				require.NoError(t, admit(s, request{Tenant: "a"}))
				big := later(t.Context(), s, request{Tenant: "a", Key: "x", Cost: 2})
				small := later(t.Context(), s, request{Tenant: "a", Key: "y"})
				waiting(t, small)
				require.NoError(t, lose(s))
				assert.NoError(t, finished(t, small))
				assert.NoError(t, <-big)
			})
		})
	}
}
