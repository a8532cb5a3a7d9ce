package ratelimit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

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
