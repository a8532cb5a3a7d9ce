package inbox

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/tgfleet/tgfleet/tenant"
)

// Handler handles updates. It is called for many updates at the same time, but
// for those of one chat one after the other.
//
// t is the tenant whose bot the update is for, lent for as long as the handler
// runs. ctx ends at the handler's deadline, when the tenant is suspended or
// removed, and when the service can't wait any longer for it.
//
// A nil error is the end of the update. After any other it comes again, this
// one before later ones of its chat, until it has failed too often and becomes
// a dead letter; see [WorkersConfig]. [Permanent] makes it one at once. An
// update also comes again when the process dies before its handler's end was
// stored: u.Attempt tells, and a handler that may not do its work twice must
// see to it.
type Handler interface {
	HandleUpdate(ctx context.Context, t *tenant.Tenant, u Update) error
}

// HandlerFunc makes a [Handler] of a function.
type HandlerFunc func(ctx context.Context, t *tenant.Tenant, u Update) error

// HandleUpdate calls f.
func (f HandlerFunc) HandleUpdate(ctx context.Context, t *tenant.Tenant, u Update) error {
	return f(ctx, t, u)
}

// isNil reports whether h would panic for being a nil function or pointer.
func isNil(h Handler) bool {
	v := reflect.ValueOf(h)
	return !v.IsValid() || (v.Kind() == reflect.Func || v.Kind() == reflect.Pointer) && v.IsNil()
}

// Middleware adds to what a handler does. What it returns had better be made by
// [Wrap], so that [KindsOf] knows what the handler inside of it wants.
type Middleware func(next Handler) Handler

// Wrap returns a handler that is f and is [Kinded] as next is, for a
// [Middleware].
func Wrap(next Handler, f HandlerFunc) Handler { return wrapper{f, next} }

type wrapper struct {
	HandlerFunc
	next Handler
}

// Kinds implements [Kinded].
func (w wrapper) Kinds() []string { return KindsOf(w.next) }

// Chain returns h inside of middleware, of which the first is outermost. For
// [KindsOf] it wants what h does, however the middleware is made. It is nil
// where h or what a middleware returns is nil.
func Chain(h Handler, middleware ...Middleware) Handler {
	if isNil(h) || len(middleware) == 0 {
		return h
	}
	outer := h
	for _, m := range slices.Backward(middleware) {
		outer = m(outer)
	}
	if isNil(outer) {
		return nil
	}
	return wrapper{outer.HandleUpdate, h}
}

// Mux is a [Handler] that hands each update to the handler of its kind. What
// nobody handles is done at once. Fill it before it is used: it is safe for
// concurrent use only when it no longer changes. The zero Mux is ready.
type Mux struct{ handlers map[string]Handler }

// Handle sets the handler of a kind, such as "message"; one that is set again
// is replaced, and nil removes it.
func (m *Mux) Handle(kind string, h Handler) {
	if isNil(h) {
		delete(m.handlers, kind)
		return
	}
	if m.handlers == nil {
		m.handlers = make(map[string]Handler)
	}
	m.handlers[kind] = h
}

// HandleFunc sets the handler of a kind; nil removes it.
func (m *Mux) HandleFunc(kind string, f HandlerFunc) { m.Handle(kind, f) }

// HandleUpdate implements [Handler].
func (m *Mux) HandleUpdate(ctx context.Context, t *tenant.Tenant, u Update) error {
	if h := m.handlers[u.Kind]; h != nil {
		return h.HandleUpdate(ctx, t, u)
	}
	return nil
}

// Kinds implements [Kinded]. It is nil where no handler is set.
func (m *Mux) Kinds() []string { return slices.Sorted(maps.Keys(m.handlers)) }

// Permanent marks an error as one that trying again won't mend: the update
// becomes a dead letter at once. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }
