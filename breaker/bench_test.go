package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
)

// BenchmarkClosed is a call that succeeds, let in and recorded in two steps.
func BenchmarkClosed(b *testing.B) {
	br, err := breaker.New(breaker.Config{})
	require.NoError(b, err)
	benchClosed(b, br)
}

// BenchmarkClosedWithRates is the same where all that can be looked at is,
// which reads the clock twice.
func BenchmarkClosedWithRates(b *testing.B) {
	br, err := breaker.New(breaker.Config{FailureRate: 0.5, SlowAfter: time.Second, Window: time.Minute})
	require.NoError(b, err)
	benchClosed(b, br)
}

func benchClosed(b *testing.B, br *breaker.Breaker) {
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		p, err := br.Allow()
		if err != nil {
			b.Fatal(err)
		}
		p.Done(ctx, nil)
	}
}

// BenchmarkDo is a call that succeeds, with a function.
func BenchmarkDo(b *testing.B) {
	br, err := breaker.New(breaker.Config{})
	require.NoError(b, err)
	ctx := context.Background()
	fn := func(context.Context) error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		if err := br.Do(ctx, fn); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is a call that is refused.
func BenchmarkOpen(b *testing.B) {
	br, err := breaker.New(breaker.Config{})
	require.NoError(b, err)
	br.Trip(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.Allow(); !errors.Is(err, breaker.ErrOpen) {
			b.Fatal(err)
		}
	}
}

// BenchmarkClosedParallel is BenchmarkClosed from many goroutines.
func BenchmarkClosedParallel(b *testing.B) {
	br, err := breaker.New(breaker.Config{})
	require.NoError(b, err)
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := br.Allow()
			if err != nil {
				b.Error(err)
				return
			}
			p.Done(ctx, nil)
		}
	})
}

// BenchmarkGroup is a call that succeeds of one of 10,000 keys, in no order.
func BenchmarkGroup(b *testing.B) {
	const keys = 10_000
	g, err := breaker.NewGroup[string](breaker.GroupConfig[string]{})
	require.NoError(b, err)
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%d", i)
	}
	ctx := context.Background()
	i := 0
	call := func() {
		i = (i + 7919) % keys
		p, err := g.Allow(names[i])
		if err != nil {
			b.Fatal(err)
		}
		p.Done(ctx, nil)
	}
	for range keys {
		call()
	}
	b.ReportAllocs()
	for b.Loop() {
		call()
	}
}
