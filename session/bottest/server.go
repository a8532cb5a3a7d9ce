package bottest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// Config says how strict a [Server] is and how much it remembers. The zero
// value enforces the sending limits of the real server.
type Config struct {
	// Limits are the rates the server enforces. The zero value is Telegram's
	// sending limits without the cold start; see [Limits], [NoLimits] and
	// [RealLimits].
	Limits Limits

	// WebhookTransport delivers updates to webhooks. Nil means a plain
	// http.Transport that the server owns and closes. [HandlerTransport]
	// delivers to a handler in memory.
	WebhookTransport http.RoundTripper

	// AnyWebhookURL accepts every http and https URL in setWebhook. When it
	// is false, the rules of the real server hold (https, on port 443, 80, 88
	// or 8443), except that a webhook on a loopback address may be plain HTTP
	// on any port, so that an httptest.Server can be one.
	AnyWebhookURL bool

	// KeepCalls is how many calls [Server.Calls] remembers, the newest. Zero
	// means 10,000, negative none. Counts are exact in any case.
	KeepCalls int

	// KeepMessages is how many messages each chat remembers, the newest. Zero
	// means 10,000. What is forgotten can be neither edited nor deleted.
	KeepMessages int

	// KeepFile is the size in bytes up to which the content of an uploaded
	// file is kept for download. Zero means 64 KiB, negative keeps none. Of
	// a larger file only size and hash are known, and a download of it
	// serves as many zero bytes. All kept contents together are bounded by
	// 16 MiB; the oldest go first.
	KeepFile int64

	// MaxUpload is the size in bytes of all files of a request from which on
	// it is answered with 413. Zero means 50 MB, as on the cloud server; a
	// local one takes 2000 MB.
	MaxUpload int64

	// Seed makes tokens, update ids and retry delays repeatable. Zero means
	// random ones.
	Seed uint64
}

const (
	defaultKeepCalls    = 10_000
	defaultKeepMessages = 10_000
	defaultKeepFile     = 64 << 10
	defaultMaxUpload    = 50 << 20
)

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	if c.KeepCalls == 0 {
		c.KeepCalls = defaultKeepCalls
	}
	if c.KeepMessages <= 0 {
		c.KeepMessages = defaultKeepMessages
	}
	if c.KeepFile == 0 {
		c.KeepFile = defaultKeepFile
	}
	if c.MaxUpload <= 0 {
		c.MaxUpload = defaultMaxUpload
	}
	return c
}

// A Server is a Bot API server with everybody who uses it: bots, users and
// groups. All its methods may be called concurrently. Create one with [New]
// and end it with [Server.Close].
type Server struct {
	cfg     Config
	methods map[string]method
	rand    lockedRand

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	// work guards closed and counts what Close waits for: requests being
	// served, open connections, accept loops and webhook deliveries.
	work   sync.Mutex
	closed bool
	wg     sync.WaitGroup

	posted atomic.Int64 // messages in all chats, ever
	world  world
	files  fileStore
	calls  inspector
	faults faultSet
	cold   coldStart

	conns     connTable
	pipes     pipeListener
	transport *http.Transport
	memory    *http.Server
	socket    socket
	refusing  atomic.Bool

	hooks    http.RoundTripper // delivers updates
	ownHooks *http.Transport   // the same, if the server made it
}

// New returns a server that nobody uses yet. It starts nothing: the first
// connection or [Server.Start] does.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, methods: methodTable(), ctx: ctx, cancel: cancel}
	seed := cfg.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	s.rand.r = rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))
	s.world.init()
	s.files.init()
	s.calls.init(cfg.KeepCalls)
	s.conns.init()
	s.pipes.init()
	s.transport = s.newTransport()
	s.memory = s.newHTTPServer()
	if s.hooks = cfg.WebhookTransport; s.hooks == nil {
		s.ownHooks = &http.Transport{MaxIdleConnsPerHost: 100}
		s.hooks = s.ownHooks
	}
	return s
}

// Handler returns the server as a handler, to be mounted anywhere. Calls that
// come through it are counted like all others, but the server does not see
// their connections: a fault that resets a connection aborts it instead.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Close refuses new work, ends every request, connection and delivery, and
// waits until they are gone. It may be called more than once.
func (s *Server) Close() {
	s.work.Lock()
	s.closed = true
	s.work.Unlock()
	s.cancel()
	s.pipes.close()
	s.socket.close()
	s.conns.closeAll()
	s.wg.Wait()
	s.transport.CloseIdleConnections()
	if s.ownHooks != nil {
		s.ownHooks.CloseIdleConnections()
	}
	s.memory.Close()
}

// begin announces work that Close must wait for. It reports false after Close.
func (s *Server) begin() bool {
	s.work.Lock()
	defer s.work.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

func (s *Server) end() { s.wg.Done() }

// lockedRand is a source of random numbers for many goroutines.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

// between returns a number from low to high, both included.
func (l *lockedRand) between(low, high int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return low + l.r.Int64N(high-low+1)
}

// text returns n characters of the base64url alphabet.
func (l *lockedRand) text(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	b.Grow(n)
	for range n {
		b.WriteByte(alphabet[l.r.IntN(len(alphabet))])
	}
	return b.String()
}
