package tenant_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// nowhere is a transport for pools that send nothing.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }

// closedPool returns a pool with n tenants, none of them open, their ids, and
// what closes it.
func closedPool(b testing.TB, n int) (p *tenant.Pool, ids []string, stop func()) {
	s, err := session.New(session.Config{Transport: nowhere{}})
	require.NoError(b, err)
	store := tenant.NewMemoryStore()
	ids = make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("tenant-%06d", i)
		_, err := store.Put(context.Background(), record(b, ids[i], int64(1000+i)))
		require.NoError(b, err)
	}
	p, err = tenant.NewPool(s, store, tenant.PoolConfig{MaxOpen: n})
	require.NoError(b, err)
	return p, ids, func() {
		require.NoError(b, p.Close(context.Background()))
		require.NoError(b, s.Close(context.Background()))
	}
}

// openAll opens every tenant.
func openAll(b testing.TB, p *tenant.Pool, ids []string) {
	for _, id := range ids {
		l, err := p.Acquire(context.Background(), id)
		require.NoError(b, err)
		l.Release()
	}
}

func record(t testing.TB, id string, bot int64) tenant.Record {
	token, err := session.ParseToken(fmt.Sprintf("%d:%035d", bot, bot))
	require.NoError(t, err)
	return tenant.Record{ID: id, BotID: bot, Username: fmt.Sprintf("bot_%d", bot), Name: "Bot", Token: token}
}

// BenchmarkAcquire lends and returns open tenants. A thousand of them, chosen
// at random, are busy at a time and the rest are idle. In BenchmarkAcquireCold
// all are busy alike, which is the worst case for the processor's caches.
func BenchmarkAcquire(b *testing.B) { benchmarkAcquire(b, 1000) }

func BenchmarkAcquireCold(b *testing.B) { benchmarkAcquire(b, 100_000) }

func benchmarkAcquire(b *testing.B, busy int) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("open=%d", n), func(b *testing.B) {
			p, ids, stop := closedPool(b, n)
			b.Cleanup(stop)
			openAll(b, p, ids)
			rand.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			ids = ids[:min(n, busy)]
			ctx := context.Background()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				l, err := p.Acquire(ctx, ids[i])
				if err != nil {
					b.Fatal(err)
				}
				l.Release()
				if i++; i == len(ids) {
					i = 0
				}
			}
		})
	}
}

// BenchmarkIdle reports the heap that an open tenant holds: its place in the
// pool, its bot, its client and its copy of the record.
func BenchmarkIdle(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		p, ids, stop := closedPool(b, n)
		before := heap()
		openAll(b, p, ids)
		b.ReportMetric(float64(heap()-before)/n, "B/tenant")
		require.Equal(b, n, p.Stats().Open)
		stop()
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
