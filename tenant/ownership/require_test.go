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
)

// virtual runs a test in a bubble whose clock jumps, with a tenant "shop" whose
// bot ann has started.
func virtual(t *testing.T, test func(t *testing.T, s *service, bot *bottest.Bot, ann *bottest.User, r tenant.Record)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		defer s.close(t)
		bot, ann := s.srv.NewBot("shop_bot"), s.srv.NewUser("Ann")
		ann.Start(bot, "")
		r, err := s.manager.Register(bg, "shop", bot.Token())
		require.NoError(t, err)
		test(t, s, bot, ann, r)
	})
}

func TestATenantMustBeVerifiedBeforeItSends(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, bot *bottest.Bot, ann *bottest.User, r tenant.Record) {
		err := s.send("shop", ann.ID)
		require.ErrorIs(t, err, errors.Unverified)
		assert.Equal(t, 403, errors.HTTPStatus(err))
		assert.True(t, errors.SafeToRepeat(err))
		assert.Contains(t, errors.Friendly(err, "en"), "press Start")
		assert.Zero(t, s.srv.CallCount("sendMessage"), "nothing was sent")

		// It may do what its owner's proof takes.
		require.NoError(t, s.pool.Do(bg, "shop", func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.GetUpdatesWithContext(ctx, nil)
			if err == nil {
				_, err = t.Bot.SetWebhookWithContext(ctx, "https://example.com/hook", nil)
			}
			if err == nil {
				_, err = t.Bot.DeleteWebhookWithContext(ctx, nil)
			}
			return err
		}))
		i, err := s.owners.Invite(bg, r, ann.ID)
		require.NoError(t, err)
		res, err := s.owners.Check(bg, update(t, "shop", "message", *ann.Write(bot, i.Code)))
		require.NoError(t, err)
		require.Equal(t, ownership.Proved, res.Outcome)
		require.NoError(t, s.send("shop", ann.ID), "at once")
	})
}

func TestAnotherProcessLearnsOfAProofWithinSeconds(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, _ *bottest.Bot, ann *bottest.User, r tenant.Record) {
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)
		elsewhere := newVerifier(t, s.proofs, ownership.Config{})
		_, err := elsewhere.Vouch(bg, r, ann.ID)
		require.NoError(t, err)
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)
		time.Sleep(5 * time.Second)
		require.NoError(t, s.send("shop", ann.ID))
		require.NoError(t, elsewhere.Forget(bg, "shop"))
		require.NoError(t, s.send("shop", ann.ID))
		time.Sleep(time.Minute)
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)
	})
}

func TestTheStoreIsNotAskedForEachCall(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, _ *bottest.Bot, ann *bottest.User, r tenant.Record) {
		for range 100 {
			require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)
		}
		assert.Equal(t, 1, s.proofs.count())
		_, err := s.owners.Vouch(bg, r, ann.ID)
		require.NoError(t, err)
		for range 100 {
			require.NoError(t, s.send("shop", ann.ID))
			time.Sleep(time.Second)
		}
		assert.Equal(t, 2, s.proofs.count())
	})
}

func TestAVerifiedTenantSendsWhileTheStoreIsDown(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, _ *bottest.Bot, ann *bottest.User, r tenant.Record) {
		s.proofs.set(errors.ConnectionFailed)
		require.ErrorIs(t, s.send("shop", ann.ID), errors.ConnectionFailed, "nobody knows")
		_, err := s.owners.Vouch(bg, r, ann.ID)
		require.NoError(t, err)
		for range 10 {
			time.Sleep(time.Hour)
			require.NoError(t, s.send("shop", ann.ID))
		}
	})
}

func TestATenantWithAnotherBotIsToBeVerifiedAnew(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, _ *bottest.Bot, ann *bottest.User, r tenant.Record) {
		_, err := s.owners.Vouch(bg, r, ann.ID)
		require.NoError(t, err)
		require.NoError(t, s.send("shop", ann.ID))
		require.NoError(t, s.manager.Remove(bg, "shop"))
		other := s.srv.NewBot("other_bot")
		ann.Start(other, "")
		r, err = s.manager.Register(bg, "shop", other.Token())
		require.NoError(t, err)
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)
		_, err = newVerifier(t, s.proofs, ownership.Config{}).Vouch(bg, r, ann.ID)
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		require.NoError(t, s.send("shop", ann.ID))
	})
}

