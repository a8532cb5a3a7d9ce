package ownership_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
)

// managing runs a test with a manager's bot, which is the tenant "manager".
func managing(t *testing.T, cfg ownership.ManagedConfig, test func(t *testing.T, s *manager)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &manager{service: newService(t)}
		defer s.close(t)
		s.bot, s.ann = s.srv.NewBot("factory_bot"), s.srv.NewUser("Ann")
		_, err := s.manager.Register(bg, "manager", s.bot.Token())
		require.NoError(t, err)
		cfg.Manager = "manager"
		s.managed, err = ownership.NewManaged(s.owners, s.manager, s.store, cfg)
		require.NoError(t, err)
		test(t, s)
	})
}

type manager struct {
	*service
	bot     *bottest.Bot
	ann     *bottest.User
	managed *ownership.Managed
}

// do lends the manager's bot.
func (m *manager) do(t testing.TB, f func(b *gotgbot.Bot) error) error {
	t.Helper()
	return m.pool.Do(bg, "manager", func(_ context.Context, t *tenant.Tenant) error { return f(t.Bot) })
}

// handle gets the manager's updates and hands them through the middleware.
func (m *manager) handle(t testing.TB) (passed int, err error) {
	t.Helper()
	h := m.managed.Middleware()(inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error {
		passed++
		return nil
	}))
	err = m.pool.Do(bg, "manager", func(ctx context.Context, owner *tenant.Tenant) error {
		updates, err := owner.Bot.GetUpdatesWithContext(ctx, nil)
		if err != nil {
			return err
		}
		for _, d := range updates {
			if err := h.HandleUpdate(ctx, owner, update(t, "manager", "managed_bot", d.ManagedBot)); err != nil {
				return err
			}
			if _, err := owner.Bot.GetUpdatesWithContext(ctx, &gotgbot.GetUpdatesOpts{Offset: d.UpdateId + 1, Limit: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	return passed, err
}

func TestAManagedBotBecomesATenantOfItsCreator(t *testing.T) {
	var told []string
	managing(t, ownership.ManagedConfig{
		Name: func(_ context.Context, m gotgbot.ManagedBotUpdated) (string, []tenant.Option, error) {
			return "of-" + m.User.FirstName, []tenant.Option{tenant.WithMetadata(map[string]string{"plan": "free"})}, nil
		},
		OnManaged: func(_ context.Context, r tenant.Record, _ ownership.Proof) { told = append(told, r.ID) },
	}, func(t *testing.T, s *manager) {
		made := s.srv.NewManagedBot(s.bot, s.ann, "made_bot")
		n, err := s.handle(t)
		require.NoError(t, err)
		assert.Equal(t, 1, n, "the handler may greet the owner")
		r, err := s.store.Get(bg, "of-Ann")
		require.NoError(t, err)
		assert.Equal(t, made.ID(), r.BotID)
		assert.Equal(t, "free", r.Metadata["plan"])
		p, err := s.owners.Owner(bg, r)
		require.NoError(t, err)
		assert.Equal(t, s.ann.ID, p.User)
		assert.Equal(t, ownership.ByManager, p.Method)
		assert.Equal(t, []string{"of-Ann"}, told)

		s.ann.Start(made, "")
		require.NoError(t, s.send("of-Ann", s.ann.ID), "it is verified")
	})
}

func TestATokenIsRotatedByTheManager(t *testing.T) {
	managing(t, ownership.ManagedConfig{}, func(t *testing.T, s *manager) {
		made := s.srv.NewManagedBot(s.bot, s.ann, "made_bot")
		_, err := s.handle(t)
		require.NoError(t, err)
		old, err := s.store.ByBot(bg, made.ID())
		require.NoError(t, err)
		s.ann.Start(made, "")

		require.NoError(t, s.do(t, func(b *gotgbot.Bot) error {
			r, err := s.managed.Replace(bg, b, old.ID)
			assert.False(t, r.Token.Equal(old.Token))
			return err
		}))
		require.NoError(t, s.send(old.ID, s.ann.ID))
		r, err := s.store.Get(bg, old.ID)
		require.NoError(t, err)
		assert.Equal(t, made.Token(), r.Token.Reveal())

		// Telegram tells the manager of the change too, which changes nothing.
		_, err = s.handle(t)
		require.NoError(t, err)
		again, err := s.store.Get(bg, old.ID)
		require.NoError(t, err)
		assert.Equal(t, r.Version, again.Version)

		// The owner rotates it elsewhere, and the tenant is quarantined first.
		made.RotateToken()
		require.ErrorIs(t, s.send(old.ID, s.ann.ID), errors.Unauthorized)
		require.NoError(t, s.do(t, func(b *gotgbot.Bot) error {
			r, err := s.managed.Fetch(bg, b, old.ID)
			assert.Equal(t, tenant.Active, r.Status)
			return err
		}))
		require.NoError(t, s.send(old.ID, s.ann.ID))

		// Nobody may have heard of one that is stored already.
		before := s.active.Load()
		require.NoError(t, s.do(t, func(b *gotgbot.Bot) error {
			_, err := s.managed.Fetch(bg, b, old.ID)
			return err
		}))
		assert.Equal(t, before+1, s.active.Load())
	})
}

func TestAReplacementWhoseAnswerWasLostIsAskedFor(t *testing.T) {
	for name, test := range map[string]struct {
		do   bottest.Action
		made bool
	}{
		"it was made":     {bottest.ResetAfter(), true},
		"it was not made": {bottest.Respond(500, "application/json", `{"ok":false,"error_code":500,"description":"Internal Server Error"}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			managing(t, ownership.ManagedConfig{}, func(t *testing.T, s *manager) {
				made := s.srv.NewManagedBot(s.bot, s.ann, "made_bot")
				_, err := s.handle(t)
				require.NoError(t, err)
				r, err := s.store.ByBot(bg, made.ID())
				require.NoError(t, err)
				s.srv.Fail(bottest.Fault{Method: "replaceManagedBotToken", Times: 1, Do: test.do})
				err = s.do(t, func(b *gotgbot.Bot) error {
					_, err := s.managed.Replace(bg, b, r.ID)
					return err
				})
				if !test.made {
					require.Error(t, err)
				} else {
					require.NoError(t, err)
				}
				r, err = s.store.Get(bg, r.ID)
				require.NoError(t, err)
				assert.Equal(t, made.Token(), r.Token.Reveal())
			})
		})
	}
}

func TestOnlyTheManagersUpdatesAreBelieved(t *testing.T) {
	managing(t, ownership.ManagedConfig{}, func(t *testing.T, s *manager) {
		made := s.srv.NewManagedBot(s.bot, s.ann, "made_bot")
		forged := gotgbot.ManagedBotUpdated{
			User: gotgbot.User{Id: 666, FirstName: "Mallory"}, Bot: gotgbot.User{Id: made.ID(), IsBot: true},
		}
		require.NoError(t, s.do(t, func(b *gotgbot.Bot) error {
			_, ok, err := s.managed.Check(bg, b, update(t, "customer", "managed_bot", forged))
			assert.False(t, ok, "a customer's bot may manage bots too")
			require.NoError(t, err)
			_, ok, err = s.managed.Check(bg, b, update(t, "manager", "message", says(666, "hello")))
			assert.False(t, ok)
			require.NoError(t, err)
			_, _, err = s.managed.Check(bg, b, update(t, "manager", "managed_bot", map[string]any{"user": 7}))
			assert.ErrorIs(t, err, errors.BadReply)
			forged.Bot.Id = s.srv.NewBot("foreign_bot").ID()
			_, _, err = s.managed.Check(bg, b, update(t, "manager", "managed_bot", forged))
			assert.Error(t, err, "Telegram gives no token of a bot that is not managed")
			return nil
		}))
		_, err := s.store.ByBot(bg, made.ID())
		assert.ErrorIs(t, err, errors.NotFound)
	})
}

func TestABotThatIsRefusedIsTheEndOfIt(t *testing.T) {
	var refusal error
	managing(t, ownership.ManagedConfig{
		Name: func(context.Context, gotgbot.ManagedBotUpdated) (string, []tenant.Option, error) {
			return "", nil, refusal
		},
	}, func(t *testing.T, s *manager) {
		s.srv.NewManagedBot(s.bot, s.ann, "made_bot")
		refusal = errors.ConnectionFailed
		_, err := s.handle(t)
		require.Error(t, err, "the update comes again")
		refusal = errors.Forbidden
		n, err := s.handle(t)
		require.NoError(t, err)
		assert.Zero(t, n, "the handler hears nothing")
	})
}

func TestManagedBotsNeedAllOfTheirParts(t *testing.T) {
	_, err := ownership.NewManaged(nil, nil, nil, ownership.ManagedConfig{})
	for _, name := range []string{"verifier", "tenants", "records", "Manager"} {
		assert.ErrorContains(t, err, name)
	}
}
