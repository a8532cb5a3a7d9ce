package webhook_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// replying serves one update with a handler that may reply.
func replying(t *testing.T, cfg webhook.Config, update string, h inbox.HandlerFunc) (*httptest.ResponseRecorder, time.Duration, *webhook.Receiver) {
	t.Helper()
	f := newFleet(t, bottest.NoLimits())
	f.add(t, "a")
	m := newMemory(t, inbox.MemoryConfig{})
	rc := newReceiver(t, m, f.keys, cfg)
	f.work(t, m, inbox.Chain(h, rc.Replies()))
	start := time.Now()
	w := serve(rc, request(f.keys, "a", update))
	took := time.Since(start)
	synctest.Wait()
	return w, took, rc
}

func TestAHandlerRepliesInTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var second error
		params := map[string]any{"callback_query_id": "7", "show_alert": true}
		w, took, rc := replying(t, webhook.Config{ReplyWithin: 5 * time.Second}, body(1), func(ctx context.Context, _ *tenant.Tenant, _ inbox.Update) error {
			time.Sleep(time.Second)
			require.NoError(t, webhook.Reply(ctx, "answerCallbackQuery", params))
			second = webhook.Reply(ctx, "sendChatAction", nil)
			time.Sleep(time.Minute) // the answer does not wait for the end
			return nil
		})
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.JSONEq(t, `{"method":"answerCallbackQuery","callback_query_id":"7","show_alert":true}`, w.Body.String())
		assert.Equal(t, time.Second, took)
		assert.ErrorIs(t, second, webhook.ErrNoReply, "there is one answer")
		assert.NotContains(t, params, "method")
		assert.Equal(t, uint64(1), rc.Stats().Replies)
	})
}

func TestAReplyThatIsTooLateIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late error
		w, took, _ := replying(t, webhook.Config{ReplyWithin: 5 * time.Second}, body(1), func(ctx context.Context, _ *tenant.Tenant, _ inbox.Update) error {
			time.Sleep(6 * time.Second)
			late = webhook.Reply(ctx, "sendChatAction", nil)
			return nil
		})
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Empty(t, w.Body.String())
		assert.Equal(t, 5*time.Second, took)
		pass(time.Minute)
		assert.ErrorIs(t, late, webhook.ErrNoReply)
	})
}

func TestAnAnswerWaitsNoLongerThanItsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, result := range []error{nil, errors.New("no")} {
			w, took, _ := replying(t, webhook.Config{ReplyWithin: 5 * time.Second}, body(1), func(context.Context, *tenant.Tenant, inbox.Update) error {
				time.Sleep(time.Second)
				return result
			})
			assert.Equal(t, http.StatusOK, w.Code, "the update is safe, whatever comes of it")
			assert.Empty(t, w.Body.String())
			assert.Equal(t, time.Second, took)
		}
		_, took, _ := replying(t, webhook.Config{ReplyWithin: 5 * time.Second}, body(1), func(context.Context, *tenant.Tenant, inbox.Update) error {
			panic("boom")
		})
		assert.Zero(t, took)
	})
}

func TestOnlyAnswersThatAreSelectedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		_, took, _ := replying(t, webhook.Config{ReplyWithin: 5 * time.Second, ReplyTo: func(u inbox.Update) bool { return u.Kind == "callback_query" }}, body(1),
			func(ctx context.Context, _ *tenant.Tenant, _ inbox.Update) error {
				time.Sleep(time.Second)
				err = webhook.Reply(ctx, "sendChatAction", nil)
				return nil
			})
		assert.Zero(t, took)
		pass(time.Minute)
		assert.ErrorIs(t, err, webhook.ErrNoReply)
	})
}

func TestWhatCantBeCalledInAnAnswerIsRefused(t *testing.T) {
	for _, method := range []string{"", "setWebhook", "deletewebhook", "close", "logOut", "getMe", "GetUpdates"} {
		assert.ErrorIs(t, webhook.Reply(bg, method, nil), errors.BadRequest, method)
	}
	assert.ErrorIs(t, webhook.Reply(bg, "sendMessage", nil), webhook.ErrNoReply)
	synctest.Test(t, func(t *testing.T) {
		var err error
		replying(t, webhook.Config{ReplyWithin: time.Second}, body(1), func(ctx context.Context, _ *tenant.Tenant, _ inbox.Update) error {
			err = webhook.Reply(ctx, "sendMessage", map[string]any{"text": func() {}})
			return nil
		})
		assert.ErrorIs(t, err, errors.BadRequest)
	})
}

func TestTelegramCarriesOutAReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		m := newMemory(t, inbox.MemoryConfig{})
		rc := newReceiver(t, m, f.keys, webhook.Config{ReplyWithin: 5 * time.Second})
		f.deliverTo(rc)
		f.work(t, m, inbox.Chain(inbox.HandlerFunc(func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			return webhook.Reply(ctx, "sendMessage", map[string]any{"chat_id": u.Chat, "text": "hello"})
		}), rc.Replies()))
		_, err := f.webhooks(t, webhook.ManagerConfig{}).Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		ann.Write(bot, "hi")
		pass(time.Second)
		messages := f.srv.Messages(ann.ID)
		require.Len(t, messages, 2)
		assert.Equal(t, "hello", messages[1].Text)
		assert.Equal(t, 1, f.srv.CallCount("sendMessage"))
	})
}

// Telegram sends an update again while the first still waits; or the client is
// gone.
func TestAnAnswersEndFreesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{}), keys, webhook.Config{ReplyWithin: 30 * time.Second})
		ctx, cancel := context.WithCancel(bg)
		var wg sync.WaitGroup
		start := time.Now()
		wg.Go(func() { serve(rc, request(keys, "a", body(1)).WithContext(ctx)) })
		synctest.Wait()
		assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(1))).Code)
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
		assert.Equal(t, time.Second, time.Since(start))
	})
}
