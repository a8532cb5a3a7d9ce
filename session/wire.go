package session

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// wire is the end of the chain: it sends one attempt and reads its reply.
// Whatever leaves it is a typed error without the token.
//
// It uses the RoundTripper itself and no http.Client: a client follows
// redirects, taking the token along, and puts the URL into its errors.
type wire struct {
	calls http.RoundTripper
	polls http.RoundTripper // for long polls, which would keep others from it
	// wrapped takes the place of both where Config.WrapTransport is set. Its
	// requests have a masked token; see [unmasker].
	wrapped   http.RoundTripper
	own       bool          // calls is the session's own and nothing wraps it
	firstByte time.Duration // bound on the wait for an answer; 0 is none
	// carries hears of how many calls at once the connections to the API's host
	// can carry, 0 for no bound, whenever one was made. Nil hears nothing.
	carries  func(calls int)
	host     string
	perHost  int
	maxReply int64
}

// maxStale bounds how many kept connections one attempt finds closed.
const maxStale = 5

func (w *wire) Invoke(ctx context.Context, call *Call) (json.RawMessage, error) {
	for stale := 0; ; stale++ {
		result, again, err := w.try(ctx, call)
		if again && stale < maxStale && ctx.Err() == nil && call.Rewindable() {
			continue
		}
		return result, err
	}
}

// try sends a call once. again says that a kept connection turned out to be
// closed before it took anything, so that the call can go out at once over
// another one.
func (w *wire) try(ctx context.Context, call *Call) (result json.RawMessage, again bool, err error) {
	a := &attempt{begun: time.Now(), firstByte: w.firstByteFor(call), size: call.body.size, direct: w.own && !call.Upload}
	if err := ctx.Err(); err != nil {
		return nil, false, w.failed(ctx, call, a, err)
	}
	if call.Upload {
		reader, err := call.body.open()
		if err != nil {
			return nil, false, &errors.Error{
				Kind: errors.Internal, Op: call.Method, Key: call.Key, Delivery: errors.MaybeDelivered, Err: err,
			}
		}
		a.files = newFileBody(reader)
		defer func() {
			if !a.files.letGo(call.Rewindable()) {
				call.body.spoil()
			}
		}()
	} else {
		a.text.Reset(call.body.text)
	}
	actx := newAttemptContext(ctx)
	a.cancel = actx.cancel
	defer actx.end()
	a.start(call.timeout)
	defer a.end()
	defer func() {
		if p := recover(); p != nil {
			err = w.panicked(call, a, p)
		}
	}()
	a.wire = w
	send := w.send
	if call.Upload {
		send = w.sendAside
	}
	resp, err := send(w.request(actx.Context, call, a), call, a)
	if err != nil {
		return nil, a.staleConn(err), w.failed(ctx, call, a, err)
	}
	defer resp.Body.Close()
	text, err := readReply(resp, w.maxReply)
	if err != nil {
		return nil, false, w.failed(ctx, call, a, err)
	}
	call.received = int64(len(text))
	result, err = parseReply(call, resp.StatusCode, resp.Header, text)
	return result, false, err
}

// made is called when the first call goes over a new connection.
func (w *wire) made(c *conn) {
	switch {
	case w.carries == nil || c.address != w.host:
	case c.manyCalls():
		w.carries(0)
	default:
		w.carries(w.perHost)
	}
}

// send hands a request to the transport.
func (w *wire) send(r *http.Request, call *Call, a *attempt) (*http.Response, error) {
	var resp *http.Response
	var err error
	switch {
	case w.wrapped != nil:
		resp, err = w.wrapped.RoundTrip(mask(r, call, a))
	default:
		resp, err = w.transportFor(call).RoundTrip(r.WithContext(a.watch(hiding(r.Context(), call.token))))
	}
	if err != nil {
		return nil, err
	}
	if resp == nil {
		return nil, errors.New("RoundTripper returned neither response nor error")
	}
	a.head()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close() // the raw connection, which no context ends a read of
		return nil, badReply("switches protocols")
	}
	return resp, nil
}

// sendAside is send for an upload, whose reader is the caller's and may be stuck:
// net/http waits for it, whatever becomes of the context. A reader that is stuck
// when the attempt ends is left alone, and its body is not sent again.
func (w *wire) sendAside(r *http.Request, call *Call, a *attempt) (*http.Response, error) {
	type outcome struct {
		resp     *http.Response
		err      error
		panicked any
	}
	done, left := make(chan outcome), make(chan struct{})
	go func() {
		var o outcome
		defer func() {
			o.panicked = recover()
			select {
			case done <- o:
			case <-left:
				if o.resp != nil {
					_ = o.resp.Body.Close()
				}
			}
		}()
		o.resp, o.err = w.send(r, call, a)
	}()
	finish := func(o outcome) (*http.Response, error) {
		if o.panicked != nil {
			panic(o.panicked)
		}
		return o.resp, o.err
	}
	select {
	case o := <-done:
		return finish(o)
	case <-r.Context().Done():
	}
	moment := time.NewTimer(letGoTime)
	defer moment.Stop()
	select {
	case o := <-done:
		return finish(o)
	case <-moment.C:
		call.body.spoil()
		close(left)
		return nil, context.Cause(r.Context())
	}
}

