package ownership_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/ownership/ownershiptest"
)

func TestMemoryStore(t *testing.T) {
	ownershiptest.TestStore(t, ownershiptest.Harness{
		Open: func(*testing.T) ownership.Store { return ownership.NewMemoryStore() },
	})
}

func TestTheConfigurationIsChecked(t *testing.T) {
	_, err := ownership.New(nil, []byte("short"), ownership.Config{Expiry: -1, MaxAttempts: -1, CacheFor: -1})
	for _, name := range []string{"store", "key", "Expiry", "MaxAttempts", "CacheFor"} {
		assert.ErrorContains(t, err, name)
	}
	_, err = newVerifier(t, ownership.NewMemoryStore(), ownership.Config{}).Invite(bg, tenant.Record{}, -1)
	assert.ErrorIs(t, err, errors.BadRequest)
}

// payload is what the deep link makes Telegram send.
func payload(t testing.TB, i ownership.Invitation) string {
	t.Helper()
	at, err := url.Parse(i.Link)
	require.NoError(t, err)
	require.Equal(t, "https://t.me/shop_bot", at.Scheme+"://"+at.Host+at.Path)
	start := at.Query().Get("start")
	require.Regexp(t, `^[A-Za-z0-9_-]{1,64}$`, start, "what Telegram lets be a payload")
	return "/start " + start
}

func TestTheClaimedOwnerProvesItByTheLinkOrTheCode(t *testing.T) {
	for name, text := range map[string]func(ownership.Invitation) string{
		"the link": func(i ownership.Invitation) string { return payload(t, i) },
		"the link in a group's form": func(i ownership.Invitation) string {
			return strings.Replace(payload(t, i), "/start", "/start@shop_bot", 1)
		},
		"the code":                  func(i ownership.Invitation) string { return i.Code },
		"the code without groups":   func(i ownership.Invitation) string { return strings.ReplaceAll(i.Code, "-", "") },
		"the code in small letters": func(i ownership.Invitation) string { return " " + strings.ToLower(i.Code) + "\n" },
		"letters that look like digits": func(i ownership.Invitation) string {
			return strings.NewReplacer("0", "o", "1", "l").Replace(i.Code)
		},
	} {
		for _, user := range []int64{0, 42} {
			t.Run(fmt.Sprint(name, " of user ", user), func(t *testing.T) {
				v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{})
				_, err := v.Owner(bg, shop)
				require.ErrorIs(t, err, errors.Unverified)
				r := check(t, v, says(42, text(invite(t, v, shop, user))))
				require.Equal(t, ownership.Proved, r.Outcome)
				assert.False(t, r.Again)
				assert.EqualValues(t, 42, r.Proof.User)
				assert.Equal(t, ownership.ByChallenge, r.Proof.Method)
				owner, err := v.Owner(bg, shop)
				require.NoError(t, err)
				assert.Equal(t, r.Proof, owner)
			})
		}
	}
}

func TestOnlyAMessageThatItsSenderWroteProves(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{})
	code := invite(t, v, shop, 42).Code
	for name, change := range map[string]func(*gotgbot.Message){
		"of another user": func(m *gotgbot.Message) { m.From.Id, m.Chat.Id = 43, 43 },
		"of a bot":        func(m *gotgbot.Message) { m.From.IsBot = true },
		"in a group":      func(m *gotgbot.Message) { m.Chat = gotgbot.Chat{Id: -5, Type: "group"} },
		"in another chat": func(m *gotgbot.Message) { m.Chat.Id = 43 },
		"of a channel":    func(m *gotgbot.Message) { m.From = nil; m.SenderChat = &gotgbot.Chat{Id: 42} },
		"that is passed on": func(m *gotgbot.Message) {
			m.ForwardOrigin = gotgbot.MessageOriginUser{SenderUser: gotgbot.User{Id: 42}}
		},
		"by an inline bot":   func(m *gotgbot.Message) { m.ViaBot = &gotgbot.User{Id: 9} },
		"with more to it":    func(m *gotgbot.Message) { m.Text = "my code is " + m.Text },
		"as a caption":       func(m *gotgbot.Message) { m.Caption, m.Text = m.Text, "" },
		"after a command":    func(m *gotgbot.Message) { m.Text = "/verify " + m.Text },
		"of no link of ours": func(m *gotgbot.Message) { m.Text = "/start " + m.Text },
	} {
		t.Run(name, func(t *testing.T) {
			m := says(42, code)
			change(&m)
			assert.Equal(t, ownership.Nothing, check(t, v, m).Outcome)
		})
	}
	for _, kind := range []string{"edited_message", "channel_post", "business_message", "guest_message"} {
		r, err := v.Check(bg, update(t, "shop", kind, says(42, code)))
		require.NoError(t, err)
		assert.Equal(t, ownership.Nothing, r.Outcome, kind)
	}
	r, err := v.Check(bg, update(t, "cafe", "message", says(42, code)))
	require.NoError(t, err)
	assert.Equal(t, ownership.Nothing, r.Outcome, "of another tenant")
	assert.Equal(t, ownership.Proved, check(t, v, says(42, code)).Outcome, "and none of them was in the way")
}

