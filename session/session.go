package session

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// Config configures a [Session]. Its zero value talks to api.telegram.org with
// the defaults named below. Durations and counts that are negative mean "no
// bound" where that makes sense, and are an error elsewhere.
type Config struct {
	// APIURL is the Bot API server, such as "http://localhost:8081" for a
	// self-hosted one. Empty means gotgbot's [gotgbot.DefaultAPIURL],
	// https://api.telegram.org.
	APIURL string
	// TestEnvironment sends calls to Telegram's test environment.
	// https://core.telegram.org/bots/features#testing-your-bot
	TestEnvironment bool
	// RevealFileURLs makes gotgbot's File.URL return URLs that work, and that
	// hold the token. Leave it off and use [Session.Download].
	RevealFileURLs bool

	// Timeout bounds an attempt, from its start to the reply's last byte. 0
	// means 30 s, negative none. A long poll's own time-out is added to it.
	// A call's RequestOpts.Timeout takes its place.
	Timeout time.Duration
	// UploadTimeout replaces Timeout for calls that move files: uploads, calls
	// that name a file by its URL, and getFile on a self-hosted server. 0 means
	// 5 min; negative disables it.
	UploadTimeout time.Duration
	// FirstByteTimeout bounds the wait between the request's last byte and the
	// reply's first. It does not apply to long polls, to calls that move files,
	// and to calls with their own RequestOpts.Timeout. 0 means 20 s; negative
	// disables it. After any time-out without an answer, the session closes the
	// idle connections to that address.
	FirstByteTimeout time.Duration
	// DialTimeout bounds connecting, name look-up included. 0 means 10 s.
	DialTimeout time.Duration
	// TLSHandshakeTimeout bounds the TLS handshake. 0 means 10 s.
	TLSHandshakeTimeout time.Duration
	// KeepAlive is the time between TCP keep-alive probes. 0 means 30 s,
	// negative sends none.
	KeepAlive time.Duration
	// IdleConnTimeout is how long an unused connection stays open. 0 means 60 s;
	// negative is an error. Keep it below the server's own time-out (75 s in
	// nginx). A call on a connection that the server is closing may fail with
	// [errors.OutcomeUnknown].
	IdleConnTimeout time.Duration
	// PingInterval is the silence after which an HTTP/2 connection is pinged. 0
	// means 5 s; negative disables pings. HTTP/1.1 has none, so only time-outs
	// find dead connections there.
	PingInterval time.Duration
	// PingTimeout is how long a ping may go unanswered. The connection is then
	// closed and its calls fail. 0 means 4 s; negative is an error.
	PingTimeout time.Duration
	// DNSTTL is how long an address is cached. 0 means 5 min; negative is an
	// error. If a look-up fails, the old addresses are used. If no cached
	// address connects, the host is looked up at once.
	DNSTTL time.Duration

	// MaxConns bounds all connections but those of long polls, which are calls
	// of getUpdates with a time-out. They have connections of their own, as many
	// as it takes: one for each poll, or for some 100 with HTTP/2. Of these 32 at
	// most are made at one time. 0 means 100.
	MaxConns int
	// MaxConnsPerHost bounds those of MaxConns to one host. 0 means 30. With
	// HTTP/2, which api.telegram.org speaks, one carries many calls at once.
	MaxConnsPerHost int

	// MaxReplyBytes bounds a reply's body. 0 means 32 MiB: 100 updates of the
	// largest size fit many times over. A result of more than 100,000 objects,
	// arrays and elements, and a list of more than 1,000 elements, is a bad
	// reply whatever its length. getUpdates returns at most the updates it asked
	// for; Telegram sends the rest again.
	MaxReplyBytes int64

	// TLS is used for TLS connections; nil means Go's defaults.
	TLS *tls.Config
	// Proxy chooses a proxy, as in [http.Transport]. Nil means
	// [http.ProxyFromEnvironment].
	Proxy func(*http.Request) (*url.URL, error)
	// Transport takes the place of the session's own transport, and of all
	// that is configured above for connections: for tests, above all
	// bottest's. It sees the token in URLs. The session does not close it.
	Transport http.RoundTripper
	// WrapTransport wraps the session's transport, such as with a tracer:
	//
	//	WrapTransport: func(next http.RoundTripper) http.RoundTripper { return otelhttp.NewTransport(next) }
	//
	// [New] calls it once. Long polls keep their own connections, and all bounds
	// and the address cache stay in force. The wrapper sees requests with a
	// masked token, such as "/bot123456:***/getMe"; next restores it. It sees
	// headers and bodies, and so users' texts. A wrapper must pass on the
	// request's context, scheme and host, and must not send a request twice. It
	// wraps Transport too, if that is set. Nil wraps nothing.
	WrapTransport func(next http.RoundTripper) http.RoundTripper

	// Guard limits, retries and stops calls. Nil does neither.
	Guard *Guard
	// Middleware is what every call passes once before the guard, outermost
	// first.
	Middleware []Middleware
	// AttemptMiddleware is what every attempt of a call passes after the guard,
	// outermost first. Calls that the guard refuses do not come here.
	AttemptMiddleware []Middleware
	// Logger is for the few things that nobody's call returns. Nil discards
	// them. For the calls themselves see [Observe] and [LogObserver].
	Logger *slog.Logger
}

