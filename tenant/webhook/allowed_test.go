package webhook_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// usualKinds are those that a bot gets that asks for none in particular.
func usualKinds() []string {
	return slices.DeleteFunc(inbox.Kinds(), func(kind string) bool {
		return kind == "chat_member" || kind == "message_reaction" || kind == "message_reaction_count"
	})
}

// The server does not tell the usual kinds.
func TestTheUsualKindsAreSetOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for _, id := range []string{"a", "b", "c"} {
			f.add(t, id)
		}
		reconcile := func(kinds []string) int {
			r, err := f.webhooks(t, unpaced(webhook.ManagerConfig{AllowedUpdates: kinds})).Reconcile(bg, webhook.Reconcile{})
			require.NoError(t, err)
			return r.Changed
		}
		assert.Equal(t, 3, reconcile(usualKinds()))
		assert.Zero(t, reconcile(usualKinds()))
		assert.Zero(t, reconcile(nil), "those are the same")
		assert.Equal(t, 3, reconcile(inbox.Kinds()))
		assert.Zero(t, reconcile(inbox.Kinds()))
		assert.Equal(t, 3, reconcile(nil))
	})
}

// older answers as a server that does not know a kind.
type older struct {
	gotgbot.BotClient
	unknown string
}

func (o older) RequestWithContext(ctx context.Context, token, method string, params map[string]any, opts *gotgbot.RequestOpts) (json.RawMessage, error) {
	if kinds, ok := params["allowed_updates"].([]string); ok {
		params["allowed_updates"] = slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return kind == o.unknown })
	}
	return o.BotClient.RequestWithContext(ctx, token, method, params, opts)
}

type poolFunc func(ctx context.Context, id string, f func(context.Context, *tenant.Tenant) error) error

func (p poolFunc) Do(ctx context.Context, id string, f func(context.Context, *tenant.Tenant) error) error {
	return p(ctx, id, f)
}

func TestAKindThatTheServerDoesNotKnowIsNotAskedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for _, id := range []string{"a", "b", "c"} {
			f.add(t, id)
		}
		pool := poolFunc(func(ctx context.Context, id string, do func(context.Context, *tenant.Tenant) error) error {
			return f.pool.Do(ctx, id, func(ctx context.Context, tn *tenant.Tenant) error {
				bot := *tn.Bot
				bot.BotClient = older{bot.BotClient, "managed_bot"}
				return do(ctx, &tenant.Tenant{Record: tn.Record, Bot: &bot})
			})
		})
		start := func() *webhook.Manager {
			m, err := webhook.NewManager(pool, f.Manager, f.keys, unpaced(webhook.ManagerConfig{
				URL: hookURL, AllowedUpdates: []string{"message", "managed_bot"}, Concurrency: 1,
			}))
			require.NoError(t, err)
			return m
		}
		changed := func(m *webhook.Manager) int {
			r, err := m.Reconcile(bg, webhook.Reconcile{})
			require.NoError(t, err)
			assert.Zero(t, r.Failed)
			return r.Changed
		}
		m := start()
		assert.Equal(t, 3, changed(m))
		assert.Equal(t, 1, changed(m), "the first that is so tells")
		assert.Zero(t, changed(m))
		assert.Equal(t, 1, changed(start()), "a new process has to find it out")
		_, err := f.webhooks(t, unpaced(webhook.ManagerConfig{AllowedUpdates: []string{"poll"}})).Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		asked := f.srv.CallCount("getWebhookInfo")
		assert.Equal(t, 3, changed(m), "and what differs beyond that is set")
		assert.Equal(t, asked+3, f.srv.CallCount("getWebhookInfo"), "without finding out again")
	})
}

func TestWhatWasAskedForIsKnownByTheUpdatesThatCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		m := newMemory(t, inbox.MemoryConfig{})
		f.deliverTo(http.Handler(newReceiver(t, m, f.keys, webhook.Config{})))
		_, err := f.webhooks(t, unpaced(webhook.ManagerConfig{AllowedUpdates: usualKinds()})).Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		ann.Write(bot, "hi")
		synctest.Wait()
		assert.Equal(t, 1, depth(t, m))
	})
}
