package session

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Observation describes one attempt of a call after its end. It holds no
// parameter and no token.
type Observation struct {
	// Key is the tenant or bot.
	Key string
	// Method is the Bot API method as the caller spelled it, and Canonical as
	// the Bot API does. Canonical is "_OTHER" for a method that is not known,
	// so it is fit for a metric's label.
	Method    string
	Canonical string
	// Chat is where it went; zero for methods without a chat.
	Chat ChatID
	// Attempt counts from 1.
	Attempt int
	// Upload says that files were sent with the call.
	Upload bool
	// Start is when the attempt began; it has a monotonic reading.
	Start time.Time
	// Waited is how long the attempt waited for its turn before Start. It is 0
	// without a [Guard].
	Waited time.Duration
	// Latency is how long the attempt took.
	Latency time.Duration
	// Sent and Received are the lengths of the request's and the answer's body
	// in bytes. Sent is -1 if the length of a file is not known, Received 0
	// without a whole answer.
	Sent, Received int64
	// Kind is [errors.None] for success.
	Kind errors.Kind
	// Err is the attempt's error, nil for success.
	Err error
}

// Observer hears of every attempt's end, on the goroutine of the caller, who
// waits for it: it must be quick. It is called concurrently.
type Observer interface {
	Observe(ctx context.Context, o Observation)
}

// ObserverFunc adapts a function to [Observer].
type ObserverFunc func(ctx context.Context, o Observation)

// Observe calls f.
func (f ObserverFunc) Observe(ctx context.Context, o Observation) { f(ctx, o) }

// Observe is the middleware that tells an observer of every call that it sees:
// as one of [Config.AttemptMiddleware] of every attempt that reaches the wire.
func Observe(observer Observer) Middleware {
	return func(next Invoker) Invoker {
		return InvokerFunc(func(ctx context.Context, call *Call) (json.RawMessage, error) {
			start := time.Now()
			result, err := next.Invoke(ctx, call)
			observer.Observe(ctx, observation(call, start, err))
			return result, err
		})
	}
}

// observation describes an attempt that began at start and ends now.
func observation(call *Call, start time.Time, err error) Observation {
	o := Observation{
		Key:       call.Key,
		Method:    call.Method,
		Canonical: canonical(call.Method),
		Chat:      call.Chat,
		Attempt:   call.Attempt,
		Upload:    call.Upload,
		Start:     start,
		Waited:    call.waited,
		Latency:   time.Since(start),
		Received:  call.received,
		Kind:      errors.KindOf(err),
		Err:       err,
	}
	if call.body != nil {
		o.Sent = call.body.size
	}
	return o
}

// LogObserver returns an observer that writes every attempt to the log:
// successes, and calls that the caller gave up, as debug messages, failures as
// warnings.
func LogObserver(logger *slog.Logger) Observer {
	return ObserverFunc(func(ctx context.Context, o Observation) {
		level := slog.LevelDebug
		if o.Err != nil && o.Kind != errors.Canceled {
			level = slog.LevelWarn
		}
		if !logger.Enabled(ctx, level) {
			return
		}
		attrs := []slog.Attr{
			slog.String("key", o.Key),
			slog.String("method", o.Method),
			slog.Int("attempt", o.Attempt),
			slog.Duration("latency", o.Latency),
			slog.String("kind", o.Kind.String()),
		}
		if o.Err != nil {
			attrs = append(attrs, slog.String("error", o.Err.Error()))
		}
		logger.LogAttrs(ctx, level, "telegram call", attrs...)
	})
}
