package retry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/retry"
)

func TestSuccessAllocatesNothing(t *testing.T) {
	budget := newBudget(t, retry.BudgetConfig{})
	require.True(t, budget.Withdraw("short"))
	p := newPolicy(t, retry.Config{Budget: budget, OnRetry: func(context.Context, retry.Attempt) {}})
	ctx, n := t.Context(), 0
	for name, call := range map[string]func(){
		"Do": func() { _ = p.Do(ctx, func(context.Context) error { n++; return nil }) },
		"Do of the zero policy": func() {
			_ = retry.Policy{}.Do(ctx, func(context.Context) error { n++; return nil })
		},
		"Do for a key": func() { _ = p.For("acme").Do(ctx, func(context.Context) error { n++; return nil }) },
		"DoValue": func() {
			_, _ = retry.DoValue(ctx, p, func(context.Context) (string, error) { n++; return "x", nil })
		},
		"a loop of one's own": func() {
			s := p.For("acme").Start()
			n++
			if s.Err() != nil {
				_, _ = s.Next(ctx, s.Err())
				_ = s.Wait(ctx, time.Second)
			}
		},
	} {
		assert.Zero(t, testing.AllocsPerRun(1000, call), name)
	}
	// One that is short is looked up, and still costs nothing to allocate.
	budget = newBudget(t, retry.BudgetConfig{KeyShare: 1e-6, Share: 1e-6})
	require.True(t, budget.Withdraw("acme"))
	assert.Zero(t, testing.AllocsPerRun(1000, func() { budget.Deposit("acme") }))
}

func BenchmarkDo(b *testing.B) {
	for name, cfg := range map[string]retry.Config{
		"plain":  {},
		"budget": {Budget: newBudget(b, retry.BudgetConfig{})},
	} {
		b.Run(name, func(b *testing.B) {
			p := newPolicy(b, cfg).For("acme")
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if p.Do(ctx, func(context.Context) error { return nil }) != nil {
					b.Fatal("failed")
				}
			}
		})
	}
}

func BenchmarkDoValue(b *testing.B) {
	var p retry.Policy
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := retry.DoValue(ctx, p, func(context.Context) (int, error) { return 1, nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	p := newPolicy(b, retry.Config{Budget: newBudget(b, retry.BudgetConfig{})}).For("acme")
	b.ReportAllocs()
	for b.Loop() {
		s := p.Start()
		if s.Err() != nil {
			b.Fatal("failed")
		}
	}
}

func BenchmarkDoParallel(b *testing.B) {
	p := newPolicy(b, retry.Config{Budget: newBudget(b, retry.BudgetConfig{})}).For("acme")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = p.Do(context.Background(), func(context.Context) error { return nil })
		}
	})
}

// A call of a key that is short, and of one that is not while another is.
func BenchmarkDeposit(b *testing.B) {
	budget := newBudget(b, retry.BudgetConfig{Share: 1, KeyShare: 1e-6})
	for _, key := range []string{"short", "whole"} {
		b.Run(key, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%500_000 == 0 {
					budget.Withdraw("short") // twice as much as it earns meanwhile
				}
				budget.Deposit(key)
			}
		})
	}
}

// An operation that is repeated once, without its delay.
func BenchmarkOneRetry(b *testing.B) {
	p := newPolicy(b, retry.Config{
		Budget: newBudget(b, retry.BudgetConfig{Share: 1, KeyShare: 1}),
		Wait:   func(context.Context, time.Duration) error { return nil },
	}).For("acme")
	b.ReportAllocs()
	for b.Loop() {
		failed := false
		if err := p.Do(context.Background(), func(context.Context) error {
			if !failed {
				failed = true
				return errDown
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}
