package webhook_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// proxy is a client that has all its requests on one HTTP/2 connection, as a
// proxy before the receiver may have.
func proxy(t testing.TB, h http.Handler) (client *http.Client, dialled *atomic.Int64) {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	p := listen()
	server := &http.Server{Handler: h, Protocols: &protocols}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(p)
	}()
	dialled = new(atomic.Int64)
	transport := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
		dialled.Add(1)
		return p.dial(), nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-done
	})
	return &http.Client{Transport: transport}, dialled
}

// slow is a body that comes a byte a second, until it is closed.
type slow struct{ closed chan struct{} }

func (s slow) Read(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, io.ErrClosedPipe
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	}
}

func (s slow) Close() error { close(s.closed); return nil }

// Whatever a request is refused for, the others of its connection, those under
// way and those to come, are answered as if it had not been.
func TestARefusalEndsNoMoreThanItsStream(t *testing.T) {
	keys := newKeys(t)
	path, secret := "/webhook/"+keys.Path("a"), keys.Secret("a")
	for name, test := range map[string]struct {
		path, secret, kind string
		length             int64 // 0 is not told
		body               func() io.Reader
		want               int
		after              time.Duration
	}{
		"a wrong path":                          {"/webhook/1.AAAA", secret, "application/json", 0, nil, 404, 0},
		"a wrong path and a body without end":   {"/webhook/1.AAAA", secret, "application/json", 0, func() io.Reader { return &endless{} }, 404, 0},
		"a wrong path and a slow body":          {"/webhook/1.AAAA", secret, "application/json", 0, func() io.Reader { return slow{make(chan struct{})} }, 404, 0},
		"a wrong secret":                        {path, "x", "application/json", 0, nil, 401, 0},
		"a wrong secret and a body without end": {path, "x", "application/json", 0, func() io.Reader { return &endless{} }, 401, 0},
		"a body that says it is large":          {path, secret, "application/json", 1 << 40, func() io.Reader { return &endless{} }, 413, 0},
		"a body that does not say so":           {path, secret, "application/json", 0, func() io.Reader { return &endless{} }, 413, 0},
		"a body of another kind":                {path, secret, "text/plain", 0, func() io.Reader { return slow{make(chan struct{})} }, 415, 0},
		"a slow body":                           {path, secret, "application/json", 0, func() io.Reader { return slow{make(chan struct{})} }, 408, 5 * time.Second},
		"no update":                             {path, secret, "application/json", 0, nil, 400, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t, inbox.MemoryConfig{})
				rc := newReceiver(t, putFunc(func(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
					time.Sleep(8 * time.Second)
					return m.Put(ctx, batch)
				}), keys, webhook.Config{BodyTimeout: 5 * time.Second})
				client, dialled := proxy(t, rc)
				send := func(path, secret, kind string, body io.Reader, length int64) int {
					r, err := http.NewRequest(http.MethodPost, "http://x"+path, body)
					require.NoError(t, err)
					if length > 0 {
						r.ContentLength = length
					}
					r.Header.Set("Content-Type", kind)
					r.Header.Set(secretHeader, secret)
					resp, err := client.Do(r)
					if !assert.NoError(t, err) {
						return 0
					}
					assert.Equal(t, 2, resp.ProtoMajor)
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					return resp.StatusCode
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					assert.Equal(t, 200, send(path, secret, "application/json", strings.NewReader(body(1)), 0), "one that was under way")
				})
				synctest.Wait()
				for range 20 {
					begun := time.Now()
					b := io.Reader(strings.NewReader("{}"))
					if test.body != nil {
						b = test.body()
					}
					assert.Equal(t, test.want, send(test.path, test.secret, test.kind, b, test.length))
					assert.Equal(t, test.after, time.Since(begun))
				}
				assert.Equal(t, 200, send(path, secret, "application/json", strings.NewReader(body(2)), 0), "one that came after")
				wg.Wait()
				assert.Equal(t, int64(1), dialled.Load(), "connections")
				assert.Equal(t, 2, depth(t, m))
			})
		})
	}
}
