package session

import (
	"context"
	"net/http"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// attemptKey is where a masked request's context has its sending.
type attemptKey struct{}

// sending is what a masked request needs to become a real one.
type sending struct {
	call    *Call
	attempt *attempt
}

// mask returns a request as a transport of Config.WrapTransport may see it: its
// URL has the token masked.
func mask(r *http.Request, call *Call, a *attempt) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), attemptKey{}, sending{call, a}))
	masked := *r.URL
	masked.Path = strings.Replace(r.URL.Path, slashed(call.token.Reveal()), slashed(call.token.String()), 1)
	masked.RawPath = unstarred.Replace(masked.EscapedPath())
	r.URL = &masked
	return r
}

// slashed is the segment of a path that a token stands in.
func slashed(token string) string { return "/bot" + token + "/" }

// unstarred undoes what net/url escapes without need, so that the mask is seen.
var unstarred = strings.NewReplacer("%2A", "*")

// unmasker is the transport below a wrapped one. It puts the token into a
// request, and keeps it from what comes back.
type unmasker struct{ wire *wire }

var errForeignRequest = errors.New("a wrapped transport must pass on the request's context and host")

// RoundTrip implements [http.RoundTripper].
func (u unmasker) RoundTrip(r *http.Request) (*http.Response, error) {
	s, ok := r.Context().Value(attemptKey{}).(sending)
	if !ok || r.URL == nil || r.URL.Scheme != s.call.api.scheme || r.URL.Host != s.call.api.host {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errForeignRequest
	}
	token := s.call.token
	ctx := s.attempt.watch(hiding(r.Context(), token))
	real := r.WithContext(ctx)
	revealed := *r.URL
	revealed.Path = strings.Replace(r.URL.Path, slashed(token.String()), slashed(token.Reveal()), 1)
	revealed.RawPath = ""
	real.URL = &revealed
	resp, err := u.wire.transportFor(s.call).RoundTrip(real)
	if err != nil {
		return nil, redactError(err, token)
	}
	if resp == nil {
		return nil, nil
	}
	resp.Request = r
	if at := resp.Header.Get("Location"); at != "" {
		resp.Header.Set("Location", token.Redact(at))
	}
	return resp, nil
}
