package session_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// tracing is a transport as tracers are: it writes down all that it can see,
// sets a header, and clones the request.
type tracing struct {
	next http.RoundTripper
	out  outputs
}

func (tr *tracing) RoundTrip(r *http.Request) (*http.Response, error) {
	note := func(v ...any) { fmt.Fprintln(&tr.out, v...) }
	note("request", r.Method, r.URL, r.Host, r.RequestURI, r.Header)
	fmt.Fprintf(&tr.out, "%+v\n", r)
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		WroteHeaderField: func(key string, value []string) { note("wrote", key, value) },
		GotConn:          func(i httptrace.GotConnInfo) { note("connection", i.Reused) },
	})
	r = r.Clone(ctx)
	r.Header.Set("Traceparent", "00-1-2-01")
	resp, err := tr.next.RoundTrip(r)
	note("error", err)
	if resp != nil {
		note("response", resp.Status, resp.Header, resp.Request.URL)
	}
	return resp, err
}

func TestAWrappedTransportSeesNoTokenAndLosesNothing(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			srv, polling := apiServer(t, http2)
			tr := &tracing{}
			var log outputs
			cfg := session.Config{
				APIURL: srv.URL, MaxConns: 1, MaxConnsPerHost: 1,
				WrapTransport: func(next http.RoundTripper) http.RoundTripper { tr.next = next; return tr },
				Middleware:    []session.Middleware{session.Observe(session.LogObserver(slog.New(slog.NewTextHandler(&log, nil))))},
			}
			if http2 {
				cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
			}
			s := newSession(t, cfg)
			bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
			ctx, cancel := context.WithCancel(t.Context())
			var polls sync.WaitGroup
			for range 3 {
				polls.Go(func() {
					_, err := bot.RequestWithContext(ctx, "getUpdates", map[string]any{"timeout": 50}, nil)
					assert.ErrorIs(t, err, errors.Canceled)
				})
			}
			for range 3 {
				<-polling
			}
			_, err := bot.SendMessage(1, "hi", nil)
			require.NoError(t, err, "polls leave the connection to it")
			_, err = bot.SendDocument(1, gotgbot.InputFileByReader("x.txt", strings.NewReader("content")), nil)
			require.NoError(t, err)
			file, err := s.Download(t.Context(), bot, "photos/1.jpg")
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, file)
			require.NoError(t, err)
			require.NoError(t, file.Close())
			cancel()
			polls.Wait()

			srv.CloseClientConnections()
			srv.Listener.Close()
			_, err = bot.GetMe(nil)
			assert.ErrorIs(t, err, errors.ConnectionFailed)
			assert.True(t, strings.Contains(tr.out.String(), "/bot"+canaryMasked+"/sendMessage"))
			assert.True(t, strings.Contains(tr.out.String(), "/file/bot"+canaryMasked+"/photos/1.jpg"))
			assertNoSecret(t, tr.out.String()+log.String(), canary)
		})
	}
}

func TestAWrappedTransportThatSendsElsewhereGetsNoToken(t *testing.T) {
	for name, wrap := range map[string]func(next http.RoundTripper) http.RoundTripper{
		"another host": func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				r.URL.Host = "elsewhere.example"
				return next.RoundTrip(r)
			})
		},
		"another scheme": func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				r.URL.Scheme = "http"
				return next.RoundTrip(r)
			})
		},
		"a context of its own": func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				return next.RoundTrip(r.WithContext(context.Background()))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked int
			s := newSession(t, session.Config{
				Transport:     roundTrip(func(*http.Request) (*http.Response, error) { asked++; return nil, io.EOF }),
				WrapTransport: wrap,
			})
			_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).SendMessage(1, "hi", nil)
			assert.ErrorContains(t, err, "must pass on the request's context and host")
			assert.True(t, errors.SafeToRepeat(err))
			assert.Zero(t, asked)
		})
	}
}

// What the transport below fails with may name the real URL.
func TestAWrappedTransportsErrorsHaveNoToken(t *testing.T) {
	tr := &tracing{}
	s := newSession(t, session.Config{
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: io.ErrUnexpectedEOF}
		}),
		WrapTransport: func(next http.RoundTripper) http.RoundTripper { tr.next = next; return tr },
	})
	_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).SendMessage(1, "hi", nil)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assertNoSecret(t, tr.out.String()+everything(err), canary)
}

func TestWrapTransportMustReturnOne(t *testing.T) {
	_, err := session.New(session.Config{WrapTransport: func(http.RoundTripper) http.RoundTripper { return nil }})
	assert.ErrorContains(t, err, "WrapTransport")
}

// Once an attempt may have been carried out, a later definite answer may be the
// echo of it.
func TestASecondAnswerDoesNotHideTheFirstAttempt(t *testing.T) {
	for method, row := range map[string]struct {
		code int
		text string
		kind errors.Kind
	}{
		"refundStarPayment":      {400, "Bad Request: CHARGE_ALREADY_REFUNDED", errors.BadRequest},
		"leaveChat":              {403, "Forbidden: bot is not a member of the supergroup chat", errors.Kicked},
		"stopPoll":               {400, "Bad Request: poll has already been closed", errors.BadRequest},
		"approveChatJoinRequest": {400, "Bad Request: HIDE_REQUESTER_MISSING", errors.BadRequest},
		"deleteMessage":          {400, "Bad Request: message to delete not found", errors.MessageNotFound},
		"editMessageText":        {400, "Bad Request: message is not modified", errors.NotModified},
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests int
				s, _ := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
					requests++
					reply := answer(r, row.code, fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q}`, row.code, row.text))
					if requests == 1 {
						return nil, io.ErrUnexpectedEOF // the body was read
					}
					return reply, nil
				}), session.GuardConfig{})
				bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
				_, err := bot.RequestWithContext(t.Context(), method, map[string]any{"chat_id": int64(-1005), "user_id": int64(5)}, nil)
				assert.Equal(t, 2, requests)
				assert.Equal(t, row.kind, errors.KindOf(err))
				assert.False(t, errors.SafeToRepeat(err), "%v", err)
			})
		})
	}
}

// A kept connection that its server closed takes nothing. That is nobody's
// failure, also without a guard.
func TestAClosedIdleConnectionCostsNothing(t *testing.T) {
	srv, _ := apiServer(t, false)
	s := newSession(t, session.Config{APIURL: srv.URL})
	bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
	for range 300 {
		_, err := bot.SendMessage(1, "hi", nil)
		if err != nil {
			assert.ErrorIs(t, err, errors.OutcomeUnknown, "the request was on its way when the server closed")
		}
		srv.CloseClientConnections()
	}
}
