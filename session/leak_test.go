package session_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"expvar"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/retry"
	"github.com/tgfleet/tgfleet/session"
)

// odd is a token of a form that the server would take, though no token of today
// has it: what of it is escaped in a URL is not what it is.
const odd = "555666777:Od,d$Se;cret(with)all=that'a&URL@escapes!*~[x]+qq"

// forms are the ways in which a text may have a secret without spelling it.
func forms(token string) []string {
	_, secret, _ := strings.Cut(token, ":")
	all := []string{secret, url.PathEscape(secret), url.QueryEscape(secret), (&url.URL{Path: secret}).EscapedPath()}
	quoted, _ := json.Marshal(secret)
	all = append(all, string(quoted[1:len(quoted)-1]))
	// Base64 of any text that has the secret in it is one of three, by where in
	// the text it begins, less what its neighbours have a part in.
	for shift := range 3 {
		text := strings.Repeat("\x00", shift) + secret
		whole := base64.StdEncoding.EncodeToString([]byte(text[:len(text)/3*3]))
		part := whole[(shift*8+5)/6:]
		all = append(all, part, strings.NewReplacer("+", "-", "/", "_").Replace(part))
	}
	return all
}

func assertNoSecret(t *testing.T, out string, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		for _, form := range forms(token) {
			if at := strings.Index(out, form); at >= 0 {
				t.Errorf("%q stands in:\n%s", form, out[max(0, at-200):min(len(out), at+200)])
				return
			}
		}
	}
}

// rawServer answers every connection with a text, and closes it.
func rawServer(t *testing.T, cfg *tls.Config, answer func(c net.Conn, r *bufio.Reader)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				if cfg != nil {
					c = tls.Server(c, cfg)
				}
				answer(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

// saying reads a request and answers with a text, whatever that is.
func saying(t *testing.T, text string) string {
	return rawServer(t, nil, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(c, text)
	})
}

// goAway speaks enough of HTTP/2 to end a connection with a word of its own.
func goAway(t *testing.T, cfg *tls.Config, debug string) string {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	frame := func(kind byte, payload []byte) []byte {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
		return append(append(head, 0, 0, 0, 0, 0), payload...)
	}
	return rawServer(t, cfg, func(c net.Conn, r *bufio.Reader) {
		preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		if _, err := io.ReadFull(r, preface); err != nil {
			return
		}
		_, _ = c.Write(frame(4, nil)) // SETTINGS
		for {
			head := make([]byte, 9)
			if _, err := io.ReadFull(r, head); err != nil {
				return
			}
			size := binary.BigEndian.Uint32(head) >> 8
			if _, err := io.CopyN(io.Discard, r, int64(size)); err != nil {
				return
			}
			if head[3] == 1 { // HEADERS
				_, _ = c.Write(frame(7, append([]byte{0, 0, 0, 1, 0, 0, 0, 11}, debug...)))
				return
			}
		}
	})
}

// outputs is all that a process shows of itself.
type outputs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *outputs) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// reset forgets what was shown. net/http may still call a trace of a call that
// has returned, so others may be writing.
func (o *outputs) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Reset()
}

func (o *outputs) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// What a server sends unasked, after its answer, is missing: net/http writes it to
// the standard logger, and there is no way to keep it from that.
//
// Every fault that a network, a proxy and a server can have, with the token in
// what they say wherever they can say anything, and nothing that a service
// shows of itself has it in any form.
func TestNoFaultShowsTheTokenAnywhere(t *testing.T) {
	for name, token := range map[string]string{"usual": canary, "odd": odd} {
		t.Run(name, func(t *testing.T) { showsNoToken(t, token) })
	}
}

