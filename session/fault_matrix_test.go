package session_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/retry"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// guarded is a session with a guard, whose retries wait for 1, 2 and 4 s.
func guarded(t *testing.T, transport http.RoundTripper, cfg session.GuardConfig, observers ...session.Middleware) (*session.Session, *session.Guard) {
	t.Helper()
	cfg.Limit.ColdStarts = []ratelimit.Limit{}
	cfg.Retry.Policy.Jitter = retry.None
	g, err := session.NewGuard(cfg)
	require.NoError(t, err)
	s, err := session.New(session.Config{Transport: transport, Guard: g, AttemptMiddleware: observers})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, s.Close(context.Background()))
		stats := g.Stats(0)
		assert.Zero(t, stats.Waiting)
		assert.Zero(t, stats.InFlight)
		assert.Zero(t, g.Stats(0).Platform.InFlight)
		g.Close()
	})
	return s, g
}

// refusing refuses the first connections.
type refusing struct {
	http.RoundTripper
	times int
}

func (r *refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.times > 0 {
		r.times--
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return r.RoundTripper.RoundTrip(req)
}

// Each fault happens once, to each of these calls.
func TestTheFaultMatrix(t *testing.T) {
	type outcome struct {
		requests int // on the wire
		messages int // in the chat: never two
		kind     errors.Kind
		seconds  float64
	}
	const (
		sendMessage = iota
		sendDocument
		sendStream // a document from a reader that can't seek
		editMessageText
		getMe
		calls
	)
	names := [calls]string{"sendMessage", "sendDocument, seekable", "sendDocument, not seekable", "editMessageText", "getMe"}
	again := outcome{2, 1, errors.None, 1} // it worked the second time
	unsure := func(messages int, seconds float64) outcome {
		return outcome{1, messages, errors.OutcomeUnknown, seconds}
	}
	failed := func(kind errors.Kind) outcome { return outcome{1, 0, kind, 0} }
	for _, fault := range []struct {
		name   string
		do     bottest.Action
		refuse bool
		want   [calls]outcome
		tenant int // failures in a row of its breaker, afterwards
	}{
		{name: "connection refused", refuse: true,
			want: [calls]outcome{again, again, failed(errors.ConnectionFailed), again, again}},
		{name: "reset before it was read", do: bottest.ResetBefore(),
			want: [calls]outcome{again, again, failed(errors.ConnectionFailed), again, again}},
		{name: "reset after it was read", do: bottest.ResetAfter(),
			want: [calls]outcome{unsure(1, 0), unsure(1, 0), unsure(1, 0), {2, 0, errors.NotModified, 1}, again}},
		{name: "hangs", do: bottest.Hang(),
			want: [calls]outcome{unsure(0, 20), unsure(0, 300), unsure(0, 300), {2, 1, errors.None, 21}, {2, 1, errors.None, 21}}},
		{name: "hangs after it was done", do: bottest.HangAfter(),
			want: [calls]outcome{unsure(1, 20), unsure(1, 300), unsure(1, 300), {2, 0, errors.NotModified, 21}, {2, 1, errors.None, 21}}},
		{name: "slow", do: bottest.Latency(5 * time.Second),
			want: [calls]outcome{{1, 1, errors.None, 5}, {1, 1, errors.None, 5}, {1, 1, errors.None, 5}, {1, 1, errors.None, 5}, {1, 1, errors.None, 5}}},
		// A proxy says 502 also when the server broke off after it had the request,
		// and a server that restarts does not say what became of it.
		{name: "502 with HTML", do: bottest.HTML502(),
			want: [calls]outcome{unsure(0, 0), unsure(0, 0), unsure(0, 0), again, again}},
		{name: "500 deleted at once", do: bottest.Respond(500, "application/json", `{"ok":false,"error_code":500,"description":"Internal Server Error: sent message was immediately deleted and can't be returned"}`),
			want: [calls]outcome{failed(errors.ResultLost), failed(errors.ResultLost), failed(errors.ResultLost), failed(errors.ResultLost), failed(errors.ResultLost)}},
		{name: "500 restart", do: bottest.Restart500(),
			want: [calls]outcome{unsure(0, 0), unsure(0, 0), unsure(0, 0), again, again}},
		// Envoy says 503 also when its upstream broke off after it had the request.
		{name: "503 of the proxy", do: bottest.Respond(503, "text/html", "<html>busy</html>"),
			want: [calls]outcome{unsure(0, 0), unsure(0, 0), unsure(0, 0), again, again}},
		{name: "cut JSON", do: bottest.CutJSON(),
			want: [calls]outcome{unsure(1, 0), unsure(1, 0), unsure(1, 0), {2, 0, errors.NotModified, 1}, again}},
		{name: "401", do: bottest.Unauthorized401(), tenant: 1,
			want: [calls]outcome{failed(errors.Unauthorized), failed(errors.Unauthorized), failed(errors.Unauthorized), failed(errors.Unauthorized), failed(errors.Unauthorized)}},
		{name: "403", do: bottest.Forbidden403("bot was blocked by the user"),
			want: [calls]outcome{failed(errors.Blocked), failed(errors.Blocked), failed(errors.Blocked), failed(errors.Blocked), failed(errors.Blocked)}},
		{name: "400", do: bottest.BadRequest400("chat not found"),
			want: [calls]outcome{failed(errors.ChatNotFound), failed(errors.ChatNotFound), failed(errors.ChatNotFound), failed(errors.ChatNotFound), failed(errors.ChatNotFound)}},
		{name: "409", do: bottest.Conflict409(),
			want: [calls]outcome{failed(errors.Conflict), failed(errors.Conflict), failed(errors.Conflict), failed(errors.Conflict), failed(errors.Conflict)}},
		{name: "429, short", do: bottest.TooManyRequests(3 * time.Second),
			want: [calls]outcome{{2, 1, errors.None, 3}, {2, 1, errors.None, 3}, failed(errors.RateLimited), {2, 1, errors.None, 3}, {2, 1, errors.None, 3}}},
		{name: "429, long", do: bottest.TooManyRequests(time.Hour),
			want: [calls]outcome{failed(errors.RateLimited), failed(errors.RateLimited), failed(errors.RateLimited), failed(errors.RateLimited), failed(errors.RateLimited)}},
	} {
		for i := range calls {
			t.Run(fault.name+"/"+names[i], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := bottest.New(bottest.Config{})
					defer srv.Close()
					transport := &refusing{RoundTripper: srv.Transport()}
					var attempts int
					s, g := guarded(t, transport, session.GuardConfig{}, session.Observe(session.ObserverFunc(func(context.Context, session.Observation) { attempts++ })))
					fake, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
					token, _ := session.ParseToken(fake.Token())
					bot := s.Bot("shop", token, gotgbot.User{})
					ann.Start(fake, "")
					sent, err := bot.SendMessage(ann.ID, "before", nil)
					require.NoError(t, err)
					synctest.Wait()
					attempts = 0
					before := len(fake.Messages(ann.ID))
					if fault.refuse {
						transport.times = 1
					} else {
						srv.Fail(bottest.Fault{Do: fault.do, Times: 1})
					}
					begin := time.Now()
					switch i {
					case sendMessage:
						_, err = bot.SendMessage(ann.ID, "hello", nil)
					case sendDocument:
						_, err = bot.SendDocument(ann.ID, gotgbot.InputFileByReader("a.txt", strings.NewReader("hello")), nil)
					case sendStream:
						_, err = bot.SendDocument(ann.ID, gotgbot.InputFileByReader("a.txt", io.MultiReader(strings.NewReader("hello"))), nil)
					case editMessageText:
						_, _, err = bot.EditMessageText(&gotgbot.EditMessageTextOpts{Text: "after", ChatId: ann.ID, MessageId: sent.MessageId})
					case getMe:
						_, err = bot.GetMe(nil)
					}
					got := outcome{attempts, len(fake.Messages(ann.ID)) - before, errors.KindOf(err), time.Since(begin).Seconds()}
					want := fault.want[i]
					if i == editMessageText || i == getMe {
						want.messages = 0 // neither sends one
					}
					assert.Equal(t, want, got, "%v", err)
					tenant, platform := g.Breaker("shop"), g.Stats(0).Platform
					state := fmt.Sprintf("tenant %v %d, platform %v %d", tenant.State, tenant.ConsecutiveFailures, platform.State, platform.ConsecutiveFailures)
					// The only bot that there is has seen it once, or a success ended the row.
					wantPlatform := 0
					if want.kind.Fault() == errors.FaultPlatform {
						wantPlatform = 1
					}
					assert.Equal(t, fmt.Sprintf("tenant closed %d, platform closed %d", fault.tenant, wantPlatform), state)
				})
			})
		}
	}
}
