package errors_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
)

// allKinds has a row for every kind, in the order of their declaration.
var allKinds = []struct {
	kind      errors.Kind
	name      string
	text      string
	http      int
	fault     errors.Fault
	temporary bool
	friendly  string // a part of the English text that says what to do
}{
	{errors.Internal, "internal", "internal error", 500, errors.FaultLocal, false, "contact support"},
	{errors.Canceled, "canceled", "canceled by the caller", 499, errors.FaultCaller, false, "try again"},
	{errors.Closed, "closed", "closed", 503, errors.FaultLocal, false, "try again"},

	{errors.InvalidToken, "invalid_token", "invalid token format", 400, errors.FaultTenant, false, "copy the whole token from @BotFather"},
	{errors.Unauthorized, "unauthorized", "token not accepted by Telegram", 422, errors.FaultTenant, false, "new token from @BotFather"},
	{errors.LoggedOut, "logged_out", "bot logged out of this server", 409, errors.FaultTenant, false, "10 minutes"},
	{errors.TokenTaken, "token_taken", "bot belongs to another tenant", 409, errors.FaultTenant, false, "disconnect it there"},
	{errors.Exists, "exists", "exists already", 409, errors.FaultCaller, false, "already has a bot"},
	{errors.WrongBot, "wrong_bot", "token is of another bot", 409, errors.FaultTenant, false, "enter the token"},
	{errors.NotFound, "not_found", "not found", 404, errors.FaultCaller, false, "check that it still exists"},
	{errors.Stale, "stale", "changed by somebody else meanwhile", 409, errors.FaultCaller, true, "reload"},
	{errors.Suspended, "suspended", "tenant suspended", 403, errors.FaultTenant, false, "contact support"},
	{errors.Unverified, "unverified", "owner not verified", 403, errors.FaultTenant, false, "press Start"},

	{errors.RateLimited, "rate_limited", "rate limited by Telegram", 429, errors.FaultTenant, true, "wait a moment"},
	{errors.Throttled, "throttled", "rate limited locally", 429, errors.FaultLocal, true, "wait a moment"},
	{errors.BreakerOpen, "breaker_open", "circuit breaker open", 503, errors.FaultPlatform, true, "try again in a minute"},
	{errors.PoolFull, "pool_full", "all places for open bots in use", 503, errors.FaultLocal, true, "try again in a few seconds"},
	{errors.StoreUnavailable, "store_unavailable", "database unavailable", 503, errors.FaultLocal, true, "try again in a few minutes"},

	{errors.Timeout, "timeout", "timed out", 504, errors.FaultPlatform, true, "try again"},
	{errors.ConnectionFailed, "connection_failed", "connection failed", 502, errors.FaultPlatform, true, "try again later"},
	{errors.OutcomeUnknown, "outcome_unknown", "outcome unknown", 502, errors.FaultPlatform, false, "check in Telegram before"},
	{errors.Unavailable, "unavailable", "Telegram unavailable", 502, errors.FaultPlatform, true, "try again in a few minutes"},
	{errors.BadReply, "bad_reply", "not a Bot API reply", 502, errors.FaultPlatform, true, "try again later"},

	{errors.Conflict, "conflict", "conflict", 409, errors.FaultTenant, true, "stop the other program"},
	{errors.BadRequest, "bad_request", "bad request", 400, errors.FaultCaller, false, "check what you entered"},
	{errors.NotModified, "not_modified", "message is not modified", 400, errors.FaultNone, false, "make a change first"},
	{errors.ResultLost, "result_lost", "carried out, but the result is lost", 410, errors.FaultNone, false, "do not send it again"},
	{errors.MessageNotFound, "message_not_found", "message not found", 404, errors.FaultCaller, false, "choose another one"},
	{errors.QueryExpired, "query_expired", "query expired", 410, errors.FaultCaller, false, "press the button"},
	{errors.MessageTooLong, "message_too_long", "message too long", 400, errors.FaultCaller, false, "shorten it"},
	{errors.BadMarkup, "bad_markup", "markup can't be parsed", 400, errors.FaultCaller, false, "check it"},
	{errors.FileTooLarge, "file_too_large", "file too large", 413, errors.FaultCaller, false, "smaller one"},
	{errors.ChatNotFound, "chat_not_found", "chat not found", 404, errors.FaultCaller, false, "add the bot to it"},
	{errors.Migrated, "migrated", "group became a supergroup", 409, errors.FaultCaller, false, "choose the group again"},

	{errors.Forbidden, "forbidden", "forbidden by Telegram", 403, errors.FaultCaller, false, "check its rights"},
	{errors.Blocked, "blocked", "bot blocked by the user", 403, errors.FaultCaller, false, "ask the user to unblock"},
	{errors.NotStarted, "not_started", "user has not started the bot", 403, errors.FaultCaller, false, "press Start"},
	{errors.Kicked, "kicked", "bot is not in the chat", 403, errors.FaultCaller, false, "add it to the chat"},
	{errors.ChatGone, "chat_gone", "chat is gone", 410, errors.FaultCaller, false, "remove it from your list"},
}

