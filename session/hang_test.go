package session_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// darkProxy forwards connections. goDark makes it drop all bytes of the open
// ones, as a NAT that lost its table; new ones work.
type darkProxy struct {
	listener net.Listener
	conns    sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]*atomic.Bool
	made int
}

func newDarkProxy(t *testing.T, to string) *darkProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &darkProxy{listener: l, open: make(map[net.Conn]*atomic.Bool)}
	p.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() { p.serve(c, to) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		p.conns.Wait()
	})
	return p
}

func (p *darkProxy) serve(c net.Conn, to string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		c.Close()
		return
	}
	dark := new(atomic.Bool)
	p.mu.Lock()
	p.open[c] = dark
	p.made++
	p.mu.Unlock()
	var pipes sync.WaitGroup
	pipe := func(dst, src net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			if !dark.Load() {
				_, _ = dst.Write(buf[:n])
			}
			if err != nil {
				if !dark.Load() {
					dst.Close()
				}
				return
			}
		}
	}
	pipes.Go(func() { pipe(c, up) })
	pipe(up, c)
	up.Close()
	pipes.Wait()
	c.Close()
}

// goDark swallows what comes over the connections of now.
func (p *darkProxy) goDark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, dark := range p.open {
		dark.Store(true)
	}
}

func (p *darkProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

const okMessage = `{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":5,"type":"private"}}}`

// apiServer answers every call, getUpdates only when it is let go.
func apiServer(t *testing.T, http2 bool) (srv *httptest.Server, polling <-chan struct{}) {
	polls := make(chan struct{}, 100)
	over := make(chan struct{})
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/getUpdates") {
			polls <- struct{}{}
			select {
			case <-over:
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, `{"ok":true,"result":[]}`)
			return
		}
		_, _ = io.WriteString(w, okMessage)
	}))
	if http2 {
		srv.EnableHTTP2 = true
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(func() { close(over); srv.Close() })
	return srv, polls
}

func throughProxy(t *testing.T, srv *httptest.Server, cfg session.Config) (*session.Session, *gotgbot.Bot, *darkProxy) {
	p := newDarkProxy(t, srv.Listener.Addr().String())
	scheme, _, _ := strings.Cut(srv.URL, "://")
	cfg.APIURL = scheme + "://" + p.listener.Addr().String()
	if transport, ok := srv.Client().Transport.(*http.Transport); ok && transport.TLSClientConfig != nil {
		cfg.TLS = transport.TLSClientConfig
	}
	s := newSession(t, cfg)
	return s, s.Bot("shop", mustToken(t, canary), gotgbot.User{}), p
}

// The one HTTP/2 connection is lost silently. Pings find out, while calls wait
// and while a poll does.
func TestAnHTTP2ConnectionThatDiedSilentlyIsGivenUp(t *testing.T) {
	srv, polling := apiServer(t, true)
	_, bot, proxy := throughProxy(t, srv, session.Config{PingInterval: 100 * time.Millisecond, PingTimeout: 100 * time.Millisecond})
	_, err := bot.SendMessage(1, "hi", nil)
	require.NoError(t, err)
	var poll sync.WaitGroup
	poll.Go(func() {
		_, err := bot.RequestWithContext(t.Context(), "getUpdates", map[string]any{"timeout": 50}, nil)
		assert.ErrorIs(t, err, errors.ConnectionFailed)
	})
	<-polling
	proxy.goDark()
	_, err = bot.SendMessage(1, "hi", nil)
	assert.ErrorIs(t, err, errors.OutcomeUnknown)
	assert.False(t, errors.SafeToRepeat(err))
	poll.Wait()
	_, err = bot.SendMessage(1, "hi", nil)
	assert.NoError(t, err, "over a new connection")
	assert.Equal(t, 3, proxy.count(), "one for the poll, two for the calls")
}

func TestPingsCanBeTurnedOff(t *testing.T) {
	srv, _ := apiServer(t, true)
	_, bot, proxy := throughProxy(t, srv, session.Config{PingInterval: -1, FirstByteTimeout: 300 * time.Millisecond})
	_, err := bot.SendMessage(1, "hi", nil)
	require.NoError(t, err)
	proxy.goDark()
	_, err = bot.SendMessage(1, "hi", nil)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = bot.SendMessage(1, "hi", nil)
	assert.NoError(t, err, "a connection over which no answer came is not used again")
}

