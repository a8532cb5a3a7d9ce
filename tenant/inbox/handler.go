package inbox

import (
	"context"
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

// Middleware adds to what a handler does.
type Middleware func(next Handler) Handler

// Chain returns h inside of middleware, of which the first is outermost. The
// result is [Kinded] if h is.
func Chain(h Handler, middleware ...Middleware) Handler {
	outer := h
	for _, m := range slices.Backward(middleware) {
		outer = m(outer)
	}
	if k, ok := h.(Kinded); ok {
		return chain{outer, k}
	}
	return outer
}

type chain struct {
	Handler
	Kinded
}

// Kinded is what a [Handler] may be besides: one that knows which kinds of
// updates it wants. Sources ask Telegram for those and no others.
type Kinded interface {
	// Kinds returns the kinds, sorted, as allowed_updates has them.
	Kinds() []string
}

// KindsOf returns the kinds that a handler wants; nil where it does not say,
// which sources take for Telegram's usual ones: all but chat_member,
// message_reaction and message_reaction_count.
func KindsOf(h Handler) []string {
	if k, ok := h.(Kinded); ok {
		return k.Kinds()
	}
	return nil
}

// Mux is a [Handler] that hands each update to the handler of its kind. What
// nobody handles is done at once. Fill it before it is used: it is safe for
// concurrent use only when it no longer changes. The zero Mux is ready.
type Mux struct{ handlers map[string]Handler }

// Handle sets the handler of a kind, such as "message"; one that is set again
// is replaced.
func (m *Mux) Handle(kind string, h Handler) {
	if m.handlers == nil {
		m.handlers = make(map[string]Handler)
	}
	m.handlers[kind] = h
}

// HandleFunc sets the handler of a kind.
func (m *Mux) HandleFunc(kind string, f HandlerFunc) { m.Handle(kind, f) }

// HandleUpdate implements [Handler].
func (m *Mux) HandleUpdate(ctx context.Context, t *tenant.Tenant, u Update) error {
	if h := m.handlers[u.Kind]; h != nil {
		return h.HandleUpdate(ctx, t, u)
	}
	return nil
}

// Kinds implements [Kinded]. It is not nil.
func (m *Mux) Kinds() []string {
	kinds := make([]string, 0, len(m.handlers))
	for kind := range m.handlers {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

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
