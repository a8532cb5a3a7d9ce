package inbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/PaulSonOfLars/gotgbot/v2/ext/handlers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// fleet is a service on a fake Telegram.
type fleet struct {
	*tenant.Manager
	srv  *bottest.Server
	pool *tenant.Pool
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{srv: bottest.New(bottest.Config{Limits: bottest.NoLimits()})}
	s, err := session.New(session.Config{Transport: f.srv.Transport()})
	require.NoError(t, err)
	f.pool, err = tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	require.NoError(t, err)
	f.Manager = tenant.NewManager(f.pool, tenant.ManagerConfig{})
	t.Cleanup(func() {
		require.NoError(t, f.pool.Close(bg))
		require.NoError(t, s.Close(bg))
		f.srv.Close()
	})
	return f
}

func (f *fleet) register(t testing.TB, id string) *bottest.Bot {
	t.Helper()
	bot := f.srv.NewBot(id + "_bot")
	_, err := f.Register(bg, id, bot.Token())
	require.NoError(t, err)
	return bot
}

func written(tenant string, user, id int64, text string) inbox.Update {
	u, err := inbox.Parse(tenant, fmt.Appendf(nil, `{"update_id":%d,"message":{"message_id":%d,"date":1,"from":{"id":%d,"first_name":"A"},"chat":{"id":%d,"type":"private"},"text":%q,"entities":[{"type":"bot_command","offset":0,"length":%d}]}}`,
		id, id, user, user, text, len(text)), time.Now())
	if err != nil {
		panic(err)
	}
	return u
}

func TestGotgbotsHandlersMoveOverUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		a, b := f.register(t, "a"), f.register(t, "b")
		ann := f.srv.NewUser("Ann")
		ann.Write(a, "/start")
		ann.Write(b, "/start")
		d := inbox.NewDispatcher(nil)
		var tenants []string
		var mu sync.Mutex
		d.AddHandler(handlers.NewCommand("start", func(b *gotgbot.Bot, ctx *ext.Context) error {
			mu.Lock()
			tenants = append(tenants, inbox.TenantOf(ctx).ID())
			mu.Unlock()
			_, err := ctx.EffectiveMessage.Reply(b, "hello from "+b.Username, nil)
			return err
		}))
		m := newMemory(t)
		w, err := inbox.NewWorkers(m, f.pool, d, inbox.WorkersConfig{})
		require.NoError(t, err)
		require.NoError(t, w.Start(bg))
		put(t, m, written("a", ann.ID, 1, "/start"), written("b", ann.ID, 1, "/start"))
		pass(time.Second)
		require.NoError(t, w.Stop(bg))
		assert.ElementsMatch(t, []string{"a", "b"}, tenants)
		assert.Equal(t, []string{"message"}, inbox.KindsOf(inbox.Chain(d)))
		isEmpty(t, m)
		assert.Equal(t, uint64(2), w.Stats().Handled)
	})
}

func TestACallWithoutAContextEndsWithItsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.register(t, "a")
		f.srv.Fail(bottest.Fault{Method: "getMe", Do: bottest.Hang()})
		d := inbox.NewDispatcher(nil)
		d.Retry(errors.Temporary)
		var took time.Duration
		var failed error
		d.AddHandler(handlers.NewMessage(nil, func(b *gotgbot.Bot, ctx *ext.Context) error {
			start := time.Now()
			_, failed = b.GetMe(nil)
			took = time.Since(start)
			assert.Error(t, inbox.ContextOf(ctx).Err())
			return failed
		}))
		m := newMemory(t)
		w, err := inbox.NewWorkers(m, f.pool, d, inbox.WorkersConfig{HandlerTimeout: 3 * time.Second, MaxAttempts: 1})
		require.NoError(t, err)
		require.NoError(t, w.Start(bg))
		put(t, m, written("a", 5, 1, "/x"))
		pass(time.Minute)
		require.NoError(t, w.Stop(bg))
		require.Error(t, failed)
		assert.Equal(t, 3*time.Second, took)
	})
}

