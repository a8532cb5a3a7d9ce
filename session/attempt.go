package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// attempt is one try to send a call. It records whether the call may have been
// carried out: a server can't carry out a request whose last byte the connection
// never got.
//
// For uploads and foreign transports the attempt itself is the request body. The
// session's own transport gets bytes in memory directly, so that net/http writes
// headers and body together. The connection's byte count then shows how far the
// request came.
//
// The transport may read the body, and call the trace, on goroutines of its own
// and after RoundTrip has returned.
type attempt struct {
	text   bytes.Reader // the body of a call without files
	files  *fileBody    // the body of an upload, else nil
	size   int64        // of the body; below 0 where it is not announced
	direct bool         // the transport reads text itself
	begun  time.Time
	url    url.URL
	trace  httptrace.ClientTrace

	firstByte time.Duration
	cancel    context.CancelCauseFunc
	wire      *wire // hears of a new connection; may be nil

	state    atomic.Uint32            // open, sent or over
	alone    atomic.Bool              // the connection carries this call only
	doomed   atomic.Bool              // the connection was closed before it took the call
	answered atomic.Bool              // a byte of an answer has come
	cause    atomic.Pointer[error]    // why the timer ended the attempt
	conns    atomic.Int32             // how many connections it took
	link     atomic.Pointer[usedConn] // the connection it went over, where that is known

	mu       sync.Mutex // guards the rest; nothing is called under it
	timer    *time.Timer
	deadline time.Time // zero: none
	over     bool      // neither bound may be armed any more
	reason   error     // why the timer would fire
}

// Causes of an attempt's end, told apart from the caller's own.
var (
	errAttemptTimeout   = fmt.Errorf("no complete answer in time: %w", context.DeadlineExceeded)
	errFirstByteTimeout = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
)

// maxConnsUsed bounds how often net/http sends one request. It repeats requests
// without a body, such as a download's, as long as connections fail.
const maxConnsUsed = 5

var errRepeated = errors.New("the server broke off the request again and again")

// usedConn is a connection of this session and what it had written before the
// attempt.
type usedConn struct {
	*conn
	kept bool // it was there before the attempt
	mark int64
}

// watch returns a context whose trace reports the connection and the answer's
// first byte.
func (a *attempt) watch(ctx context.Context) context.Context {
	a.trace.GotConn = a.gotConn
	a.trace.GotFirstResponseByte = a.gotAnswer
	return httptrace.WithClientTrace(ctx, &a.trace)
}

func (a *attempt) gotAnswer() { a.answered.Store(true) }

func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	if a.direct {
		_ = a.lastByte() // the transport reads the text itself, unseen
	}
	a.doomed.Store(false)
	if a.conns.Add(1) > maxConnsUsed && a.cancel != nil {
		a.cancel(errRepeated)
		return
	}
	c := connOf(info)
	if c == nil {
		// HTTP/2 without TLS has no way here; see [New].
		_, secure := info.Conn.(*tls.Conn)
		a.alone.Store(!secure)
		return
	}
	if a.wire != nil && !info.Reused {
		a.wire.made(c)
	}
	c.used.Store(true)
	a.doomed.Store(c.calls.Add(1) < 0)
	a.alone.Store(!c.manyCalls())
	if former := a.link.Swap(&usedConn{conn: c, kept: info.Reused || c.since.Before(a.begun), mark: c.written.Load()}); former != nil {
		former.calls.Add(-1) // net/http took another connection before it wrote anything
	}
}

// connOf finds the session's connection below TLS, or returns nil. Through an
// HTTPS proxy there are two layers of TLS.
func connOf(info httptrace.GotConnInfo) *conn {
	secure, isTLS := info.Conn.(*tls.Conn)
	for under := info.Conn; ; {
		switch c := under.(type) {
		case *conn:
			if isTLS && !info.Reused {
				c.secured(secure.ConnectionState().NegotiatedProtocol)
			}
			return c
		case *tls.Conn:
			under = c.NetConn()
		default:
			return nil
		}
	}
}

// delivery reports whether the call may have been carried out, after RoundTrip
// or the answer's body ended with err.
func (a *attempt) delivery(err error) errors.Delivery {
	switch {
	case a.answered.Load():
		return errors.MaybeDelivered
	case a.state.CompareAndSwap(attemptOpen, attemptOver), a.state.Load() == attemptOver:
		return errors.NotDelivered // and the last byte is handed out no more
	case a.doomed.Load(), a.notWritten(err), refusedStream(err), excludedByGoAway(err):
		return errors.NotDelivered
	}
	return errors.MaybeDelivered
}

// What has become of the body's last byte.
const (
	attemptOpen = iota // it was not handed out
	attemptSent        // it was
	attemptOver        // it never will be
)

// notWritten reports whether the connection certainly did not take the request's
// last byte, although net/http has read it: a write of the request failed, or the
// connection took fewer bytes than the body has.
func (a *attempt) notWritten(err error) bool {
	if !a.alone.Load() {
		return false // HTTP/2 ends all calls by the error of any write
	}
	// With an announced length, nothing follows the last byte.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "write" && a.size >= 0 {
		return true
	}
	link := a.link.Load()
	if link == nil {
		return false
	}
	took := link.written.Load() - link.mark
	return took == 0 || took < a.size
}

