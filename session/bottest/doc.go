// Package bottest is a Telegram Bot API server for tests. It answers as the
// real one does, keeps its limits, goes wrong when it is told to, and knows
// what happened. Any client in any language can talk to it.
//
// The smallest use is a server, a bot, a user, and the in-memory transport:
//
//	srv := bottest.New(bottest.Config{})
//	defer srv.Close()
//	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
//
//	client := &http.Client{Transport: srv.Transport()} // reaches srv, whatever the URL's host
//	startMyBot(bot.Token(), client)                    // the code under test
//
//	ann.Write(bot, "/start")
//	// ... and when the bot has answered:
//	srv.Messages(ann.ID) // what is in their chat
//	srv.Calls()          // what the bot has called
//
// # In memory or over a socket
//
// This is the one decision to make. [Server.Transport] and
// [Server.DialContext] connect by pipes inside the process. They need no port,
// and work inside a testing/synctest bubble, where the clock jumps: long polls,
// back-off, rate limits and a whole simulated day pass in milliseconds. All
// times of the server come from package time. Make the server inside the bubble
// and close it there.
//
// [Server.Start] and [Server.StartTLS] listen on the loopback interface, for a
// bot that runs in another process or language: give it [Server.URL] as the
// address of the Bot API. [Server.Handler] mounts the server anywhere else.
// All ways lead to the same server at the same time.
//
// # People
//
// A [Bot] is an account; what acts for it is your code, with [Bot.Token]. A
// [User] writes, edits, presses buttons, blocks. A [Group] is a group,
// supergroup or channel, which bots are added to and kicked from, and which
// can be upgraded or made a forum. Users pay invoices, too. What they do becomes updates, which the bot gets by
// getUpdates or at its webhook. What the server has no user's action for,
// [Bot.Push] sends.
//
// # Webhooks
//
// Updates go to the URL of setWebhook through [Config.WebhookTransport], in the
// real server's order, with its retries and its patience. [HandlerTransport]
// delivers to an http.Handler without a socket.
//
// # Limits
//
// The zero [Config] enforces Telegram's sending rates: the sixth message in a
// second to one user is refused with a 429. That is often what a test wants to
// know; one that does not says Limits: bottest.NoLimits(). See [Limits].
//
// # Faults
//
// [Server.Fail] makes selected calls be slow, hang, break or be answered with
// an error; each [Action] says whether the call was executed all the same.
// [Server.Refuse] makes the server unreachable.
//
// # What it does not do
//
// It knows the methods most bots live on, not all of the Bot API: stories,
// business accounts, topics in private chats, subscriptions and paid media, gifts
// and sticker sets are not there, and an unknown method gets the real server's
// 404. Payments take no money and know no provider. Markup is parsed as
// the real server does it in all but rare cases. URLs given as files are not
// fetched. Certificates of setWebhook are noted, not used, and so is
// ip_address; names are not looked up, so a webhook's address that is neither
// given nor in its URL is "<unknown>". The test environment is the same world as
// the main one, and only noted in [Call.Test].
package bottest
