package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// Client is what one bot sends its calls through: a [gotgbot.BotClient] whose
// connections, chain and state are the session's. It is two words big, safe
// for concurrent use, and needs no closing. Make it with [Session.Client].
type Client struct {
	session *Session
	bot     *identity
}

var _ gotgbot.BotClient = Client{}

// identity is what a Client knows of its bot.
type identity struct {
	key   string
	token Token // zero: each call brings its own
	// masked is the token's masked form, which the bot passes with each call.
	masked string
	// last is the token of the last call, so that it is parsed once.
	last atomic.Pointer[Token]
}

// RequestWithContext sends a call of a Bot API method through the chain and
// returns its result. A nil ctx is context.Background; opts may be nil:
//
//   - Timeout bounds each attempt. It replaces [Config.Timeout], UploadTimeout
//     and FirstByteTimeout. 0 means the session's defaults; negative means that
//     only ctx bounds the call.
//   - APIURL sends this call to another server.
//   - OverrideParams take the place of params of the same name. Unlike
//     gotgbot's own client this one does not write them into params, which
//     may be nil.
//
// Every error is an [errors.Error]; one that Telegram answered with also
// matches [gotgbot.TelegramError], without its Params.
func (c Client) RequestWithContext(ctx context.Context, token, method string, params map[string]any, opts *gotgbot.RequestOpts) (json.RawMessage, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	call, err := c.call(token, method, params, opts)
	if err != nil {
		return nil, err
	}
	call.repeatable = isRepeatable(ctx)
	flight, err := c.session.begin(ctx, call.Method, call.Key)
	if err != nil {
		return nil, err
	}
	defer flight.end()
	result, err := c.session.chain.Invoke(flight, call)
	if e, ok := err.(*errors.Error); ok && e.Delivery == errors.NotDelivered && call.body.doubt.Load() {
		// A later attempt was refused here, after one that may have been carried out.
		doubtful := *e
		doubtful.Delivery = errors.MaybeDelivered
		return nil, &doubtful
	}
	return result, err
}

func (c Client) call(token, method string, params map[string]any, opts *gotgbot.RequestOpts) (*Call, error) {
	refuse := func(kind errors.Kind, err error) (*Call, error) {
		return nil, &errors.Error{Kind: kind, Op: method, Key: c.bot.key, Delivery: errors.NotDelivered, Err: err}
	}
	if !checkMethod(method) {
		method = "call" // the text may be anything
		return refuse(errors.BadRequest, errors.New("method's name is not letters and digits"))
	}
	t, err := c.bot.use(token)
	if err != nil {
		return refuse(errors.InvalidToken, errors.Unwrap(err))
	}
	call := &Call{
		Key:     c.bot.key,
		Method:  method,
		Params:  params,
		Attempt: 1,
		token:   t,
		api:     c.session.api,
	}
	if opts != nil {
		if len(opts.OverrideParams) > 0 {
			call.Params = make(map[string]any, len(params)+len(opts.OverrideParams))
			maps.Copy(call.Params, params)
			maps.Copy(call.Params, opts.OverrideParams)
		}
		if opts.APIURL != "" {
			if call.api, err = parseEndpoint(opts.APIURL, c.session.api.test); err != nil {
				return refuse(errors.BadRequest, err)
			}
		}
	}
	if call.body, err = safely(call.Params, encode); err != nil {
		return refuse(errors.BadRequest, err)
	}
	call.Chat = ParseChatID(call.Params["chat_id"])
	call.Upload = call.body.parts != nil
	call.poll = isLongPoll(method) && longPoll(call.Params["timeout"]) > 0
	call.slow = call.Upload || c.session.movesFile(call)
	call.ownTimeout = opts != nil && opts.Timeout != 0
	call.timeout = c.session.timeoutFor(call, opts)
	return call, nil
}

// safely runs encode, whose reflection and callers' own MarshalJSON and Attach
// may panic: that is a bad parameter, not the end of the process.
func safely(params map[string]any, encode func(map[string]any) (*body, error)) (b *body, err error) {
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, errors.New("panic while encoding the parameters")
		}
	}()
	return encode(params)
}

// use returns the token that a call is to be sent with. A bot made by
// [Session.Bot] has a masked one in its Token field and its real one here.
func (b *identity) use(text string) (Token, error) {
	if !b.token.IsZero() && (text == b.masked || text == b.token.Reveal()) {
		return b.token, nil
	}
	if last := b.last.Load(); last != nil && last.Reveal() == text {
		return *last, nil
	}
	t, err := ParseToken(text)
	if err == nil {
		b.last.Store(&t)
	}
	return t, err
}

// GetAPIURL returns the Bot API server's URL, without a slash at its end.
func (c Client) GetAPIURL(opts *gotgbot.RequestOpts) string {
	if opts != nil && opts.APIURL != "" {
		return strings.TrimSuffix(opts.APIURL, "/")
	}
	return c.session.api.base()
}

// FileURL returns where a file is, with the token masked: fit for a log and
// no use for a download, which [Session.Download] is for. Code that must fetch
// the URL itself can ask for the real one with [Config.RevealFileURLs].
func (c Client) FileURL(token, filePath string, opts *gotgbot.RequestOpts) string {
	t, err := c.bot.use(token)
	if err != nil {
		t = Token{}
	}
	api := c.session.api
	if opts != nil && opts.APIURL != "" {
		other, err := parseEndpoint(opts.APIURL, api.test)
		if err != nil {
			return ""
		}
		api = other
	}
	if c.session.revealFileURLs {
		return api.file(t, filePath).String()
	}
	return api.maskedFile(t, filePath)
}

// String returns the client's key.
func (c Client) String() string {
	if c.bot == nil {
		return "session.Client()"
	}
	return fmt.Sprintf("session.Client(%q)", c.bot.key)
}

// Format prints what String returns, whatever the verb.
func (c Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// isLongPoll reports whether a method answers late on purpose.
func isLongPoll(method string) bool { return strings.EqualFold(method, "getUpdates") }

// timeoutFor returns the bound on each attempt of a call; 0 is none.
func (s *Session) timeoutFor(call *Call, opts *gotgbot.RequestOpts) time.Duration {
	if opts != nil && opts.Timeout != 0 {
		return max(opts.Timeout, 0)
	}
	timeout := s.timeout
	if call.slow {
		timeout = s.uploadTimeout
	}
	if timeout > 0 && call.poll {
		timeout += longPoll(call.Params["timeout"])
	}
	return max(timeout, 0)
}

// movesFile reports whether the server may move a file before it answers: it
// fetches a URL, or a self-hosted server downloads a file for getFile.
func (s *Session) movesFile(call *Call) bool {
	if strings.EqualFold(call.Method, "getFile") {
		return call.api.host != cloudHost
	}
	return call.body.namesURL()
}

// longPoll reads the parameter timeout of getUpdates, in seconds. Telegram
// waits at most 50 s (telegram-bot-api, Client::process_get_updates_query).
func longPoll(value any) time.Duration {
	seconds, _ := intParam(value)
	return time.Duration(min(max(seconds, 0), 50)) * time.Second
}
