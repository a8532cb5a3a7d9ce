// Package session is the one way to Telegram for all bots of a process: one
// HTTP transport, one chain of middlewares, and for each bot a small client
// that gotgbot's Bot calls.
//
//	s, err := session.New(session.Config{})
//	...
//	defer s.Close(ctx)
//
//	token, err := session.ParseToken(os.Getenv("BOT_TOKEN"))
//	bot, err := s.NewBot(ctx, "shop", token)
//	bot.SendMessage(chatID, "hello", nil)
//
// A hundred bots made this way share their connections (with HTTP/2 it is one
// or two), their TLS sessions and their looked-up addresses.
//
// # The decision to make
//
// An existing bot keeps its gotgbot.NewBot and changes its BotClient to
// [Session.Client]; that is one line. New code uses [Session.NewBot], or
// [Session.Bot] where the bot is known already: their Bots hold the token
// masked, so that no log can show it. Services with many tenants use package
// tenant, which opens and closes such bots as they are needed.
//
// # A call's way
//
// gotgbot's method hands its parameters to the [Client], which encodes them
// once: as JSON, or as a streamed multipart body when there are files. The
// [Call] then passes the middlewares of [Config.Middleware], outermost first,
// and ends at the wire, which sends it, bounds its time and reads the reply.
// A [Middleware] may refuse, delay, repeat or watch; [Observe] watches.
//
// # A guard
//
// [Guard] is the chain that most services want. It keeps to Telegram's limits
// and shares fairly what binds several bots together ([Limit]), stops calling
// what fails ([Break]), and makes a call again where that helps and is safe
// ([Retry]):
//
//	guard, err := session.NewGuard(session.GuardConfig{})
//	...
//	defer guard.Close()
//	s, err := session.New(session.Config{Guard: guard})
//
// Calls then wait for their turn, as long as their context lets them and a
// minute at most. [Bulk] marks those that may wait behind others, such as a
// newsletter's, and [Repeatable] messages that may come twice rather than not
// at all.
//
// # Errors
//
// Every error is an [errors.Error]. Kind says what went wrong. Delivery says
// whether the call may have been carried out. The two are independent. If
// Telegram answered, the error also matches *gotgbot.TelegramError, so existing
// handlers still work. Its Params are empty, because they hold users' texts.
//
// # Delivery
//
// A failed call is [errors.NotDelivered] if that is certain:
//
//   - the session, the guard or a middleware refused the call;
//   - the dial, the TLS handshake or the proxy failed;
//   - the connection did not take the request's last byte;
//   - HTTP/2 refused the stream, or a GOAWAY excluded it;
//   - Telegram answered in JSON with an error_code of 4xx, and the method has a
//     single effect.
//
// In every other case it is [errors.MaybeDelivered]:
//
//   - the answer broke off, timed out or the connection was reset;
//   - the answer is not Bot API JSON, whatever its status;
//   - the answer is JSON with a 5xx;
//   - the call is an album, copy or forward, which may be done in part even after
//     a 4xx.
//
// Once one attempt is MaybeDelivered, the call stays so.
//
// It is [errors.Delivered] if Telegram says that the call was carried out but has
// no result to return: a sent message was deleted at once, for example. The kind
// is [errors.ResultLost]. Such a call counts as a success for breakers, health
// and usage, and must not be repeated.
//
// If a call must not run twice, may have been carried out, and got no answer that
// settles its outcome, the kind is [errors.OutcomeUnknown], also where the failure
// was a time-out or a broken connection. Three kinds stay as they are: Canceled,
// and RateLimited and FileTooLarge of a proxy. To decide whether a call may be
// repeated, ask [errors.SafeToRepeat] and not the kind.
//
// The transport never repeats a call on its own. The session repeats a call at
// once, over another connection, if a kept connection was closed or excluded it
// by GOAWAY before it took the request. A refused HTTP/2 stream, and a GOAWAY on
// a connection made for this call, are [errors.ConnectionFailed] and
// NotDelivered. A [Guard] repeats them after its back-off; without one they are
// returned. [Session.Download] is different: net/http may repeat its request a
// few times, since it only reads.
//
// # Tokens
//
// A [Token] prints as "123456:***" whatever prints it. The same holds for
// calls, clients, bots made by this package, and errors, however deep one
// looks, and for what an [net/http/httptrace.ClientTrace] in a call's context is
// told. A [Config.WrapTransport] sees requests with a masked token. Two things
// can still show a token: a [Config.Transport] of yours that prints URLs, and
// net/http, which logs bytes that a server sends unasked.
//
// # What it does not do
//
// Without a [Guard], or the middlewares that it is made of, it neither limits
// nor repeats calls. It does not receive updates other than by a getUpdates that is called.
package session
