package health_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("tenant-%06d", i)
	}
	return list
}

// outcomes are of a network: most take 50 to 200 ms, one in fifty fails, and
// one in a hundred is as slow as uploads and time-outs are.
func outcomes(n int) []health.Outcome {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]health.Outcome, n)
	for i := range list {
		list[i].Latency = time.Duration(float64(80*time.Millisecond) * (0.7 + r.ExpFloat64()))
		if r.IntN(50) == 0 {
			list[i].Kind = errors.Timeout
		}
		if r.IntN(100) == 0 {
			list[i].Latency = time.Duration(r.Int64N(int64(30 * time.Second)))
		}
	}
	return list
}

// BenchmarkObserve counts outcomes of 1,000 busy tenants among 10,000, in no
// order. In BenchmarkObserveCold all are busy alike, which is the worst case for
// the processor's caches.
func BenchmarkObserve(b *testing.B) { benchmarkObserve(b, 1000) }

func BenchmarkObserveCold(b *testing.B) { benchmarkObserve(b, 10_000) }

func benchmarkObserve(b *testing.B, busy int) {
	m := newMonitor(b, health.Config{})
	ids, list := names(10_000), outcomes(1<<12)
	// The caller knows when the call ended, since it took its latency. Each is
	// 500 µs after the one before, as in a fleet with 2,000 calls per second, so
	// that the windows move. They end before now: the monitor knows no future.
	now := time.Now().Add(-48 * time.Hour)
	for i := range 50 * len(ids) {
		o := list[i*31%len(list)]
		o.At = now
		now = now.Add(500 * time.Microsecond)
		m.Observe(ids[i%len(ids)], o)
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	ids = ids[:busy]
	i, at := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		o := list[at]
		o.At = now
		now = now.Add(500 * time.Microsecond)
		m.Observe(ids[i], o)
		if i++; i == len(ids) {
			i = 0
		}
		if at++; at == len(list) {
			at = 0
		}
	}
}

// BenchmarkObserveParallel is the same from many goroutines.
func BenchmarkObserveParallel(b *testing.B) {
	m := newMonitor(b, health.Config{})
	ids, list := names(10_000), outcomes(1<<12)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		i := rand.IntN(len(ids))
		for pb.Next() {
			i = (i + 7919) % len(ids)
			m.Observe(ids[i], list[i%len(list)])
		}
	})
}

// BenchmarkMemory reports the heap that a tenant holds after 600 calls: its
// place in the monitor and all its figures, saved once so that both sketches
// are in use. In "typical" the latencies are as networks have them, in "widest"
// they are spread over all that can be told apart.
func BenchmarkMemory(b *testing.B) {
	const tenants, calls = 20_000, 600
	typical := outcomes(1 << 12)
	widest := make([]health.Outcome, 1<<12)
	for i := range widest {
		widest[i].Latency = time.Duration(float64(100*time.Microsecond) * pow(1.04, i%400))
		widest[i].Kind = errors.Kind(i % 20)
	}
	for _, c := range []struct {
		name string
		list []health.Outcome
	}{{"typical", typical}, {"widest", widest}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				ids := names(tenants)
				m := newMonitor(b, health.Config{Store: nowhere{}})
				empty := heap()
				for half := range 2 {
					for i, id := range ids {
						for j := range calls / 2 {
							o := c.list[(i*17+j)%len(c.list)]
							o.At = time.Now()
							m.Observe(id, o)
						}
						m.Update(id, time.Now())
						m.SetWebhook(id, health.WebhookInfo{Set: true, Pending: i})
					}
					if half == 0 {
						require.NoError(b, m.Start(b.Context()))
						require.NoError(b, m.Stop(b.Context()))
					}
				}
				after := heap()
				b.ReportMetric(float64(after-empty)/tenants, "B/tenant")
				runtime.KeepAlive(m)
				runtime.KeepAlive(ids)
			}
		})
	}
}

// nowhere is a store that keeps nothing, so that only the monitor's memory is
// measured.
type nowhere struct{}

func (nowhere) Merge(context.Context, health.Flush, []health.Snapshot) error { return nil }
func (nowhere) Load(context.Context, string, int) ([]health.Snapshot, error) { return nil, nil }
func (nowhere) Delete(context.Context, string, time.Time) error              { return nil }

func pow(x float64, n int) float64 {
	y := 1.0
	for range n {
		y *= x
	}
	return y
}

// BenchmarkFleet is the summary over 100,000 tenants.
func BenchmarkFleet(b *testing.B) {
	m := newMonitor(b, health.Config{})
	list := outcomes(1 << 12)
	for i, id := range names(100_000) {
		m.Observe(id, list[i%len(list)])
	}
	for b.Loop() {
		if m.Fleet().Tenants != 100_000 {
			b.Fatal("tenants are missing")
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
