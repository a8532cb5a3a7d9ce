package inbox_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// BenchmarkInbox is an update's whole way through the memory inbox and the
// workers, put in batches of 100.
func BenchmarkInbox(b *testing.B) {
	m := newMemory(b)
	var handled sync.WaitGroup
	w, err := inbox.NewWorkers(m, poolFunc(nil), inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error {
		handled.Done()
		return nil
	}), inbox.WorkersConfig{})
	require.NoError(b, err)
	require.NoError(b, w.Start(bg))
	b.ReportAllocs()
	b.ResetTimer()
	batch := make([]inbox.Update, 0, 100)
	for n := 0; n < b.N; {
		batch = batch[:0]
		for len(batch) < cap(batch) && n < b.N {
			n++
			batch = append(batch, inbox.Update{Tenant: tenantNames[n%len(tenantNames)], ID: int64(n), Kind: "message", Chat: tenantNames[n%37], Raw: []byte("{}"), ReceivedAt: time.Now()})
		}
		handled.Add(len(batch))
		outcomes, err := m.Put(bg, batch)
		require.NoError(b, err)
		for _, o := range outcomes {
			require.NoError(b, o.Err)
		}
		if n%10_000 == 0 {
			handled.Wait() // room is bounded
		}
	}
	handled.Wait()
	b.StopTimer()
	require.NoError(b, w.Stop(bg))
}

var tenantNames = func() (names []string) {
	for i := range 50 {
		names = append(names, fmt.Sprint("tenant", i))
	}
	return names
}()

// BenchmarkFairness is the wait of 50 tenants' updates for their handlers, 1000
// a second, alone and beside a tenant of 10,000 waiting updates whose handlers
// take 5 s each. The time per iteration says nothing.
func BenchmarkFairness(b *testing.B) {
	for _, name := range []string{"alone", "beside-a-flood"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m := newMemory(b)
				var mu sync.Mutex
				var waits []time.Duration
				handled := make(chan struct{})
				w, err := inbox.NewWorkers(m, poolFunc(nil), inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
					if u.Tenant == "flood" {
						select {
						case <-time.After(5 * time.Second):
						case <-ctx.Done():
						}
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					if waits = append(waits, time.Since(u.ReceivedAt)); len(waits) == 2000 {
						close(handled)
					}
					return nil
				}), inbox.WorkersConfig{})
				require.NoError(b, err)
				require.NoError(b, w.Start(bg))
				if name != "alone" {
					var flood []inbox.Update
					for id := int64(1); id <= 10_000; id++ {
						flood = append(flood, message("flood", id%500, id))
					}
					put(b, m, flood...)
				}
				tick := time.NewTicker(time.Millisecond)
				for id := int64(1); id <= 2000; id++ {
					<-tick.C
					put(b, m, message(tenantNames[id%50], id%3000, id))
				}
				tick.Stop()
				<-handled
				ctx, cancel := context.WithCancel(bg)
				cancel()
				_ = w.Stop(ctx)
				mu.Lock()
				require.Len(b, waits, 2000)
				slices.Sort(waits)
				b.ReportMetric(float64(waits[len(waits)*99/100])/float64(time.Microsecond), "p99-µs")
				b.ReportMetric(float64(waits[len(waits)/2])/float64(time.Microsecond), "median-µs")
				mu.Unlock()
			}
		})
	}
}

// BenchmarkLeaseAmongReadyTenants takes one update where many tenants have
// one. It must not cost more where they are more.
func BenchmarkLeaseAmongReadyTenants(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newMemory(b)
			for i := range n {
				put(b, m, message(fmt.Sprint("t", i), 1, 1))
			}
			for b.Loop() {
				leases, err := m.Lease(bg, inbox.Want{Limit: 1, TTL: time.Hour})
				if err != nil || len(leases) != 1 {
					b.Fatal(leases, err)
				}
				if _, err := m.Settle(bg, []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Return}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBesidePausedTenants is the way of an update through workers that
// have found so many tenants suspended, each with an update that waits. It must
// not cost more where they are more.
func BenchmarkBesidePausedTenants(b *testing.B) {
	for _, n := range []int{0, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m, err := inbox.NewMemory(inbox.MemoryConfig{MaxUpdates: 1_000_000})
			require.NoError(b, err)
			handled := make(chan struct{}, 1)
			w, err := inbox.NewWorkers(m, newSwitchable(), inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error {
				handled <- struct{}{}
				return nil
			}), inbox.WorkersConfig{PollEvery: time.Hour})
			require.NoError(b, err)
			require.NoError(b, w.Start(bg))
			for i := range n {
				put(b, m, message(fmt.Sprint("off", i), 1, 1))
			}
			for w.Stats().Paused < n {
				runtime.Gosched()
			}
			id := int64(0)
			for b.Loop() {
				id++
				put(b, m, message("on", 1, id))
				<-handled
			}
			b.StopTimer()
			require.NoError(b, w.Stop(bg))
		})
	}
}
