package pgstore

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// turns remembers whose turn it was last, in this process: others take their
// own.
type turns struct {
	mu   sync.Mutex
	last string
}

func (t *turns) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *turns) set(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = tenant
}

// Lease implements [inbox.Inbox].
func (in *Inbox) Lease(ctx context.Context, want inbox.Want) ([]inbox.Lease, error) {
	const what = "lease updates"
	if want.TTL <= 0 && ctx.Err() == nil {
		return nil, sqlstore.Fail(what, "", errors.BadRequest, errors.New("TTL is not positive"))
	}
	if want.Limit <= 0 && ctx.Err() == nil {
		return nil, nil
	}
	want.Limit, want.PerTenant = min(want.Limit, 1<<20), min(want.PerTenant, 1<<20)
	lease := in.leaseAny
	if want.PerTenant > 0 && heldMany(want) {
		lease = in.leaseOf
	}
	var leases []inbox.Lease
	late := false
	err := in.db.change(ctx, func(conn *pgxpool.Conn) (err error) {
		begin := time.Now()
		leases, err = lease(ctx, conn, want)
		late = isLate(begin)
		return err
	})
	if err != nil {
		return nil, failure(ctx, what, "", err)
	}
	if late {
		in.bell.waker.Broadcast() // there may be more
	}
	return leases, nil
}

// isLate reports that a lease that began at a moment may have ended before it
// had all that there is: it drops what has expired for a second at most, so that
// it is not undone by the end of a context.
func isLate(begin time.Time) bool { return time.Since(begin) > time.Second }

// How many tenants of which nothing is wanted a lease may pass by, and of how
// many it may tell the server what there is of them.
const (
	passMost = 64
	passMore = 4096 // where those that it was told of had nothing
	tellMost = 512
)

// heldMany reports that a worker has so much of so many tenants that the server
// is better asked for the others by name.
func heldMany(want inbox.Want) bool {
	if len(want.Held) <= passMost {
		return false
	}
	pass := 0
	for _, n := range want.Held {
		if n >= want.PerTenant {
			pass++
		}
	}
	return pass > passMost || len(want.Held) > tellMost
}

// leaseAny leases of whoever has something ready, on one way to the server and
// back.
func (in *Inbox) leaseAny(ctx context.Context, conn *pgxpool.Conn, want inbox.Want) (leases []inbox.Lease, err error) {
	var tenants []string
	var counts []int32
	if want.PerTenant > 0 {
		for t, n := range want.Held {
			if sqlstore.Storable(t) {
				tenants, counts = append(tenants, t), append(counts, int32(min(n, 1<<30)))
			}
		}
	}
	b := &pgx.Batch{}
	in.db.begin(b)
	b.Queue(in.sql.lease, in.turns.get(), want.Limit, want.TTL.Microseconds(),
		want.PerTenant, tenants, counts).Query(collectLeases(&leases))
	b.Queue("COMMIT")
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	if len(leases) > 0 {
		in.turns.set(leases[len(leases)-1].Tenant)
	}
	in.ready.Changed() // it may have left what was due
	return leases, nil
}

// leaseOf leases of the tenants that may have something ready, as far as is
// known here, and something is wanted of: however many there are of which nothing
// is, the server neither hears of them nor passes by their updates.
func (in *Inbox) leaseOf(ctx context.Context, conn *pgxpool.Conn, want inbox.Want) (leases []inbox.Lease, err error) {
	if in.bell.deaf.Load() {
		in.ready.Changed() // for all that is known
	}
	now := time.Now()
	at, look := in.ready.Begin(now)
	found := false
	defer func() {
		if look && !found {
			in.ready.Forget()
		}
	}()
	var moment int64
	var due, ready []string
	b := &pgx.Batch{}
	in.db.begin(b)
	b.Queue(in.sql.look, look).QueryRow(func(row pgx.Row) error { return row.Scan(&moment, &due, &ready) })
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	if found = true; look {
		in.ready.Looked(at, ready, now)
	}
	in.ready.Add(due...)

	got := make(map[string]int)       // of those who were asked
	pass := min(want.Limit, passMost) // some may have nothing after all
	for more := true; more && len(leases) < want.Limit; pass = min(4*pass, passMore) {
		rest := want.Limit - len(leases)
		n := rest + pass
		names := in.ready.Turn(n, func(t string) bool {
			_, asked := got[t]
			return !asked && want.Room(t) > 0
		})
		more = len(names) == n
		first := len(names)
		rooms := make([]int32, first)
		for i, t := range names {
			if rooms[i] = 1; !more { // nobody has a second one before all have one
				rooms[i] = int32(want.Room(t))
			}
		}
		if !more {
			for t, n := range got {
				if room := want.Room(t) - n; n > 0 && room > 0 {
					names, rooms = append(names, t), append(rooms, int32(room))
				}
			}
		}
		for _, t := range names[:first] {
			got[t] = 0
		}
		if len(names) == 0 {
			break
		}
		var lent []inbox.Lease
		b := &pgx.Batch{}
		b.Queue(in.sql.leaseOf, names, rooms, first, rest, moment, want.TTL.Microseconds()).Query(collectLeases(&lent))
		if !more {
			b.Queue("COMMIT")
		}
		if err := conn.SendBatch(ctx, b).Close(); err != nil {
			return nil, err
		}
		for i := range lent {
			got[lent[i].Tenant]++
		}
		leases = append(leases, lent...)
		if isLate(now) {
			break
		}
	}
	if conn.Conn().PgConn().TxStatus() != 'I' {
		if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
			return nil, err
		}
	}
	late := isLate(now)
	if late {
		in.ready.Changed() // it may have left what it did not come to
	}
	for t, n := range got {
		if n < want.Room(t) && len(leases) < want.Limit && !late { // it has lent all that there is
			in.ready.None(at, t)
		} else if n > 0 {
			in.ready.Had(t)
		}
	}
	return leases, nil
}

