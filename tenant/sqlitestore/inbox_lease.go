package sqlitestore

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Lease implements [inbox.Inbox].
func (in *Inbox) Lease(ctx context.Context, want inbox.Want) ([]inbox.Lease, error) {
	const what = "lease updates"
	if want.TTL <= 0 && ctx.Err() == nil {
		return nil, sqlstore.Fail(what, "", errors.BadRequest, errors.New("TTL is not positive"))
	}
	if want.Limit <= 0 && ctx.Err() == nil {
		return nil, nil
	}
	want.Held = maps.Clone(want.Held) // the caller may go before it is read
	for {
		var l lending
		err := in.do(ctx, what, &inboxOp{run: func(t *inboxTx) error {
			l = lending{inboxTx: t, want: want, rest: want.Limit, drops: t.in.drops, until: t.now.Add(want.TTL)}
			err := l.lend()
			t.ready = t.ready || l.drops <= 0 // there may be more
			return err
		}})
		if err != nil {
			return nil, err
		}
		if len(l.leases) > 0 || l.drops > 0 {
			return l.leases, nil
		}
		// Others have their turn before it drops more.
	}
}

// dropMost is how many expired updates, and chats without any, a lease drops in
// one transaction, in which nobody puts.
const dropMost = 2000

// lending is a Lease under way.
type lending struct {
	*inboxTx
	want   inbox.Want
	rest   int    // how many more may be lent
	drops  int    // how many more may be dropped
	at     uint64 // when it began, as the inbox counts it
	until  time.Time
	leases []inbox.Lease
}

// turn is a tenant that may have more.
type turn struct {
	tenant string
	room   int
}

// lend takes one update of each tenant that has one, and then shares out what
// more may be taken.
func (l *lending) lend() error {
	if err := l.wake(); err != nil {
		return err
	}
	if err := l.look(); err != nil {
		return err
	}
	turns, err := l.each()
	if err != nil {
		return err
	}
	for l.rest > 0 && l.drops > 0 && len(turns) > 0 {
		share := max(1, l.rest/len(turns))
		kept := turns[:0]
		for _, u := range turns {
			n := min(share, u.room, l.rest)
			if n == 0 {
				break // the rest has none left
			}
			got, err := l.take(u.tenant, n)
			if err != nil {
				return err
			}
			if u.room -= got; got == n && u.room > 0 {
				kept = append(kept, u)
			}
		}
		turns = kept
	}
	return nil
}

// look has the inbox know which tenants have something ready.
func (l *lending) look() error {
	var version int64 // changes when another connection has changed something
	if err := l.row(dataVersion).Scan(&version); err != nil {
		return err
	}
	if version != l.in.version {
		l.in.version = version
		l.in.ready.Changed()
	}
	var look bool
	if l.at, look = l.in.ready.Begin(l.now); !look {
		return nil
	}
	rows, err := l.rows(readyTenants)
	if err != nil {
		return err
	}
	defer rows.Close()
	var tenants []string
	for rows.Next() {
		var t string
		if err := rows.Scan(&t); err != nil {
			return err
		}
		tenants = append(tenants, t)
	}
	l.in.ready.Looked(l.at, tenants, l.now)
	return rows.Err()
}

// each takes an update of each tenant, in turn, and returns those that may have
// more.
func (l *lending) each() (turns []turn, err error) {
	passed := make(map[string]bool)
	for l.rest > 0 && l.drops > 0 {
		asked := l.rest
		tenants := l.in.ready.Turn(asked, func(t string) bool { return !passed[t] && l.want.Room(t) > 0 })
		for _, t := range tenants {
			if l.drops <= 0 {
				return turns, nil
			}
			passed[t] = true
			got, err := l.take(t, 1)
			if err != nil {
				return nil, err
			}
			if got == 0 && l.drops <= 0 {
				continue // it may have more: it keeps its turn
			}
			l.in.ready.Had(t) // and is not passed by again, if it is still there
			if got == 0 {
				continue
			}
			if room := l.want.Room(t); room > 1 {
				turns = append(turns, turn{t, room - 1})
			}
		}
		if len(tenants) < asked {
			break // that was all
		}
	}
	return turns, nil
}

// ready is a chat that is.
type ready struct {
	chat    string
	id      int64
	attempt int
}

// take lends up to n updates of a tenant; fewer are all that it has, unless no
// more may be dropped.
func (l *lending) take(tenant string, n int) (got int, err error) {
	for got < n && l.drops > 0 {
		chats, err := l.chats(tenant, n-got+1) // one more tells whether there is
		if err != nil {
			return got, err
		}
		more := len(chats) > n-got
		if more {
			chats = chats[:n-got]
		}
		for _, c := range chats {
			ok, err := l.first(tenant, c)
			if err != nil {
				return got, err
			}
			if ok {
				got++
				l.rest--
			}
		}
		if !more && l.drops > 0 {
			l.in.ready.None(l.at, tenant)
			return got, nil
		}
	}
	return got, nil
}

