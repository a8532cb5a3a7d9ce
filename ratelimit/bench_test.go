package ratelimit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// threeLevels binds all tenants, each tenant and each key.
func threeLevels(total, tenant, key ratelimit.Limit) ratelimit.Config {
	return ratelimit.Config{
		Total:    total,
		InFlight: 1 << 30,
		Tenant: ratelimit.Limits{
			InFlight: 1 << 20,
			Classes:  []ratelimit.Limit{tenant},
			Keys:     []ratelimit.Limit{key},
		},
	}
}

var plenty = ratelimit.Limit{Rate: 1e9, Burst: 1 << 30}

// BenchmarkAdmit is an admission and its release at three levels, for 10,000
// tenants with a key each, in no order, while nobody waits.
func BenchmarkAdmit(b *testing.B) {
	const tenants = 10_000
	s, err := ratelimit.NewScheduler[int64](threeLevels(plenty, plenty, plenty))
	require.NoError(b, err)
	defer s.Close()
	names := make([]string, tenants)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%d", i)
	}
	ctx := context.Background()
	i := 0
	admit := func() {
		i = (i + 7919) % tenants
		p, err := s.Admit(ctx, ratelimit.Request[int64]{Tenant: names[i], Key: int64(i) + 1})
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
	for range tenants {
		admit()
	}
	b.ReportAllocs()
	for b.Loop() {
		admit()
	}
}

// BenchmarkAdmitParallel is the same from many goroutines.
func BenchmarkAdmitParallel(b *testing.B) {
	const tenants = 10_000
	s, err := ratelimit.NewScheduler[int64](threeLevels(plenty, plenty, plenty))
	require.NoError(b, err)
	defer s.Close()
	names := make([]string, tenants)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%d", i)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := rand.N(tenants)
			p, err := s.Admit(context.Background(), ratelimit.Request[int64]{Tenant: names[n], Key: 1})
			if err != nil {
				b.Error(err)
				return
			}
			p.Release()
		}
	})
}

// heap returns the bytes in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkKeyedMillion takes a unit of one of a million keys, which are strings
// of 32 bytes, and tells what memory each of them takes, itself included.
func BenchmarkKeyedMillion(b *testing.B) {
	const keys = 1_000_000
	before := heap()
	k := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Per(1000, time.Hour), MaxKeys: keys})
	names := make([]string, keys)
	table := heap() - before // the names' headers are the benchmark's own
	for i := range names {
		names[i] = fmt.Sprintf("%032d", i)
		k.Allow(names[i], 1)
	}
	perKey := float64(heap()-before-table) / keys
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 7919) % keys
		k.Allow(names[i], 1)
	}
	b.ReportMetric(perKey, "B/key")
	if k.Len() != keys {
		b.Fatal(k.Len())
	}
}

// BenchmarkSchedulerMemory tells what memory a tenant takes that has one class,
// and a key of it, which is a number. Both have made a request.
func BenchmarkSchedulerMemory(b *testing.B) {
	const tenants, keys = 20_000, 200_000
	var perTenant, perKey float64
	for b.Loop() {
		before := heap()
		s, err := ratelimit.NewScheduler[int64](threeLevels(plenty, plenty, ratelimit.Per(1000, time.Hour)))
		require.NoError(b, err)
		admit := func(tenant string, key int64) {
			p, err := s.Admit(context.Background(), ratelimit.Request[int64]{Tenant: tenant, Key: key})
			if err != nil {
				b.Fatal(err)
			}
			p.Release()
		}
		for i := range tenants {
			admit(fmt.Sprintf("tenant-%05d", i), 0)
		}
		after := heap()
		perTenant = float64(after-before) / tenants
		for i := range keys {
			admit(fmt.Sprintf("tenant-%05d", i%tenants), int64(i)+1)
		}
		perKey = float64(heap()-after) / keys
		s.Close()
	}
	b.ReportMetric(perTenant, "B/tenant")
	b.ReportMetric(perKey, "B/key")
}