// Many idle connections that are all dead must not cost a time-out each.
func TestAfterATimeOutTheIdleConnectionsAreClosed(t *testing.T) {
	srv, _ := apiServer(t, false)
	s, bot, proxy := throughProxy(t, srv, session.Config{FirstByteTimeout: 300 * time.Millisecond})
	var together sync.WaitGroup
	release := make(chan struct{})
	for range 10 {
		together.Go(func() {
			<-release
			_, err := bot.SendMessage(1, "hi", nil)
			assert.NoError(t, err)
		})
	}
	close(release)
	together.Wait()
	// net/http may still be dialing for a call that found another connection.
	require.Eventually(t, func() bool { return s.Stats().Open == proxy.count() }, time.Minute, time.Millisecond)
	proxy.goDark()
	_, err := bot.SendMessage(1, "hi", nil)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = bot.SendMessage(1, "hi", nil)
	assert.NoError(t, err)
}

// slowServer answers every call after a time.
func slowServer(after time.Duration) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(after):
			return answer(r, 200, `{"ok":true,"result":{"file_id":"a","file_unique_id":"b","message_id":1,"date":1,"chat":{"id":5,"type":"private"}}}`), nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	})
}

func TestHowLongACallMayTake(t *testing.T) {
	long := &gotgbot.RequestOpts{Timeout: 10 * time.Minute}
	sendVideo := func(url string, opts *gotgbot.RequestOpts) func(*gotgbot.Bot) error {
		return func(b *gotgbot.Bot) error {
			_, err := b.SendVideo(5, gotgbot.InputFileByURL(url), &gotgbot.SendVideoOpts{RequestOpts: opts})
			return err
		}
	}
	getFile := func(b *gotgbot.Bot) error {
		_, err := b.GetFile("a", nil)
		return err
	}
	for name, row := range map[string]struct {
		api  string
		call func(*gotgbot.Bot) error
		want time.Duration
	}{
		"a call": {"", func(b *gotgbot.Bot) error { _, err := b.GetMe(nil); return err }, 20 * time.Second},
		"a text that is a URL": {"", func(b *gotgbot.Bot) error {
			_, err := b.SendMessage(5, "https://example.com", nil)
			return err
		}, 20 * time.Second},
		"a call with a time-out of its own": {"", func(b *gotgbot.Bot) error {
			_, err := b.SendMessage(5, "hi", &gotgbot.SendMessageOpts{RequestOpts: long})
			return err
		}, 10 * time.Minute},
		"a file by its path, with a time-out of its own": {"http://local.example", sendVideo("file:///srv/films/v.mp4", long), 10 * time.Minute},
		"a file by its path":                             {"http://local.example", sendVideo("file:///srv/films/v.mp4", nil), 5 * time.Minute},
		"a file by its URL":                              {"", sendVideo("https://example.com/v.mp4", nil), 5 * time.Minute},
		"a file by its id":                               {"", sendVideo("BAACAgIAAxkBAAI", nil), 20 * time.Second},
		"a file by its id with a button that is a URL": {"", func(b *gotgbot.Bot) error {
			_, err := b.SendDocument(5, gotgbot.InputFileByID("BAACAgIAAxkBAAI"), &gotgbot.SendDocumentOpts{
				Caption:     "https://example.com",
				ReplyMarkup: gotgbot.InlineKeyboardMarkup{InlineKeyboard: [][]gotgbot.InlineKeyboardButton{{{Text: "Open", Url: "https://example.com"}}}},
			})
			return err
		}, 20 * time.Second},
		"a sticker by its URL": {"", func(b *gotgbot.Bot) error {
			_, err := b.AddStickerToSet(5, "set", gotgbot.InputSticker{Sticker: gotgbot.InputFileByURL("https://example.com/1.webp"), Format: "static", EmojiList: []string{"x"}}, nil)
			return err
		}, 5 * time.Minute},
		"an album with a URL": {"", func(b *gotgbot.Bot) error {
			_, err := b.SendMediaGroup(5, []gotgbot.InputMedia{gotgbot.InputMediaPhoto{Media: gotgbot.InputFileByURL("https://example.com/1.jpg")}}, nil)
			return err
		}, 5 * time.Minute},
		"getFile of a server of one's own": {"http://local.example", getFile, 5 * time.Minute},
		"getFile of Telegram's":            {"", getFile, 20 * time.Second},
		"getUpdates that does not wait": {"", func(b *gotgbot.Bot) error {
			_, err := b.GetUpdates(nil)
			return err
		}, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for after, works := range map[time.Duration]bool{row.want - time.Second: true, row.want + time.Second: false} {
					s := newSession(t, session.Config{APIURL: row.api, Transport: slowServer(after)})
					begin := time.Now()
					err := row.call(s.Bot("shop", mustToken(t, canary), gotgbot.User{}))
					if !works {
						assert.ErrorIs(t, err, context.DeadlineExceeded)
						assert.Equal(t, row.want, time.Since(begin))
					} else {
						_, typed := errors.AsType[*errors.Error](err)
						assert.False(t, typed, "%v", err) // else it is gotgbot's, of the result's form
					}
				}
			})
		})
	}
}