// Servers before Bot API 7.0 say otherwise that a message was passed on.
func TestWhatAnOldServerSaysWasPassedOnProvesNothing(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{})
	code := invite(t, v, shop, 0).Code
	raw := fmt.Sprintf(`{"update_id":9,"message":{"text":%q,"forward_date":1700000000,"chat":{"id":42,"type":"private"},"from":{"id":42}}}`, code)
	u, err := inbox.Parse("shop", []byte(raw), time.Now())
	require.NoError(t, err)
	r, err := v.Check(bg, u)
	require.NoError(t, err)
	assert.Equal(t, ownership.Nothing, r.Outcome)
}

func TestALinkThatWasChangedIsRefusedAndTriesNothing(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{MaxAttempts: 1})
	i := invite(t, v, shop, 42)
	link := payload(t, i)
	for _, text := range []string{link[:len(link)-1], link + "0", "/start verify-", "/start verify-é"} {
		r := check(t, v, says(42, text))
		assert.Equal(t, ownership.Result{Outcome: ownership.Refused, User: 42, Link: true}, r, text)
	}
	assert.Equal(t, ownership.Proved, check(t, v, says(42, link)).Outcome, "and is no attempt")
}

func TestACodeIsForOneTenantBotAndUser(t *testing.T) {
	store := ownership.NewMemoryStore()
	v := newVerifier(t, store, ownership.Config{})
	code := invite(t, v, shop, 42).Code
	// Somebody with the store's rows, but without the key, moves a hash.
	c, err := store.Attempt(bg, "shop", 42, 99, time.Now())
	require.NoError(t, err)
	for name, change := range map[string]func(*ownership.Challenge){
		"user":   func(c *ownership.Challenge) { c.User = 43 },
		"tenant": func(c *ownership.Challenge) { c.Tenant = "cafe" },
		"bot":    func(c *ownership.Challenge) { c.BotID, c.User = 701, 43 },
	} {
		moved := c
		moved.Attempts = 0
		change(&moved)
		require.NoError(t, store.Begin(bg, moved))
		r, err := v.Check(bg, update(t, moved.Tenant, "message", says(moved.User, code)))
		require.NoError(t, err)
		assert.Equal(t, ownership.Refused, r.Outcome, name)
	}
	other, err := ownership.New(store, bytes.Repeat([]byte{1}, 32), ownership.Config{})
	require.NoError(t, err)
	assert.Equal(t, ownership.Refused, check(t, other, says(42, code)).Outcome, "with another key")
	assert.Equal(t, ownership.Proved, check(t, v, says(42, code)).Outcome)
}

func TestACodeIsUsedOnce(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{})
	link := payload(t, invite(t, v, shop, 0))
	require.Equal(t, ownership.Proved, check(t, v, says(42, link)).Outcome)
	assert.Equal(t, ownership.Refused, check(t, v, says(43, link)).Outcome, "a second user")

	// The same message comes twice when a worker dies after it was handled.
	r := check(t, v, says(42, link))
	assert.Equal(t, ownership.Proved, r.Outcome)
	assert.True(t, r.Again)

	require.Equal(t, ownership.Proved, check(t, v, says(43, invite(t, v, shop, 43).Code)).Outcome)
	assert.Equal(t, ownership.Refused, check(t, v, says(42, link)).Outcome, "it is another's by now")
	owner, err := v.Owner(bg, shop)
	require.NoError(t, err)
	assert.EqualValues(t, 43, owner.User)
}

func TestOfManyWhoSendAnOpenCodeOneProves(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{MaxAttempts: 100})
	code := invite(t, v, shop, 0).Code
	var all sync.WaitGroup
	var mu sync.Mutex
	proved := 0
	for i := range int64(50) {
		u := update(t, "shop", "message", says(i+1, code))
		all.Go(func() {
			r, err := v.Check(bg, u)
			mu.Lock()
			defer mu.Unlock()
			if assert.NoError(t, err) && r.Outcome == ownership.Proved {
				proved++
			}
		})
	}
	all.Wait()
	assert.Equal(t, 1, proved)
}

func TestACodeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{})
		first, second := invite(t, v, shop, 42), invite(t, v, shop, 43)
		assert.Equal(t, time.Now().Add(15*time.Minute).UTC(), first.ExpiresAt)
		time.Sleep(15*time.Minute - time.Second)
		assert.Equal(t, ownership.Proved, check(t, v, says(42, payload(t, first))).Outcome)
		time.Sleep(time.Second)
		assert.Equal(t, ownership.Refused, check(t, v, says(43, payload(t, second))).Outcome)
	})
}

func TestAttemptsAreBounded(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{MaxAttempts: 3})
	i := invite(t, v, shop, 42)
	wrong := "/start verify-0000111122223333"
	for range 3 {
		assert.Equal(t, ownership.Refused, check(t, v, says(42, wrong)).Outcome)
	}
	assert.Equal(t, ownership.Refused, check(t, v, says(42, payload(t, i))).Outcome, "the right one comes too late")
	assert.Equal(t, ownership.Proved, check(t, v, says(42, invite(t, v, shop, 42).Code)).Outcome)
}

