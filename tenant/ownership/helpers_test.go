package ownership_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
)

var (
	bg  = context.Background()
	key = []byte("0123456789abcdef0123456789abcdef")
)

// shop is the record of a tenant.
var shop = tenant.Record{ID: "shop", BotID: 700, Username: "shop_bot"}

func newVerifier(t testing.TB, store ownership.Store, cfg ownership.Config) *ownership.Verifier {
	t.Helper()
	v, err := ownership.New(store, key, cfg)
	require.NoError(t, err)
	return v
}

func invite(t testing.TB, v *ownership.Verifier, r tenant.Record, user int64) ownership.Invitation {
	t.Helper()
	i, err := v.Invite(bg, r, user)
	require.NoError(t, err)
	return i
}

// says is a private message.
func says(user int64, text string) gotgbot.Message {
	return gotgbot.Message{
		MessageId: 1, Text: text, From: &gotgbot.User{Id: user, FirstName: "Ann"},
		Chat: gotgbot.Chat{Id: user, Type: "private"},
	}
}

var ids struct {
	sync.Mutex
	last int64
}

func update(t testing.TB, id, kind string, value any) inbox.Update {
	t.Helper()
	ids.Lock()
	ids.last++
	n := ids.last
	ids.Unlock()
	u, err := parse(id, n, kind, value)
	require.NoError(t, err)
	return u
}

func parse(id string, n int64, kind string, value any) (inbox.Update, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return inbox.Update{}, err
	}
	return inbox.Parse(id, fmt.Appendf(nil, `{"update_id":%d,%q:%s}`, n, kind, body), time.Now())
}

func check(t testing.TB, v *ownership.Verifier, m gotgbot.Message) ownership.Result {
	t.Helper()
	r, err := v.Check(bg, update(t, "shop", "message", m))
	require.NoError(t, err)
	return r
}

// service is a fleet on a fake Telegram.
type service struct {
	active  atomic.Int64 // calls of OnActive
	srv     *bottest.Server
	session *session.Session
	store   *tenant.MemoryStore
	pool    *tenant.Pool
	manager *tenant.Manager
	proofs  *broken
	owners  *ownership.Verifier
}

func newService(t testing.TB) *service {
	t.Helper()
	s := &service{
		srv: bottest.New(bottest.Config{
			Limits: bottest.NoLimits(), WebhookTransport: bottest.HandlerTransport(http.NotFoundHandler()),
		}),
		store:  tenant.NewMemoryStore(),
		proofs: &broken{Store: ownership.NewMemoryStore()},
	}
	s.owners = newVerifier(t, s.proofs, ownership.Config{})
	var err error
	s.session, err = session.New(session.Config{
		Transport:  s.srv.Transport(),
		Middleware: []session.Middleware{s.owners.Require(func(key string) bool { return key != "manager" })},
	})
	require.NoError(t, err)
	s.pool, err = tenant.NewPool(s.session, s.store, tenant.PoolConfig{})
	require.NoError(t, err)
	s.manager = tenant.NewManager(s.pool, tenant.ManagerConfig{OnActive: func(context.Context, tenant.Record) { s.active.Add(1) }})
	return s
}

func (s *service) close(t testing.TB) {
	require.NoError(t, s.pool.Close(bg))
	require.NoError(t, s.session.Close(bg))
	s.srv.Close()
}

// send sends a message as a tenant.
func (s *service) send(id string, to int64) error {
	return s.pool.Do(bg, id, func(ctx context.Context, t *tenant.Tenant) error {
		_, err := t.Bot.SendMessageWithContext(ctx, to, "hello", nil)
		return err
	})
}

// broken is a store that can fail.
type broken struct {
	ownership.Store
	mu    sync.Mutex
	err   error
	looks int
}

func (b *broken) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *broken) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.looks
}

func (b *broken) Proof(ctx context.Context, tenant string) (ownership.Proof, error) {
	b.mu.Lock()
	b.looks++
	err := b.err
	b.mu.Unlock()
	if err != nil {
		return ownership.Proof{}, err
	}
	return b.Store.Proof(ctx, tenant)
}
