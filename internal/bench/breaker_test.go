package bench

import (
	"context"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
	"github.com/tgfleet/tgfleet/breaker"
)

// BenchmarkBreaker is a call that succeeds through a closed breaker that opens
// after five failures in a row. Two steps are for those who have no function
// to hand over.
func BenchmarkBreaker(b *testing.B) {
	ctx := context.Background()
	b.Run("function/tgfleet", func(b *testing.B) {
		cb, err := breaker.New(breaker.Config{})
		if err != nil {
			b.Fatal(err)
		}
		fn := func(context.Context) error { return nil }
		b.ReportAllocs()
		for b.Loop() {
			if err := cb.Do(ctx, fn); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("function/gobreaker", func(b *testing.B) {
		cb := gobreaker.NewCircuitBreaker[any](gobreaker.Settings{})
		fn := func() (any, error) { return nil, nil }
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cb.Execute(fn); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("function/failsafe-go", func(b *testing.B) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).WithDelay(time.Minute).Build()
		executor := failsafe.With[any](cb)
		fn := func() error { return nil }
		b.ReportAllocs()
		for b.Loop() {
			if err := executor.Run(fn); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("two-step/tgfleet", func(b *testing.B) {
		cb, err := breaker.New(breaker.Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			p, err := cb.Allow()
			if err != nil {
				b.Fatal(err)
			}
			p.Done(ctx, nil)
		}
	})
	b.Run("two-step/gobreaker", func(b *testing.B) {
		cb := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{})
		b.ReportAllocs()
		for b.Loop() {
			done, err := cb.Allow()
			if err != nil {
				b.Fatal(err)
			}
			done(nil)
		}
	})
	b.Run("two-step/failsafe-go", func(b *testing.B) {
		cb := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).WithDelay(time.Minute).Build()
		b.ReportAllocs()
		for b.Loop() {
			if !cb.TryAcquirePermit() {
				b.Fatal("open")
			}
			cb.RecordSuccess()
		}
	})
}
