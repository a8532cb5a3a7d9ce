package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/session"
)

// answersOfTheCall are answers that find fault with the call or its chat, or
// with nothing, one for each of their kinds and more.
var answersOfTheCall = []struct {
	code        int
	description string
	params      string
	kind        errors.Kind
}{
	{403, "Forbidden: bot was blocked by the user", "", errors.Blocked},
	{403, "Forbidden: bot can't initiate conversation with a user", "", errors.NotStarted},
	{403, "Forbidden: bot was kicked from the supergroup chat", "", errors.Kicked},
	{403, "Forbidden: user is deactivated", "", errors.ChatGone},
	{403, "Forbidden: bot can't send messages to the bot", "", errors.Forbidden},
	{400, "Bad Request: TOPIC_CLOSED", "", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_PHOTOS_FORBIDDEN", "", errors.Forbidden},
	{400, "Bad Request: not enough rights to send photos to the chat", "", errors.Forbidden},
	{400, "Bad Request: PEER_FLOOD", "", errors.Forbidden},
	{400, "Bad Request: chat not found", "", errors.ChatNotFound},
	{500, "Internal Server Error: chat not found", "", errors.ChatNotFound},
	{400, "Bad Request: group chat was upgraded to a supergroup chat", `,"parameters":{"migrate_to_chat_id":-1001}`, errors.Migrated},
	{400, "Bad Request: wrong file identifier/HTTP URL specified", "", errors.BadRequest},
	{400, "Bad Request: failed to get HTTP URL content", "", errors.BadRequest},
	{500, "Internal Server Error: unexpected QUOTE_TEXT_INVALID error", "", errors.BadRequest},
	{400, "Bad Request: file of size 11000000 bytes is too big for a photo; the maximum size is 10485760 bytes", "", errors.FileTooLarge},
	{413, "Request Entity Too Large", "", errors.FileTooLarge},
	{400, "Bad Request: message to copy not found", "", errors.MessageNotFound},
	{400, "Bad Request: can't parse entities: unexpected end tag at byte offset 5", "", errors.BadMarkup},
	{400, "Bad Request: message caption is too long", "", errors.MessageTooLong},
	{400, "Bad Request: query is too old and response timeout expired or query ID is invalid", "", errors.QueryExpired},
	{404, "Not Found: method not found", "", errors.NotFound},
	{400, "Bad Request: message is not modified", "", errors.NotModified},
	{500, "Internal Server Error: sent message was immediately deleted and can't be returned", "", errors.ResultLost},
}

func TestTheAnswersOfTheCallHaveAllTheirKinds(t *testing.T) {
	seen := map[errors.Kind]bool{
		// Never what Telegram answers.
		errors.Canceled: true, errors.Exists: true, errors.Stale: true,
	}
	for _, row := range answersOfTheCall {
		seen[row.kind] = true
	}
	for _, kind := range errors.Kinds() {
		if fault := kind.Fault(); fault == errors.FaultCaller || fault == errors.FaultNone {
			assert.True(t, seen[kind], kind.String())
		}
	}
}

// A blocked user, a missing chat, a bad file, a message that was deleted at once:
// however often they come, the bot and Telegram work.
func TestAnAnswerOfTheCallIsNoFailureOfBotOrPlatform(t *testing.T) {
	media := []map[string]any{{"type": "photo", "media": "x"}, {"type": "photo", "media": "y"}}
	methods := map[string]map[string]any{
		"sendMessage":     {"text": "hello"},
		"sendMediaGroup":  {"media": media},
		"copyMessages":    {"from_chat_id": 7, "message_ids": []int64{1, 2}},
		"forwardMessages": {"from_chat_id": 7, "message_ids": []int64{1, 2}},
	}
	for _, row := range answersOfTheCall {
		for method, params := range methods {
			t.Run(fmt.Sprint(method, " ", row.code, " ", row.description), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					description, err := json.Marshal(row.description)
					require.NoError(t, err)
					body := fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%s%s}`, row.code, description, row.params)
					monitor := newMonitor(t)
					recorder, store := newRecorder(t)
					s, g := guarded(t, answering(row.code, body), session.GuardConfig{
						Health: monitor, Usage: recorder,
						Limit: session.LimitConfig{Default: session.ReactiveLimits()},
					})
					bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
					begin := time.Now()
					for i := range 20 {
						p := map[string]any{"chat_id": 1000 + i}
						for name, value := range params {
							p[name] = value
						}
						_, err := bot.RequestWithContext(t.Context(), method, p, nil)
						require.Equal(t, row.kind, errors.KindOf(err), "%v", err)
						require.False(t, errors.SafeToRepeat(err) && method != "sendMessage", "a part may have been sent")
					}
					assert.Zero(t, time.Since(begin), "nothing waits or is sent again")
					for whose, counts := range map[string]breaker.Counts{"bot": g.Breaker("shop"), "platform": g.Stats(0).Platform} {
						assert.Equal(t, breaker.Closed, counts.State, whose)
						assert.Zero(t, counts.ConsecutiveFailures, whose)
						assert.Zero(t, counts.Failures, whose)
						assert.Zero(t, counts.Refused, whose)
					}
					r, found := monitor.Get("shop")
					require.True(t, found)
					assert.Equal(t, health.Healthy, r.Status)
					assert.EqualValues(t, 20, r.Requests)
					assert.Zero(t, r.Failures)

					require.NoError(t, recorder.Flush(t.Context()))
					rollups, err := store.Range(t.Context(), "shop", begin.Add(-time.Hour), begin.Add(time.Hour))
					require.NoError(t, err)
					var total usage.Rollup
					for i := range rollups {
						total.Merge(&rollups[i])
					}
					failures := 20
					if row.kind.Fault() == errors.FaultNone {
						failures = 0
					}
					assert.EqualValues(t, failures, total.Failures, "usage counts what was not done")
				})
			})
		}
	}
}

// The caller of a message that was deleted at once learns that it was sent, and
// nobody sends it again.
func TestAMessageThatWasDeletedAtOnceWasSent(t *testing.T) {
	deleted := answering(500, `{"ok":false,"error_code":500,"description":"Internal Server Error: sent message was immediately deleted and can't be returned"}`)
	for method, want := range map[string]errors.Delivery{
		"sendMessage": errors.Delivered,
		"sendPhoto":   errors.Delivered,
		// Others of the messages may not have been sent.
		"sendMediaGroup":  errors.MaybeDelivered,
		"copyMessages":    errors.MaybeDelivered,
		"forwardMessages": errors.MaybeDelivered,
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				s, _ := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
					requests++
					return deleted.RoundTrip(r)
				}), session.GuardConfig{})
				_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).
					RequestWithContext(session.Repeatable(t.Context()), method, map[string]any{"chat_id": 42}, nil)
				assert.ErrorIs(t, err, errors.ResultLost)
				assert.False(t, errors.SafeToRepeat(err))
				assert.False(t, errors.Temporary(err))
				e, ok := errors.AsType[*errors.Error](err)
				require.True(t, ok)
				assert.Equal(t, want, e.Delivery)
				assert.Equal(t, 1, requests)
			})
		})
	}
}

// An attempt without an answer leaves a call in doubt. A later one that was
// carried out ends the doubt, and one that was refused does not.
func TestADeliveredAttemptEndsTheDoubt(t *testing.T) {
	for description, want := range map[string]errors.Delivery{
		`500,"description":"Internal Server Error: sent message was immediately deleted and can't be returned"`: errors.Delivered,
		`400,"description":"Bad Request: chat not found"`:                                                       errors.MaybeDelivered,
	} {
		t.Run(description, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempt := 0
				s, _ := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
					if attempt++; attempt == 1 {
						return answer(r, 502, "<html>"), nil
					}
					return answer(r, 400, `{"ok":false,"error_code":`+description+`}`), nil
				}), session.GuardConfig{})
				_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).
					SendMessageWithContext(session.Repeatable(context.Background()), 42, "hello", nil)
				e, ok := errors.AsType[*errors.Error](err)
				require.True(t, ok)
				assert.Equal(t, want, e.Delivery)
				assert.Equal(t, 2, attempt)
			})
		})
	}
}
