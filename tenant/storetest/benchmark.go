package storetest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// fleetSize is how many tenants the benchmarks' store has.
const fleetSize = 10_000

// Benchmark measures a store: Get, Put and List one at a time, Put by several
// at once, and a pool that opens 10,000 tenants from cold, which fails where that
// takes more than 10 queries for 1,000. open returns an empty store.
func Benchmark(b *testing.B, open func(b *testing.B, keys *seal.Ring) tenant.Store) {
	ring := newRing(b, "bench")
	store := open(b, ring)
	ids := make([]string, fleetSize)
	var wg sync.WaitGroup
	next := atomic.Int64{}
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= fleetSize {
					return
				}
				ids[i] = fmt.Sprintf("tenant-%06d", i)
				if _, err := store.Put(context.Background(), Record(b, ids[i], int64(i+1))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	ctx := context.Background()
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := store.Get(ctx, ids[i*7919%fleetSize]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("GetMany/500", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			at := i * 500 % fleetSize
			if _, err := store.GetMany(ctx, ids[at:at+500]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("List/100", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := store.List(ctx, tenant.Filter{After: ids[i*7919%(fleetSize-100)]}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Put", func(b *testing.B) {
		r, err := store.Get(ctx, ids[0])
		require.NoError(b, err)
		b.ReportAllocs()
		for b.Loop() {
			if r, err = store.Put(ctx, r, entry("benchmark")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Put/together", func(b *testing.B) {
		var next atomic.Int64
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			r, err := store.Get(ctx, ids[next.Add(1)])
			if err != nil {
				b.Error(err)
				return
			}
			for pb.Next() {
				if r, err = store.Put(ctx, r, entry("benchmark")); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("OpenColdPool/10000", func(b *testing.B) {
		benchmarkCold(b, store, ids, func(p *tenant.Pool) error {
			n, err := p.Warm(ctx, ids)
			require.Equal(b, len(ids), n)
			return err
		})
	})
	b.Run("AcquireColdPool/10000", func(b *testing.B) { // all at once, as when updates of all come in
		benchmarkCold(b, store, ids, func(p *tenant.Pool) error {
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() {
					l, err := p.Acquire(ctx, id)
					if err != nil {
						b.Error(err)
					}
					l.Release()
				})
			}
			wg.Wait()
			return nil
		})
	})
	b.Run("AcquireCold/alone", func(b *testing.B) { benchmarkAlone(b, store, ids) })
}

// benchmarkAlone opens one tenant after another, each from cold.
func benchmarkAlone(b *testing.B, store tenant.Store, ids []string) {
	s, err := session.New(session.Config{Transport: nowhere{}})
	require.NoError(b, err)
	p, err := tenant.NewPool(s, store, tenant.PoolConfig{MaxOpen: 1}) // each makes the one before leave
	require.NoError(b, err)
	for i := 0; b.Loop(); i++ {
		l, err := p.Acquire(context.Background(), ids[i%len(ids)])
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
	require.NoError(b, p.Close(context.Background()))
	require.NoError(b, s.Close(context.Background()))
}

func benchmarkCold(b *testing.B, store tenant.Store, ids []string, open func(*tenant.Pool) error) {
	counted := &counting{Store: store}
	s, err := session.New(session.Config{Transport: nowhere{}})
	require.NoError(b, err)
	var took time.Duration
	for b.Loop() {
		p, err := tenant.NewPool(s, counted, tenant.PoolConfig{MaxOpen: len(ids)})
		require.NoError(b, err)
		start := time.Now()
		err = open(p)
		took += time.Since(start)
		require.NoError(b, err)
		require.Equal(b, len(ids), p.Stats().Open)
		b.StopTimer()
		require.NoError(b, p.Close(context.Background()))
		b.StartTimer()
	}
	queries := float64(counted.queries.Load()) / float64(b.N) / float64(len(ids)) * 1000
	if queries > 10 {
		b.Errorf("%.1f queries for 1,000 opens", queries)
	}
	b.ReportMetric(queries, "queries/1000opens")
	b.ReportMetric(took.Seconds()/float64(b.N), "s/fleet")
	require.NoError(b, s.Close(context.Background()))
}

// counting counts the queries that opens make.
type counting struct {
	tenant.Store
	queries atomic.Int64
}

func (c *counting) Get(ctx context.Context, id string) (tenant.Record, error) {
	c.queries.Add(1)
	return c.Store.Get(ctx, id)
}

func (c *counting) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	c.queries.Add(1)
	return c.Store.GetMany(ctx, ids)
}

// nowhere is a transport for pools that send nothing.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }
