package polling_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

var bg = context.Background()

// service is a fleet on a fake Telegram, with one inbox and one store.
type service struct {
	t       testing.TB
	srv     *bottest.Server
	session *session.Session
	store   *tenant.MemoryStore
	pool    *tenant.Pool
	manager *tenant.Manager
	inbox   *box
	ann     *bottest.User
}

// virtual runs a test in a bubble whose clock jumps.
func virtual(t *testing.T, cfg bottest.Config, test func(t *testing.T, s *service)) {
	t.Helper()
	virtualOver(t, cfg, (*bottest.Server).Transport, test)
}

// wireless is a way to the server without connections, which is what makes many
// days affordable. It can't be refused one.
func wireless(srv *bottest.Server) http.RoundTripper { return bottest.HandlerTransport(srv.Handler()) }

// virtualOver is virtual over another way to the server.
func virtualOver(t *testing.T, cfg bottest.Config, way func(*bottest.Server) http.RoundTripper, test func(t *testing.T, s *service)) {
	t.Helper()
	// No webhook takes anything, and none is looked for outside of the bubble.
	cfg.WebhookTransport = bottest.HandlerTransport(http.NotFoundHandler())
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(cfg)
		defer srv.Close()
		s := newService(t, srv, way(srv))
		defer s.close()
		test(t, s)
	})
}

func newService(t testing.TB, srv *bottest.Server, transport http.RoundTripper) *service {
	s := &service{t: t, srv: srv, store: tenant.NewMemoryStore(), inbox: newBox(t), ann: srv.NewUser("Ann")}
	var err error
	s.session, err = session.New(session.Config{Transport: transport})
	require.NoError(t, err)
	s.pool, err = tenant.NewPool(s.session, s.store, tenant.PoolConfig{})
	require.NoError(t, err)
	s.manager = tenant.NewManager(s.pool, tenant.ManagerConfig{})
	return s
}

func (s *service) close() {
	require.NoError(s.t, s.pool.Close(bg))
	require.NoError(s.t, s.session.Close(bg))
}

// register makes a bot and its tenant, without a call.
func (s *service) register(id string) *bottest.Bot {
	s.t.Helper()
	bot := s.srv.NewBot(id + "_bot")
	s.put(id, bot.Token())
	return bot
}

func (s *service) put(id, token string) {
	s.t.Helper()
	parsed, err := session.ParseToken(token)
	require.NoError(s.t, err)
	r, _ := s.store.Get(bg, id)
	r.ID, r.BotID, r.Token, r.Username = id, parsed.ID(), parsed, id+"_bot"
	_, err = s.store.Put(bg, r)
	require.NoError(s.t, err)
}

// supervisor starts a supervisor, which is stopped at the end.
func (s *service) supervisor(cfg polling.Config) *polling.Supervisor {
	s.t.Helper()
	p := s.unstarted(cfg)
	require.NoError(s.t, p.Start(bg))
	return p
}

func (s *service) unstarted(cfg polling.Config) *polling.Supervisor {
	s.t.Helper()
	p, err := polling.New(s.session, s.store, s.inbox, cfg)
	require.NoError(s.t, err)
	return p
}

// box is an inbox that can fail.
type box struct {
	*inbox.Memory
	mu   sync.Mutex
	got  map[string][]int64 // ids by tenant, as they were stored
	fail func(batch []inbox.Update) ([]inbox.Outcome, error, bool)
}

func newBox(t testing.TB) *box {
	m, err := inbox.NewMemory(inbox.MemoryConfig{})
	require.NoError(t, err)
	return &box{Memory: m, got: make(map[string][]int64)}
}

