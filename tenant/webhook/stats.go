package webhook

import (
	"sync/atomic"
	"time"
)

// Stats are a [Receiver]'s figures since it was made.
type Stats struct {
	// Received counts updates that were stored, and Duplicates those that were
	// known already. Replies counts answers that had a [Reply] in them.
	Received   uint64 `json:"received"`
	Duplicates uint64 `json:"duplicates"`
	Replies    uint64 `json:"replies"`
	// Full counts updates refused because the inbox is full, and Failed those
	// refused because it or the store of tenants is broken. Telegram brings
	// them again.
	Full   uint64 `json:"full"`
	Failed uint64 `json:"failed"`
	// Unwanted counts updates of tenants that are suspended or gone.
	Unwanted uint64 `json:"unwanted"`
	// BadRequests counts what came with the right secret and was no update:
	// too large, too slow, or not JSON.
	BadRequests uint64 `json:"bad_requests"`
	// Strangers counts requests with another method, path, network or secret,
	// and BadSecret those of them with a path that is right.
	Strangers uint64 `json:"strangers"`
	BadSecret uint64 `json:"bad_secret"`
}

type counts struct {
	received, duplicates, replies, full, failed, unwanted, badRequest, strangers, badSecret atomic.Uint64
}

// Stats returns the figures of this moment.
func (rc *Receiver) Stats() Stats {
	c := &rc.counts
	return Stats{
		Received: c.received.Load(), Duplicates: c.duplicates.Load(), Replies: c.replies.Load(), Full: c.full.Load(),
		Failed: c.failed.Load(), Unwanted: c.unwanted.Load(), BadRequests: c.badRequest.Load(),
		Strangers: c.strangers.Load(), BadSecret: c.badSecret.Load(),
	}
}

// sometimes says yes at most once every 10 s, so that what others do can't
// fill the log.
type sometimes struct{ next atomic.Int64 }

func (s *sometimes) now(t time.Time) bool {
	next := s.next.Load()
	return t.UnixNano() >= next && s.next.CompareAndSwap(next, t.Add(10*time.Second).UnixNano())
}
