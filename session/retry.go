package session

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/retry"
)

// RetryConfig configures the retries of a [Guard]. Its zero value is a good one.
//
// It helps to repeat a call after a 429, as soon as Telegram allows, and some
// time after a broken connection, a time-out or a server error. It is safe if no
// attempt may have been carried out, or if the call is [Call.Repeatable]. Ask may
// allow others. Refusals of this process
// ([errors.Throttled], [errors.BreakerOpen]) are not repeated, nor are long
// polls, whose loop is their own retry, and uploads from a reader that can't
// seek.
//
// A call that waits to be repeated keeps its chat back meanwhile, so that no
// later message of the chat overtakes it.
type RetryConfig struct {
	// Policy says how often and after how long; see [retry.Config]. Zero fields
	// mean its defaults: three retries, after 1, 2 and 4 s or less, and three
	// waits for a rate limit, within 2 min. Classify, Wait and OnRetry must be
	// nil. A nil Budget means one of [retry.NewBudget]'s defaults: retries add
	// a tenth to all calls at most, and a fifth to one bot's. Waits for rate
	// limits are not budgeted, and bounded by [LimitConfig].MaxWait too.
	Policy retry.Config

	// Ask is asked before a call is repeated that may have been carried out and
	// is not [Call.Repeatable], such as a message that was sent and never
	// answered. It may look whether the message is there. Nil is no.
	Ask func(ctx context.Context, call *Call, err error) bool
	// OnRetry hears of every repetition before its delay, on the goroutine of
	// the call. Nil hears nothing.
	OnRetry func(ctx context.Context, call *Call, a retry.Attempt)
	// Logger hears of panics in Ask and OnRetry. Nil discards.
	Logger *slog.Logger
}

// retrier makes calls again.
type retrier struct {
	policy  retry.Policy
	limiter *limiter // nil: it waits itself, and later messages pass
	ask     func(ctx context.Context, call *Call, err error) bool
	onRetry func(ctx context.Context, call *Call, a retry.Attempt)
	log     *slog.Logger
}