// Session is the one way out for all bots of a process: it owns the HTTP
// connections, the DNS cache and the chain that every call passes. Make one
// with [New], share it, and [Session.Close] it at the end. It is safe for
// concurrent use.
type Session struct {
	api            endpoint
	revealFileURLs bool
	timeout        time.Duration
	uploadTimeout  time.Duration
	wire           *wire
	chain          Invoker
	guard          *Guard       // nil without one
	own            []*transport // none where Config.Transport was given
	log            *slog.Logger

	// mu guards what follows. Nothing is called under it.
	mu      sync.Mutex
	closing bool
	flights map[*flight]struct{}
	empty   chan struct{} // closed once closing and no flight is left
}

var errClosing = errors.New("session closed")

// closeGrace is how long Close waits for calls that it has canceled. Only a
// RoundTripper or middleware that ignores its context needs any.
const closeGrace = 5 * time.Second

// New returns a Session. The error names every bad field of cfg. No connection
// is made and no goroutine is started before the first call.
func New(cfg Config) (*Session, error) {
	var bad []error
	duration := func(name string, value, zero time.Duration) time.Duration {
		if value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
		if value == 0 {
			return zero
		}
		return value
	}
	unbounded := func(value, zero time.Duration) time.Duration {
		if value == 0 {
			return zero
		}
		return max(value, 0)
	}
	count := func(name string, value, zero int) int {
		if value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
		if value == 0 {
			return zero
		}
		return value
	}
	if cfg.APIURL == "" {
		cfg.APIURL = gotgbot.DefaultAPIURL
	}
	api, err := parseEndpoint(cfg.APIURL, cfg.TestEnvironment)
	if err != nil {
		bad = append(bad, fmt.Errorf("APIURL: %w", err))
	}
	if cfg.MaxReplyBytes < 0 {
		bad = append(bad, errors.New("MaxReplyBytes is negative"))
	} else if cfg.MaxReplyBytes == 0 {
		cfg.MaxReplyBytes = 32 << 20
	}
	s := &Session{
		api:            api,
		revealFileURLs: cfg.RevealFileURLs,
		timeout:        unbounded(cfg.Timeout, 30*time.Second),
		uploadTimeout:  unbounded(cfg.UploadTimeout, 5*time.Minute),
		log:            cfg.Logger,
		flights:        make(map[*flight]struct{}),
		empty:          make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.wire = &wire{
		calls:     cfg.Transport,
		polls:     cfg.Transport,
		own:       cfg.Transport == nil && cfg.WrapTransport == nil,
		firstByte: unbounded(cfg.FirstByteTimeout, 20*time.Second),
		maxReply:  cfg.MaxReplyBytes,
	}
	own := transportConfig{
		dialTimeout:     duration("DialTimeout", cfg.DialTimeout, 10*time.Second),
		tlsTimeout:      duration("TLSHandshakeTimeout", cfg.TLSHandshakeTimeout, 10*time.Second),
		idleTimeout:     duration("IdleConnTimeout", cfg.IdleConnTimeout, 60*time.Second),
		pingInterval:    unbounded(cfg.PingInterval, 5*time.Second),
		pingTimeout:     duration("PingTimeout", cfg.PingTimeout, 4*time.Second),
		dnsTTL:          duration("DNSTTL", cfg.DNSTTL, 5*time.Minute),
		maxConns:        count("MaxConns", cfg.MaxConns, 100),
		maxConnsPerHost: count("MaxConnsPerHost", cfg.MaxConnsPerHost, 30),
		keepAlive:       cfg.KeepAlive,
		writeBuffer:     16 << 10, // a long text and its headers, in one write
		tls:             cfg.TLS,
		proxy:           cfg.Proxy,
		log:             s.log,
	}
	if len(bad) > 0 {
		return nil, &errors.Error{Kind: errors.Internal, Op: "configure session", Err: errors.Join(bad...)}
	}
	if cfg.Transport == nil {
		calls, polls := newTransport(own), newTransport(own.forLongPolls())
		polls.dns = calls.dns
		s.own = []*transport{calls, polls}
		s.wire.calls, s.wire.polls = calls.http, gate{polls.http, make(chan struct{}, pollsDialing)}
	}
	if cfg.WrapTransport != nil {
		if s.wire.wrapped = cfg.WrapTransport(unmasker{s.wire}); s.wire.wrapped == nil {
			return nil, &errors.Error{Kind: errors.Internal, Op: "configure session", Err: errors.New("WrapTransport returned nil")}
		}
	}
	s.chain = Chain(s.wire, cfg.AttemptMiddleware...)
	if cfg.Guard != nil {
		s.guard = cfg.Guard
		if cfg.Transport == nil {
			s.wire.carries = func(calls int) { s.guard.carries(s, calls) }
			s.wire.host, s.wire.perHost = api.address(), own.maxConnsPerHost
			if api.scheme == "http" {
				s.wire.carries(own.maxConnsPerHost)
			}
		}
		s.chain = cfg.Guard.Middleware()(s.chain)
	}
	s.chain = Chain(s.chain, cfg.Middleware...)
	return s, nil
}

// Client returns the client of one bot. The key names the tenant or bot in
// errors, observations and in all state that middlewares keep; it needs no
// registration and may be any text, but not the token.
//
// An existing bot changes one line:
//
//	bot, err := gotgbot.NewBot(token, &gotgbot.BotOpts{BotClient: s.Client("me")})
//
// gotgbot then keeps the token in Bot.Token, where %+v shows it, and its
// DisableTokenCheck puts a malformed one into its own error. [Session.NewBot]
// and [Session.Bot] do neither; prefer them where the line may change more.
func (s *Session) Client(key string) Client {
	return Client{session: s, bot: &identity{key: key}}
}

// Close ends the session: new calls fail with [errors.Closed], calls under way
// are waited for. When ctx ends first they are canceled and fail with that
// kind too, and Close returns ctx's error. Then all connections are closed.
// Close may be called more than once; each call waits.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		if len(s.flights) == 0 {
			close(s.empty)
		}
	}
	s.mu.Unlock()

	var err error
	select {
	case <-s.empty:
	case <-ctx.Done():
		err = s.abort(ctx)
	}
	for _, t := range s.own {
		t.close()
	}
	if s.guard != nil {
		s.guard.forget(s)
	}
	return err
}