func TestAProofOfABotThatTheTenantHadBeforeIsNone(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, _ *bottest.Bot, ann *bottest.User, r tenant.Record) {
		r.BotID++
		_, err := newVerifier(t, s.proofs, ownership.Config{}).Vouch(bg, r, ann.ID)
		require.NoError(t, err)
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified)
		assert.Equal(t, 1, s.proofs.count())
	})
}

func TestTheMiddlewareKeepsCodesFromTheHandlerAndNothingElse(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, bot *bottest.Bot, ann *bottest.User, r tenant.Record) {
		var handled []string
		var told []ownership.Outcome
		h := s.owners.Middleware(func(ctx context.Context, t *tenant.Tenant, r ownership.Result) error {
			told = append(told, r.Outcome)
			return nil
		})(inbox.HandlerFunc(func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			d, err := u.Decode()
			handled = append(handled, d.Message.Text)
			return err
		}))
		write := func(text string) {
			require.NoError(t, h.HandleUpdate(bg, nil, update(t, "shop", "message", *ann.Write(bot, text))))
		}
		write("/start")
		write("/start from_the_flyer")
		write("0000-1111-2222-3333") // a gift card's number
		write("/start verify-0000111122223333")
		i, err := s.owners.Invite(bg, r, ann.ID)
		require.NoError(t, err)
		write("0000-1111-2222-3333")
		write(i.Code)
		write("thanks")
		assert.Equal(t, []string{"/start", "/start from_the_flyer", "0000-1111-2222-3333", "0000-1111-2222-3333", "thanks"}, handled)
		assert.Equal(t, []ownership.Outcome{ownership.Refused, ownership.Refused, ownership.Proved}, told)

		// What answers may fail; then the update comes again.
		broken := errors.New("no answer")
		h = s.owners.Middleware(func(context.Context, *tenant.Tenant, ownership.Result) error { return broken })(nil)
		u := update(t, "shop", "message", *ann.Write(bot, i.Code))
		require.ErrorIs(t, h.HandleUpdate(bg, nil, u), broken)
	})
}

func TestABotMayAnswerWhoIsToProveIt(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, bot *bottest.Bot, ann *bottest.User, _ tenant.Record) {
		h := s.owners.Middleware(func(ctx context.Context, t *tenant.Tenant, r ownership.Result) error {
			_, err := t.Bot.SendMessageWithContext(ctx, r.User, "This code is not valid.", nil)
			return err
		})(nil)
		u := update(t, "shop", "message", *ann.Write(bot, "/start verify-0000111122223333"))
		require.NoError(t, s.pool.Do(bg, "shop", func(ctx context.Context, t *tenant.Tenant) error { return h.HandleUpdate(ctx, t, u) }))
		assert.Equal(t, 1, s.srv.CallCount("sendMessage"))
		require.ErrorIs(t, s.send("shop", ann.ID), errors.Unverified, "and nothing else")
	})
}

func TestMethodsThatNobodySeesAreLetThrough(t *testing.T) {
	virtual(t, func(t *testing.T, s *service, _ *bottest.Bot, ann *bottest.User, _ tenant.Record) {
		lease, err := s.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		defer lease.Release()
		for method, quiet := range map[string]bool{
			"getMe": true, "GETME": true, "getChat": true, "setwebhook": true, "deleteWebhook": true,
			"get": false, "sendMessage": false, "sendChatAction": false, "forwardMessage": false, "editMessageText": false,
			"setMyName": false, "setMyCommands": false, "answerCallbackQuery": false, "deleteMessage": false, "banChatMember": false,
			"replaceManagedBotToken": false, "copyMessage": false,
		} {
			_, err := lease.Tenant().Bot.RequestWithContext(bg, method, map[string]any{"chat_id": ann.ID, "url": ""}, nil)
			assert.Equal(t, !quiet, errors.Is(err, errors.Unverified), method)
		}
	})
}
