package ownership_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// From the tap on the link to the bot's thanks, by long polls and workers, and
// for bots that users create as well.
func TestAnOwnerProvesItThroughTheSourceThatIsActive(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, bot *bottest.Bot, ann *bottest.User, r tenant.Record) {
		factory := s.srv.NewBot("factory_bot")
		_, err := s.manager.Register(bg, "manager", factory.Token())
		require.NoError(t, err)
		managed, err := ownership.NewManaged(s.owners, s.manager, s.store, ownership.ManagedConfig{Manager: "manager"})
		require.NoError(t, err)

		var handled []string
		h := inbox.Chain(inbox.HandlerFunc(func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			handled = append(handled, u.Kind)
			return nil
		}), s.owners.Middleware(func(ctx context.Context, t *tenant.Tenant, r ownership.Result) error {
			_, err := t.Bot.SendMessageWithContext(ctx, r.User, "It is "+r.Outcome.String(), nil)
			return err
		}), managed.Middleware())
		in, err := inbox.NewMemory(inbox.MemoryConfig{})
		require.NoError(t, err)
		workers, err := inbox.NewWorkers(in, s.pool, h, inbox.WorkersConfig{})
		require.NoError(t, err)
		require.NoError(t, workers.Start(bg))
		p, err := polling.New(s.session, s.store, in, polling.Config{})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		p.Add("shop", "manager")
		time.Sleep(time.Minute)
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)

		i, err := s.owners.Invite(bg, r, 0)
		require.NoError(t, err)
		ann.Start(bot, payload(t, i)[len("/start "):])
		made := s.srv.NewManagedBot(factory, ann, "made_bot")
		time.Sleep(time.Minute)
		require.NoError(t, s.send("shop", ann.ID))
		r, err = s.store.ByBot(bg, made.ID())
		require.NoError(t, err)
		owner, err := s.owners.Owner(bg, r)
		require.NoError(t, err)
		assert.Equal(t, ann.ID, owner.User)

		require.NoError(t, p.Stop(bg))
		require.NoError(t, workers.Stop(bg))
		synctest.Wait()
		messages := s.srv.Messages(ann.ID)
		var said []string
		for _, m := range messages {
			said = append(said, m.Text)
		}
		assert.Contains(t, said, "It is proved")
		assert.Equal(t, []string{"message", "managed_bot"}, handled, "the /start without a code, and the new bot")
	})
}

// Updates of a chat are handled in their order, and the code comes in the chat
// whose earlier messages the bot may not answer yet.
func TestWhatCanNotBeAnsweredYetDoesNotHoldUpTheCode(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, bot *bottest.Bot, ann *bottest.User, r tenant.Record) {
		answer := inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
			_, err := t.Bot.SendMessageWithContext(ctx, ann.ID, "welcome", nil)
			return err
		})
		in, err := inbox.NewMemory(inbox.MemoryConfig{})
		require.NoError(t, err)
		workers, err := inbox.NewWorkers(in, s.pool, inbox.Chain(answer, s.owners.Middleware(nil)), inbox.WorkersConfig{})
		require.NoError(t, err)
		require.NoError(t, workers.Start(bg))
		p, err := polling.New(s.session, s.store, in, polling.Config{})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		p.Add("shop")
		for range 3 {
			ann.Write(bot, "hello")
		}
		time.Sleep(time.Second)
		i, err := s.owners.Invite(bg, r, 0)
		require.NoError(t, err)
		ann.Start(bot, payload(t, i)[len("/start "):])
		time.Sleep(10 * time.Second)
		_, err = s.owners.Owner(bg, r)
		require.NoError(t, err)
		dead, err := in.Dead(bg, inbox.DeadFilter{Tenant: "shop"})
		require.NoError(t, err)
		assert.NotEmpty(t, dead, "and it is not lost")
		ann.Write(bot, "hello again")
		time.Sleep(time.Second)
		assert.Equal(t, 1, s.srv.CallCount("sendMessage"))
		require.NoError(t, p.Stop(bg))
		require.NoError(t, workers.Stop(bg))
	})
}