// staleConn reports whether the call can go out at once over another connection,
// because a kept one was closed before it took the request.
func (a *attempt) staleConn(err error) bool {
	link := a.link.Load()
	return link != nil && link.kept && !a.answered.Load() && (a.doomed.Load() || a.notWritten(err) || excludedByGoAway(err))
}

// Error texts of net/http's HTTP/2 for streams that the server certainly did not
// process (RFC 9113, 6.8 and 8.7). net/http has no typed errors for them.
const (
	cannotRetry = "http2: Transport: cannot retry err ["
	goAway      = cannotRetry + "http2: Transport received Server's graceful shutdown GOAWAY]"
	goAwayFirst = "http2: Transport received GOAWAY from server ErrCode:"
	streamError = cannotRetry + "stream error: stream ID "
	refused     = "; REFUSED_STREAM; received from peer]"
	// A connection was given up before the stream was opened. Nothing else makes
	// net/http want to repeat a POST that it can't rewind.
	unopened = "net/http: cannot rewind body after connection loss"
	unready  = "http2: client conn could not be established"
	unusable = "http2: client conn not usable"
)

func refusedStream(err error) bool {
	return saysHTTP2(err, func(text string) bool {
		rest, ok := strings.CutPrefix(text, streamError)
		return ok && strings.HasPrefix(strings.TrimLeft(rest, "0123456789"), refused)
	})
}

func excludedByGoAway(err error) bool {
	return saysHTTP2(err, func(text string) bool {
		return strings.HasPrefix(text, goAway) || strings.HasPrefix(text, goAwayFirst) ||
			text == unopened || text == unready || text == unusable
	})
}

// saysHTTP2 reports whether says matches the text of err or of an error it wraps.
// The texts begin with words of net/http, so no text of a server matches.
func saysHTTP2(err error, says func(string) bool) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if says(err.Error()) {
			return true
		}
	}
	return false
}

// start bounds the attempt's time; 0 is no bound.
func (a *attempt) start(timeout time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if timeout > 0 {
		a.deadline = a.begun.Add(timeout)
		a.arm(timeout, errAttemptTimeout)
	}
}

// arm sets the timer. The lock is held.
func (a *attempt) arm(d time.Duration, reason error) {
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

// lastByte is called before the body's last byte is handed out. From then on the
// call may be carried out. It starts FirstByteTimeout, if that ends before the
// deadline.
//
// It is false if the attempt is over: the byte must not be handed out.
func (a *attempt) lastByte() bool {
	if !a.state.CompareAndSwap(attemptOpen, attemptSent) {
		return a.state.Load() == attemptSent
	}
	if a.firstByte <= 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over || (!a.deadline.IsZero() && time.Until(a.deadline) <= a.firstByte) {
		return true
	}
	a.arm(a.firstByte, errFirstByteTimeout)
	return true
}

// head is called when the head of the answer is here.
func (a *attempt) head() {
	a.answered.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.firstByte <= 0 {
		return // never armed for it
	}
	if a.deadline.IsZero() {
		a.reason = nil
		return
	}
	a.arm(time.Until(a.deadline), errAttemptTimeout)
}

// stop disarms the timer.
func (a *attempt) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	a.reason = nil
	if a.timer != nil {
		a.timer.Stop()
	}
}

// end stops the attempt and releases its connection. After a time-out without an
// answer it closes the idle connections to the same address, which may be dead
// too.
func (a *attempt) end() {
	a.stop()
	link := a.link.Swap(nil)
	if link == nil {
		return
	}
	link.calls.Add(-1)
	if a.fired() != nil && !a.answered.Load() && time.Since(a.begun) >= a.patience() {
		link.table.closeIdle(link.address, a.begun)
	}
}

// patience is how long an answer must be missing before other connections are
// suspected. A caller's own time-out may be a few milliseconds.
func (a *attempt) patience() time.Duration {
	if a.firstByte > 0 {
		return a.firstByte
	}
	return 20 * time.Second
}

// fired returns why the timer ended the attempt, or nil.
func (a *attempt) fired() error {
	if cause := a.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// sourceError returns the error of a reader of an upload, or nil.
func (a *attempt) sourceError() error {
	if a.files == nil {
		return nil
	}
	return a.files.failure()
}

// body returns the request's body.
func (a *attempt) body() io.ReadCloser {
	if a.direct {
		return io.NopCloser(&a.text)
	}
	return a
}

// Read reads the request's body for the transport.
func (a *attempt) Read(p []byte) (int, error) {
	if a.files != nil {
		return a.files.read(p, a.lastByte)
	}
	n, err := a.text.Read(p)
	if a.text.Len() == 0 && !a.lastByte() {
		return 0, errAttemptOver
	}
	return n, err
}

// Close does nothing: the files of an upload are the caller's to close.
func (a *attempt) Close() error { return nil }

var _ io.ReadCloser = (*attempt)(nil)
