package polling

import "time"

// offset is what the next getUpdates says to confirm updates: one more than
// the id of the last that is safely in the inbox. Zero says nothing, and gets
// all that is not confirmed.
//
// It is forgotten as soon as Telegram has answered a call that said it. What
// is confirmed stays so, and an offset that is repeated for ever would become
// wrong: after a week without updates ids start anew at random, and an offset
// above them would confirm what nobody has seen.
type offset struct {
	next int64
	at   time.Time
}

// unconfirmed is how long an update waits at Telegram (Client.cpp). An offset
// older than that confirms nothing that is still there.
const unconfirmed = 24 * time.Hour

// set notes that all before next is in the inbox.
func (o *offset) set(next int64, now time.Time) { o.next, o.at = next, now }

// say returns what to tell Telegram.
func (o *offset) say(now time.Time) int64 {
	if o.next != 0 && now.Sub(o.at) >= unconfirmed {
		o.next = 0
	}
	return o.next
}

// said notes that Telegram has answered a call that told it.
func (o *offset) said(sent int64) {
	if o.next == sent {
		o.next = 0
	}
}
