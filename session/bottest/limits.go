package bottest

import "time"

// Off switches a limit off. Every negative value does.
const Off = -1

// Limits are the rates and bounds that a [Server] enforces. In each field
// zero means Telegram's number, a negative value ([Off]) no limit. The cold
// start is the exception: zero leaves it off there, since it refuses the
// twenty-first bot of a minute, which few tests are about. [RealLimits] has
// it on.
//
// Telegram documents the sending rates as advice, not as a contract. Bursts
// are documented nowhere; those below are this package's choice. A refused
// call consumes nothing. An album or a call that forwards many messages counts
// as many messages: it is let in if one more message is, and what it is over
// must then be waited for.
//
// Limits count what sends messages: the send methods (without
// sendChatAction and sendMessageDraft), forwards and copies.
type Limits struct {
	// BotPerSecond is how many messages a bot sends per second to all chats
	// together: 30 (Bots FAQ, "How can I message all of my bot's subscribers
	// at once?"). Burst: a second's worth.
	BotPerSecond int

	// PaidPerSecond replaces BotPerSecond for messages with
	// allow_paid_broadcast: 1000 (Bot API, sendMessage). Burst: a second's
	// worth.
	PaidPerSecond int

	// PrivatePerSecond is how many messages a bot sends per second to a
	// private chat: 1 (Bots FAQ, "we recommend ... more than one message per
	// second", short bursts may pass).
	PrivatePerSecond int

	// PrivateBurst is how many messages may go to a private chat at once: 5,
	// which is not documented.
	PrivateBurst int

	// GroupPerMinute is how many messages a bot sends per minute to a group,
	// supergroup or channel: 20 (Bots FAQ). Burst: a minute's worth.
	GroupPerMinute int

	// ColdPerMinute and ColdPerHour are how many bots that the server has not
	// loaded yet may start from one source address: 20 and 600 on the real
	// server (ClientManager.cpp). Zero means off. The source is the peer's
	// address, or the X-Real-IP header where there is one, as behind the
	// real server's proxy.
	ColdPerMinute, ColdPerHour int

	// ColdTotalPerMinute and ColdTotalPerHour are the same from all
	// addresses together: 1000 and 10000 on the real server. Zero means off.
	ColdTotalPerMinute, ColdTotalPerHour int

	// SetWebhookEvery is the least time between two setWebhook of a bot: 1 s
	// (Client.cpp).
	SetWebhookEvery time.Duration

	// InFlight is how many requests of a bot may be unanswered at once, to
	// which the updates it got within the last minute are added: 1000. What
	// exceeds it is answered with 429 and retry_after=60, FloodDelay late.
	InFlight int

	// UnsentPerChat is how many messages to one chat may be on their way at
	// once: 310. What exceeds it is answered like InFlight.
	UnsentPerChat int

	// FloodDelay is how late the refusals by InFlight and UnsentPerChat, and
	// repeated 409 answers, are: 3 s (Client.cpp).
	FloodDelay time.Duration

	// SameOffsetDelay is how long getUpdates without a timeout waits for an
	// update if the same offset was asked for less than this ago: 3 s
	// (Client.cpp).
	SameOffsetDelay time.Duration

	// DownloadSize is the size in bytes up to which getFile gives a file out:
	// 20 MB.
	DownloadSize int64

	// PhotoSize is the size in bytes up to which a photo may be uploaded: 10
	// MB.
	PhotoSize int64
}

// NoLimits has every limit off.
func NoLimits() Limits {
	return Limits{
		BotPerSecond: Off, PaidPerSecond: Off, PrivatePerSecond: Off, PrivateBurst: Off, GroupPerMinute: Off,
		ColdPerMinute: Off, ColdPerHour: Off, ColdTotalPerMinute: Off, ColdTotalPerHour: Off,
		SetWebhookEvery: Off, InFlight: Off, UnsentPerChat: Off, FloodDelay: Off, SameOffsetDelay: Off,
		DownloadSize: Off, PhotoSize: Off,
	}
}

// RealLimits has every limit at Telegram's number, written out, the cold
// start included.
func RealLimits() Limits {
	return Limits{
		BotPerSecond: 30, PaidPerSecond: 1000, PrivatePerSecond: 1, PrivateBurst: 5, GroupPerMinute: 20,
		ColdPerMinute: 20, ColdPerHour: 600, ColdTotalPerMinute: 1000, ColdTotalPerHour: 10_000,
		SetWebhookEvery: time.Second, InFlight: 1000, UnsentPerChat: 310,
		FloodDelay: 3 * time.Second, SameOffsetDelay: 3 * time.Second,
		DownloadSize: 20 << 20, PhotoSize: 10 << 20,
	}
}

// withDefaults puts Telegram's number where there is a zero. What is negative
// stays so.
func (l Limits) withDefaults() Limits {
	real := RealLimits()
	orElse(&l.BotPerSecond, real.BotPerSecond)
	orElse(&l.PaidPerSecond, real.PaidPerSecond)
	orElse(&l.PrivatePerSecond, real.PrivatePerSecond)
	orElse(&l.PrivateBurst, real.PrivateBurst)
	orElse(&l.GroupPerMinute, real.GroupPerMinute)
	orElse(&l.SetWebhookEvery, real.SetWebhookEvery)
	orElse(&l.InFlight, real.InFlight)
	orElse(&l.UnsentPerChat, real.UnsentPerChat)
	orElse(&l.FloodDelay, real.FloodDelay)
	orElse(&l.SameOffsetDelay, real.SameOffsetDelay)
	orElse(&l.DownloadSize, real.DownloadSize)
	orElse(&l.PhotoSize, real.PhotoSize)
	return l
}

func orElse[T int | int64 | time.Duration](field *T, number T) {
	if *field == 0 {
		*field = number
	}
}

// admit lets n messages of bot into chat, or says how long they must wait and
// counts nothing. The caller holds the chat's lock.
func (s *Server) admit(b *Bot, c *chat, n int, paid bool) (wait time.Duration) {
	l := &s.cfg.Limits
	now := time.Now()
	inChat := c.meterOf(b.id)
	chatRate, overall := perMinute(l.GroupPerMinute), perSecond(l.BotPerSecond)
	if c.user != nil {
		chatRate = perSecond(l.PrivatePerSecond)
		chatRate.burst = max(l.PrivateBurst, 1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	inBot := &b.sent
	if paid {
		inBot, overall = &b.sentPaid, perSecond(l.PaidPerSecond)
	}
	wait = max(inChat.wait(now, chatRate), inBot.wait(now, overall))
	if wait == 0 {
		inChat.take(now, chatRate, n)
		inBot.take(now, overall, n)
	}
	return wait
}
