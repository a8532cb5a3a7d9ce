// Package inbox keeps received updates until they are handled: none is lost,
// none comes twice because Telegram sent it twice, and none overtakes another
// of its chat.
//
//	in, err := inbox.NewMemory(inbox.MemoryConfig{})
//	workers, err := inbox.NewWorkers(in, pool, handler, inbox.WorkersConfig{})
//	err = workers.Start(context.Background())
//	...
//	// When the process is asked to end, with a while for the handlers that run:
//	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
//	defer cancel()
//	err = workers.Stop(ctx)
//
// A source, such as packages webhook and polling, puts updates into an [Inbox]
// and confirms them to Telegram when that has returned. [Workers] take them
// out, get the tenant from the pool, and call your [Handler]:
//
//	handler := inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
//		update, err := u.Decode()
//		if err != nil {
//			return inbox.Permanent(err)
//		}
//		_, err = t.Bot.SendMessageWithContext(ctx, update.Message.Chat.Id, "hello", nil)
//		return err
//	})
//
// The handlers of a bot that is written for gotgbot's dispatcher move over as
// they are, with a [Dispatcher]. Others are put together with a [Mux] and
// [Chain], which puts [Middleware] such as [Log] and [Timeout] around them.
// [KindsOf] tells a source which kinds of updates all of it wants.
//
// # The decision to make
//
// What may be lost. A [Memory] loses what it holds when the process ends. What
// is stored on disk or in a database does not, and of that a database is for
// several processes; both are in packages of their own. They all keep one
// contract, [Inbox], which package inboxtest tests.
//
// # Order
//
// Updates of one chat are handled one after the other, by Telegram's numbers,
// and different chats side by side. [Parse] says which update is of which
// chat. One that fails is tried again before the next of its chat, and after
// some attempts it is set aside as a [DeadLetter], so that the chat goes on. A
// panic is a failure too. Callback queries are of the chat of the message that
// their button is under, so they come in order with its messages, where Telegram
// itself sends them in order. This holds over all processes that work on one
// inbox.
//
// What nobody waits for any more, such as an inline query after half a minute,
// is dropped; [Keep] has the times.
//
// # Health
//
// [Inbox.Depth] tells how much there is and since when, and Workers.Stats what
// became of it. A growing age, dead letters, and handlers that are overdue are
// worth an alert.
//
// # Fairness
//
// A tenant has at most WorkersConfig.PerTenant handlers at a time and tenants
// take turns, so one whose handlers are slow, or who is flooded, holds up
// nobody else. A tenant that is suspended keeps its updates until it is
// resumed, and they cost next to nothing meanwhile.
//
// # What it does not do
//
// It can't make a handler's work and the end of its update one step: after a
// crash in between, the update comes again. Update.Attempt tells.
package inbox
