package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

var bg = context.Background()

var master = bytes.Repeat([]byte("k"), 32)

func newKeys(t testing.TB, others ...webhook.Accepted) *webhook.Keys {
	t.Helper()
	k, err := webhook.NewKeys(webhook.Key{Master: master, Generation: 1}, others...)
	require.NoError(t, err)
	return k
}

func newMemory(t testing.TB, cfg inbox.MemoryConfig) *inbox.Memory {
	t.Helper()
	m, err := inbox.NewMemory(cfg)
	require.NoError(t, err)
	return m
}

func newReceiver(t testing.TB, in webhook.Inbox, keys *webhook.Keys, cfg webhook.Config) *webhook.Receiver {
	t.Helper()
	r, err := webhook.NewReceiver(in, keys, cfg)
	require.NoError(t, err)
	return r
}

// pass lets time pass, and what it brings happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const secretHeader = "X-Telegram-Bot-Api-Secret-Token"

func body(id int64) string {
	return fmt.Sprintf(`{"update_id":%d,"message":{"chat":{"id":5},"text":"hello"}}`, id)
}

// request makes one as Telegram does.
func request(keys *webhook.Keys, tenant, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/webhook/"+keys.Path(tenant), strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(secretHeader, keys.Secret(tenant))
	r.RemoteAddr = "149.154.167.220:4711"
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func depth(t testing.TB, in inbox.Inbox) int {
	t.Helper()
	d, err := in.Depth(bg, "")
	require.NoError(t, err)
	return d.Waiting + d.Leased
}

// pipes is a listener whose connections stay in this process, so that a server
// can live where time is virtual.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func listen() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// start runs a server with no time-outs of its own until the test ends.
func start(t testing.TB, h http.Handler) *pipes {
	p := listen()
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(p)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return p
}

// fleet is a service on a fake Telegram, whose webhooks lead to a receiver.
type fleet struct {
	*tenant.Manager
	srv   *bottest.Server
	store *tenant.MemoryStore
	pool  *tenant.Pool
	keys  *webhook.Keys

	mu sync.Mutex
	to http.Handler // the receiver
}

// ServeHTTP is what Telegram delivers to.
func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	h := f.to
	f.mu.Unlock()
	if h == nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	h.ServeHTTP(w, r)
}

func (f *fleet) deliverTo(h http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = h
}

func newFleet(t testing.TB, limits bottest.Limits) *fleet {
	t.Helper()
	f := &fleet{store: tenant.NewMemoryStore(), keys: newKeys(t)}
	f.srv = bottest.New(bottest.Config{Limits: limits, WebhookTransport: bottest.HandlerTransport(f)})
	s, err := session.New(session.Config{Transport: f.srv.Transport()})
	require.NoError(t, err)
	f.pool, err = tenant.NewPool(s, f.store, tenant.PoolConfig{MaxOpen: 20_000})
	require.NoError(t, err)
	f.Manager = tenant.NewManager(f.pool, tenant.ManagerConfig{})
	t.Cleanup(func() {
		f.srv.Close()
		require.NoError(t, f.pool.Close(bg))
		require.NoError(t, s.Close(bg))
	})
	return f
}

// add makes a tenant without asking Telegram.
func (f *fleet) add(t testing.TB, id string) *bottest.Bot {
	t.Helper()
	bot := f.srv.NewBot(id + "_bot")
	token, err := session.ParseToken(bot.Token())
	require.NoError(t, err)
	_, err = f.store.Put(bg, tenant.Record{ID: id, BotID: bot.ID(), Username: bot.Username(), Token: token})
	require.NoError(t, err)
	return bot
}

const hookURL = "https://hooks.example.com/webhook"

func (f *fleet) webhooks(t testing.TB, cfg webhook.ManagerConfig) *webhook.Manager {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = hookURL
	}
	m, err := webhook.NewManager(f.pool, f.Manager, f.keys, cfg)
	require.NoError(t, err)
	return m
}

// work runs workers until the test ends.
func (f *fleet) work(t testing.TB, in inbox.Inbox, h inbox.Handler) *inbox.Workers {
	t.Helper()
	w, err := inbox.NewWorkers(in, f.pool, h, inbox.WorkersConfig{})
	require.NoError(t, err)
	require.NoError(t, w.Start(bg))
	t.Cleanup(func() { _ = w.Stop(bg) })
	return w
}
