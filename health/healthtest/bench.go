package healthtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// BenchmarkStore saves 100,000 tenants to an empty store, saves them again, now
// that there is something to add to, and loads them, as monitors do.
func BenchmarkStore(b *testing.B, open func(testing.TB) health.Store) {
	const tenants = 100_000
	ctx := context.Background()
	for b.Loop() {
		store := open(b)
		m, err := health.New(health.Config{Store: store})
		require.NoError(b, err)
		fill := func() {
			for i := range tenants {
				id := fmt.Sprintf("tenant-%06d", i)
				for j := range 12 {
					o := health.Outcome{Latency: time.Duration(40+(i*7+j*j*11)%400) * time.Millisecond}
					if (i+j)%20 == 0 {
						o.Kind = errors.Timeout
					}
					m.Observe(id, o)
				}
			}
		}
		fill()
		start := time.Now()
		require.NoError(b, m.Start(ctx))
		require.NoError(b, m.Stop(ctx))
		b.ReportMetric(time.Since(start).Seconds(), "s/save")
		m, err = health.New(health.Config{Store: store})
		require.NoError(b, err)
		fill()
		// A monitor that has something to load loads it first.
		start = time.Now()
		require.NoError(b, m.Start(ctx))
		for m.Ready() != nil {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/load")
		start = time.Now()
		require.NoError(b, m.Stop(ctx))
		b.ReportMetric(time.Since(start).Seconds(), "s/save-again")
		require.Equal(b, tenants, m.Fleet().Tenants)
		r, found := m.Get("tenant-000007")
		require.True(b, found)
		require.EqualValues(b, 24, r.Requests)
	}
}