func collectLeases(leases *[]inbox.Lease) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*leases, err = pgx.CollectRows(rows, scanLease)
		return err
	}
}

func scanLease(row pgx.CollectableRow) (l inbox.Lease, err error) {
	var expires *time.Time
	var raw []byte
	var until int64
	err = row.Scan(&l.Tenant, &l.Chat, &l.ID, &l.Kind, &l.ReceivedAt, &expires, &l.Attempt, &raw, &l.Token, &until)
	l.Raw, l.ReceivedAt, l.ExpiresAt, l.Until = raw, l.ReceivedAt.UTC(), timeOf(expires), time.UnixMicro(until).UTC()
	return l, err
}

// leaseKeys are leases as columns.
type leaseKeys struct {
	tenants, chats []string
	ids, tokens    []int64
}

func (k *leaseKeys) add(l *inbox.Lease) bool {
	if !sqlstore.Storable(l.Tenant) || !sqlstore.Storable(l.Chat) || l.Token <= 0 {
		return false // nobody was lent it
	}
	k.tenants, k.chats = append(k.tenants, l.Tenant), append(k.chats, l.Chat)
	k.ids, k.tokens = append(k.ids, l.ID), append(k.tokens, l.Token)
	return true
}

func (k *leaseKeys) args(more ...any) []any {
	return append([]any{k.tenants, k.chats, k.ids, k.tokens}, more...)
}

// Extend implements [inbox.Inbox].
func (in *Inbox) Extend(ctx context.Context, leases []inbox.Lease, ttl time.Duration) ([]bool, error) {
	if len(leases) == 0 && ctx.Err() == nil {
		return nil, nil
	}
	var k leaseKeys
	for i := range leases {
		k.add(&leases[i])
	}
	var tokens map[int64]bool
	err := in.db.change(ctx, func(conn *pgxpool.Conn) error { // and again after a deadlock
		b := &pgx.Batch{}
		in.db.begin(b)
		b.Queue(in.sql.lockLeased, k.args()...)
		b.Queue(in.sql.extend, k.args(ttl.Microseconds())...).Query(func(rows pgx.Rows) (err error) {
			tokens, err = collectTokens(rows)
			return err
		})
		b.Queue("COMMIT")
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, failure(ctx, "extend leases", "", err)
	}
	held := make([]bool, len(leases))
	for i := range leases {
		held[i] = tokens[leases[i].Token]
	}
	return held, nil
}

func collectTokens(rows pgx.Rows) (map[int64]bool, error) {
	tokens := make(map[int64]bool)
	var token int64
	_, err := pgx.ForEachRow(rows, []any{&token}, func() error {
		tokens[token] = true
		return nil
	})
	return tokens, err
}

// Settle implements [inbox.Inbox], on one way to the server and back.
func (in *Inbox) Settle(ctx context.Context, settlements []inbox.Settlement) ([]bool, error) {
	if len(settlements) == 0 && ctx.Err() == nil {
		return nil, nil
	}
	s := sortSettlements(settlements)
	var tokens map[int64]bool
	err := in.db.change(ctx, func(conn *pgxpool.Conn) error {
		b := &pgx.Batch{}
		in.db.begin(b)
		b.Queue(in.sql.lockLeased, s.all.args()...).Query(func(rows pgx.Rows) (err error) {
			tokens, err = collectTokens(rows)
			return err
		})
		if len(s.buried.ids) > 0 {
			b.Queue(in.sql.bury, s.buried.args(s.reasons)...)
			b.Queue(in.sql.pruneDead, s.buried.tenants, in.cfg.MaxDeadPerTenant)
		}
		if len(s.gone.ids) > 0 {
			b.Queue(in.sql.end, s.gone.args()...)
		}
		if len(s.again.ids) > 0 {
			b.Queue(in.sql.retry, s.again.args(s.after, s.back)...)
		}
		b.Queue("COMMIT")
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, failure(ctx, "settle updates", "", err)
	}
	held := make([]bool, len(settlements))
	for i := range settlements {
		token := settlements[i].Lease.Token
		if held[i] = tokens[token]; held[i] {
			delete(tokens, token) // the first of a lease counts
			if v := settlements[i].Verdict; v != inbox.Retry && v != inbox.Return {
				in.room.Left(settlements[i].Lease.Tenant)
			}
		}
	}
	in.ready.Add(s.all.tenants...)
	in.bell.ring() // there may be more in these chats
	return held, nil
}

// sorted is settlements by what is to be done.
type sorted struct {
	all, buried, gone, again leaseKeys
	reasons                  []string
	after                    []int64 // microseconds
	back                     []int32 // attempts that do not count
}

func sortSettlements(settlements []inbox.Settlement) (s sorted) {
	known := make(map[int64]bool, len(settlements))
	for i := range settlements {
		v := &settlements[i]
		if known[v.Lease.Token] || !s.all.add(&v.Lease) {
			continue
		}
		known[v.Lease.Token] = true
		switch v.Verdict {
		case inbox.Retry, inbox.Return:
			s.again.add(&v.Lease)
			back := int32(0)
			if v.Verdict == inbox.Return {
				back = 1
			}
			s.after, s.back = append(s.after, max(0, v.After.Microseconds())), append(s.back, back)
			continue
		case inbox.Bury:
			s.buried.add(&v.Lease)
			s.reasons = append(s.reasons, strings.ReplaceAll(strings.ToValidUTF8(v.Reason, "?"), "\x00", "?"))
		}
		s.gone.add(&v.Lease)
	}
	return s
}