func showsNoToken(t *testing.T, token string) {
	var out outputs
	log.SetOutput(&out) // where net/http writes
	defer log.SetOutput(os.Stderr)
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
	logJSON := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))

	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	defer stranger.Close()
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	certificates := stranger.TLS
	trusting := stranger.Client().Transport.(*http.Transport).TLSClientConfig

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed.Close()
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()

	_, secret, _ := strings.Cut(token, ":")
	target := other.URL + "/bot" + token + "/getMe"
	text := strings.Join(append([]string{token, target, url.QueryEscape(target)}, forms(token)...), " ")
	encoded, _ := json.Marshal(text)
	reply := func(status int, body string, headers ...string) string {
		return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: %d\r\n%s\r\n%s", status, text, len(body), strings.Join(headers, ""), body)
	}
	refusal := func(code int) string {
		return reply(code, fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%s}`, code, encoded))
	}

	type fault struct {
		url string
		cfg session.Config
	}
	plain := func(text string) fault { return fault{url: "http://" + saying(t, text)} }
	faults := map[string]fault{
		"refused":             {url: "http://" + closed.Addr().String()},
		"no such host":        {url: "http://no-such-host.invalid"},
		"unknown certificate": {url: stranger.URL},
		"no TLS there":        {url: "https://" + saying(t, reply(200, text))},
		"TLS there":           {url: "http://" + stranger.Listener.Addr().String()},
		"GOAWAY": {
			url: "https://" + goAway(t, certificates, text), cfg: session.Config{TLS: trusting},
		},
		"status line":       plain("HTTP/1.1 " + text + "\r\n\r\n"),
		"status":            plain("HTTP/1.1 abc" + text + " x\r\n\r\n"),
		"version":           plain(text + " 200 OK\r\n\r\n"),
		"early hints":       plain("HTTP/1.1 103 Early Hints\r\nLink: <" + target + ">\r\n\r\n" + refusal(400)),
		"header":            plain("HTTP/1.1 200 OK\r\n" + text + "\r\n\r\n"),
		"header's name":     plain("HTTP/1.1 200 OK\r\n" + secret + " : x\r\n\r\n"),
		"length":            plain("HTTP/1.1 200 OK\r\nContent-Length: " + text + "\r\n\r\n"),
		"lengths":           plain("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: " + secret + "\r\n\r\n"),
		"transfer encoding": plain("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + text + "\r\n\r\n"),
		"chunk":             plain("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + text + "\r\n"),
		"trailer":           plain("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + text + "\r\n\r\n"),
		"no answer":         plain(""),
		"half an answer":    plain("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{\"ok\":true,\"result\":" + string(encoded)),
		"redirect":          plain(reply(307, "", "Location: "+target+"\r\n")),
		"bad redirect":      plain(reply(302, "", "Location: http://%zz"+token+"\r\n")),
		"page":              plain(reply(502, "<html>"+text)),
		"text":              plain(reply(200, text)),
		"no ok":             plain(reply(200, `{"description":`+string(encoded)+`}`)),
		"result's form":     plain(reply(200, `{"ok":true,"result":`+string(encoded)+`}`)),
		"result's field":    plain(reply(200, `{"ok":true,"result":{"id":`+string(encoded)+`,"status":`+string(encoded)+`}}`)),
		"400":               plain(refusal(400)),
		"401":               plain(refusal(401)),
		"403":               plain(refusal(403)),
		"404":               plain(refusal(404)),
		"409":               plain(refusal(409)),
		"429":               plain(reply(429, `{"ok":false,"error_code":429,"description":`+string(encoded)+`}`, "Retry-After: "+text+"\r\n")),
		"500":               plain(refusal(500)),
		"proxy refuses": {
			url: "https://api.invalid", cfg: session.Config{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: saying(t, reply(407, text))})},
		},
		"proxy's words": {
			url: "https://api.invalid", cfg: session.Config{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: saying(t, text+"\r\n\r\n")})},
		},
		"proxy is away": {
			url: "http://api.invalid", cfg: session.Config{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: closed.Addr().String()})},
		},
		"no proxy for it": {
			url: "http://api.invalid", cfg: session.Config{Proxy: func(r *http.Request) (*url.URL, error) { return nil, fmt.Errorf("no way to %v", r.URL) }},
		},
		"panic": {cfg: session.Config{Transport: roundTrip(func(r *http.Request) (*http.Response, error) { panic(r.URL.String() + text) })}},
		"url.Error": {cfg: session.Config{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, text)}
		})}},
		"an escaped URL": {cfg: session.Config{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("no way to %s", url.QueryEscape(r.URL.String()))
		})}},
		"base64": {cfg: session.Config{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("no way to %s", base64.URLEncoding.EncodeToString([]byte(r.URL.String())))
		})}},
	}
	monitor, err := health.New(health.Config{})
	require.NoError(t, err)
	recorder, err := usage.New(usage.Config{Store: usage.NewMemoryStore()})
	require.NoError(t, err)
	parsed := mustToken(t, token)
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			guard, err := session.NewGuard(session.GuardConfig{
				Health: monitor, Usage: recorder, Logger: logger,
				Retry: session.RetryConfig{Policy: retry.Config{MaxElapsed: time.Nanosecond}}, Limit: session.LimitConfig{MaxWait: time.Nanosecond, Default: session.ReactiveLimits(), ColdStarts: []ratelimit.Limit{}},
			})
			require.NoError(t, err)
			defer guard.Close()
			cfg := f.cfg
			cfg.APIURL, cfg.Logger = f.url, logger
			cfg.Guard = guard
			cfg.AttemptMiddleware = []session.Middleware{session.Observe(session.LogObserver(logger)), session.Observe(session.LogObserver(logJSON))}
			s := newSession(t, cfg)
			trace := &httptrace.ClientTrace{
				GetConn:          func(at string) { fmt.Fprintln(&out, "trace: get", at) },
				DNSDone:          func(i httptrace.DNSDoneInfo) { fmt.Fprintf(&out, "trace: %+v\n", i) },
				ConnectDone:      func(n, a string, err error) { fmt.Fprintln(&out, "trace: connected", n, a, err) },
				TLSHandshakeDone: func(_ tls.ConnectionState, err error) { fmt.Fprintln(&out, "trace: TLS", err) },
				WroteHeaderField: func(key string, value []string) { fmt.Fprintln(&out, "trace: header", key, value) },
				WroteRequest:     func(i httptrace.WroteRequestInfo) { fmt.Fprintf(&out, "trace: %+v\n", i) },
				Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					fmt.Fprintln(&out, "trace: on the way", code, header)
					return nil
				},
				GotFirstResponseByte: func() { fmt.Fprintln(&out, "trace: answer") },
			}
			ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(context.Background(), trace), time.Minute)
			defer cancel()

			own := s.Bot(name, parsed, gotgbot.User{})
			foreign := &gotgbot.Bot{Token: token, BotClient: s.Client(name)}
			var failed []error
			note := func(err error) { failed = append(failed, err) }
			for _, bot := range []*gotgbot.Bot{own, foreign} {
				_, err = bot.GetMeWithContext(ctx, nil)
				note(err)
				_, err = bot.SendMessageWithContext(ctx, 1, "text", nil)
				note(err)
				_, err = bot.GetChatMemberWithContext(ctx, 1, 2, nil)
				note(err)
				_, err = bot.SendDocumentWithContext(ctx, 1, gotgbot.InputFileByReader("x", strings.NewReader("content")), nil)
				note(err)
				body, err := s.Download(ctx, bot, "photos/1.jpg")
				note(err)
				if err == nil {
					_, err = io.Copy(io.Discard, body)
					note(err)
					note(body.Close())
				}
			}
			_, err = s.NewBot(ctx, name, parsed)
			note(err)
			caused, end := context.WithCancelCause(ctx)
			end(fmt.Errorf("not %s", text))
			_, err = own.GetMeWithContext(caused, nil)
			note(err)
			for _, err := range failed {
				if _, ok := errors.AsType[*errors.Error](err); ok { // else gotgbot's own, of a result
					logger.Error("failed", "err", err)
					fmt.Fprintln(&out, everything(err))
				}
			}
			for _, v := range []any{own, s, s.Stats(), guard, guard.Stats(10), cfg} {
				fmt.Fprintf(&out, "%v %+v %#v\n", v, v, v)
			}
			assertNoSecret(t, out.String(), token)
			out.reset()
		})
	}
	assert.Zero(t, elsewhere, "a redirect was followed, with the token")

	for _, v := range []any{monitor.Fleet(), recorder} {
		whole, err := json.Marshal(v)
		if err == nil {
			out.Write(whole)
		}
		fmt.Fprintf(&out, "%+v\n", v)
	}
	for _, name := range []string{"goroutine", "threadcreate", "block", "mutex"} {
		for debug := range 3 {
			_ = pprof.Lookup(name).WriteTo(&out, debug)
		}
	}
	expvar.Do(func(kv expvar.KeyValue) { fmt.Fprintln(&out, kv.Key, kv.Value) })
	assertNoSecret(t, out.String(), token)
}

// tellingSeeker can be rewound until it was read, and then says what it must not.
type tellingSeeker struct{ *strings.Reader }

func (u tellingSeeker) Seek(offset int64, whence int) (int64, error) {
	if u.Len() == 0 {
		return 0, fmt.Errorf("no seek in %s", canary)
	}
	return u.Reader.Seek(offset, whence)
}

func TestWhatTheCallerSaysIsNotShown(t *testing.T) {
	cause := fmt.Errorf("%w: gave up %s", io.ErrClosedPipe, base64.StdEncoding.EncodeToString([]byte(canary)))
	for name, row := range map[string]struct {
		send func(*gotgbot.Bot, context.Context) error
		kept error
	}{
		"the cause of a context that ends between two attempts": {
			func(b *gotgbot.Bot, ctx context.Context) error {
				_, err := b.GetMeWithContext(ctx, nil)
				return err
			}, io.ErrClosedPipe,
		},
		"the reader of a file": {
			func(b *gotgbot.Bot, ctx context.Context) error {
				file := gotgbot.InputFileByReader("x", tellingSeeker{strings.NewReader("content")})
				_, err := b.SendDocumentWithContext(ctx, 1, file, nil)
				return err
			}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refusing := roundTrip(func(r *http.Request) (*http.Response, error) {
					return answer(r, 503, "busy"), nil
				})
				s, _ := guarded(t, refusing, session.GuardConfig{})
				ctx, cancel := context.WithCancelCause(context.Background())
				time.AfterFunc(500*time.Millisecond, func() { cancel(cause) })
				if row.kept == nil {
					ctx = context.Background()
				}
				err := row.send(s.Bot("k", mustToken(t, canary), gotgbot.User{}), ctx)
				require.Error(t, err)
				if row.kept != nil {
					assert.ErrorIs(t, err, row.kept, "what it was is still to be seen")
				}
				assertNoSecret(t, everything(err), canary)
				cancel(nil)
			})
		})
	}
}
