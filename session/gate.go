package session

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// pollsDialing is how many long polls may be without a connection at one time.
const pollsDialing = 32

// gate is a transport by which only so many requests look for a connection at
// one time. Thousands may want one at once, as after an outage, and net/http
// makes one for each that finds none, though one that is made already would
// carry a hundred of them.
type gate struct {
	next   http.RoundTripper
	places chan struct{}
}

// RoundTrip implements [http.RoundTripper].
func (g gate) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	select {
	case g.places <- struct{}{}:
	case <-ctx.Done():
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, context.Cause(ctx)
	}
	leave := sync.OnceFunc(func() { <-g.places })
	defer leave()
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { leave() }}
	return g.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(ctx, trace)))
}
