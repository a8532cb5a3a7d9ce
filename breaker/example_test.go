package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tgfleet/tgfleet/breaker"
)

func ExampleBreaker_Do() {
	b, err := breaker.New(breaker.Config{ConsecutiveFailures: 2})
	if err != nil {
		panic(err)
	}
	down := errors.New("connection refused")
	for range 3 {
		err := b.Do(context.Background(), func(context.Context) error { return down })
		fmt.Println(b.State(), errors.Is(err, breaker.ErrOpen))
	}
	// Output:
	// closed false
	// open false
	// open true
}

// A middleware asks first, and says afterwards how it went.
func ExampleBreaker_Allow() {
	b, err := breaker.New(breaker.Config{})
	if err != nil {
		panic(err)
	}
	call := func(ctx context.Context, next func(context.Context) error) error {
		permit, err := b.Allow()
		if err != nil {
			return err
		}
		defer permit.Cancel() // for a panic; nothing after Done
		err = next(ctx)
		permit.Done(ctx, err)
		return err
	}
	fmt.Println(call(context.Background(), func(context.Context) error { return nil }))
	b.Trip(time.Minute)
	var refusal *breaker.OpenError
	err = call(context.Background(), func(context.Context) error { return nil })
	fmt.Println(errors.As(err, &refusal) && refusal.RetryAfter > 0)
	// Output:
	// <nil>
	// true
}

// An answer that the callee was right to give is no failure, whatever its
// type, and a failure may say for how long to stay away.
func ExampleConfig_classify() {
	notFound := errors.New("not found")
	b, err := breaker.New(breaker.Config{
		ConsecutiveFailures: 1,
		Classify: func(ctx context.Context, err error) breaker.Verdict {
			if errors.Is(err, notFound) {
				return breaker.Success
			}
			return breaker.Classify(ctx, err)
		},
		RetryAfter: func(error) time.Duration { return time.Hour },
	})
	if err != nil {
		panic(err)
	}
	_ = b.Do(context.Background(), func(context.Context) error { return notFound })
	fmt.Println(b.State())
	_ = b.Do(context.Background(), func(context.Context) error { return errors.New("overloaded") })
	fmt.Println(b.State(), b.RemainingDelay() > 59*time.Minute)
	// Output:
	// closed
	// open true
}

func ExampleGroup() {
	g, err := breaker.NewGroup(breaker.GroupConfig[string]{
		Breaker: breaker.Config{ConsecutiveFailures: 1},
		OnStateChange: func(key string, c breaker.Change) {
			fmt.Println(key, "goes from", c)
		},
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	_ = g.Do(ctx, "acme", func(context.Context) error { return errors.New("revoked") })
	fmt.Println(g.State("acme"), g.State("globex"))
	// Output:
	// acme goes from closed to open: consecutive-failures
	// open closed
}
