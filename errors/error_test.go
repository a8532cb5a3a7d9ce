package errors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
)

const canaryToken = "123456789:AAHcanaryCANARYcanaryCANARYcanary12"

func TestAnErrorsTextIsForTheLog(t *testing.T) {
	for _, row := range []struct {
		err  *errors.Error
		want string
	}{
		{&errors.Error{Kind: errors.Closed}, "closed"},
		{&errors.Error{Kind: errors.Closed, Op: "open tenant", Key: "a\nb"}, `open tenant: "a\nb": closed`},
		{
			&errors.Error{Kind: errors.RateLimited, Op: "sendMessage", Code: 429, RetryAfter: 5 * time.Second},
			"sendMessage: rate limited by Telegram (429); retry after 5s",
		},
		{
			&errors.Error{Kind: errors.BadRequest, Op: "getMe", Description: "Bad Request", Err: errors.New("not shown")},
			"getMe: bad request: Bad Request",
		},
		{
			&errors.Error{Kind: errors.ConnectionFailed, Op: "getMe", Err: errors.New("Post /bot" + canaryToken + "/getMe: EOF")},
			"getMe: connection failed: Post /bot***/getMe: EOF",
		},
	} {
		assert.Equal(t, row.want, row.err.Error())
	}
}

func TestAnErrorIsItsKindItsCauseAndTheStandardErrorOfItsKind(t *testing.T) {
	cause := errors.New("cause")
	blocked := error(&errors.Error{Kind: errors.Blocked, Err: cause})
	wrapped := errors.Join(errors.New("another"), fmt.Errorf("greet: %w", blocked))
	for _, err := range []error{blocked, wrapped} {
		assert.ErrorIs(t, err, errors.Blocked)
		assert.ErrorIs(t, err, cause)
		assert.NotErrorIs(t, err, errors.Kicked)
		assert.NotErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
	}
	assert.Equal(t, cause, errors.Unwrap(blocked))
	var found *errors.Error
	assert.True(t, errors.As(wrapped, &found))
	assert.Same(t, blocked, found)

	timeout := error(&errors.Error{Kind: errors.Timeout})
	assert.ErrorIs(t, timeout, context.DeadlineExceeded)
	assert.NotErrorIs(t, timeout, context.Canceled)
	canceled := error(&errors.Error{Kind: errors.Canceled})
	assert.ErrorIs(t, canceled, context.Canceled)
	assert.NotErrorIs(t, canceled, context.DeadlineExceeded)
}

func TestTheOutermostErrorGivesTheKind(t *testing.T) {
	inner := &errors.Error{Kind: errors.Timeout, RetryAfter: time.Second}
	outer := &errors.Error{Kind: errors.OutcomeUnknown, Err: inner}
	assert.Equal(t, errors.OutcomeUnknown, errors.KindOf(fmt.Errorf("x: %w", outer)))
	assert.Zero(t, errors.RetryAfter(outer), "the inner one's wait is not the outer one's")
	assert.ErrorIs(t, outer, errors.Timeout)
	assert.Equal(t, errors.Blocked, errors.KindOf(errors.Join(
		&errors.Error{Kind: errors.Blocked}, &errors.Error{Kind: errors.Kicked})))
}

func TestOnlyWhatWasCertainlyNotCarriedOutIsSafeToRepeat(t *testing.T) {
	for delivery, want := range map[errors.Delivery]bool{
		errors.DeliveryUnknown: false, errors.MaybeDelivered: false, errors.NotDelivered: true,
	} {
		err := fmt.Errorf("x: %w", &errors.Error{Kind: errors.Timeout, Delivery: delivery})
		assert.Equal(t, want, errors.SafeToRepeat(err))
	}
	assert.False(t, errors.SafeToRepeat(errors.Timeout))
	assert.False(t, errors.SafeToRepeat(context.DeadlineExceeded))
}

func TestALogHasTheErrorsPartsAndNoToken(t *testing.T) {
	err := &errors.Error{
		Kind: errors.Throttled, Op: "sendMessage", Key: "shop", Code: 429, Scope: errors.ScopeChat,
		RetryAfter: 2 * time.Second, Err: errors.New("at " + canaryToken),
	}
	var text, structured bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Error("greet", "err", err)
	slog.New(slog.NewJSONHandler(&structured, nil)).Error("greet", "err", err)

	for _, part := range []string{
		"err.kind=throttled", "err.op=sendMessage", "err.key=shop", "err.code=429",
		"err.scope=chat", "err.retry_after=2s", `err.text="sendMessage: `,
	} {
		assert.Contains(t, text.String(), part)
	}
	var line struct {
		Err struct {
			Kind, Op, Key, Scope, Text string
			Code                       int
		}
	}
	require.NoError(t, json.Unmarshal(structured.Bytes(), &line))
	assert.Equal(t, "throttled", line.Err.Kind)
	assert.Equal(t, "sendMessage", line.Err.Op)
	assert.Equal(t, "shop", line.Err.Key)
	assert.Equal(t, "chat", line.Err.Scope)
	assert.Equal(t, 429, line.Err.Code)
	assert.Equal(t, err.Error(), line.Err.Text)

	assert.NotContains(t, text.String()+structured.String(), "canary")
	for _, verb := range []string{"%v", "%+v", "%s", "%q"} {
		assert.NotContains(t, fmt.Sprintf(verb, err), "canary")
	}
}
