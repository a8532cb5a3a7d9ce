package webhook_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// tape is what handlers saw of each chat.
type tape struct {
	mu    sync.Mutex
	chats map[string][]string
	count map[inbox.Ref]int
}

func (p *tape) HandleUpdate(_ context.Context, t *tenant.Tenant, u inbox.Update) error {
	d, err := u.Decode()
	if err != nil {
		return inbox.Permanent(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.chats == nil {
		p.chats, p.count = make(map[string][]string), make(map[inbox.Ref]int)
	}
	chat := t.ID() + "/" + u.Chat
	text := ""
	switch {
	case d.Message != nil:
		text = d.Message.Text
	case d.CallbackQuery != nil:
		text = d.CallbackQuery.Data
	}
	p.chats[chat] = append(p.chats[chat], text)
	p.count[u.Ref()]++
	return nil
}

// Telegram delivers while the inbox is full, then broken, then hangs, and the
// network loses answers: every update is handled, once, and in its chat's
// order.
func TestNoneIsLostNoneComesTwiceAndNoneOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		m := newMemory(t, inbox.MemoryConfig{MaxPerTenant: 5, RetryAfter: 3 * time.Second})
		var state atomic.Int64
		rc := newReceiver(t, putFunc(func(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			switch state.Load() {
			case 1:
				return nil, errors.New("disk on fire")
			case 2:
				<-ctx.Done()
				return nil, ctx.Err()
			case 3: // stored, and nobody learns it
				if rand.IntN(3) == 0 {
					_, _ = m.Put(ctx, batch)
					return nil, errors.New("connection reset")
				}
			}
			return m.Put(ctx, batch)
		}), f.keys, webhook.Config{})
		f.deliverTo(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rc.ServeHTTP(w, r)
			if state.Load() == 3 && rand.IntN(4) == 0 {
				panic(http.ErrAbortHandler)
			}
		}))
		p := &tape{}
		f.work(t, m, p)
		hooks := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		const tenants, users, texts = 4, 6, 30
		var bots []*bottest.Bot
		for i := range tenants {
			id := fmt.Sprint("t", i)
			bots = append(bots, f.add(t, id))
			_, err := hooks.Ensure(bg, id, webhook.Options{})
			require.NoError(t, err)
		}
		var people []*bottest.User
		for i := range users {
			people = append(people, f.srv.NewUser(fmt.Sprint("U", i)))
		}
		for n := range texts {
			state.Store(int64(n / 5 % 5))
			for _, b := range bots {
				for _, u := range people {
					u.Write(b, fmt.Sprintf("%03d", n))
				}
			}
			pass(5 * time.Second)
		}
		state.Store(0)
		pass(30 * time.Minute)
		require.Len(t, p.chats, tenants*users)
		for chat, got := range p.chats {
			require.Len(t, got, texts, chat)
			for n, text := range got {
				require.Equal(t, fmt.Sprintf("%03d", n), text, chat)
			}
		}
		for ref, n := range p.count {
			require.Equal(t, 1, n, "%v", ref)
		}
		for _, b := range bots {
			assert.Zero(t, b.Pending())
		}
		s := rc.Stats()
		assert.NotZero(t, s.Failed)
		assert.NotZero(t, s.Full)
		assert.NotZero(t, s.Duplicates)
		t.Logf("%+v", s)
	})
}

func TestASuspendedTenantsUpdatesComeWhenItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		m := newMemory(t, inbox.MemoryConfig{})
		f.deliverTo(newReceiver(t, m, f.keys, webhook.Config{Tenants: f.store}))
		p := &tape{}
		f.work(t, m, p)
		_, err := f.webhooks(t, unpaced(webhook.ManagerConfig{})).Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		_, err = f.Suspend(bg, "a", "did not pay")
		require.NoError(t, err)
		for n := range 3 {
			ann.Write(bot, fmt.Sprint(n))
		}
		pass(20 * time.Hour)
		assert.Empty(t, p.chats)
		assert.Equal(t, 3, bot.Pending())
		_, err = f.Resume(bg, "a")
		require.NoError(t, err)
		pass(15 * time.Minute)
		assert.Equal(t, map[string][]string{fmt.Sprint("a/", ann.ID): {"0", "1", "2"}}, p.chats)
	})
}

// A button is pressed and a message written in the same chat: Telegram may
// deliver them side by side, and still one is handled after the other.
func TestACallbackQueryIsInItsChatsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		m := newMemory(t, inbox.MemoryConfig{})
		f.deliverTo(newReceiver(t, m, f.keys, webhook.Config{}))
		_, err := f.webhooks(t, unpaced(webhook.ManagerConfig{})).Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		ann.Start(bot, "")
		require.NoError(t, f.pool.Do(bg, "a", func(ctx context.Context, tn *tenant.Tenant) error {
			_, err := tn.Bot.SendMessageWithContext(ctx, ann.ID, "well?", &gotgbot.SendMessageOpts{ReplyMarkup: gotgbot.InlineKeyboardMarkup{
				InlineKeyboard: [][]gotgbot.InlineKeyboardButton{{{Text: "yes", CallbackData: "yes"}}}}})
			return err
		}))
		messages := f.srv.Messages(ann.ID)
		question := messages[len(messages)-1]
		for n := range 10 {
			if n%2 == 0 {
				ann.Write(bot, fmt.Sprint(n))
			} else {
				ann.Press(&question, "yes")
			}
		}
		pass(time.Second) // all are in the inbox
		p := &tape{}
		f.work(t, m, p)
		pass(time.Second)
		assert.Equal(t, map[string][]string{fmt.Sprint("a/", ann.ID): {"/start", "0", "yes", "2", "yes", "4", "yes", "6", "yes", "8", "yes"}}, p.chats)
	})
}