func TestWhatADispatchersHandlerReturnsIsAsEverUnlessRetryIsAsked(t *testing.T) {
	temporary := &errors.Error{Kind: errors.Unavailable}
	for name, test := range map[string]struct {
		result error
		retry  func(error) bool
		want   error
	}{
		"done":                            {nil, errors.Temporary, nil},
		"an error is the error handler's": {temporary, nil, nil},
		"a temporary one may be retried":  {temporary, errors.Temporary, temporary},
		"another not":                     {errors.Blocked, errors.Temporary, nil},
		"continue is no error":            {ext.ContinueGroups, func(error) bool { return true }, nil},
		"end is none":                     {ext.EndGroups, func(error) bool { return true }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []error
			d := inbox.NewDispatcher(&ext.DispatcherOpts{Error: func(_ *gotgbot.Bot, _ *ext.Context, err error) ext.DispatcherAction {
				seen = append(seen, err)
				return ext.DispatcherActionNoop
			}})
			d.Retry(test.retry)
			others := 0
			d.AddHandler(handlers.NewMessage(nil, func(*gotgbot.Bot, *ext.Context) error { return test.result }))
			d.AddHandlerToGroup(handlers.NewMessage(nil, func(*gotgbot.Bot, *ext.Context) error { others++; return nil }), 1)
			err := d.HandleUpdate(bg, &tenant.Tenant{Bot: &gotgbot.Bot{}}, written("a", 1, 1, "/x"))
			assert.Equal(t, test.want, err)
			if errors.KindOf(test.result) != errors.Internal && test.result != nil {
				assert.Equal(t, []error{test.result}, seen)
			}
			if test.result != ext.EndGroups {
				assert.Equal(t, 1, others)
			}
		})
	}
}

func TestADispatchersPanicIsAFailedAttempt(t *testing.T) {
	var heard []any
	for name, set := range map[string]func(*inbox.Dispatcher){
		"as it is": func(*inbox.Dispatcher) {},
		"gotgbot's hook is set": func(d *inbox.Dispatcher) {
			d.Panic = func(_ *gotgbot.Bot, _ *ext.Context, r any) { heard = append(heard, r) }
		},
		"errors are reported": func(d *inbox.Dispatcher) { d.UnhandledErrFunc = func(err error) { heard = append(heard, err) } },
		"the hook itself panics": func(d *inbox.Dispatcher) {
			d.Panic = func(_ *gotgbot.Bot, _ *ext.Context, r any) { panic("in the hook: secret") }
		},
		"another processor is in": func(d *inbox.Dispatcher) { d.Processor = processor{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t)
				var logs bytes.Buffer
				heard = nil
				d := inbox.NewDispatcher(nil)
				set(d)
				tries := 0
				d.AddHandler(handlers.NewMessage(nil, func(*gotgbot.Bot, *ext.Context) error {
					if tries++; tries <= 3 {
						panic("the user wrote: secret")
					}
					return nil
				}))
				w, err := inbox.NewWorkers(m, botPool{}, d, inbox.WorkersConfig{MaxAttempts: 3, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
				require.NoError(t, err)
				require.NoError(t, w.Start(bg))
				put(t, m, written("a", 1, 1, "/x"), written("a", 1, 2, "/y"))
				pass(time.Minute)
				require.NoError(t, w.Stop(bg))
				assert.Equal(t, 4, tries)
				s := w.Stats()
				assert.Equal(t, [4]uint64{1, 2, 1, 3}, [4]uint64{s.Handled, s.Retried, s.Buried, s.Panics})
				dead, err := m.Dead(bg, inbox.DeadFilter{})
				require.NoError(t, err)
				require.Len(t, dead, 1)
				assert.Contains(t, dead[0].Reason, "panic of type string")
				assert.NotContains(t, dead[0].Reason, "\n")
				assert.NotContains(t, logs.String()+dead[0].Reason, "secret")
				assert.Contains(t, logs.String(), "dispatcher_test.go", "where it was")
				switch name {
				case "gotgbot's hook is set":
					assert.Equal(t, []any{"the user wrote: secret", "the user wrote: secret", "the user wrote: secret"}, heard)
				case "errors are reported":
					require.Len(t, heard, 3)
					require.ErrorIs(t, heard[0].(error), ext.ErrPanicRecovered)
				}
			})
		})
	}
}

type processor struct{ ext.BaseProcessor }

// botPool lends tenants whose bots can't be reached.
type botPool struct{ gotgbot.BotClient }

