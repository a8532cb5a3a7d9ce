package sqlitestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlinbox"
)

// InboxConfig configures an [Inbox]. Its zero value is a good one. Negative
// values are errors.
type InboxConfig struct {
	// MaxUpdates and MaxPerTenant bound how many updates wait or are leased,
	// of all tenants and of one. 0 means 1,000,000 and 20,000. What others
	// put is counted now and then, so that several processes may exceed
	// MaxUpdates by as much as they put in a minute, and MaxPerTenant by as much
	// as in 5 s.
	MaxUpdates, MaxPerTenant int
	// MaxDeadPerTenant bounds a tenant's dead letters. Past it the oldest
	// makes room. 0 means 1000.
	MaxDeadPerTenant int
	// RetryAfter is what those are told who are refused. 0 means 5 s.
	RetryAfter time.Duration
	// Remember is for how long at least the id of an update is remembered, to
	// drop duplicates, and at most an hour longer. 0 means 24 h, which is how
	// long Telegram keeps an update.
	Remember time.Duration
}

// Inbox is an [inbox.Inbox]. Take it from [DB.Inbox].
//
// What is put or settled is on disk when the method returns. Calls that are
// made at the same time share a transaction and its fsync, so the more there
// are the less each costs. Leases are not worth an fsync: after a power cut
// there is nobody left who has one.
//
// Several processes of one machine may work on one inbox, but only those of
// the process that puts an update are woken at once; the others find it when
// they look the next time, or a second later where thousands of tenants have
// something that waits.
type Inbox struct {
	db    *DB
	cfg   sqlinbox.Config
	queue *sqlinbox.Queue[*inboxOp]
	room  *sqlinbox.Room
	waker sqlinbox.Waker
	stmts inboxStmts
	wakes int // wakeMost, but for tests
	drops int // dropMost, likewise

	// Of the queue's goroutine alone.
	ready   sqlinbox.Ready
	version int64 // of the database, as others change it
	tidied  time.Time
}

var (
	_ inbox.Inbox = (*Inbox)(nil)
	_ inbox.Waker = (*Inbox)(nil)
)

// inboxBatch is how many calls share a transaction at most.
const inboxBatch = 256

func newInbox(ctx context.Context, db *DB) (*Inbox, error) {
	cfg, _ := sqlinbox.Config(db.cfg.Inbox).WithDefaults() // Open has looked at it
	in := &Inbox{db: db, cfg: cfg, room: sqlinbox.NewRoom(cfg), wakes: wakeMost, drops: dropMost}
	in.queue = sqlinbox.NewQueue(inboxBatch, in.transact, func(err error) bool {
		return errors.Is(failure(context.Background(), "", "", err), errors.Internal)
	})
	return in, in.stmts.prepare(ctx, db)
}

// inboxOp is a call's part of a transaction. It may be run more than once, and
// leaves its results for the caller, who reads them when it has been committed.
type inboxOp struct {
	durable bool // to be on disk before the caller goes on
	run     func(t *inboxTx) error
	undone  func() // it was not committed
}

// do has an op done in the next transaction.
func (in *Inbox) do(ctx context.Context, what string, op *inboxOp) error {
	return failure(ctx, what, "", in.queue.Do(ctx, op))
}

// transact does ops in one transaction.
func (in *Inbox) transact(ops []*inboxOp) (err error) {
	// Nobody's context in particular: SQLite bounds how long it waits itself.
	ctx := context.Background()
	if err := in.db.begin(); err != nil {
		return err
	}
	defer in.db.changes.Done()
	defer func() {
		for _, op := range ops {
			if err != nil && op.undone != nil {
				op.undone()
			}
		}
		if err != nil {
			in.ready.Forget() // it may have been told of what was not to be
		}
		in.db.makeRoom(ctx, err)
	}()
	conn, err := in.db.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	durable := false
	for _, op := range ops {
		durable = durable || op.durable
	}
	if !durable && in.db.read != in.db.write { // in memory there is no fsync
		if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); err != nil {
			return err
		}
		defer func() {
			if _, again := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); again != nil {
				_ = conn.Raw(func(any) error { return errBadConn }) // nobody may use it as it is
			}
		}()
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	t := &inboxTx{in: in, tx: tx, now: time.Now()}
	for _, op := range ops {
		if err := op.run(t); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	if err := in.db.commit(ctx, tx); err != nil {
		return err
	}
	if t.ready {
		in.waker.Broadcast()
	}
	return nil
}