func TestStrangersDoNotKeepANamedUserFromProving(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{MaxAttempts: 3})
	i := invite(t, v, shop, 42)
	for stranger := range int64(100) {
		assert.Equal(t, ownership.Refused, check(t, v, says(1000+stranger, "/start verify-0000111122223333")).Outcome)
	}
	assert.Equal(t, ownership.Proved, check(t, v, says(42, payload(t, i))).Outcome)
}

func TestWhatAStrangerSendsIsNotKept(t *testing.T) {
	store := ownership.NewMemoryStore()
	v := newVerifier(t, store, ownership.Config{})
	invite(t, v, shop, 42)
	before := fmt.Sprintf("%v", store)
	for stranger := range int64(100) {
		check(t, v, says(1000+stranger, "/start verify-0000111122223333"))
		check(t, v, says(1000+stranger, "0000-1111-2222-3333"))
		check(t, v, says(1000+stranger, "hello"))
	}
	assert.Equal(t, before, fmt.Sprintf("%v", store))
}

func TestALaterInvitationTakesTheEarlierOnesPlace(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{})
	first := invite(t, v, shop, 42)
	second := invite(t, v, shop, 42)
	assert.Equal(t, ownership.Refused, check(t, v, says(42, first.Code)).Outcome)
	assert.Equal(t, ownership.Proved, check(t, v, says(42, second.Code)).Outcome)
}

func TestAProofIsOfTheBotTheTenantHadThen(t *testing.T) {
	v := newVerifier(t, ownership.NewMemoryStore(), ownership.Config{})
	_, err := v.Vouch(bg, shop, 42)
	require.NoError(t, err)
	_, err = v.Owner(bg, shop)
	require.NoError(t, err)
	other := shop
	other.BotID = 701
	_, err = v.Owner(bg, other)
	assert.ErrorIs(t, err, errors.Unverified)
	require.NoError(t, v.Forget(bg, "shop"))
	_, err = v.Owner(bg, shop)
	assert.ErrorIs(t, err, errors.Unverified)
	_, err = v.Vouch(bg, tenant.Record{}, 0)
	assert.ErrorIs(t, err, errors.BadRequest)
}

func TestNeitherStoreNorLogHasTheCode(t *testing.T) {
	store := ownership.NewMemoryStore()
	v := newVerifier(t, store, ownership.Config{})
	i := invite(t, v, shop, 42)
	code := strings.ReplaceAll(i.Code, "-", "")
	c, err := store.Attempt(bg, "shop", 42, 9, time.Now())
	require.NoError(t, err)
	assert.Len(t, c.Hash, 32)
	text, err := json.Marshal(c)
	require.NoError(t, err)
	assert.NotContains(t, string(text), code)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("invited", "invitation", i)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%q"} {
		fmt.Fprintf(&log, verb, i)
		fmt.Fprintf(&log, verb, &i)
		fmt.Fprintf(&log, verb, []ownership.Invitation{i})
	}
	assert.NotContains(t, log.String(), code)
	assert.NotContains(t, log.String(), i.Code)
}

func TestABrokenStoreIsAnErrorAndNoVerdict(t *testing.T) {
	s := &broken{Store: ownership.NewMemoryStore(), err: errors.ConnectionFailed}
	v := newVerifier(t, s, ownership.Config{})
	_, err := v.Check(bg, update(t, "shop", "message", says(42, "/start verify-0000111122223333")))
	assert.ErrorIs(t, err, errors.ConnectionFailed)
	_, err = v.Owner(bg, shop)
	assert.ErrorIs(t, err, errors.ConnectionFailed)
}

func FuzzCheck(f *testing.F) {
	store := ownership.NewMemoryStore()
	v, err := ownership.New(store, key, ownership.Config{MaxAttempts: 1 << 30, Expiry: 1 << 60})
	require.NoError(f, err)
	i, err := v.Invite(bg, shop, 0)
	require.NoError(f, err)
	code := strings.ReplaceAll(i.Code, "-", "")
	for _, seed := range []string{
		`{"update_id":1,"message":{"text":"/start verify-0000111122223333","chat":{"id":1,"type":"private"},"from":{"id":1}}}`,
		`{"update_id":1,"message":{"text":"0000-1111-2222-3333","chat":{"id":1,"type":"private"},"from":{"id":1}}}`,
		`{"update_id":1,"message":{"text":["x"],"chat":7}}`, `{"update_id":1,"message":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, err := inbox.Parse("shop", raw, time.Now())
		if err != nil {
			return
		}
		r, err := v.Check(bg, u)
		require.NoError(t, err)
		if r.Outcome == ownership.Proved {
			require.Contains(t, strings.ToUpper(strings.ReplaceAll(string(raw), "-", "")), code)
		}
	})
}
