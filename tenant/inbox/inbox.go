package inbox

import (
	"context"
	"time"
)

// Inbox keeps updates between their source, which may confirm one to Telegram
// once [Inbox.Put] has returned, and the worker that hands it to a handler.
//
// An update that was put is in one of three states. It waits, until a worker
// leases it. It is leased, until the worker settles it or the lease expires:
// then it waits again, as it was. Or it is dead: set aside, until somebody
// replays or drops it.
//
// The order. In each chat (updates of equal Tenant and Chat) at most one
// update is leased at any time, over all processes, and it is the one with the
// lowest ID of those that wait; one that waits for another try, and one whose
// lease has expired, hold up the rest of their chat. Chats do not hold up each
// other. (Telegram starts ids anew after a week without updates: what has
// waited that long may be overtaken.)
//
// Implementations are safe for concurrent use, obey ctx, and return errors
// that have kinds of package errors. Where several processes work on one
// inbox, times are the inbox's own. Updates go in and come out as copies, but
// for Raw, which nobody changes.
type Inbox interface {
	// Put stores updates, durably where the inbox is durable. The outcomes
	// are those of the updates of the batch, in its order. An error says that
	// nothing is known to have been stored, and none may be confirmed; putting
	// the same again is safe.
	//
	// An update whose Tenant and ID were put before within a day is a
	// duplicate, whatever became of it: it is not stored again. When there is
	// no room for an update, it is refused, and so are all later ones of its
	// tenant in the batch, so that none overtakes it.
	Put(ctx context.Context, batch []Update) ([]Outcome, error)

	// Lease lends updates that may be handled now, at most want.Limit of them,
	// and counts the attempt. It does not wait: nothing to do is an empty
	// result. Where more is ready than asked for, tenants take turns, so that
	// within a call none gets a second update before each that is ready has
	// one. Updates that have expired are not lent but dropped.
	Lease(ctx context.Context, want Want) ([]Lease, error)

	// Extend makes leases expire ttl from now. held[i] is false where
	// leases[i] is no longer held: it has expired and was lent to another, or
	// it was settled, or the tenant forgotten.
	Extend(ctx context.Context, leases []Lease, ttl time.Duration) (held []bool, err error)

	// Settle says what became of leased updates. held[i] is false where the
	// lease is no longer held; that settlement then has no effect. After an
	// error nothing is known to have been settled, and settling the same again
	// is safe.
	Settle(ctx context.Context, settlements []Settlement) (held []bool, err error)

	// Dead returns dead letters by ascending tenant (compared byte by byte)
	// and ID, at most filter.Limit of them, beginning after filter.After. An
	// empty result is the end.
	Dead(ctx context.Context, filter DeadFilter) ([]DeadLetter, error)

	// Replay makes dead letters wait again, in their chat's order, with no
	// attempt counted and no expiry, whether or not there is room. Those that
	// are not there are passed over; n is how many were.
	Replay(ctx context.Context, refs []Ref) (n int, err error)

	// Drop removes dead letters. Those that are not there are passed over; n
	// is how many were.
	Drop(ctx context.Context, refs []Ref) (n int, err error)

	// Depth returns how much there is of a tenant, and of all with "". A
	// tenant of which there is nothing has a zero depth.
	Depth(ctx context.Context, tenant string) (Depth, error)

	// Forget removes all there is of a tenant, dead letters and the memory of
	// duplicates included. Leases of it are no longer held. A tenant of which
	// there is nothing is no error.
	Forget(ctx context.Context, tenant string) error
}

// Waker is what an [Inbox] may be besides: one that can tell when there is
// something new. Of other inboxes workers ask every now and then.
type Waker interface {
	// Wake returns a channel that is closed once a Put, Settle or Replay that
	// comes after has made an update ready. The passing of time closes none.
	Wake() <-chan struct{}
}

// Holder is what an [Inbox] may be besides: one that can keep a tenant's
// updates back, so that those of tenants that can't be had cost its Lease
// nothing. It is for the workers of this process, and lasts no longer than it.
type Holder interface {
	// Hold has nothing of a tenant lent before until, to anybody; all else is as
	// ever. A time that is past ends that, and wakes who waits where something
	// is ready. The latest call counts. It returns at once.
	Hold(tenant string, until time.Time)
}

// Outcome is what became of an update in [Inbox.Put].
type Outcome struct {
	// Err is nil where the update may be confirmed: it was stored, now or
	// before. Otherwise it matches [ErrFull], or it is what [Update.Validate]
	// reports.
	Err error
	// Duplicate is set where the update was known already.
	Duplicate bool
}

// Want says what a worker can take.
type Want struct {
	// Limit bounds how many updates are lent. 0 and less lend none.
	Limit int
	// TTL is when the leases expire, from now. It is greater than 0.
	TTL time.Duration
	// PerTenant bounds how many updates of one tenant the worker takes, those
	// in Held included. 0 and less are no bound.
	PerTenant int
	// Held is how many of each tenant the worker has. Nil is none.
	Held map[string]int
}

// Room returns how many more updates of a tenant the worker takes.
func (w Want) Room(tenant string) int {
	if w.PerTenant <= 0 {
		return w.Limit
	}
	return max(0, min(w.Limit, w.PerTenant-w.Held[tenant]))
}

// Lease is an update that was lent to a worker.
type Lease struct {
	Update
	// Token tells this lease from the others of its update: each has a
	// greater one than that before.
	Token int64
	// Until is when it expires if it is not extended.
	Until time.Time
}

// Verdict says what becomes of a leased update.
type Verdict uint8

const (
	// Done: it was handled, or never will be. It goes; its ID is remembered.
	Done Verdict = iota + 1
	// Retry: it waits for After and is tried again, before any other of its
	// chat.
	Retry
	// Return is a Retry that was no attempt.
	Return
	// Bury makes it a dead letter.
	Bury
)

// String returns the verdict's name, such as "done".
func (v Verdict) String() string {
	switch v {
	case Done:
		return "done"
	case Retry:
		return "retry"
	case Return:
		return "return"
	case Bury:
		return "bury"
	}
	return "unknown"
}

// Settlement is what became of a leased update.
type Settlement struct {
	// Lease is the update, as it was leased, and Verdict what is to become of it.
	Lease   Lease
	Verdict Verdict
	// After is how long to wait before the next try, of Retry and Return.
	After time.Duration
	// Reason says why, in words for the operator, of Retry and Bury. It is
	// kept with the dead letter.
	Reason string
}

// Depth is how much there is in an inbox.
type Depth struct {
	// Waiting counts updates that wait, those that wait for another try
	// included; Leased and Dead count the others.
	Waiting int `json:"waiting"`
	Leased  int `json:"leased"`
	Dead    int `json:"dead"`
	// Oldest is when the oldest update that waits or is leased was received;
	// zero where there is none.
	Oldest time.Time `json:"oldest,omitzero"`
}

// Age returns for how long the oldest update has been there, and 0 where there
// is none.
func (d Depth) Age(now time.Time) time.Duration {
	if d.Oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(d.Oldest))
}
