// Package errors says what went wrong, to programs as a kind and to people as
// a friendly text.
//
// Every failure in tgfleet leaves as an [*Error]. It has a [Kind] to switch on,
// says how long to wait and whether the call may be sent again, and holds no
// token and no text of a user, so that it can be logged as it is:
//
//	_, err := bot.SendMessageWithContext(ctx, chatID, text, nil)
//	switch errors.KindOf(err) {
//	case errors.None, errors.ResultLost: // sent
//	case errors.Blocked, errors.NotStarted, errors.ChatGone:
//		unsubscribe(chatID)
//	default:
//		if errors.Temporary(err) && errors.SafeToRepeat(err) {
//			sendLater(errors.RetryAfter(err))
//			break
//		}
//		log.Error("greet user", "err", err)
//		say(errors.Friendly(err, user.LanguageCode))
//	}
//
// # One import
//
// The package has all that the standard one has, so it takes its place in the
// import list and nothing else in the file changes:
//
//	-import "errors"
//	+import "github.com/tgfleet/tgfleet/errors"
//
// What there is for which question:
//
//	What went wrong?                    KindOf, Is(err, Blocked), ConflictOf
//	Does it pass by itself?             Temporary
//	When?                               RetryAfter
//	Could sending again do it twice?    SafeToRepeat
//	Whose failure is it?                TenantFault, PlatformFault, Kind.Fault
//	Where is the group now?             MigrateTo
//	What do I tell the person?          Friendly, Texts
//	What do I answer the HTTP client?   WriteProblem, ProblemOf, HTTPStatus
//	What do I do with gotgbot's error?  Classify
//	As ever                             New, Is, As, AsType, Join, Unwrap
//
// # Kind or predicate
//
// The one decision to make for each error is whether to ask for its kind or for
// a property. Ask for the kind where one cause has its own cure: a blocked user
// is unsubscribed, a revoked token is asked for again. Ask for a property where
// many causes have the same: whatever is [Temporary] is tried later, if it is
// also [SafeToRepeat]; a [TenantFault] counts against one bot, and a
// [PlatformFault] against none. New kinds can come, and a property covers them
// at once.
//
// # What it does not do
//
// It does not retry, wait or count: the packages retry, breaker and ratelimit
// do, and are told about errors by functions. It does not log. It does not
// translate either: English is built in, and a [Catalogue] for each further
// language goes into a [Texts]. And it wraps no error into a second kind: a
// kind is given once, where the cause is known.
package errors
