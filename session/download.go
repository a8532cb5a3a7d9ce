package session

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// Download fetches a file whose path getFile returned. The reader streams from
// the network; close it, since [Session.Close] waits for it. ctx ends the
// whole download; [Config.Timeout] bounds only the wait for its start. A download
// passes neither the guard nor middlewares, and its errors have the Op "getFile".
//
// bot must have a client of this session. A self-hosted server in its local
// mode returns absolute paths of its own disk, which can't be downloaded: they
// are refused as [errors.BadRequest]. Open such a file yourself.
func (s *Session) Download(ctx context.Context, bot *gotgbot.Bot, filePath string) (io.ReadCloser, error) {
	client, ok := clientOf(bot)
	if !ok || client.session != s {
		return nil, &errors.Error{Kind: errors.BadRequest, Op: "download", Delivery: errors.NotDelivered, Err: errors.New("bot has no client of this session")}
	}
	token, err := client.bot.use(bot.Token)
	if err != nil {
		return nil, err
	}
	// Named after the method whose second half it is, which may be repeated.
	call := &Call{Key: client.bot.key, Method: "getFile", Attempt: 1, token: token, api: s.api, body: emptyBody()}
	if !checkFilePath(filePath) {
		return nil, &errors.Error{Kind: errors.BadRequest, Op: call.Method, Key: call.Key, Delivery: errors.NotDelivered, Err: errors.New("not a relative file path")}
	}
	flight, err := s.begin(ctx, call.Method, call.Key)
	if err != nil {
		return nil, err
	}
	d := &download{ctx: flight, wire: s.wire, call: call, end: flight.end, attempt: &attempt{begun: time.Now(), direct: true}}
	if err := d.open(s.timeout, filePath); err != nil {
		flight.end()
		return nil, err
	}
	return d, nil
}

// clientOf finds the Client under a bot's client, which others may have
// wrapped; they show what they wrap in a method Unwrap.
func clientOf(bot *gotgbot.Bot) (Client, bool) {
	if bot == nil {
		return Client{}, false
	}
	for c := bot.BotClient; ; {
		switch v := c.(type) {
		case Client:
			return v, true
		case interface{ Unwrap() gotgbot.BotClient }:
			c = v.Unwrap()
		default:
			return Client{}, false
		}
	}
}

// checkFilePath refuses what would leave the bot's own folder.
func checkFilePath(path string) bool {
	if path == "" || len(path) > 1024 || strings.HasPrefix(path, "/") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == ".." || segment == "." {
			return false
		}
	}
	return true
}

// download is a file on its way.
type download struct {
	// ctx is that of the download's flight. It is kept because a reader has
	// no other way to learn why its connection was closed.
	ctx     context.Context
	wire    *wire
	call    *Call
	attempt *attempt
	end     func()
	body    io.ReadCloser
}

func (d *download) open(timeout time.Duration, path string) (err error) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	release := d.end
	d.end = func() { cancel(nil); release() }
	defer func() {
		if p := recover(); p != nil {
			err = d.wire.panicked(d.call, d.attempt, p)
		}
		if err != nil {
			cancel(nil)
		}
	}()
	d.attempt.cancel = cancel
	d.attempt.start(timeout)
	defer func() {
		if err != nil {
			d.attempt.end()
		}
		d.attempt.stop()
	}()
	u := d.call.api.file(d.call.token, path)
	resp, err := d.wire.send((&http.Request{
		Method: http.MethodGet,
		URL:    u,
		Host:   u.Host,
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": userAgent},
	}).WithContext(ctx), d.call, d.attempt)
	if err != nil {
		return d.wire.failed(d.ctx, d.call, d.attempt, err)
	}
	if resp.StatusCode == http.StatusOK {
		d.body = resp.Body
		return nil
	}
	defer resp.Body.Close()
	text, err := readReply(resp, min(d.wire.maxReply, 64<<10))
	if err != nil {
		return d.wire.failed(d.ctx, d.call, d.attempt, err)
	}
	if _, err = parseReply(d.call, resp.StatusCode, resp.Header, text); err == nil {
		err = noReply(d.call, resp.StatusCode, resp.Header, badReply("no file"))
	}
	return err
}

// Read reads the file's bytes. Its errors are typed, as a call's are.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	if err != nil && err != io.EOF {
		err = d.wire.failed(d.ctx, d.call, d.attempt, err)
	}
	return n, err
}

// Close ends the download.
func (d *download) Close() error {
	err := d.body.Close()
	d.attempt.end()
	d.end()
	return redactError(err, d.call.token)
}
