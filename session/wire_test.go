package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

func dialError(cause error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: cause}
}

// afterRead fails once the request was read, as a connection does that is
// reset while the answer is waited for.
func afterRead(err error) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		return nil, err
	})
}

func failing(err error) http.RoundTripper {
	return roundTrip(func(*http.Request) (*http.Response, error) { return nil, err })
}

type cutBody struct{ io.Reader }

func (c cutBody) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
func (cutBody) Close() error { return nil }

// What comes back from the network becomes a typed error that says whether
// the call may have been carried out.
func TestReplies(t *testing.T) {
	type want struct {
		get, send errors.Kind // for getChat and for sendMessage
		safe      bool        // to repeat
		code      int
	}
	html := "<html><head><title>502 Bad Gateway</title></head></html>"
	for name, row := range map[string]struct {
		wire http.RoundTripper
		want want
	}{
		"ok":                                {answering(200, `{"ok":true,"result":{"id":1}}`), want{errors.None, errors.None, false, 0}},
		"ok with a description":             {answering(200, `{"ok":true,"result":{"id":1},"description":"done"}`), want{errors.None, errors.None, false, 0}},
		"ok with white space":               {answering(200, " \n{ \"result\" : {}, \"ok\" : true }\n"), want{errors.None, errors.None, false, 0}},
		"401":                               {answering(401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`), want{errors.Unauthorized, errors.Unauthorized, true, 401}},
		"404 for a malformed token":         {answering(404, `{"ok":false,"error_code":404,"description":"Not Found"}`), want{errors.InvalidToken, errors.InvalidToken, true, 404}},
		"403 blocked":                       {answering(403, `{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}`), want{errors.Blocked, errors.Blocked, true, 403}},
		"409":                               {answering(409, `{"ok":false,"error_code":409,"description":"Conflict: terminated by other getUpdates request"}`), want{errors.Conflict, errors.Conflict, true, 409}},
		"429":                               {answering(429, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5}}`), want{errors.RateLimited, errors.RateLimited, true, 429}},
		"500 restart":                       {answering(500, `{"ok":false,"error_code":500,"description":"Internal Server Error: restart"}`), want{errors.Unavailable, errors.OutcomeUnknown, false, 500}},
		"ok false without a code":           {answering(400, `{"ok":false,"description":"Bad Request: chat not found"}`), want{errors.ChatNotFound, errors.ChatNotFound, false, 400}},
		"502 HTML":                          {answering(502, html), want{errors.Unavailable, errors.OutcomeUnknown, false, 502}},
		"503 HTML":                          {answering(503, html), want{errors.Unavailable, errors.OutcomeUnknown, false, 503}},
		"504 HTML: the edge gave up":        {answering(504, html), want{errors.Unavailable, errors.OutcomeUnknown, false, 504}},
		"413 HTML":                          {answering(413, html), want{errors.FileTooLarge, errors.FileTooLarge, false, 413}},
		"429 HTML":                          {answering(429, html), want{errors.RateLimited, errors.RateLimited, false, 429}},
		"404 HTML: no Bot API server":       {answering(404, html), want{errors.BadReply, errors.OutcomeUnknown, false, 404}},
		"a redirect":                        {answering(302, ""), want{errors.BadReply, errors.OutcomeUnknown, false, 302}},
		"200 HTML":                          {answering(200, html), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"an empty body":                     {answering(200, ""), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"JSON without ok":                   {answering(200, `{"result":{}}`), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"ok without a result":               {answering(200, `{"ok":true}`), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"JSON of another form":              {answering(200, `[1]`), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"JSON null":                         {answering(200, `null`), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"cut JSON":                          {answering(200, `{"ok":true,"result":{"id":`), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"cut JSON that ends in a brace":     {answering(200, `{"ok":true,"result":{"a":{}`), want{errors.BadReply, errors.OutcomeUnknown, false, 200}},
		"refused":                           {failing(dialError(syscall.ECONNREFUSED)), want{errors.ConnectionFailed, errors.ConnectionFailed, true, 0}},
		"no such host":                      {failing(dialError(&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true})), want{errors.ConnectionFailed, errors.ConnectionFailed, true, 0}},
		"reset before the request was read": {failing(syscall.ECONNRESET), want{errors.ConnectionFailed, errors.ConnectionFailed, true, 0}},
		"reset after the request was read":  {afterRead(syscall.ECONNRESET), want{errors.ConnectionFailed, errors.OutcomeUnknown, false, 0}},
		"EOF after the request was read":    {afterRead(io.EOF), want{errors.ConnectionFailed, errors.OutcomeUnknown, false, 0}},
		"a wrapped client's time-out":       {afterRead(&url.Error{Op: "Post", URL: "https://x/bot" + canary, Err: context.DeadlineExceeded}), want{errors.Timeout, errors.OutcomeUnknown, false, 0}},
		"neither response nor error":        {failing(nil), want{errors.ConnectionFailed, errors.ConnectionFailed, true, 0}},
		"a reply that breaks off": {roundTrip(func(r *http.Request) (*http.Response, error) {
			resp := answer(r, 200, "")
			resp.ContentLength = 100
			resp.Body = cutBody{strings.NewReader(`{"ok":true`)}
			return resp, nil
		}), want{errors.ConnectionFailed, errors.OutcomeUnknown, false, 0}},
		"a reply over the limit": {answering(200, `{"ok":true,"result":"`+strings.Repeat("x", 5000)+`"}`), want{errors.BadReply, errors.OutcomeUnknown, false, 0}},
		"a reply over the limit, length unknown": {roundTrip(func(r *http.Request) (*http.Response, error) {
			resp := answer(r, 200, strings.Repeat(" ", 5000))
			resp.ContentLength = -1
			return resp, nil
		}), want{errors.BadReply, errors.OutcomeUnknown, false, 0}},
		"a panic in the transport": {roundTrip(func(*http.Request) (*http.Response, error) { panic("at " + canary) }), want{errors.Internal, errors.Internal, true, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newSession(t, session.Config{Transport: row.wire, MaxReplyBytes: 4096}).Client("shop")
			for method, kind := range map[string]errors.Kind{"getChat": row.want.get, "sendMessage": row.want.send} {
				result, err := c.RequestWithContext(context.Background(), canary, method, map[string]any{"chat_id": int64(1)}, nil)
				assert.Equal(t, kind.String(), errors.KindOf(err).String(), "%s: %v", method, err)
				if kind == errors.None {
					assert.NoError(t, err)
					assert.True(t, json.Valid(result))
					continue
				}
				assert.Nil(t, result)
				assert.Equal(t, row.want.safe, errors.SafeToRepeat(err), "%s: safe to repeat: %v", method, err)
				e, ok := errors.AsType[*errors.Error](err)
				require.True(t, ok)
				assert.Equal(t, row.want.code, e.Code)
				assert.Equal(t, "shop", e.Key)
				assert.Equal(t, method, e.Op)
			}
		})
	}
}

func TestAnswersMatchGotgbotsError(t *testing.T) {
	c := newSession(t, session.Config{
		Transport: answering(400, `{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-100500}}`),
	}).Client("k")
	_, err := c.RequestWithContext(context.Background(), canary, "sendMessage", map[string]any{"text": "private words"}, nil)
	tg, ok := errors.AsType[*gotgbot.TelegramError](err)
	require.True(t, ok)
	assert.Equal(t, 400, tg.Code)
	assert.Equal(t, "sendMessage", tg.Method)
	assert.Equal(t, int64(-100500), tg.ResponseParams.MigrateToChatId)
	assert.Nil(t, tg.Params, "what users wrote is not kept in errors")
	assert.NotContains(t, fmt.Sprintf("%+v %#v", err, tg), "private words")
	assert.Equal(t, errors.Migrated, errors.KindOf(err))
	to, ok := errors.MigrateTo(err)
	assert.True(t, ok)
	assert.Equal(t, int64(-100500), to)
}

func TestRetryAfterComesFromTheHeaderWhereTheBodyHasNone(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "": 0, "-1": 0, "x": 0, "99999999999999": 0, "Wed, 21 Oct 2015 07:28:00 GMT": 0,
	} {
		c := newSession(t, session.Config{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			resp := answer(r, 429, "slow down")
			resp.Header.Set("Retry-After", header)
			return resp, nil
		})}).Client("k")
		_, err := c.RequestWithContext(context.Background(), canary, "sendMessage", nil, nil)
		assert.Equal(t, want, errors.RetryAfter(err), header)
	}
}

// hang answers when the request's context ends, after it read the body.
var hang = roundTrip(func(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
})

func TestTimeouts(t *testing.T) {
	for name, row := range map[string]struct {
		cfg    session.Config
		method string
		params map[string]any
		opts   *gotgbot.RequestOpts
		want   time.Duration
	}{
		"the wait for an answer is bounded":          {session.Config{}, "getMe", nil, nil, 20 * time.Second},
		"an attempt is bounded":                      {session.Config{FirstByteTimeout: -1}, "getMe", nil, nil, 30 * time.Second},
		"the shorter bound counts":                   {session.Config{Timeout: 10 * time.Second}, "getMe", nil, nil, 10 * time.Second},
		"RequestOpts take the session's place":       {session.Config{FirstByteTimeout: -1}, "getMe", nil, &gotgbot.RequestOpts{Timeout: 3 * time.Second}, 3 * time.Second},
		"RequestOpts without a time-out change none": {session.Config{FirstByteTimeout: -1}, "getMe", nil, &gotgbot.RequestOpts{}, 30 * time.Second},
		"a long poll may wait":                       {session.Config{}, "getUpdates", map[string]any{"timeout": int64(50)}, nil, 80 * time.Second},
		"a long poll's time-out is believed to 50 s": {session.Config{}, "getUpdates", map[string]any{"timeout": int64(5000)}, nil, 80 * time.Second},
		"an upload may take long": {session.Config{}, "sendDocument",
			map[string]any{"document": file("a", "A")}, nil, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				row.cfg.Transport = hang
				c := newSession(t, row.cfg).Client("k")
				start := time.Now()
				_, err := c.RequestWithContext(context.Background(), canary, row.method, row.params, row.opts)
				assert.Equal(t, row.want, time.Since(start))
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				if row.method == "sendDocument" {
					assert.ErrorIs(t, err, errors.OutcomeUnknown)
				} else {
					assert.ErrorIs(t, err, errors.Timeout)
				}
			})
		})
	}
	t.Run("a negative time-out leaves it to the context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newSession(t, session.Config{Transport: hang, FirstByteTimeout: -1}).Client("k")
			ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
			defer cancel()
			_, err := c.RequestWithContext(ctx, canary, "getMe", nil, &gotgbot.RequestOpts{Timeout: -1})
			assert.ErrorIs(t, err, errors.Timeout)
			<-ctx.Done()
		})
	})
	t.Run("a slow body is not cut by the first byte's bound", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			slow := roundTrip(func(r *http.Request) (*http.Response, error) {
				resp := answer(r, 200, "")
				pr, pw := io.Pipe()
				go func() {
					for _, part := range []string{`{"ok":true,`, `"result":`, `1}`} {
						time.Sleep(9 * time.Second)
						_, _ = io.WriteString(pw, part)
					}
					pw.Close()
				}()
				resp.Body, resp.ContentLength = pr, -1
				return resp, nil
			})
			c := newSession(t, session.Config{Transport: slow, FirstByteTimeout: 5 * time.Second}).Client("k")
			result, err := c.RequestWithContext(context.Background(), canary, "getMe", nil, nil)
			require.NoError(t, err)
			assert.JSONEq(t, "1", string(result))
		})
	})
}

func TestTheCallersOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(t, session.Config{Transport: hang})
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		_, err := s.Client("k").RequestWithContext(ctx, canary, "sendMessage", nil, nil)
		assert.ErrorIs(t, err, errors.Canceled)
		assert.ErrorIs(t, err, context.Canceled)
		assert.False(t, errors.SafeToRepeat(err))

		_, err = s.Client("k").RequestWithContext(ctx, canary, "sendMessage", nil, nil)
		assert.ErrorIs(t, err, errors.Canceled)
		assert.True(t, errors.SafeToRepeat(err), "a context that is done sends nothing")

		dctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		_, err = s.Client("k").RequestWithContext(dctx, canary, "sendMessage", nil, nil)
		assert.ErrorIs(t, err, errors.OutcomeUnknown)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Client("k").RequestWithContext(dctx, canary, "getMe", nil, nil)
		assert.ErrorIs(t, err, errors.Timeout)
	})
}

func TestAReaderThatFailsIsTheCallersFault(t *testing.T) {
	srv := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"ok":true,"result":true}`)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: srv}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	c := newSession(t, session.Config{APIURL: "http://" + l.Addr().String()}).Client("k")
	for name, r := range map[string]io.Reader{
		"an error": io.MultiReader(strings.NewReader("abc"), failingReader{}),
		"a panic":  io.MultiReader(strings.NewReader("abc"), panickingReader{}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.RequestWithContext(context.Background(), canary, "sendDocument",
				map[string]any{"document": gotgbot.InputFileByReader("x", r)}, nil)
			assert.Equal(t, errors.BadRequest.String(), errors.KindOf(err).String(), "%v", err)
			assert.True(t, errors.SafeToRepeat(err), "half a request is no request")
			assert.NotContains(t, fmt.Sprintf("%+v", err), canarySecret)
		})
	}
}

// stuckSeeker can be rewound, but a read of it may never end.
type stuckSeeker struct {
	*strings.Reader
	release chan struct{}
}

func (s stuckSeeker) Read([]byte) (int, error) {
	<-s.release
	return 0, io.EOF
}

func TestAStuckFileDoesNotHoldTheCallAndIsNotReadTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := stuckSeeker{strings.NewReader("content"), make(chan struct{})}
		wire := roundTrip(func(r *http.Request) (*http.Response, error) {
			go func() { _, _ = io.Copy(io.Discard, r.Body) }()
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		})
		rewindable := true
		mw := func(next session.Invoker) session.Invoker {
			return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
				assert.True(t, call.Rewindable())
				_, err := next.Invoke(ctx, call)
				rewindable = call.Rewindable()
				return nil, err
			})
		}
		c := newSession(t, session.Config{Transport: wire, Middleware: []session.Middleware{mw}}).Client("k")
		start := time.Now()
		_, err := c.RequestWithContext(context.Background(), canary, "sendDocument",
			map[string]any{"document": gotgbot.InputFileByReader("x", stuck)}, &gotgbot.RequestOpts{Timeout: time.Second})
		assert.ErrorIs(t, err, errors.Timeout)
		assert.True(t, errors.SafeToRepeat(err))
		assert.False(t, rewindable)
		assert.Less(t, time.Since(start), 10*time.Second)
		close(stuck.release)
	})
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire at " + canary) }

type panickingReader struct{}

func (panickingReader) Read([]byte) (int, error) { panic("reader of " + canary) }

// A transport's errors may hold the URL, and so the token, at any depth.
type urlKeeper struct {
	URL string
	err error
}

func (e *urlKeeper) Error() string { return "innocent" }
func (e *urlKeeper) Unwrap() error { return e.err }

func TestNoErrorShowsTheToken(t *testing.T) {
	target := "https://api.telegram.org/bot" + canary + "/sendMessage"
	secretIn := func(text string) error { return errors.New(text) }
	for name, cause := range map[string]error{
		"a url.Error":            &url.Error{Op: "Post", URL: target, Err: syscall.ECONNRESET},
		"a text":                 secretIn("no way to " + target),
		"an escaped token":       secretIn("no way to " + strings.ReplaceAll(target, ":", "%3A")),
		"the secret half alone":  secretIn("half: " + canarySecret),
		"a field, shown by %+v":  &urlKeeper{URL: target},
		"deep down":              fmt.Errorf("a: %w", fmt.Errorf("b: %w", errors.Join(io.EOF, &urlKeeper{URL: target, err: syscall.EPIPE}))),
		"another bot's token":    secretIn("424242:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"),
		"wrapped in an net.Op":   dialError(secretIn(target)),
		"a text of another kind": fmt.Errorf("x %q", target),
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			observed := session.Observe(session.LogObserver(slog.New(slog.NewJSONHandler(&log, nil))))
			s := newSession(t, session.Config{Transport: failing(cause), Middleware: []session.Middleware{observed}})
			_, err := s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
			require.Error(t, err)
			assert.ErrorIs(t, err, errors.ConnectionFailed)
			out := everything(err) + log.String()
			assert.NotContains(t, out, canarySecret)
			assert.NotContains(t, out, "AAbbCCddEEffGGhhIIjjKK")
			if errors.Is(cause, syscall.EPIPE) {
				assert.ErrorIs(t, err, syscall.EPIPE, "what it was is still to be seen")
			}
		})
	}
}

// everything prints an error and all that it wraps in every way there is.
func everything(err error) string {
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, nil))
	logJSON := slog.New(slog.NewJSONHandler(&b, nil))
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		fmt.Fprintf(&b, "%v %+v %#v %q %s\n", err, err, err, err, err)
		log.Error("failed", "err", err)
		logJSON.Error("failed", "err", err)
		if text, e := json.Marshal(err); e == nil {
			b.Write(text)
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	return b.String()
}

func TestBadTokensNeverReachTheWireOrAnError(t *testing.T) {
	calls := 0
	s := newSession(t, session.Config{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		calls++
		return nil, io.EOF
	})})
	for name, token := range map[string]string{
		"malformed": canarySecret, "a trailing newline": canary + "\n", "a trailing space": canary + " ",
		"a slash": canary + "/x", "an escape": canary + "%20", "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			bot, err := gotgbot.NewBot(token, &gotgbot.BotOpts{BotClient: s.Client("k")})
			assert.Nil(t, bot)
			assert.ErrorIs(t, err, errors.InvalidToken)
			assert.NotContains(t, everything(err), canarySecret)
			_, err = s.Client("k").RequestWithContext(context.Background(), token, "getMe", nil, nil)
			assert.NotContains(t, everything(err), canarySecret)
		})
	}
	assert.Zero(t, calls)
}
