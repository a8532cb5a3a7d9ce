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
// Every error is an [errors.Error]. Its Kind says what went wrong, and its
// Delivery whether the call may have been carried out; they are two answers.
// An error of an answer of Telegram also matches *gotgbot.TelegramError, so
// existing handlers still work; its Params are left out, since they hold what
// users wrote.
//
// # Delivery
//
// A failed call is [errors.NotDelivered] where that is certain:
//
//   - it was refused here, or the dial, the TLS handshake or the proxy failed;
//   - the connection did not take the request's last byte;
//   - HTTP/2 refused the stream, or a GOAWAY excluded it;
//   - Telegram answered, as JSON, with an error_code of 4xx, and the method has
//     a single effect.
//
// It is [errors.MaybeDelivered] in every other case: after an answer that broke
// off, an answer that is none of the Bot API whatever its status, a JSON 5xx, a
// time-out or a reset, and for albums, copies and forwards also after a 4xx,
// since a part of them may have been sent. Once an attempt of a call was maybe
// delivered, the call stays so.
//
// It is [errors.Delivered] where Telegram says that the call was carried out but
// has no result to return: a sent message was deleted at once, for example. The
// kind is [errors.ResultLost]. Such a call counts as a success for breakers,
// health and usage, and must not be repeated.
//
// A call that must not be carried out twice, may have been carried out, and got
// no answer of the Bot API fails with [errors.OutcomeUnknown].
//
// Nothing below the session repeats a request that was begun. A call that meets
// a kept connection which its server has closed, or a GOAWAY, goes out at once
// over another connection where it is certain that the first took none of it. A
// refused HTTP/2 stream is an error of kind [errors.ConnectionFailed], which a
// [Guard] repeats after its back-off.
//
// # Tokens
//
// A [Token] prints as "123456:***" whatever prints it. The same holds for
// calls, clients, bots made by this package, and errors, however deep one
// looks, and for what an [net/http/httptrace.ClientTrace] in a call's context is
// told. A [Config.WrapTransport] sees requests with a masked token. Two things
// are out of reach: what a [Config.Transport] of the caller's prints itself, and
// what net/http writes to the standard logger about a server that sends something
// unasked.
//
// # What it does not do
//
// Without a [Guard], or the middlewares that it is made of, it neither limits
// nor repeats calls. It does not receive updates other than by a getUpdates that is called.
package session