func (p botPool) Do(ctx context.Context, id string, f func(context.Context, *tenant.Tenant) error) error {
	return f(ctx, &tenant.Tenant{Bot: &gotgbot.Bot{BotClient: p.BotClient}, Record: tenant.Record{ID: id}})
}

// contexts keeps the context of each call.
type contexts struct {
	gotgbot.BotClient
	got []context.Context
}

func (c *contexts) RequestWithContext(ctx context.Context, _, _ string, _ map[string]any, _ *gotgbot.RequestOpts) (json.RawMessage, error) {
	c.got = append(c.got, ctx)
	return json.RawMessage(`{"id":1}`), nil
}

func TestADispatchersHandlersHaveTheWorkersContext(t *testing.T) {
	type key string
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		client := &contexts{}
		d := inbox.NewDispatcher(nil)
		var own context.Context
		var deadline time.Time
		d.AddHandler(handlers.NewMessage(nil, func(b *gotgbot.Bot, c *ext.Context) error {
			own = inbox.ContextOf(c)
			deadline, _ = own.Deadline()
			short, cancel := context.WithTimeout(context.WithValue(bg, key("theirs"), 2), time.Second)
			defer cancel()
			for _, ctx := range []context.Context{
				bg, context.TODO(), nil, //nolint:staticcheck // as others' code may
				context.WithValue(bg, key("theirs"), 2),
				context.WithValue(own, key("theirs"), 2),
				short,
				context.WithoutCancel(context.WithValue(own, key("theirs"), 2)),
			} {
				_, _ = b.GetMeWithContext(ctx, nil)
			}
			return nil
		}))
		w, err := inbox.NewWorkers(m, botPool{client}, d, inbox.WorkersConfig{})
		require.NoError(t, err)
		require.NoError(t, w.Start(context.WithValue(bg, key("worker's"), 1)))
		start := time.Now()
		put(t, m, written("a", 1, 1, "/x"))
		pass(time.Second)
		require.NoError(t, w.Stop(bg))
		assert.Equal(t, 1, own.Value(key("worker's")))
		assert.Equal(t, start.Add(30*time.Second), deadline)
		require.Len(t, client.got, 7)
		for i, ctx := range client.got {
			at, _ := ctx.Deadline()
			want, workers := deadline, any(1)
			switch i {
			case 5: // it has an end of its own
				want, workers = start.Add(time.Second), nil
			case 6: // it is to outlive the handler
				want = time.Time{}
				assert.NoError(t, ctx.Err())
			default:
				assert.ErrorIs(t, ctx.Err(), context.Canceled, "the handler has ended")
			}
			assert.Equal(t, want, at, i)
			assert.Equal(t, workers, ctx.Value(key("worker's")), i)
			if i >= 3 {
				assert.Equal(t, 2, ctx.Value(key("theirs")), i)
			}
		}
	})
}

func TestAnUpdateThatCantBeDecodedIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w, err := inbox.NewWorkers(m, poolFunc(nil), inbox.NewDispatcher(nil), inbox.WorkersConfig{})
		require.NoError(t, err)
		require.NoError(t, w.Start(bg))
		u, err := inbox.Parse("a", []byte(`{"update_id":1,"message":{"chat":{"id":5},"text":12}}`), time.Now())
		require.NoError(t, err)
		put(t, m, u)
		pass(time.Second)
		require.NoError(t, w.Stop(bg))
		assert.Equal(t, uint64(1), w.Stats().Buried)
	})
}

type odd struct{ ext.Handler }

