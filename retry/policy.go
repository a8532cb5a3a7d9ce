package retry

import (
	"context"
	"fmt"
	"time"
)

// Policy repeats operations that fail. The zero Policy is that of the zero
// [Config]; make others with [New]. It holds nothing of an operation, so it can
// be used again, and by many goroutines at once. It is three words; pass it by
// value.
type Policy struct {
	core *core
	key  string
}

// core is what the policies of one New share. It never changes.
type core struct {
	Config
	// epoch is what times are measured from: time.Since costs half of what
	// time.Now does, and goes by the monotonic clock.
	epoch time.Time
}

var standard = &core{Config: Config{}.withDefaults(), epoch: time.Now()}

// New returns a policy. The error names every bad field of cfg.
func New(cfg Config) (Policy, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return Policy{}, fmt.Errorf("configure retry: %w", err)
	}
	return Policy{core: &core{Config: cfg, epoch: time.Now()}}, nil
}

// For returns the same policy for a key, such as a tenant or a host, whose
// operations have a share of the [Budget] of their own. Without a key, which is
// "", they draw on the share of all alone. It allocates nothing.
func (p Policy) For(key string) Policy {
	p.key = key
	return p
}

// Do calls fn, and again after it failed, until it returns nil or is not to be
// repeated. It then returns fn's last error as it is, or as an [Interrupted]
// when ctx ended while it waited. It does not call fn at all, and returns the
// context's error, if ctx is done before.
//
// A panic in fn is the caller's; it is not repeated.
func (p Policy) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	_, err := DoValue(ctx, p, func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) })
	return err
}

// DoValue is [Policy.Do] for a function that returns something: it returns what
// the last call did, also with an error.
func DoValue[T any](ctx context.Context, p Policy, fn func(ctx context.Context) (T, error)) (T, error) {
	if ctx.Err() != nil {
		var zero T
		return zero, ended(ctx)
	}
	s := p.Start()
	for {
		v, err := fn(ctx)
		if err == nil {
			return v, nil
		}
		delay, ok := s.Next(ctx, err)
		if !ok {
			return v, s.Err()
		}
		if err := s.Wait(ctx, delay); err != nil {
			return v, err
		}
	}
}
