package session_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
)

// memoryWire answers every call without a network: it reads the request's
// body, as any transport does, and returns a message.
type memoryWire struct{ reply []byte }

func newMemoryWire() *memoryWire {
	return &memoryWire{reply: []byte(`{"ok":true,"result":{"message_id":7,"date":1700000000,"chat":{"id":42,"type":"private","first_name":"Ann"},"from":{"id":123456,"is_bot":true,"first_name":"Shop","username":"shop_bot"},"text":"hello, world"}}`)}
}

func (w *memoryWire) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	r.Body.Close()
	return &http.Response{
		StatusCode:    http.StatusOK,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(w.reply)),
		ContentLength: int64(len(w.reply)),
		Request:       r,
	}, nil
}

const benchToken = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"

func bareBot(b testing.TB, client http.Client, api string) *gotgbot.Bot {
	bot, err := gotgbot.NewBot(benchToken, &gotgbot.BotOpts{
		DisableTokenCheck: true,
		BotClient: &gotgbot.BaseBotClient{
			Client:             client,
			DefaultRequestOpts: &gotgbot.RequestOpts{APIURL: api, Timeout: time.Minute},
		},
	})
	require.NoError(b, err)
	return bot
}

func fleetBot(b testing.TB, cfg session.Config) *gotgbot.Bot {
	s, err := session.New(cfg)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close(context.Background())) })
	token, err := session.ParseToken(benchToken)
	require.NoError(b, err)
	return s.Bot("shop", token, gotgbot.User{})
}

// wide are limits that are kept and bind nobody.
func wide() session.GuardConfig {
	limit := ratelimit.Limit{Rate: 1e9, Burst: 1 << 30}
	return session.GuardConfig{Limit: session.LimitConfig{
		Default: session.Limits{Bot: limit, Paid: limit, Private: limit, Group: limit},
		Total:   limit,

		ColdStarts: []ratelimit.Limit{},
	}}
}

func newGuard(b testing.TB, cfg session.GuardConfig) *session.Guard {
	g, err := session.NewGuard(cfg)
	require.NoError(b, err)
	b.Cleanup(g.Close)
	return g
}