func TestADispatcherKnowsTheKindsItsHandlersWant(t *testing.T) {
	r := func(*gotgbot.Bot, *ext.Context) error { return nil }
	for name, test := range map[string]struct {
		handlers []ext.Handler
		want     []string
	}{
		"none":        {nil, nil},
		"a message":   {[]ext.Handler{handlers.NewMessage(nil, r)}, []string{"message"}},
		"edits":       {[]ext.Handler{handlers.NewMessage(nil, r).SetAllowEdited(true)}, []string{"edited_message", "message"}},
		"channels":    {[]ext.Handler{handlers.NewMessage(nil, r).SetAllowEdited(true).SetAllowChannel(true)}, []string{"channel_post", "edited_channel_post", "edited_message", "message"}},
		"business":    {[]ext.Handler{handlers.NewMessage(nil, r).SetAllowBusiness(true)}, []string{"business_message", "message"}},
		"a command":   {[]ext.Handler{handlers.NewCommand("x", r).SetAllowChannel(true)}, []string{"channel_post", "message"}},
		"a named one": {[]ext.Handler{handlers.NewNamedhandler("n", handlers.NewChatMember(nil, r))}, []string{"chat_member"}},
		"a pointer":   {[]ext.Handler{&handlers.Message{}}, []string{"message"}},
		"any pointer": {[]ext.Handler{
			&handlers.ChatMember{}, &handlers.MyChatMember{}, &handlers.Reaction{}, &handlers.PreCheckoutQuery{},
			&handlers.Named{Handler: &handlers.Poll{}}, &handlers.Conversation{EntryPoints: []ext.Handler{&handlers.Command{}}},
		}, []string{"chat_member", "message", "message_reaction", "my_chat_member", "poll", "pre_checkout_query"}},
		"a pointer to one of ours": {[]ext.Handler{&odd{}}, nil},
		"no pointer":               {[]ext.Handler{(*handlers.Message)(nil)}, nil},
		"one of ours":              {[]ext.Handler{odd{}}, nil},
		"one among others":         {[]ext.Handler{handlers.NewMessage(nil, r), odd{}}, nil},
		"one that says":            {[]ext.Handler{kinded{kinds: []string{"guest_message"}}}, []string{"guest_message"}},
		"one of no kinds":          {[]ext.Handler{handlers.NewMessage(nil, r), kinded{}}, nil},
		"a pointer to one":         {[]ext.Handler{&kinded{kinds: []string{"guest_message"}}}, []string{"guest_message"}},
		"a pointer in a name":      {[]ext.Handler{&handlers.Named{Handler: &handlers.Reaction{}}}, []string{"message_reaction"}},
		"a conversation": {[]ext.Handler{handlers.NewConversation(
			[]ext.Handler{handlers.NewCommand("x", r)}, map[string][]ext.Handler{"s": {handlers.NewCallback(nil, r)}},
			&handlers.ConversationOpts{Exits: []ext.Handler{handlers.NewPollAnswer(nil, r)}, Fallbacks: []ext.Handler{handlers.NewReaction(nil, r)}},
		)}, []string{"callback_query", "message", "message_reaction", "poll_answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := inbox.NewDispatcher(nil)
			for _, h := range test.handlers {
				d.AddHandler(h)
			}
			assert.Equal(t, test.want, d.Kinds())
		})
	}
	d := inbox.NewDispatcher(nil)
	d.AddHandler(odd{})
	d.Want("poll")
	assert.Equal(t, []string{"poll"}, d.Kinds())
}

type kinded struct {
	ext.Handler
	kinds []string
}

func (k kinded) Kinds() []string { return k.kinds }

// As pointers gotgbot's handlers are handlers too.
func TestADispatcherKnowsTheKindsOfPointersToHandlers(t *testing.T) {
	for want, h := range map[string]ext.Handler{
		"business_connection": &handlers.BusinessConnection{}, "callback_query": &handlers.CallbackQuery{},
		"chat_join_request": &handlers.ChatJoinRequest{}, "chat_member": &handlers.ChatMember{},
		"chosen_inline_result": &handlers.ChosenInlineResult{}, "message": &handlers.Command{},
		"inline_query": &handlers.InlineQuery{}, "managed_bot": &handlers.ManagedBot{}, "my_chat_member": &handlers.MyChatMember{},
		"poll": &handlers.Poll{}, "poll_answer": &handlers.PollAnswer{}, "pre_checkout_query": &handlers.PreCheckoutQuery{},
		"purchased_paid_media": &handlers.PurchasedPaidMedia{}, "message_reaction": &handlers.Reaction{},
		"shipping_query": &handlers.ShippingQuery{},
	} {
		d := inbox.NewDispatcher(nil)
		d.AddHandler(h)
		assert.Equal(t, []string{want}, d.Kinds(), "%T", h)
	}
}

