package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
)

// aCall returns a call as a middleware sees it, with secrets in its parameters.
func aCall(t *testing.T) *session.Call {
	t.Helper()
	var seen *session.Call
	keep := func(next session.Invoker) session.Invoker {
		return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
			seen = call
			return next.Invoke(ctx, call)
		})
	}
	s := newSession(t, session.Config{Transport: newMemoryWire(), Middleware: []session.Middleware{keep}})
	_, err := s.Client("shop").RequestWithContext(context.Background(), canary, "setWebhook", map[string]any{
		"url": "https://example.org/private", "secret_token": "private-secret",
	}, nil)
	require.NoError(t, err)
	return seen
}

// holder is a struct that has calls in its fields.
type holder struct {
	Call session.Call
	Ptr  *session.Call
	List []session.Call
	Map  map[string]session.Call
	Any  any
}

// Only *Call had these methods, so a Call by value printed its parameters: the
// secret_token of a webhook, and users' texts.
func TestACallByValueShowsItsParametersNowhere(t *testing.T) {
	call := aCall(t)
	const text = `setWebhook for "shop" (attempt 1)`
	const object = `{"method":"setWebhook","key":"shop","attempt":1}`
	var all bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, v := range []any{*call, call} {
			got := fmt.Sprintf(verb, v)
			assert.Equal(t, text, got, "%s of %T", verb, v)
		}
	}
	values := []any{
		*call, call, []session.Call{*call}, []*session.Call{call}, map[string]session.Call{"a": *call},
		holder{*call, call, []session.Call{*call}, map[string]session.Call{"a": *call}, *call},
	}
	for _, v := range values {
		fmt.Fprintf(&all, "%v %+v %#v %s\n", v, v, v, v)
		encoded, err := json.Marshal(v)
		require.NoError(t, err)
		assert.Contains(t, string(encoded), object)
		all.Write(encoded)
		for _, handler := range []slog.Handler{
			slog.NewTextHandler(&all, nil), slog.NewJSONHandler(&all, nil), slog.DiscardHandler,
		} {
			slog.New(handler).With("with", v).Info("call", "call", v, slog.Group("g", "call", v))
		}
	}
	encoded, err := xml.Marshal(call)
	require.NoError(t, err)
	all.Write(encoded)
	for _, secret := range []string{"private", canarySecret} {
		assert.NotContains(t, all.String(), secret)
	}

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", *call, "pointer", call)
	assert.Contains(t, log.String(), `"value":`+object+`,"pointer":`+object)
	log.Reset()
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "value", *call, "pointer", call)
	quoted := fmt.Sprintf("%q", text)
	assert.Contains(t, log.String(), "value="+quoted+" pointer="+quoted)
}

func TestANilCallPrints(t *testing.T) {
	var call *session.Call
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.Equal(t, "<nil>", fmt.Sprintf(verb, call))
	}
	encoded, err := json.Marshal(holder{Ptr: call})
	require.NoError(t, err)
	assert.Contains(t, string(encoded), `"Ptr":null`)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "call", call)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "call", call)
	assert.Contains(t, log.String(), "call=<nil>")
	assert.Contains(t, log.String(), `"call":null`)
	assert.NotContains(t, log.String(), "panic")
}