func (s *Session) abort(ctx context.Context) error {
	s.mu.Lock()
	flights := slices.Collect(maps.Keys(s.flights))
	s.mu.Unlock()
	if len(flights) == 0 {
		return nil
	}
	for _, f := range flights {
		f.abort()
	}
	s.log.WarnContext(ctx, "session closed with calls under way", slog.Int("calls", len(flights)))
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	e := &errors.Error{Kind: errors.KindOf(ctx.Err()), Op: "close session", Err: context.Cause(ctx)}
	select {
	case <-s.empty:
	case <-grace.C:
		e.Err = fmt.Errorf("calls that ignore their context are still running: %w", e.Err)
	}
	return e
}

// Stats are a session's figures at one moment.
type Stats struct {
	// InFlight is how many calls are under way.
	InFlight int `json:"in_flight"`
	// Open is how many connections are open, and Dialed how many were opened
	// so far. Both are 0 with a Transport of the caller's.
	Open   int `json:"open"`
	Dialed int `json:"dialed"`
}

// Stats returns the session's figures.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	stats := Stats{InFlight: len(s.flights)}
	s.mu.Unlock()
	for _, t := range s.own {
		open, dialed := t.conns.count()
		stats.Open, stats.Dialed = stats.Open+open, stats.Dialed+dialed
	}
	return stats
}
