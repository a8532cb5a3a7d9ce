package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	goretry "github.com/sethvargo/go-retry"
)

// Config configures a [Policy]. Its zero value is a good default.
type Config struct {
	// Retries is how often an operation is repeated because it failed. 0 means
	// 3, negative never.
	Retries int
	// Waits is how often an operation is repeated because a rate limit refused
	// it. They don't count as Retries. 0 means 3, negative never.
	Waits int
	// MaxElapsed bounds the time from the operation's start to the start of its
	// last attempt; it ends no attempt. A wait that does not fit in is not
	// begun. 0 means 2 min, negative no bound but the context's deadline.
	MaxElapsed time.Duration

	// Initial is the first delay, before jitter. 0 means 1 s.
	Initial time.Duration
	// Max bounds a delay, but not what an error asks for: see [Decision].After.
	// 0 means 30 s, or Initial where that is longer.
	Max time.Duration
	// Factor is how much longer each delay is than the one before. 0 means 2;
	// 1 keeps them as they are.
	Factor float64
	// Jitter is how a delay is made random, so that those who failed together
	// don't come again together. Zero means [Full].
	Jitter Jitter
	// Backoff returns delays of another shape than Initial and Factor give.
	// Max and Jitter apply to them too. It is called anew for each operation
	// that fails, and once more if that waits for a rate limit, since a Backoff
	// counts: it must return a new one each time, and be safe for concurrent
	// use. Nil means as Initial and Factor say.
	Backoff func() goretry.Backoff

	// Classify says what to do about an error, which is never nil. Nil means
	// [Classify]. It must be safe for concurrent use.
	Classify func(err error) Decision
	// Budget bounds the retries of all operations that share it. Nil is no
	// bound.
	Budget *Budget
	// UnbudgetedWaits lets waits for rate limits take nothing from Budget. With
	// it an operation that is refused again and again adds up to Waits calls,
	// though never sooner than it was told to.
	UnbudgetedWaits bool

	// Wait waits before an attempt: until the delay is over (nil), or ctx is
	// done or something else is in the way (an error). Nil means a timer. Set it
	// to wait in a place that holds up what must not overtake.
	Wait func(ctx context.Context, delay time.Duration) error
	// OnRetry hears of every repetition before its delay begins, on the
	// operation's goroutine. If it panics, the log says so and the operation
	// goes on. Nil hears nothing.
	OnRetry func(ctx context.Context, a Attempt)
	// Logger hears of panics in OnRetry. Nil discards.
	Logger *slog.Logger
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	orElse(&c.Retries, 3)
	orElse(&c.Waits, 3)
	orElse(&c.MaxElapsed, 2*time.Minute)
	orElse(&c.Initial, time.Second)
	orElse(&c.Max, max(30*time.Second, c.Initial))
	orElse(&c.Factor, 2)
	if c.Classify == nil {
		c.Classify = Classify
	}
	if c.Wait == nil {
		c.Wait = sleep
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// check reports all that is wrong; the defaults are filled in.
func (c Config) check() error {
	var bad []error
	if c.Initial < 0 {
		bad = append(bad, fmt.Errorf("negative Initial %v", c.Initial))
	}
	if c.Max < 0 {
		bad = append(bad, fmt.Errorf("negative Max %v", c.Max))
	} else if c.Initial > c.Max {
		bad = append(bad, fmt.Errorf("an Initial %v above Max %v", c.Initial, c.Max))
	}
	if !(c.Factor >= 1) || math.IsInf(c.Factor, 1) { // NaN is not at least 1
		bad = append(bad, fmt.Errorf("a Factor %v that is not a number from 1 up", c.Factor))
	}
	if c.Jitter > None {
		bad = append(bad, fmt.Errorf("unknown jitter: %v", c.Jitter))
	}
	return errors.Join(bad...)
}