// BenchmarkCall is one sendMessage through an in-memory wire: gotgbot's own
// client against a session with the whole chain: retry, limits, breakers,
// health, usage and an observer.
func BenchmarkCall(b *testing.B) {
	send := func(b *testing.B, bot *gotgbot.Bot) {
		opts := &gotgbot.SendMessageOpts{ParseMode: "HTML", ReplyMarkup: gotgbot.InlineKeyboardMarkup{
			InlineKeyboard: [][]gotgbot.InlineKeyboardButton{{{Text: "Buy", CallbackData: "buy"}}},
		}}
		ctx := context.Background()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bot.SendMessageWithContext(ctx, 42, "hello, world", opts); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("gotgbot", func(b *testing.B) {
		send(b, bareBot(b, http.Client{Transport: newMemoryWire()}, ""))
	})
	b.Run("tgfleet", func(b *testing.B) {
		var calls int
		observe := session.Observe(session.ObserverFunc(func(context.Context, session.Observation) { calls++ }))
		cfg := wide()
		cfg.Health = newMonitor(b)
		cfg.Usage, _ = newRecorder(b)
		send(b, fleetBot(b, session.Config{
			Transport: newMemoryWire(),
			Guard:     newGuard(b, cfg), AttemptMiddleware: []session.Middleware{observe},
		}))
	})
}

// BenchmarkAdmission is what the guard adds to a call: retry, three levels of
// limits and two breakers, for one bot and for 10,000 in no order.
func BenchmarkAdmission(b *testing.B) {
	for _, bots := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("bots=%d", bots), func(b *testing.B) {
			done := session.InvokerFunc(func(context.Context, *session.Call) (json.RawMessage, error) { return nil, nil })
			chain := session.Chain(done, newGuard(b, wide()).Middleware())
			ctx := context.Background()
			calls := make([]session.Call, bots)
			for i := range calls {
				calls[i] = session.Call{Key: fmt.Sprintf("tenant-%d", i), Method: "sendMessage", Chat: session.ChatID{ID: int64(i + 1)}, Attempt: 1}
			}
			i := 0
			send := func() {
				i = (i + 7919) % bots
				if _, err := chain.Invoke(ctx, &calls[i]); err != nil {
					b.Fatal(err)
				}
			}
			for range bots {
				send()
			}
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
	}
}

// BenchmarkFirstCalls is what 100 bots cost until each has made its first
// call, over TLS: with a session each, as the usual one client per bot does,
// and with one session for all. heap-B/bot is the heap that stays, the server's
// side of the connections included.
func BenchmarkFirstCalls(b *testing.B) {
	const bots = 100
	api := newTLSAPI(b)
	config := func() session.Config { return session.Config{APIURL: api.url, TLS: api.client()} }
	run := func(b *testing.B, sessions int) {
		for b.Loop() {
			all := make([]*session.Session, sessions)
			before := heap()
			for i := range all {
				s, err := session.New(config())
				require.NoError(b, err)
				all[i] = s
			}
			list := make([]*gotgbot.Bot, bots)
			for i := range list {
				list[i] = all[i%sessions].Bot(strconv.Itoa(i), benchParsed, gotgbot.User{})
			}
			var calls time.Duration
			for _, bot := range list {
				start := time.Now()
				_, err := bot.SendMessage(42, "hello", nil)
				require.NoError(b, err)
				calls += time.Since(start)
			}
			b.ReportMetric(float64(heap()-before)/bots, "heap-B/bot")
			b.ReportMetric(float64(calls.Microseconds())/1000/bots, "ms/call")
			runtime.KeepAlive(list)
			for _, s := range all {
				require.NoError(b, s.Close(context.Background()))
			}
			api.closeIdle()
		}
	}
	b.Run("session-per-bot", func(b *testing.B) { run(b, bots) })
	b.Run("shared-session", func(b *testing.B) { run(b, 1) })
}

var benchParsed = func() session.Token {
	t, err := session.ParseToken(benchToken)
	if err != nil {
		panic(err)
	}
	return t
}()

// heap returns the bytes in use after a full collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

type tlsAPI struct {
	url   string
	roots *x509.CertPool
	srv   *httptest.Server
}

func newTLSAPI(b *testing.B) *tlsAPI {
	wire := newMemoryWire()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(wire.reply)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	b.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return &tlsAPI{url: srv.URL, roots: roots, srv: srv}
}

func (a *tlsAPI) client() *tls.Config { return &tls.Config{RootCAs: a.roots} }

func (a *tlsAPI) closeIdle() { a.srv.CloseClientConnections() }

// BenchmarkUpload sends 50 MB from a file-like reader over loopback and
// reports the most heap that was in use meanwhile, above what was before.
func BenchmarkUpload(b *testing.B) {
	const size = 50 << 20
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if n < size {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = fmt.Fprint(w, `{"ok":true,"result":{"message_id":7,"date":1,"chat":{"id":42,"type":"private"}}}`)
	}))
	b.Cleanup(srv.Close)
	upload := func(b *testing.B, bot *gotgbot.Bot) {
		b.SetBytes(size)
		for b.Loop() {
			peak := watchHeap()
			_, err := bot.SendDocument(42, gotgbot.InputFileByReader("big.bin", io.NewSectionReader(zeros{}, 0, size)), nil)
			b.ReportMetric(float64(peak()), "peak-heap-B")
			require.NoError(b, err)
		}
	}
	b.Run("gotgbot", func(b *testing.B) { upload(b, bareBot(b, http.Client{}, srv.URL)) })
	b.Run("tgfleet", func(b *testing.B) { upload(b, fleetBot(b, session.Config{APIURL: srv.URL})) })
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// watchHeap samples the live heap until the returned func is called, which
// returns the most it saw above the start.
func watchHeap() (stop func() int64) {
	base := heap()
	done := make(chan struct{})
	var peak int64
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, int64(m.HeapAlloc)-base)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() int64 {
		close(done)
		wg.Wait()
		return peak
	}
}