func (b *box) Put(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
	b.mu.Lock()
	fail := b.fail
	b.mu.Unlock()
	if fail != nil {
		if outcomes, err, do := fail(batch); do {
			return outcomes, err
		}
	}
	outcomes, err := b.Memory.Put(ctx, batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, o := range outcomes {
		if o.Err == nil && !o.Duplicate {
			b.got[batch[i].Tenant] = append(b.got[batch[i].Tenant], batch[i].ID)
		}
	}
	return outcomes, err
}

func (b *box) failing(f func(batch []inbox.Update) ([]inbox.Outcome, error, bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = f
}

// note counts updates that a failing inbox has stored.
func (b *box) note(batch []inbox.Update) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range batch {
		if ids := b.got[u.Tenant]; len(ids) == 0 || ids[len(ids)-1] < u.ID {
			b.got[u.Tenant] = append(ids, u.ID)
		}
	}
}

// count is how many updates of a tenant are in the inbox, each counted once.
func (b *box) count(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got[id])
}

// state returns a tenant's state once all that is under way rests.
func state(t testing.TB, p *polling.Supervisor, id string) polling.State {
	t.Helper()
	synctest.Wait()
	s, ok := p.Status(id)
	require.True(t, ok, id)
	return s.State
}

func stop(t testing.TB, p *polling.Supervisor) {
	t.Helper()
	require.NoError(t, p.Stop(bg))
}

// polls counts the calls of getUpdates so far.
func (s *service) polls() int { return s.srv.CallCount("getUpdates") }

// fake is a Telegram that a function answers for.
type fake func(r *http.Request, params map[string]any) (status int, body string)

func (f fake) RoundTrip(r *http.Request) (*http.Response, error) {
	var params map[string]any
	if err := json.NewDecoder(r.Body).Decode(&params); err != nil {
		return nil, err
	}
	r.Body.Close()
	status, body := f(r, params)
	if status == 0 {
		return nil, fmt.Errorf("fake: %s", body)
	}
	return response(r, status, body), nil
}

func response(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}

// onFake runs a test against a function, with one tenant, "shop".
func onFake(t *testing.T, answer fake, cfg polling.Config, test func(t *testing.T, s *service, p *polling.Supervisor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		defer srv.Close()
		s := newService(t, srv, answer)
		defer s.close()
		s.register("shop")
		p := s.supervisor(cfg)
		p.Add("shop")
		test(t, s, p)
		stop(t, p)
	})
}

// clock measures how often something happens.
type clock struct {
	mu sync.Mutex
	at []time.Time
}

func (c *clock) tick() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, time.Now())
	return len(c.at)
}

// busiest is the most ticks within any minute.
func (c *clock) busiest() (most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := 0
	for i, at := range c.at {
		for at.Sub(c.at[first]) >= time.Minute {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// call makes a call as a bot.
func call(t testing.TB, s *service, bot *bottest.Bot, method string, params map[string]any) {
	t.Helper()
	token, err := session.ParseToken(bot.Token())
	require.NoError(t, err)
	_, err = s.session.Bot("test", token, gotgbot.User{}).RequestWithContext(bg, method, params, nil)
	require.NoError(t, err)
}

// pollAs polls as another program would, which has the token.
func (s *service) pollAs(token string) error {
	parsed, err := session.ParseToken(token)
	if err != nil {
		return err
	}
	_, err = s.session.Bot("rival", parsed, gotgbot.User{}).RequestWithContext(bg, "getUpdates", map[string]any{"timeout": int64(20)}, nil)
	return err
}

// bot finds a tenant's bot.
func (s *service) bot(id string) *bottest.Bot {
	s.t.Helper()
	r, err := s.store.Get(bg, id)
	require.NoError(s.t, err)
	bot, found := s.srv.BotByToken(r.Token.Reveal())
	require.True(s.t, found)
	return bot
}

// cable is a network that can be cut for one process.
type cable struct {
	http.RoundTripper
	down atomic.Bool
}

func (c *cable) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.down.Load() {
		r.Body.Close()
		return nil, syscall.ECONNREFUSED
	}
	return c.RoundTripper.RoundTrip(r)
}
