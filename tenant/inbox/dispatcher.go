package inbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/tgfleet/tgfleet/tenant"
)

// Dispatcher is gotgbot's dispatcher as a [Handler], so that the handlers of a
// bot move over as they are:
//
//	d := inbox.NewDispatcher(nil)
//	d.AddHandler(handlers.NewCommand("start", start))
//
// Code that wants an *ext.Dispatcher to add handlers to gets the one inside;
// what it adds there is not seen, so say by [Dispatcher.Want] which kinds it is
// for.
//
// All tenants may share one. What limits and waits in gotgbot's dispatcher
// (MaxRoutines, Start, Stop) is not used: [Workers] do that, and keep chats in
// order.
//
// Calls that handlers make without a context have the handler's, its values
// included, and end with it. So do calls with a context that can't end, such as
// context.Background with a value; those that are to outlive the handler's
// deadline are made with a context.WithoutCancel of [ContextOf]. Handlers that
// want the tenant have [TenantOf].
//
// A user has the same id with every bot. What handlers keep by user or chat
// must have the bot in its key, ctx.Bot.Id, as gotgbot's conversations have; a
// KeyStrategy of one's own must see to it.
type Dispatcher struct {
	*ext.Dispatcher
	kinds kindSet
	retry func(error) bool
}

// NewDispatcher returns a Dispatcher without handlers. A nil opts means
// gotgbot's defaults.
//
// What a handler returns goes to opts.Error as ever, and the update is done:
// trying it again would run the handlers of all groups again, those that
// succeeded too. Retry changes that. A panic is a failed attempt, a
// [*PanicError], whether or not opts.Panic is set, which hears of it first.
func NewDispatcher(opts *ext.DispatcherOpts) *Dispatcher {
	var o ext.DispatcherOpts
	if opts != nil {
		o = *opts
	}
	d := &Dispatcher{}
	handle := o.Error
	o.Error = func(b *gotgbot.Bot, c *ext.Context, err error) ext.DispatcherAction {
		if at := attemptOf(c); at != nil && at.err == nil && d.retry != nil && d.retry(err) {
			at.err = err
		}
		if handle != nil {
			return handle(b, c, err)
		}
		return ext.DispatcherActionNoop
	}
	d.Dispatcher = ext.NewDispatcher(&o)
	return d
}

// Retry makes errors of handlers for which f returns true failures of the
// update, which is then tried again, for example those for which both
// [errors.Temporary] and [errors.SafeToRepeat] are true. A handler runs again from
// its start, so an error of a send that may have been carried out should be none
// of them. Call Retry before the dispatcher is used.
func (d *Dispatcher) Retry(f func(error) bool) { d.retry = f }

// AddHandler adds a handler to group 0.
func (d *Dispatcher) AddHandler(h ext.Handler) { d.AddHandlerToGroup(h, 0) }

// AddHandlerToGroup adds a handler to a group; groups go by ascending number.
func (d *Dispatcher) AddHandlerToGroup(h ext.Handler, group int) {
	d.kinds.add(h)
	d.Dispatcher.AddHandlerToGroup(h, group)
}

// Want adds kinds to those that Kinds returns, for handlers of types that are
// not gotgbot's.
func (d *Dispatcher) Want(kinds ...string) { d.kinds.want(kinds...) }

// Kinds implements [Kinded]: those that the handlers that were ever added can
// handle. It is nil while there are handlers that are not gotgbot's and nobody
// has said by Want what they can, since nobody knows.
func (d *Dispatcher) Kinds() []string { return d.kinds.list() }

// attempt is what a handler's ext.Context carries of ours.
type attempt struct {
	ctx    context.Context
	tenant *tenant.Tenant
	update Update
	err    error
}

// dataKey is where in ext.Context.Data it is.
const dataKey = "github.com/tgfleet/tgfleet/tenant/inbox"

func attemptOf(c *ext.Context) *attempt {
	if c == nil {
		return nil
	}
	a, _ := c.Data[dataKey].(*attempt)
	return a
}

// ContextOf returns the context of a handler that a [Dispatcher] has called,
// and the background's for any other.
func ContextOf(c *ext.Context) context.Context {
	if a := attemptOf(c); a != nil {
		return a.ctx
	}
	return context.Background()
}

// TenantOf returns the tenant of a handler that a [Dispatcher] has called, and
// nil for any other.
func TenantOf(c *ext.Context) *tenant.Tenant {
	if a := attemptOf(c); a != nil {
		return a.tenant
	}
	return nil
}

// attemptKey is the context's key for the same.
type attemptKey struct{}

// HandleUpdate implements [Handler].
func (d *Dispatcher) HandleUpdate(ctx context.Context, t *tenant.Tenant, u Update) error {
	decoded, err := u.Decode()
	if err != nil {
		return Permanent(err)
	}
	a := &attempt{tenant: t, update: u}
	a.ctx = context.WithValue(ctx, attemptKey{}, a)
	bot := *t.Bot
	bot.BotClient = bound{t.Bot.BotClient, a}
	if err := d.process(&bot, ext.NewContext(&bot, decoded, map[string]any{dataKey: a})); err != nil {
		if d.UnhandledErrFunc != nil {
			d.UnhandledErrFunc(err)
		}
		return err
	}
	return a.err
}

// process does what gotgbot's ProcessUpdate does, but that a panic which
// d.Panic has heard of is still an error, and that the error has nothing of the
// panic's value.
func (d *Dispatcher) process(b *gotgbot.Bot, c *ext.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %w", ext.ErrPanicRecovered, newPanic(p))
			if d.Panic != nil {
				d.Panic(b, c, p)
			}
		}
	}()
	return d.Processor.ProcessUpdate(d.Dispatcher, b, c)
}

// bound ends calls that have no context of their own with the handler's.
type bound struct {
	gotgbot.BotClient
	a *attempt
}

// Unwrap returns the client itself.
func (b bound) Unwrap() gotgbot.BotClient { return b.BotClient }

func (b bound) RequestWithContext(ctx context.Context, token, method string, params map[string]any, opts *gotgbot.RequestOpts) (json.RawMessage, error) {
	switch {
	case ctx == nil:
		ctx = b.a.ctx
	case ctx.Done() == nil && ctx.Value(attemptKey{}) != b.a: // which else was made to outlive it
		ctx = joined{b.a.ctx, ctx}
	}
	return b.BotClient.RequestWithContext(ctx, token, method, params, opts)
}

// joined is a context with the values of another before its own.
type joined struct {
	context.Context
	values context.Context
}

func (j joined) Value(key any) any {
	if v := j.values.Value(key); v != nil {
		return v
	}
	return j.Context.Value(key)
}
