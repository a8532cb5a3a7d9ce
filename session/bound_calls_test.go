package session_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// net/http hands out the raw connection after a 101, and no context ends a read
// of it.
func TestA101AnswerDoesNotHangTheCall(t *testing.T) {
	s := newSession(t, session.Config{APIURL: "http://" + saying(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")})
	_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).SendMessage(1, "hi", nil)
	assert.Equal(t, errors.OutcomeUnknown, errors.KindOf(err))
}

// stuckReader blocks until it is let go.
type stuckReader struct{ over chan struct{} }

func (r stuckReader) Read([]byte) (int, error) {
	<-r.over
	return 0, io.EOF
}

func TestAStuckReaderOfAnUploadDoesNotOutliveItsBound(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		srv, _ := apiServer(t, http2)
		cfg := session.Config{APIURL: srv.URL, UploadTimeout: 200 * time.Millisecond}
		if http2 {
			cfg.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
		}
		s := newSession(t, cfg)
		stuck := stuckReader{make(chan struct{})}
		_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).SendDocument(1, gotgbot.InputFileByReader("x", stuck), nil)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.True(t, errors.SafeToRepeat(err), "the last byte was not handed out")
		close(stuck.over)
	}
}

// A wrapper may give up while the transport below it goes on.
func TestAWrapperThatReturnsEarlySendsNothingAfterwards(t *testing.T) {
	srv, _ := apiServer(t, false)
	begin, sent := make(chan struct{}), make(chan error, 1)
	s := newSession(t, session.Config{APIURL: srv.URL, WrapTransport: func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			go func() {
				<-begin
				resp, err := next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
				if err == nil {
					resp.Body.Close()
				}
				sent <- err
			}()
			return nil, io.ErrUnexpectedEOF
		})
	}})
	_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).SendMessage(1, "hi", nil)
	assert.True(t, errors.SafeToRepeat(err), "%v", err)
	close(begin)
	assert.Error(t, <-sent)
}