func (l *lending) chats(tenant string, n int) (all []ready, err error) {
	rows, err := l.rows(readyChats, tenant, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c ready
		if err := rows.Scan(&c.chat, &c.id, &c.attempt); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// first lends a chat's first update, and drops what has expired on the way, as
// far as it may. A chat that has none goes.
func (l *lending) first(tenant string, c ready) (bool, error) {
	for l.drops > 0 {
		lease := inbox.Lease{Update: inbox.Update{Tenant: tenant, Chat: c.chat}, Until: l.until}
		var received int64
		var expires sql.NullInt64
		var raw []byte
		err := l.row(firstUpdate, tenant, c.chat).Scan(&lease.ID, &lease.Kind, &received, &expires, &lease.Attempt, &raw)
		if err == sql.ErrNoRows {
			l.drops--
			_, err = l.exec(deleteChat, tenant, c.chat)
			return false, err
		}
		if err != nil {
			return false, err
		}
		lease.ReceivedAt, lease.ExpiresAt, lease.Raw = time.UnixMicro(received).UTC(), timeOf(expires), raw
		if lease.Expired(l.now) {
			if _, err := l.exec(deleteUpdate, tenant, c.chat, lease.ID); err != nil {
				return false, err
			}
			l.drops--
			l.in.room.Left(tenant)
			continue
		}
		if c.id == lease.ID {
			lease.Attempt = c.attempt
		} else if c.id != 0 { // one that was tried has been overtaken by one before it
			if _, err := l.exec(saveAttempt, tenant, c.chat, c.id, c.attempt); err != nil {
				return false, err
			}
		}
		lease.Attempt++
		if lease.Token, err = l.next(); err != nil {
			return false, err
		}
		if _, err := l.exec(lendChat, tenant, c.chat, l.until.UnixMicro(), lease.ID, lease.Attempt, lease.Token); err != nil {
			return false, err
		}
		l.leases = append(l.leases, lease)
		return true, nil
	}
	return false, nil
}

// Extend implements [inbox.Inbox].
func (in *Inbox) Extend(ctx context.Context, leases []inbox.Lease, ttl time.Duration) ([]bool, error) {
	if len(leases) == 0 && ctx.Err() == nil {
		return nil, nil
	}
	leases = slices.Clone(leases) // the caller may go before it is read
	held := make([]bool, len(leases))
	err := in.do(ctx, "extend leases", &inboxOp{run: func(t *inboxTx) error {
		until := t.now.Add(ttl).UnixMicro()
		for i := range leases {
			l := &leases[i]
			n, err := t.exec(extendChat, l.Tenant, l.Chat, leaseToken(l), until)
			if err != nil {
				return err
			}
			held[i] = n > 0
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// leaseToken is a lease's, and for one that was made up a number that no lease
// has: 0 is that of chats that are not leased.
func leaseToken(l *inbox.Lease) int64 {
	if l.Token <= 0 {
		return -1
	}
	return l.Token
}

// Settle implements [inbox.Inbox].
func (in *Inbox) Settle(ctx context.Context, settlements []inbox.Settlement) ([]bool, error) {
	if len(settlements) == 0 && ctx.Err() == nil {
		return nil, nil
	}
	settlements = slices.Clone(settlements)
	held := make([]bool, len(settlements))
	err := in.do(ctx, "settle updates", &inboxOp{durable: true, run: func(t *inboxTx) (err error) {
		for i := range settlements {
			if held[i], err = t.settle(&settlements[i]); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	for i := range settlements {
		if s := &settlements[i]; held[i] && s.Verdict != inbox.Retry && s.Verdict != inbox.Return {
			in.room.Left(s.Lease.Tenant)
		}
	}
	return held, nil
}

func (t *inboxTx) settle(s *inbox.Settlement) (bool, error) {
	l := &s.Lease
	if s.Verdict == inbox.Done {
		return t.done(l)
	}
	var id int64
	var attempt int
	err := t.row(leasedChat, l.Tenant, l.Chat, leaseToken(l)).Scan(&id, &attempt)
	if err == sql.ErrNoRows || err == nil && id != l.ID {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch s.Verdict {
	case inbox.Retry, inbox.Return:
		at, err := t.next()
		if err != nil {
			return false, err
		}
		if s.After > 0 {
			at = t.now.Add(s.After).UnixMicro()
		} else {
			t.isReady(l.Tenant)
		}
		if s.Verdict == inbox.Return {
			attempt--
		}
		_, err = t.exec(retryChat, l.Tenant, l.Chat, at, attempt)
		return true, err
	case inbox.Bury:
		if _, err := t.exec(buryUpdate, l.Tenant, l.Chat, id, attempt, s.Reason, t.now.UnixMicro()); err != nil {
			return false, err
		}
		if _, err := t.exec(pruneDead, l.Tenant, t.in.cfg.MaxDeadPerTenant); err != nil {
			return false, err
		}
	}
	return t.done(l)
}

// done takes an update out that its lease is held of.
func (t *inboxTx) done(l *inbox.Lease) (bool, error) {
	n, err := t.exec(doneUpdate, l.Tenant, l.Chat, l.ID, leaseToken(l))
	if err != nil || n == 0 {
		return false, err
	}
	n, err = t.exec(doneChat, l.Tenant, l.Chat)
	if err != nil || n > 0 {
		return true, err
	}
	at, err := t.next()
	if err != nil {
		return false, err
	}
	t.isReady(l.Tenant)
	_, err = t.exec(nextUpdate, l.Tenant, l.Chat, at)
	return true, err
}
