package session_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
)

// canary is a token that must come out nowhere. Its secret half is searched
// for, since the id is public.
const (
	canary       = "987654321:CaNaRy_secret-that_must-never_be_seen"
	canarySecret = "CaNaRy_secret-that_must-never_be_seen"
	canaryMasked = "987654321:***"
)

func mustToken(t testing.TB, text string) session.Token {
	t.Helper()
	token, err := session.ParseToken(text)
	require.NoError(t, err)
	return token
}

func newSession(t testing.TB, cfg session.Config) *session.Session {
	t.Helper()
	s, err := session.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a response after the request's body was read, as a server's is.
func answer(r *http.Request, status int, body string) *http.Response {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return &http.Response{
		StatusCode:    status,
		Header:        http.Header{},
		Body:          io.NopCloser(bytes.NewReader([]byte(body))),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}

func answering(status int, body string) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) { return answer(r, status, body), nil })
}
