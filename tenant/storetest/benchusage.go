package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/health/usage"
)

// BenchmarkUsage adds an hour of 100,000 tenants to an empty store, adds it
// again, now that there is something to add to, reads the roll-ups of 1,000
// tenants and makes days of them all. healthtest.BenchmarkStore does the like
// for health.
func BenchmarkUsage(b *testing.B, open func(testing.TB) usage.Store) {
	const tenants, read, batch = 100_000, 1000, 1000
	ctx := context.Background()
	hour := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		store := open(b)
		for _, what := range []string{"s/add", "s/add-again"} {
			r, err := usage.New(usage.Config{Store: store})
			require.NoError(b, err)
			for i := range tenants {
				id := fmt.Sprintf("tenant-%06d", i)
				for k := range 12 {
					chat := usage.Chat{ID: int64(i*100 + k%5 + 1)}
					r.Observe(id, usage.Call{At: hour, Method: []string{"sendMessage", "getMe"}[k%2], Chat: chat,
						Latency: time.Duration(40+(i*7+k*k*11)%400) * time.Millisecond})
					r.Update(id, usage.Update{At: hour, Type: "message", Chat: chat})
				}
			}
			start := time.Now()
			require.NoError(b, r.Flush(ctx))
			b.ReportMetric(time.Since(start).Seconds(), what)
		}
		start := time.Now()
		for i := range read {
			list, err := store.Range(ctx, fmt.Sprintf("tenant-%06d", i*(tenants/read)), hour, hour.Add(time.Hour))
			require.NoError(b, err)
			require.EqualValues(b, 24, requestsOf(list))
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/read, "µs/range")
		start = time.Now()
		total := 0
		for {
			n, err := store.Compact(ctx, hour.Add(time.Hour), batch)
			require.NoError(b, err)
			if total += n; n == 0 {
				break
			}
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/compact")
		require.Equal(b, tenants, total)
	}
}
