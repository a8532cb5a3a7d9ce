package bottest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// webhookSource is the address that deliveries of [HandlerTransport] come
// from: one of Telegram's networks.
const webhookSource = "149.154.167.220:48620"

// HandlerTransport is a transport whose every request goes to h, in memory and
// with a goroutine that ends when h returns. As [Config.WebhookTransport] it
// delivers updates to a webhook's handler without a socket, also inside
// testing/synctest. To h, requests come from an address of Telegram's.
//
// A request whose context ends returns at once, as over a network; h goes on
// until it notices that its own has ended. If h panics, the connection is
// broken off.
func HandlerTransport(h http.Handler) http.RoundTripper { return handlerTransport{h} }

type handlerTransport struct{ h http.Handler }

func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(ctx)
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = webhookSource
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	in.URL.Scheme, in.URL.Host, in.URL.User = "", "", nil
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Body == nil {
		in.Body = http.NoBody
	}
	out := &recorder{header: make(http.Header), code: http.StatusOK}
	done := make(chan error, 1)
	go func() {
		defer cancel()
		defer in.Body.Close()
		returned := false
		defer func() {
			v := recover()
			if !returned { // it panicked, or called runtime.Goexit as t.FailNow does
				done <- fmt.Errorf("bottest: the handler did not return: %v: %w", v, io.ErrUnexpectedEOF)
				return
			}
			done <- nil
		}()
		t.h.ServeHTTP(out, in)
		returned = true
	}()
	select {
	case err := <-done:
		if err != nil {
			return nil, err
		}
		return out.response(r), nil
	case <-r.Context().Done():
		cancel()
		return nil, r.Context().Err()
	}
}

// recorder is the ResponseWriter of one handler.
type recorder struct {
	header http.Header
	sent   http.Header // the header as it was when it was written
	code   int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(code int) {
	if w.sent == nil && code >= 200 {
		w.sent, w.code = w.header.Clone(), code
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *recorder) Flush() { w.WriteHeader(http.StatusOK) }

func (w *recorder) response(r *http.Request) *http.Response {
	w.WriteHeader(http.StatusOK)
	return &http.Response{
		Status:        strconv.Itoa(w.code) + " " + http.StatusText(w.code),
		StatusCode:    w.code,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		Body:          io.NopCloser(&w.body),
		ContentLength: int64(w.body.Len()),
		Request:       r,
	}
}
