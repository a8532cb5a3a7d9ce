package session

import (
	"context"
	"encoding/json"
)

// Invoker carries out a call and returns its result: what Telegram put under
// "result". Its errors are [github.com/tgfleet/tgfleet/errors.Error]s. It is
// safe for concurrent use, obeys ctx, and must not change the call.
type Invoker interface {
	Invoke(ctx context.Context, call *Call) (json.RawMessage, error)
}

// InvokerFunc adapts a function to [Invoker].
type InvokerFunc func(ctx context.Context, call *Call) (json.RawMessage, error)

// Invoke calls f.
func (f InvokerFunc) Invoke(ctx context.Context, call *Call) (json.RawMessage, error) {
	return f(ctx, call)
}

// Middleware wraps an Invoker into another one: it may look at the call and
// its outcome, refuse it, make it wait, or send it again. It is called once,
// in [New], and what it returns serves every call of every bot.
//
// To send a call again, a middleware invokes next with [Call.Next], and only
// when [Call.Rewindable] says that its body can be sent twice.
type Middleware func(next Invoker) Invoker

// Chain wraps last into the middlewares; the first of them is outermost, so
// that the list reads in the order in which a call passes it. Nil middlewares
// are skipped.
func Chain(last Invoker, middlewares ...Middleware) Invoker {
	for i := len(middlewares) - 1; i >= 0; i-- {
		if middlewares[i] != nil {
			last = middlewares[i](last)
		}
	}
	return last
}