// Put implements [inbox.Inbox].
func (in *Inbox) Put(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
	p := sqlinbox.NewPlan(append([]inbox.Update(nil), batch...)) // the caller may go before it is read
	if len(p.Tenants) == 0 && ctx.Err() == nil {
		return p.Outcomes, nil
	}
	err := in.do(ctx, "put updates", &inboxOp{
		durable: true,
		run:     func(t *inboxTx) error { return t.put(p) },
		undone:  func() { p.Undo(in.room) },
	})
	if err != nil {
		return nil, err
	}
	return p.Outcomes, nil
}

// Wake implements [inbox.Waker].
func (in *Inbox) Wake() <-chan struct{} { return in.waker.Wake() }

func (t *inboxTx) put(p *sqlinbox.Plan) error {
	if err := t.plan(p); err != nil {
		return err
	}
	if p.Full {
		n, err := t.expire()
		if err != nil {
			return err
		}
		if n > 0 { // there may be room now
			p.Undo(t.in.room)
			if err := t.plan(p); err != nil {
				return err
			}
		}
	}
	for _, i := range p.Stored {
		u := &p.Updates[i]
		added, err := t.exec(insertUpdate, u.Tenant, u.Chat, u.ID, u.Kind, u.ReceivedAt.UnixMicro(), micros(u.ExpiresAt), 0, []byte(u.Raw))
		if err != nil {
			return err
		}
		if added == 0 { // it has waited for longer than ids are remembered
			p.Outcomes[i].Duplicate = true
			t.in.room.Left(u.Tenant)
			continue
		}
		if err := t.makeReady(u.Tenant, u.Chat); err != nil {
			return err
		}
	}
	hour := sqlinbox.Hour(t.now)
	for _, b := range p.Marked {
		if _, err := t.exec(mark, b.Tenant, b.N, hour, p.Bits(b)); err != nil {
			return err
		}
	}
	return t.tidy()
}

// plan decides what becomes of a batch.
func (t *inboxTx) plan(p *sqlinbox.Plan) error {
	p.Reset()
	tenants, all := t.in.room.Unknown(p, t.now)
	for _, tenant := range tenants {
		var n int
		if err := t.row(countTenant, tenant).Scan(&n); err != nil {
			return err
		}
		t.in.room.Counted(tenant, n, t.now)
	}
	if all {
		var n int
		if err := t.row(countAll).Scan(&n); err != nil {
			return err
		}
		t.in.room.Counted("", n, t.now)
	}
	hour, since := sqlinbox.Hour(t.now), t.remembered()
	for _, b := range p.Blocks {
		if err := t.load(p, b, hour, since); err != nil {
			return err
		}
	}
	p.Decide(t.in.room)
	return nil
}

func (t *inboxTx) load(p *sqlinbox.Plan, b sqlinbox.Block, hour, since int64) error {
	rows, err := t.rows(seen, b.Tenant, b.N, since)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		var bits sql.RawBytes
		if err := rows.Scan(&at, &bits); err != nil {
			return err
		}
		p.Load(b, at == hour, bits)
	}
	return rows.Err()
}

// remembered is the first hour of which ids are remembered.
func (t *inboxTx) remembered() int64 { return sqlinbox.Hour(t.now.Add(-t.in.cfg.Remember)) }

// expire drops what has expired of what waits.
func (t *inboxTx) expire() (int64, error) { return t.exec(expire, t.now.UnixMicro()) }

// tidy forgets some ids, every now and then.
func (t *inboxTx) tidy() error {
	const every = time.Minute
	if t.now.Sub(t.in.tidied) < every {
		return nil
	}
	n, err := t.exec(forgetSeen, t.remembered())
	if err == nil && n < tidyMost {
		t.in.tidied = t.now
	}
	return err
}
