package session_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
)

// heldServer answers every call at once, but for sendVideo, which it holds until
// it is let go.
func heldServer(t *testing.T, serve func(*httptest.Server)) (srv *httptest.Server, held chan struct{}, release func()) {
	held, over := make(chan struct{}, 1000), make(chan struct{})
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/sendVideo") {
			held <- struct{}{}
			<-over
		}
		_, _ = io.WriteString(w, okMessage)
	}))
	serve(srv)
	release = sync.OnceFunc(func() { close(over) })
	t.Cleanup(func() { release(); srv.Close() })
	return srv, held, release
}

// A server of one's own speaks HTTP/1.1, where each call has a connection for
// itself. One bot that uploads as much as it can must leave room for the rest.
func TestUploadsOfOneBotLeaveConnectionsToTheOthers(t *testing.T) {
	for name, serve := range map[string]func(*httptest.Server){
		"HTTP/1.1": (*httptest.Server).Start,
		"HTTP/1.1 over TLS": func(srv *httptest.Server) {
			srv.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
			srv.StartTLS()
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv, held, release := heldServer(t, serve)
			guard, err := session.NewGuard(session.GuardConfig{Limit: session.LimitConfig{
				Default: session.ReactiveLimits(), ColdStarts: []ratelimit.Limit{},
			}})
			require.NoError(t, err)
			defer guard.Close()
			cfg := session.Config{APIURL: srv.URL, Guard: guard, MaxConnsPerHost: 12}
			if srv.TLS != nil {
				cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
			}
			s := newSession(t, cfg)
			_, err = botOf(t, s, 100).SendMessage(1, "hi", nil) // shows what the server speaks
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var uploads sync.WaitGroup
			heavy := botOf(t, s, 1)
			for i := range 40 {
				uploads.Go(func() {
					_, _ = heavy.SendVideoWithContext(ctx, int64(1+i), gotgbot.InputFileByReader("v.mp4", strings.NewReader("video")), nil)
				})
			}
			for range 6 { // half of twelve
				<-held
			}
			for i := range 20 {
				limited, cancel := context.WithTimeout(ctx, 10*time.Second)
				_, err := botOf(t, s, 200+i).SendMessageWithContext(limited, 1, "hi", nil)
				cancel()
				assert.NoError(t, err)
			}
			require.Eventually(t, func() bool { return guard.Stats(0).Waiting == 34 }, time.Minute, time.Millisecond)
			assert.Empty(t, held, "the rest of the uploads wait in the scheduler")
			cancel()
			release()
			uploads.Wait()
		})
	}
}

func TestOverHTTP2CallsNeedNoConnectionOfTheirOwn(t *testing.T) {
	srv, held, release := heldServer(t, func(srv *httptest.Server) {
		srv.EnableHTTP2 = true
		srv.StartTLS()
	})
	guard, err := session.NewGuard(session.GuardConfig{Limit: session.LimitConfig{
		Default: session.ReactiveLimits(), ColdStarts: []ratelimit.Limit{},
	}})
	require.NoError(t, err)
	defer guard.Close()
	s := newSession(t, session.Config{
		APIURL: srv.URL, Guard: guard, MaxConnsPerHost: 4, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig,
	})
	var uploads sync.WaitGroup
	for i := range 40 {
		uploads.Go(func() {
			_, err := botOf(t, s, 1).SendVideo(int64(1+i), gotgbot.InputFileByReader("v.mp4", strings.NewReader("video")), nil)
			assert.NoError(t, err)
		})
	}
	for range 40 {
		<-held
	}
	release()
	uploads.Wait()
}
