// Package ownership finds out who owns a tenant's bot, and can keep a bot from
// sending until that is known.
//
// Who registers a bot has its token, but a token may be a stolen one. So the
// one who registers gets a code, which must come back to the service through
// the bot, from a Telegram account:
//
//	v, err := ownership.New(store, key, ownership.Config{})
//
//	invitation, err := v.Invite(ctx, record, 0)
//	// show invitation.Link: https://t.me/shop_bot?start=verify-...
//
//	handler = v.Middleware(answer)(handler) // of the inbox's workers
//
// When the user follows the link and presses Start, the bot receives the code
// from whichever source it has, webhook or polling, and [Verifier.Owner] knows
// the user from then on. [Verifier.Check] does the same with an update that
// does not come from an inbox.
//
// # What it proves
//
// That whoever saw the invitation controls the Telegram account that sent it,
// and that the service really receives the bot's updates. Where the account of
// the true owner is known, name it in Invite: then nobody else can send the
// code. That the bot was created by that account is something only Telegram
// can say, and does so of managed bots.
//
// A code is 80 random bits, is stored as a keyed hash bound to tenant, bot and
// user, works once, for [Config.Expiry], and is compared in constant time, at
// most [Config.MaxAttempts] times. Strangers who send codes leave nothing
// behind. They can use up the attempts at an invitation that names no user;
// then invite again.
//
// # Managed bots
//
// Users can create bots by a manager bot. Telegram tells the manager who did,
// and gives it the token: [Managed] makes tenants of such bots, whose owners
// are proved by that, and fetches and replaces their tokens.
//
// # The decision to make
//
// Whether an unverified bot may send. [Verifier.Require] is a middleware of the
// session, to be placed outermost, that refuses it with [errors.Unverified]:
//
//	s, err := session.New(session.Config{
//		Middleware: []session.Middleware{v.Require(nil)}, Guard: guard,
//	})
//
// Name the Verifier in Forget of tenant.ManagerConfig, so that what it knows goes
// with a tenant that is removed. A proof is of a bot, so a
// tenant that comes to have another one is not verified.
//
// # What it does not do
//
// It does not answer the user: that is for the func that Middleware is given.
// It does not know who may invite: that is for the service's own log-in.
package ownership
