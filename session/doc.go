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
//	s, err := session.New(session.Config{Middleware: guard.Middleware()})
//
// Calls then wait for their turn, as long as their context lets them and a
// minute at most. [Bulk] marks those that may wait behind others, such as a
// newsletter's, and [Repeatable] messages that may come twice rather than not
// at all.
//
// # Errors
//
// Every error is an [errors.Error] with a kind. One that Telegram answered
// also matches *gotgbot.TelegramError, so existing handlers still work; its
// Params are left out, since they hold what users wrote. An attempt that broke
// off after its request was sent may have been carried out. For methods that
// send, such an error is of kind [errors.OutcomeUnknown] and must not be
// repeated blindly.
//
// # Tokens
//
// A [Token] prints as "123456:***" whatever prints it. The same holds for
// calls, clients, bots made by this package, and errors, however deep one
// looks, and for what an [net/http/httptrace.ClientTrace] in a call's context is
// told. Two things are out of reach: what a RoundTripper of the caller's prints
// itself, and what net/http writes to the standard logger of a server that sends
// something unasked.
//
// # What it does not do
//
// Without a [Guard], or the middlewares that it is made of, it neither limits
// nor repeats calls. It does not receive updates other than by a getUpdates that is called.
package session