func TestEveryKindHasItsTraits(t *testing.T) {
	names, texts := map[string]bool{}, map[string]bool{}
	require.Len(t, allKinds, len(errors.Kinds()))
	for i, row := range allKinds {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.kind, errors.Kinds()[i], "rows are in the order of Kinds")
			assert.Equal(t, row.name, row.kind.String())
			assert.Equal(t, row.text, row.kind.Error())
			assert.Equal(t, row.http, row.kind.HTTPStatus())
			assert.Equal(t, row.fault, row.kind.Fault())
			assert.Equal(t, row.temporary, row.kind.Temporary())
			assert.False(t, names[row.name], "name is taken")
			assert.False(t, texts[row.text], "text is taken")
			names[row.name], texts[row.text] = true, true

			// The same holds for an Error of the kind, alone or wrapped, and for
			// the bare kind.
			for _, err := range []error{
				row.kind,
				&errors.Error{Kind: row.kind},
				fmt.Errorf("greet: %w", &errors.Error{Kind: row.kind}),
				errors.Join(errors.New("first"), &errors.Error{Kind: row.kind}),
			} {
				assert.Equal(t, row.kind, errors.KindOf(err))
				assert.ErrorIs(t, err, row.kind)
				assert.Equal(t, row.http, errors.HTTPStatus(err))
				assert.Equal(t, row.temporary, errors.Temporary(err))
				assert.Equal(t, row.fault == errors.FaultTenant, errors.TenantFault(err))
				assert.Equal(t, row.fault == errors.FaultPlatform, errors.PlatformFault(err))
				assert.Contains(t, errors.Friendly(err, "en"), row.friendly)
			}
		})
	}
}

func TestAFriendlyTextSaysNothingInternal(t *testing.T) {
	for _, kind := range errors.Kinds() {
		for scope := errors.ScopeUnknown; scope <= errors.ScopeAll+1; scope++ {
			for _, wait := range []time.Duration{-time.Second, 0, 90 * time.Second} {
				text := errors.Friendly(&errors.Error{
					Kind: kind, Op: "sendCanary", Key: "canary-key", Code: 477, Description: "canary description",
					RetryAfter: wait, Scope: scope, MigrateTo: -100477, Err: errors.New("canary cause"),
				}, "")
				assert.NotEmpty(t, text)
				for _, no := range []string{"anary", "477", "{", "_", "%", "tenant", kind.Error() + ":"} {
					assert.NotContains(t, text, no)
				}
				assert.True(t, strings.HasSuffix(text, "."), "%q is a sentence", text)
			}
		}
	}
}

func TestNoErrorIsNoKind(t *testing.T) {
	assert.Equal(t, errors.None, errors.KindOf(nil))
	assert.Equal(t, 200, errors.HTTPStatus(nil))
	assert.False(t, errors.Temporary(nil))
	assert.False(t, errors.SafeToRepeat(nil))
	assert.False(t, errors.TenantFault(nil))
	assert.False(t, errors.PlatformFault(nil))
	assert.Zero(t, errors.RetryAfter(nil))
	assert.Empty(t, errors.Friendly(nil, "en"))
	_, ok := errors.MigrateTo(nil)
	assert.False(t, ok)
}

func TestAnErrorWithoutAKindIsInternal(t *testing.T) {
	for _, err := range []error{errors.New("x"), &errors.Error{Op: "x"}, errors.None, errors.Kind(250)} {
		assert.Equal(t, 500, errors.HTTPStatus(err))
		assert.Equal(t, "Something went wrong. Please try again or contact support.", errors.Friendly(err, "en"))
	}
}

func TestAKindGoesThroughTextAndBack(t *testing.T) {
	for _, kind := range append(errors.Kinds(), errors.None) {
		text, err := json.Marshal(kind)
		require.NoError(t, err)
		assert.Equal(t, `"`+kind.String()+`"`, string(text))
		var back errors.Kind
		require.NoError(t, json.Unmarshal(text, &back))
		assert.Equal(t, kind, back)
	}
	var unknown errors.Kind
	require.NoError(t, json.Unmarshal([]byte(`"kind_of_a_newer_version"`), &unknown))
	assert.Equal(t, errors.Internal, unknown)
}

func TestFaultsScopesAndReasonsHaveNames(t *testing.T) {
	assert.Equal(t, "none caller tenant platform local Fault(9)", fmt.Sprint(
		errors.FaultNone, " ", errors.FaultCaller, " ", errors.FaultTenant, " ",
		errors.FaultPlatform, " ", errors.FaultLocal, " ", errors.Fault(9)))
	assert.Equal(t, "unknown chat tenant all unknown", fmt.Sprint(
		errors.ScopeUnknown, " ", errors.ScopeChat, " ", errors.ScopeTenant, " ", errors.ScopeAll, " ", errors.Scope(9)))
	assert.Equal(t, "unknown webhook polling set_webhook", fmt.Sprint(
		errors.ConflictUnknown, " ", errors.ConflictWebhook, " ", errors.ConflictPolling, " ", errors.ConflictSetWebhook))
}
