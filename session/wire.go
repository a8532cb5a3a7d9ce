package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// wire is the end of the chain: it sends one attempt and reads its reply.
// Whatever leaves it is a typed error without the token.
//
// It uses the RoundTripper itself and no http.Client: a client follows
// redirects, taking the token along, and puts the URL into its errors.
type wire struct {
	transport http.RoundTripper
	polls     http.RoundTripper // for long polls, which would keep others from it
	firstByte time.Duration     // bound on the wait for an answer; 0 is none
	maxReply  int64
}

// Causes of an attempt's end, told apart from the caller's own.
var (
	errAttemptTimeout   = fmt.Errorf("no whole answer in time: %w", context.DeadlineExceeded)
	errFirstByteTimeout = fmt.Errorf("no answer begun in time: %w", context.DeadlineExceeded)
)

func (w *wire) Invoke(ctx context.Context, call *Call) (result json.RawMessage, err error) {
	if err := ctx.Err(); err != nil {
		return nil, w.failed(ctx, call, nil, err)
	}
	reader, err := call.body.open()
	if err != nil {
		return nil, &errors.Error{
			Kind: errors.Internal, Op: call.Method, Key: call.Key, Delivery: errors.MaybeDelivered, Err: err,
		}
	}
	a := &attempt{reader: reader, current: reader, firstByte: w.firstByteFor(call)}
	if call.Upload {
		a.reading = make(chan struct{}, 1)
		defer func() {
			if !a.letGo(call.Rewindable()) {
				call.body.spoil()
			}
		}()
	}
	actx, cancel := context.WithCancelCause(ctx)
	a.cancel = cancel
	defer cancel(nil)
	a.start(call.timeout)
	defer a.stop()

	defer func() {
		if p := recover(); p != nil {
			err = w.panicked(call, a, p)
		}
	}()
	transport := w.transport
	if isLongPoll(call.Method) && longPoll(call.Params["timeout"]) > 0 {
		transport = w.polls
	}
	resp, err := transport.RoundTrip(w.request(actx, call, a))
	if err == nil && resp == nil {
		err = errors.New("RoundTripper returned neither response nor error")
	}
	if err != nil {
		return nil, w.failed(ctx, call, a, err)
	}
	a.answered()
	defer resp.Body.Close()
	text, err := readReply(resp, w.maxReply)
	if err != nil {
		return nil, w.failed(ctx, call, a, err)
	}
	return parseReply(call, resp.StatusCode, resp.Header, text)
}

func (w *wire) request(ctx context.Context, call *Call, a *attempt) *http.Request {
	u := call.api.method(call.token, call.Method)
	req := (&http.Request{
		Method:     http.MethodPost,
		URL:        u,
		Host:       u.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {call.body.contentType},
			"User-Agent":   userAgent,
		},
		Body:          a,
		ContentLength: call.body.size,
	}).WithContext(hiding(ctx, call.token))
	if call.body.rewindable() {
		// For what net/http itself repeats: a kept connection that the server
		// closed before anything was written, a refused HTTP/2 stream.
		req.GetBody = func() (io.ReadCloser, error) {
			reader, err := call.body.open()
			a.replace(reader)
			return &rewound{attempt: a, reader: reader}, err
		}
	}
	return req
}

var userAgent = []string{"tgfleet (+https://github.com/tgfleet/tgfleet)"}

// firstByteFor returns the bound on the wait for an answer. A long poll has no
// answer for as long as it was asked to wait, and an upload none before the
// server has passed it on; their time-outs bound them.
func (w *wire) firstByteFor(call *Call) time.Duration {
	if call.Upload || isLongPoll(call.Method) {
		return 0
	}
	return w.firstByte
}

