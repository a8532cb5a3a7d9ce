package session

import (
	"context"
	"net/http"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// maskedKey is the context key of a masked request's call.
type maskedKey struct{}

// maskedCall is what a masked request needs to become a real one.
type maskedCall struct {
	call    *Call
	attempt *attempt
}

// mask returns a request as a transport of Config.WrapTransport may see it: its
// URL has the token masked.
func mask(r *http.Request, call *Call, a *attempt) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), maskedKey{}, maskedCall{call, a}))
	masked := *r.URL
	masked.Path = strings.Replace(r.URL.Path, tokenSegment(call.token.Reveal()), tokenSegment(call.token.String()), 1)
	masked.RawPath = starUnescaper.Replace(masked.EscapedPath())
	r.URL = &masked
	return r
}

// tokenSegment is the segment of a path that holds a token.
func tokenSegment(token string) string { return "/bot" + token + "/" }

// starUnescaper undoes the escaping of "*", so that the mask is readable.
var starUnescaper = strings.NewReplacer("%2A", "*")

// unmasker restores the token in requests from a wrapper, and removes it from
// responses and errors.
type unmasker struct{ wire *wire }

var errForeignRequest = errors.New("a wrapped transport must pass on the request's context and host")

// RoundTrip implements [http.RoundTripper].
func (u unmasker) RoundTrip(r *http.Request) (*http.Response, error) {
	s, ok := r.Context().Value(maskedKey{}).(maskedCall)
	if !ok || s.attempt.state.Load() == attemptOver || r.URL == nil || r.URL.Scheme != s.call.api.scheme || r.URL.Host != s.call.api.host {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errForeignRequest
	}
	token := s.call.token
	ctx := s.attempt.watch(hiding(r.Context(), token))
	revealed := r.WithContext(ctx)
	target := *r.URL
	target.Path = strings.Replace(r.URL.Path, tokenSegment(token.String()), tokenSegment(token.Reveal()), 1)
	target.RawPath = ""
	revealed.URL = &target
	revealed.GetBody = nil // with one net/http repeats requests
	resp, err := u.wire.transportFor(s.call).RoundTrip(revealed)
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
