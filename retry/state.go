package retry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	goretry "github.com/sethvargo/go-retry"
)

// State is one operation on its way through its attempts. [Policy.Do] is made
// of it; use it where the loop is your own:
//
//	s := policy.Start()
//	for {
//		err := attempt(ctx)
//		if err == nil {
//			return nil
//		}
//		delay, ok := s.Next(ctx, err)
//		if !ok {
//			return s.Err()
//		}
//		if err := s.Wait(ctx, delay); err != nil {
//			return err
//		}
//	}
//
// Make it with [Policy.Start]; the zero State is one of the zero Policy. It is
// for one operation and one goroutine, and needs no end.
type State struct {
	core     *core
	key      string
	began    time.Duration // since the core's epoch
	attempts int
	failures counter
	refusals counter
	err      error
	reason   Reason
}

// counter counts the repetitions for one [Action], and how long each is put
// off. Failures and rate limits have one each, so that neither uses up the
// other's attempts nor lengthens its delays.
type counter struct {
	used    int
	backoff goretry.Backoff // nil until the first
}

// Start begins an operation, which counts as a call for the [Budget].
func (p Policy) Start() State {
	c := p.core
	if c == nil {
		c = standard
	}
	s := State{core: c, key: p.key}
	if c.MaxElapsed > 0 {
		s.began = time.Since(c.epoch)
	}
	if c.Budget != nil {
		c.Budget.Deposit(p.key)
	}
	return s
}

// Next is told an attempt's error and returns how long to wait before the next
// attempt. ok is false when there is to be none; [State.Err] is then what to
// return, and [State.Reason] says why.
func (s *State) Next(ctx context.Context, err error) (delay time.Duration, ok bool) {
	if err == nil {
		return s.Decide(ctx, nil, Decision{})
	}
	return s.Decide(ctx, err, s.rules().Classify(err))
}

// rules returns the policy's.
func (s *State) rules() *core {
	if s.core == nil {
		*s = Policy{}.Start()
	}
	return s.core
}

// Decide is Next for callers that have judged the error themselves, because
// they know more of the operation than it says.
func (s *State) Decide(ctx context.Context, err error, d Decision) (delay time.Duration, ok bool) {
	c := s.rules()
	s.err, s.reason = err, NotStopped
	if err == nil {
		return 0, false
	}
	s.attempts++
	n, most := &s.failures, c.Retries
	switch d.Action {
	case Retry:
	case Wait:
		n, most = &s.refusals, c.Waits
	default:
		return s.stop(Judged)
	}
	if ctx.Err() != nil {
		s.interrupt(ended(ctx))
		return 0, false
	}
	if n.used >= most {
		return s.stop(Exhausted)
	}
	if n.backoff == nil {
		n.backoff = c.backoff()
	}
	step, last := n.backoff.Next()
	if last {
		return s.stop(Exhausted)
	}
	if delay, ok = c.delay(step, d.After, s.room(ctx)); !ok {
		return s.stop(OutOfTime)
	}
	// Last, so that nothing is taken for an attempt that is not made.
	if c.Budget != nil && (d.Action == Retry || !c.UnbudgetedWaits) && !c.Budget.Withdraw(s.key) {
		return s.stop(OverBudget)
	}
	n.used++
	c.tell(ctx, Attempt{Key: s.key, Number: s.attempts, Err: err, Action: d.Action, Delay: delay})
	return delay, true
}

// delay makes a delay of a step of the back-off and what the other side said,
// and reports whether it is over before the time is.
func (c *core) delay(step, after, room time.Duration) (time.Duration, bool) {
	fixed, random := c.Jitter.split(step)
	floor := max(fixed, after, 0)
	delay := sum(floor, draw(random))
	switch {
	case delay < room:
		return delay, true
	case floor < room && after > 0:
		// What was asked for fits; only what we add does not.
		return floor + draw(room-floor), true
	default:
		return 0, false
	}
}

// room returns how much time is left for a delay.
func (s *State) room(ctx context.Context) time.Duration {
	room := time.Duration(math.MaxInt64)
	if s.core.MaxElapsed > 0 {
		room = s.core.MaxElapsed - (time.Since(s.core.epoch) - s.began)
	}
	if deadline, ok := ctx.Deadline(); ok {
		room = min(room, time.Until(deadline))
	}
	return room
}

// Wait waits as [Config].Wait says. Its error is an [Interrupted], which is
// what to return. Callers that wait in another way return one of their own when
// that fails, so that the last error is not lost.
func (s *State) Wait(ctx context.Context, delay time.Duration) error {
	err := s.rules().Wait(ctx, delay)
	switch {
	case ctx.Err() == nil && err == nil:
		return nil
	case ctx.Err() == nil:
	case err == nil || errors.Is(err, ctx.Err()):
		err = ended(ctx)
	default:
		err = fmt.Errorf("%w: %w", ended(ctx), err)
	}
	return s.interrupt(err)
}

// Err returns the last attempt's error, in an [Interrupted] if the context or
// the wait ended the operation; nil while none has failed.
func (s *State) Err() error { return s.err }

// Reason returns why the operation is not repeated.
func (s *State) Reason() Reason { return s.reason }

// Attempts returns how many attempts have failed.
func (s *State) Attempts() int { return s.attempts }

func (s *State) stop(r Reason) (time.Duration, bool) {
	s.reason = r
	return 0, false
}

// interrupt ends the operation although its last error was one to repeat.
func (s *State) interrupt(cause error) error {
	s.reason = Ended
	if !errors.Is(s.err, cause) { // an attempt that ctx ended has said so
		s.err = &Interrupted{Err: s.err, Cause: cause}
	}
	return s.err
}

// sleep is the Wait of the zero Config.
func sleep(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
