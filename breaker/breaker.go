package breaker

import (
	"context"
	"sync"
	"time"
)

// Breaker is a circuit breaker: it refuses calls to what fails. Most callers
// want [Breaker.Do]; [Breaker.Allow] is for those who have no function to hand
// over. For one breaker per key see [Group].
//
// All methods are safe for concurrent use. Make it with [New].
type Breaker struct {
	cfg  *settings
	hear func(Change)

	// mu guards what follows. Nothing of the caller's is called under it.
	mu   sync.Mutex
	mode State // Closed where the breaker moves by itself
	// state is Closed, Open or HalfOpen, and gen counts its changes: what was
	// admitted in another generation has no say in this one.
	state   State
	telling bool
	gen     uint64

	inFlight int32 // of this generation
	openings int32 // since it was closed last
	admitted uint64
	refused  uint64

	// While it is closed.
	streak  int   // failures in a row
	lastBad int64 // when the last failure or slow call ended
	retryAt int64 // before which the callee does not want to be called
	recent  window
	slow    overdue

	// While it is open, and half-open.
	openUntil int64
	successes int
	probes    []int64 // when each expires; 0 is free

	untold []Change
}

// New returns a breaker in the state cfg.Start. The error names every bad
// field of cfg.
func New(cfg Config) (*Breaker, error) {
	s, err := newSettings(cfg)
	if err != nil {
		return nil, err
	}
	b := new(Breaker)
	b.init(s, cfg.OnStateChange)
	return b, nil
}

func (b *Breaker) init(s *settings, hear func(Change)) {
	b.cfg, b.hear, b.mode = s, hear, s.Start
}

// Do calls fn if the breaker lets it, records the result and returns fn's
// error. If it does not, the error is an *[OpenError]. If ctx is done, Do
// returns its error, calls nothing and records nothing. A panic or
// [runtime.Goexit] in fn counts as a failure and goes on.
func (b *Breaker) Do(ctx context.Context, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := b.Allow()
	if err != nil {
		return err
	}
	return p.run(ctx, fn)
}

// Allow lets a call pass, or returns an *[OpenError]. Whoever has a permit
// must end it; see [Permit].
func (b *Breaker) Allow() (Permit, error) {
	p, refusal, due := b.allow()
	if due {
		b.tell()
	}
	if refusal != nil {
		return Permit{}, refusal
	}
	return p, nil
}

// allow is Allow, but leaves it to the caller to call tell.
func (b *Breaker) allow() (p Permit, refusal *OpenError, due bool) {
	b.mu.Lock()
	p, refusal = b.admit()
	return p, refusal, b.release()
}

// State returns the state. It changes nothing: a breaker whose open time is
// over is open until a call comes.
func (b *Breaker) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shown()
}

// shown is the state that others see. The lock is held.
func (b *Breaker) shown() State {
	if b.mode != Closed {
		return b.mode
	}
	return b.state
}

// RemainingDelay returns how long an open breaker stays open. It is 0 when its
// time is over and in all other states, ForcedOpen included.
func (b *Breaker) RemainingDelay() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown() != Open {
		return 0
	}
	return time.Duration(max(b.openUntil-b.cfg.now(), 0))
}

// Counts is what a breaker has counted.
type Counts struct {
	// State is the state, and Watched what it would be if it were not
	// WatchOnly; otherwise they are the same.
	State, Watched State
	// Calls, Failures and Slow are how many calls the window holds and how
	// they ended. They are 0 where no rate is looked at.
	Calls, Failures, Slow int
	// ConsecutiveFailures is how many failures came in a row.
	ConsecutiveFailures int
	// Successes is how many probes have succeeded.
	Successes int
	// InFlight is how many calls are under way that this state has let in, and
	// Overdue how many of them are slow already.
	InFlight, Overdue int
	// Openings is how often it has opened since it was closed.
	Openings int
	// Refused is how many calls were refused since it was made or, while it is
	// WatchOnly, would have been.
	Refused uint64
}

// Counts returns what the breaker has counted since its state changed, but for
// Refused.
func (b *Breaker) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Counts{
		State:               b.shown(),
		Watched:             b.shown(),
		ConsecutiveFailures: b.streak,
		Successes:           b.successes,
		InFlight:            int(b.inFlight),
		Openings:            int(b.openings),
		Refused:             b.refused,
	}
	if b.mode == WatchOnly {
		c.Watched = b.state
	}
	if b.cfg.rates {
		b.roll(b.cfg.now())
		c.Overdue = int(b.slow.count)
		if b.recent != nil {
			sum := b.recent.sum()
			c.Calls, c.Failures, c.Slow = int(sum.calls), int(sum.failures), int(sum.slow)
		}
	}
	return c
}