func TestTheKindsOfAHandlerShowThroughItsMiddleware(t *testing.T) {
	nothing := func(context.Context, *tenant.Tenant, inbox.Update) error { return nil }
	var mux, empty inbox.Mux
	mux.HandleFunc("chat_member", nothing)
	open := func(next inbox.Handler) inbox.Handler { return inbox.Wrap(next, next.HandleUpdate) }
	closed := func(next inbox.Handler) inbox.Handler { return inbox.HandlerFunc(next.HandleUpdate) }
	want := []string{"chat_member"}
	assert.Equal(t, want, inbox.KindsOf(open(open(&mux))))
	assert.Equal(t, want, inbox.KindsOf(inbox.Chain(open(&mux), open)))
	assert.Equal(t, want, inbox.KindsOf(inbox.Chain(&mux, open, closed)))
	assert.Nil(t, inbox.KindsOf(closed(&mux)), "nobody can know")
	for _, h := range []inbox.Handler{nil, inbox.HandlerFunc(nil), inbox.HandlerFunc(nothing), &empty, (*inbox.Mux)(nil), open(&empty), inbox.NewDispatcher(nil), inbox.Chain(nil, open)} {
		assert.Nil(t, inbox.KindsOf(h), "%T: an empty list would mean all but some", h)
	}
	assert.Nil(t, inbox.Chain(&mux, func(inbox.Handler) inbox.Handler { return nil }))
}

func TestASuspendedTenantsHandlerEndsAndItsUpdateComesWhenItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.register(t, "a")
		m := newMemory(t)
		var attempts []int
		w, err := inbox.NewWorkers(m, f.pool, inbox.HandlerFunc(func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			attempts = append(attempts, u.Attempt)
			if len(attempts) > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}), inbox.WorkersConfig{MaxAttempts: 1})
		require.NoError(t, err)
		require.NoError(t, w.Start(bg))
		put(t, m, message("a", 1, 1))
		pass(time.Second)
		_, err = f.Suspend(bg, "a", "test")
		require.NoError(t, err)
		pass(time.Hour)
		assert.Equal(t, []int{1}, attempts)
		_, err = f.Resume(bg, "a")
		require.NoError(t, err)
		synctest.Wait() // the pool says so
		assert.Equal(t, []int{1, 1}, attempts)
		require.NoError(t, w.Stop(bg))
		isEmpty(t, m)
	})
}

func TestAMuxHandsUpdatesToTheirKindsHandler(t *testing.T) {
	var mux inbox.Mux
	assert.NoError(t, mux.HandleUpdate(bg, nil, message("a", 1, 1)), "nobody's")
	assert.Nil(t, mux.Kinds())
	var got []string
	note := func(name string) inbox.HandlerFunc {
		return func(context.Context, *tenant.Tenant, inbox.Update) error {
			got = append(got, name)
			return errors.Blocked
		}
	}
	mux.HandleFunc("poll", note("poll"))
	mux.HandleFunc("message", note("old"))
	mux.Handle("message", note("message"))
	assert.ErrorIs(t, mux.HandleUpdate(bg, nil, message("a", 1, 1)), errors.Blocked)
	assert.Equal(t, []string{"message"}, got)
	assert.Equal(t, []string{"message", "poll"}, mux.Kinds())
	mux.HandleFunc("message", nil)
	assert.NoError(t, mux.HandleUpdate(bg, nil, message("a", 1, 1)), "nobody's again")
	assert.Equal(t, []string{"poll"}, mux.Kinds())
}

func TestMiddlewareIsPassedInTheOrderItIsGiven(t *testing.T) {
	var mux inbox.Mux
	var got []string
	mux.HandleFunc("message", func(context.Context, *tenant.Tenant, inbox.Update) error { got = append(got, "handler"); return nil })
	layer := func(name string) inbox.Middleware {
		return func(next inbox.Handler) inbox.Handler {
			return inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
				got = append(got, name)
				return next.HandleUpdate(ctx, t, u)
			})
		}
	}
	h := inbox.Chain(&mux, layer("outer"), layer("inner"))
	require.NoError(t, h.HandleUpdate(bg, nil, message("a", 1, 1)))
	assert.Equal(t, []string{"outer", "inner", "handler"}, got)
	assert.Equal(t, []string{"message"}, inbox.KindsOf(h), "the kinds show through")
}