// failed makes the error of an attempt that has no reply.
func (w *wire) failed(ctx context.Context, call *Call, a *attempt, cause error) error {
	e := &errors.Error{Op: call.Method, Key: call.Key, Delivery: a.delivery()}
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
	return unknownOutcome(call, e)
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

// unknownOutcome turns the error of a call that may have been carried out, and
// must not be twice, into one that says so. A caller who gave up knows that
// it did not wait for the outcome.
func unknownOutcome(call *Call, e *errors.Error) *errors.Error {
	if e.Delivery == errors.NotDelivered || e.Kind == errors.Canceled || call.Repeatable() {
		return e
	}
	e.Kind = errors.OutcomeUnknown
	return e
}

func (w *wire) panicked(call *Call, a *attempt, p any) error {
	return unknownOutcome(call, &errors.Error{
		Kind:     errors.Internal,
		Op:       call.Method,
		Key:      call.Key,
		Delivery: a.delivery(),
		Err:      errors.New(call.token.Redact(fmt.Sprintf("panic in RoundTripper: %v", p))),
	})
}

// attempt is one sending of a call. It is the request's body, since what was
// read of that is what tells whether the call can have arrived: a server
// carries out no request whose last byte was never sent.
type attempt struct {
	reader    io.Reader
	firstByte time.Duration
	cancel    context.CancelCauseFunc

	sent  atomic.Bool           // the whole body was read
	cause atomic.Pointer[error] // why the timer ended the attempt
	fail  atomic.Pointer[error] // what the body's own reader failed with

	// reading is a lock that is held while a byte of an upload is read, and
	// guards current: the reader that may still be read. A transport may go on
	// reading after RoundTrip has returned, and the next attempt reads the same
	// files. It is nil for what is no upload.
	reading chan struct{}
	current io.Reader

	mu       sync.Mutex // guards the timer; nothing is called under it
	timer    *time.Timer
	deadline time.Time // zero: none
	replied  bool
	reason   error // why the timer would fire
}

// start begins to bound the attempt's time; 0 is no bound.
func (a *attempt) start(timeout time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if timeout > 0 {
		a.deadline = time.Now().Add(timeout)
		a.set(timeout, errAttemptTimeout)
	}
}

// set arms the timer. The lock is held.
func (a *attempt) set(d time.Duration, reason error) {
	a.reason = reason
	if a.timer == nil {
		a.timer = time.AfterFunc(d, a.expire)
		return
	}
	a.timer.Reset(d)
}

func (a *attempt) expire() {
	a.mu.Lock()
	reason := a.reason
	a.mu.Unlock()
	if reason == nil {
		return // disarmed while the timer fired
	}
	a.cause.Store(&reason)
	a.cancel(reason)
}

// written is called when the last byte of the body was taken: from now on the
// wait for an answer is bounded too, if that ends sooner.
func (a *attempt) written() {
	a.sent.Store(true)
	if a.firstByte <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.replied || (!a.deadline.IsZero() && time.Until(a.deadline) <= a.firstByte) {
		return
	}
	a.set(a.firstByte, errFirstByteTimeout)
}

// answered is called when the head of the answer is here.
func (a *attempt) answered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replied = true
	if a.firstByte <= 0 {
		return // never armed for it
	}
	if a.deadline.IsZero() {
		a.reason = nil
		return
	}
	a.set(time.Until(a.deadline), errAttemptTimeout)
}

func (a *attempt) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replied = true
	a.reason = nil
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (a *attempt) delivery() errors.Delivery {
	if a == nil || !a.sent.Load() {
		return errors.NotDelivered
	}
	return errors.MaybeDelivered
}

func (a *attempt) fired() error {
	if a == nil {
		return nil
	}
	return deref(a.cause.Load())
}

func (a *attempt) sourceError() error {
	if a == nil {
		return nil
	}
	return deref(a.fail.Load())
}

func deref(err *error) error {
	if err == nil {
		return nil
	}
	return *err
}

// Read reads the request's body for the transport.
func (a *attempt) Read(p []byte) (int, error) { return a.read(a.reader, p) }

// Close does nothing: the files of an upload are the caller's to close.
func (a *attempt) Close() error { return nil }

func (a *attempt) read(r io.Reader, p []byte) (n int, err error) {
	// The transport reads on a goroutine of its own, where a panic of the
	// caller's reader would end the process.
	defer func() {
		if v := recover(); v != nil {
			n, err = 0, errors.New("panic in the reader of an upload")
			a.fail.Store(&err)
		}
	}()
	if a.reading != nil {
		a.reading <- struct{}{}
		defer func() { <-a.reading }()
		if r != a.current {
			return 0, errLetGo
		}
	}
	n, err = r.Read(p)
	switch {
	case err == io.EOF:
		a.written()
	case err != nil:
		failure := err
		a.fail.Store(&failure)
	}
	return n, err
}

// errLetGo is what a transport gets that reads on when nobody waits any more.
var errLetGo = errors.New("the attempt is over")

// replace makes another reader the one that is read.
func (a *attempt) replace(reader io.Reader) {
	if a.reading == nil {
		return
	}
	a.reading <- struct{}{}
	a.current = reader
	<-a.reading
}

// letGoTime bounds the wait for a read of a file that is under way.
const letGoTime = 5 * time.Second

// letGo ends the reading of the caller's files, and reports whether it did.
// With wait it gives a read that is under way some time to end, as a file's
// soon does; a reader that can't seek may be stuck, and is not used again
// anyway.
func (a *attempt) letGo(wait bool) bool {
	select {
	case a.reading <- struct{}{}:
	default:
		if !wait {
			return true
		}
		timer := time.NewTimer(letGoTime)
		defer timer.Stop()
		select {
		case a.reading <- struct{}{}:
		case <-timer.C:
			return false
		}
	}
	a.current = nil
	<-a.reading
	return true
}

// rewound is the body of a request that net/http repeats.
type rewound struct {
	attempt *attempt
	reader  io.Reader
}

func (r *rewound) Read(p []byte) (int, error) { return r.attempt.read(r.reader, p) }
func (r *rewound) Close() error               { return nil }