// transportFor returns the transport of a call.
func (w *wire) transportFor(call *Call) http.RoundTripper {
	if call.poll {
		return w.polls
	}
	return w.calls
}

// request makes a call's request. It sets no GetBody, because with one net/http
// repeats requests, and over HTTP/2 without limit (golang/go#42777). So nothing
// below the wire repeats a request whose body was begun.
func (w *wire) request(ctx context.Context, call *Call, a *attempt) *http.Request {
	a.url = call.api.method(call.token, call.Method)
	return (&http.Request{
		Method:        http.MethodPost,
		URL:           &a.url,
		Host:          a.url.Host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.header(call),
		Body:          a.body(),
		ContentLength: call.body.size,
	}).WithContext(ctx)
}

// header returns a request's header. The session's own transport reads it only,
// so all calls without files share one; others may not keep to that.
func (w *wire) header(call *Call) http.Header {
	if w.own && call.body.contentType == jsonType {
		return jsonHeader
	}
	return http.Header{"Content-Type": {call.body.contentType}, "User-Agent": userAgent}
}

var (
	userAgent  = []string{"tgfleet (+https://github.com/tgfleet/tgfleet)"}
	jsonHeader = http.Header{"Content-Type": {jsonType}, "User-Agent": userAgent}
)

// firstByteFor returns the bound on the wait for an answer. Long polls and slow
// calls answer late on purpose, so only their own time-outs bound them.
func (w *wire) firstByteFor(call *Call) time.Duration {
	if call.slow || call.ownTimeout || call.poll {
		return 0
	}
	return w.firstByte
}

// failed makes the error of an attempt that has no reply.
func (w *wire) failed(ctx context.Context, call *Call, a *attempt, cause error) error {
	e := &errors.Error{Op: call.Method, Key: call.Key, Delivery: a.delivery(cause)}
	switch {
	case a.sourceError() != nil:
		// The reader of an upload failed; Telegram is not to blame.
		cause = a.sourceError()
		e.Kind = errors.BadRequest
	case a.fired() != nil:
		cause = a.fired()
		e.Kind = errors.Timeout
	case ctx.Err() != nil:
		cause = context.Cause(ctx)
		e.Kind = kindOfEnd(ctx)
	case errors.Is(cause, errBadReply):
		e.Kind = errors.BadReply
	default:
		e.Kind = errors.KindOf(cause)
		if e.Kind != errors.Timeout {
			e.Kind = errors.ConnectionFailed
		}
	}
	e.Err = redactError(cause, call.token)
	return unanswered(call, e)
}

// kindOfEnd returns the kind of what ended a context.
func kindOfEnd(ctx context.Context) errors.Kind {
	switch {
	case errors.Is(context.Cause(ctx), errClosing):
		return errors.Closed
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.Timeout
	}
	return errors.Canceled
}

// unanswered completes the error of an attempt that no answer of the Bot API
// settles. If the call may have been carried out and must not run twice, the kind
// becomes OutcomeUnknown, unless the caller canceled.
func unanswered(call *Call, e *errors.Error) *errors.Error {
	doubt(call, e)
	if e.Delivery != errors.NotDelivered && e.Kind != errors.Canceled && !call.Repeatable() {
		e.Kind = errors.OutcomeUnknown
	}
	return e
}

// doubt keeps a call maybe delivered once an attempt of it was: a later refusal
// may be the echo of the first.
func doubt(call *Call, e *errors.Error) {
	switch {
	case e.Delivery == errors.MaybeDelivered:
		call.body.doubt.Store(true)
	case e.Delivery == errors.NotDelivered && call.body.doubt.Load():
		e.Delivery = errors.MaybeDelivered
	}
}

func (w *wire) panicked(call *Call, a *attempt, p any) error {
	return unanswered(call, &errors.Error{
		Kind:     errors.Internal,
		Op:       call.Method,
		Key:      call.Key,
		Delivery: a.delivery(nil),
		Err:      errors.New(call.token.Redact(fmt.Sprintf("panic in RoundTripper: %v", p))),
	})
}
