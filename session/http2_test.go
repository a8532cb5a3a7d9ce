package session_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// resettingServer speaks enough of HTTP/2 to reset every stream with a code, and
// counts them.
func resettingServer(t *testing.T, code uint32) (url string, cfg *tls.Config, streams *atomic.Int64) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	serverConfig := srv.TLS.Clone()
	serverConfig.NextProtos = []string{"h2"}
	frame := func(kind byte, stream uint32, payload []byte) []byte {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
		head = append(head, 0)
		return append(binary.BigEndian.AppendUint32(head, stream), payload...)
	}
	streams = new(atomic.Int64)
	address := rawServer(t, serverConfig, func(c net.Conn, r *bufio.Reader) {
		if _, err := io.CopyN(io.Discard, r, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
			return
		}
		_, _ = c.Write(frame(4, 0, nil)) // SETTINGS
		for {
			head := make([]byte, 9)
			if _, err := io.ReadFull(r, head); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head)>>8)); err != nil {
				return
			}
			const endStream = 1
			if (head[3] == 0 || head[3] == 1) && head[4]&endStream != 0 { // DATA, HEADERS
				streams.Add(1)
				_, _ = c.Write(frame(3, binary.BigEndian.Uint32(head[5:]), binary.BigEndian.AppendUint32(nil, code)))
			}
		}
	})
	return "https://" + address, srv.Client().Transport.(*http.Transport).TLSClientConfig, streams
}

func TestAStreamErrorIsNotRepeatedBelowTheSession(t *testing.T) {
	for name, code := range map[string]uint32{"PROTOCOL_ERROR": 1, "INTERNAL_ERROR": 2, "REFUSED_STREAM": 7, "CANCEL": 8} {
		t.Run(name, func(t *testing.T) {
			url, cfg, streams := resettingServer(t, code)
			s := newSession(t, session.Config{APIURL: url, TLS: cfg})
			bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
			_, err := bot.SendMessage(1, "hi", nil)
			assert.EqualValues(t, 1, streams.Load(), "%v", err)
			assert.Equal(t, name == "REFUSED_STREAM", errors.SafeToRepeat(err), "%v", err)
			streams.Store(0)
			_, err = bot.GetMe(nil)
			assert.EqualValues(t, 1, streams.Load(), "%v", err)
			streams.Store(0)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = s.Download(ctx, bot, "photos/1.jpg")
			assert.Error(t, err)
			assert.LessOrEqual(t, streams.Load(), int64(6), "a download only reads, but not without end")
		})
	}
}