// newRetrier returns a retrier. The error names every bad field of cfg.
func newRetrier(cfg RetryConfig, l *limiter) (*retrier, error) {
	var bad []error
	if cfg.Policy.Classify != nil || cfg.Policy.Wait != nil || cfg.Policy.OnRetry != nil {
		bad = append(bad, errors.New("field Policy: Classify, Wait and OnRetry can't be set"))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Policy.Budget == nil {
		budget, err := retry.NewBudget(retry.BudgetConfig{})
		if err != nil {
			bad = append(bad, err)
		}
		cfg.Policy.Budget = budget
	}
	cfg.Policy.UnbudgetedWaits = true // they don't come sooner than they may
	policy, err := retry.New(cfg.Policy)
	if err != nil {
		bad = append(bad, err)
	}
	if len(bad) > 0 {
		return nil, &errors.Error{Kind: errors.Internal, Op: "configure retries", Err: errors.Join(bad...)}
	}
	return &retrier{policy: policy, limiter: l, ask: cfg.Ask, onRetry: cfg.OnRetry, log: cfg.Logger}, nil
}

// invoke makes attempts of a call. The error is that of the last attempt. If
// there was another one to come, and it was refused here or the context ended,
// it is an error of that kind which has the last attempt's in its tree and its
// Delivery.
func (r *retrier) invoke(ctx context.Context, call *Call, attempt func(context.Context, *Call) (json.RawMessage, error)) (json.RawMessage, error) {
	state := r.policy.For(call.Key).Start()
	var last error
	held := false
	defer func() {
		if held {
			r.limiter.scheduler.Unhold(call.ticket)
		}
	}()
	for {
		result, err := attempt(ctx, call)
		if err == nil {
			return result, nil
		}
		if last != nil && refusedHere(err) {
			return nil, cutShort(last, err)
		}
		last = err
		d := r.decide(ctx, call, err)
		delay, ok := state.Decide(ctx, err, d)
		if !ok {
			if state.Reason() == retry.Ended {
				return nil, r.ended(ctx, call, last)
			}
			return nil, last
		}
		r.tell(ctx, call, retry.Attempt{Key: call.Key, Number: call.Attempt, Err: err, Action: d.Action, Delay: delay})
		if r.limiter.holds(call, d.Action, delay) {
			held = true
		} else if d.Action != retry.Wait || r.limiter == nil {
			if err := state.Wait(ctx, delay); err != nil {
				return nil, r.ended(ctx, call, last)
			}
		}
		call = call.Next()
	}
}

// decide says what an error calls for.
func (r *retrier) decide(ctx context.Context, call *Call, err error) retry.Decision {
	e, ok := errors.AsType[*errors.Error](err)
	if !ok || !call.Rewindable() {
		return retry.Decision{}
	}
	switch e.Kind {
	case errors.RateLimited:
		if r.limiter != nil && r.limiter.maxWait > 0 && e.RetryAfter > r.limiter.maxWait {
			break // it would not be let wait for so long
		}
		if e.Delivery == errors.NotDelivered || call.Repeatable() || r.asks(ctx, call, err) { // else some of several messages may be there
			return retry.Decision{Action: retry.Wait, After: max(e.RetryAfter, time.Second)}
		}
	case errors.Unavailable, errors.ConnectionFailed, errors.Timeout, errors.BadReply, errors.OutcomeUnknown:
		if ctx.Err() == nil && (e.Delivery == errors.NotDelivered || call.Repeatable() || r.asks(ctx, call, err)) {
			return retry.Decision{Action: retry.Retry, After: e.RetryAfter}
		}
	}
	return retry.Decision{}
}

// asks is no when Ask panics.
func (r *retrier) asks(ctx context.Context, call *Call, err error) bool {
	if r.ask == nil {
		return false
	}
	defer r.recover(ctx, "Ask")
	return r.ask(ctx, call, err)
}

func (r *retrier) tell(ctx context.Context, call *Call, a retry.Attempt) {
	if r.onRetry == nil {
		return
	}
	defer r.recover(ctx, "OnRetry")
	r.onRetry(ctx, call, a)
}

func (r *retrier) recover(ctx context.Context, name string) {
	if p := recover(); p != nil {
		r.log.ErrorContext(ctx, "panic in "+name, slog.String("panic", Redact(fmt.Sprint(p))))
	}
}

// refusedHere reports whether an attempt was not made.
func refusedHere(err error) bool {
	switch errors.KindOf(err) {
	case errors.Throttled, errors.BreakerOpen, errors.Closed, errors.Canceled:
		return errors.SafeToRepeat(err)
	}
	return false
}

// cutShort makes the error of a call whose next attempt was not made.
func cutShort(last, refusal error) error {
	e := *errors.Classify(refusal)
	if errors.KindOf(last) == errors.OutcomeUnknown {
		e.Kind = errors.OutcomeUnknown // which is what matters
	}
	e.Delivery = errors.Classify(last).Delivery
	e.Err = &retry.Interrupted{Err: last, Cause: refusal}
	return &e
}

// ended makes the error of a call whose context ended before its next attempt.
func (r *retrier) ended(ctx context.Context, call *Call, last error) error {
	return cutShort(last, &errors.Error{
		Kind: kindOfEnd(ctx), Op: call.Method, Key: call.Key, Err: redactError(context.Cause(ctx), call.token),
	})
}

// holds keeps a call's chat for the call until it is to be made again, and then
// until it has ended, and reports whether it does. The call waits in the
// limiter's queue; after a 429 that waits anyway, for what Telegram refuses.
func (l *limiter) holds(call *Call, a retry.Action, delay time.Duration) bool {
	if l == nil || call.Chat.IsZero() || call.ticket == 0 {
		return false
	}
	if a == retry.Wait {
		delay = 0
	}
	l.scheduler.Hold(call.Key, l.place(call), call.ticket, time.Now().Add(delay))
	return true
}
