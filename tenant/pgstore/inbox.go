package pgstore

import (
	"context"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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

// Inbox is an [inbox.Inbox] that any number of processes may work on. Take it
// from [DB.Inbox].
//
// What is put or settled is as durable as the server's synchronous_commit says
// when the method returns. Puts of a process that are made at the same time
// share a transaction. The server's clock is the one that counts.
//
// A worker that wants nothing of more than 64 tenants, since they are suspended,
// finds what other processes have put up to a second later where thousands of
// tenants have something that waits, and what its own has put at once.
//
// Workers of the process that puts an update are woken at once, and those of
// the others by NOTIFY, some milliseconds later. For that the first Wake takes
// a connection out of the pool and keeps it until [DB.Close].
type Inbox struct {
	db    *DB
	cfg   sqlinbox.Config
	queue *sqlinbox.Queue[*sqlinbox.Plan]
	room  *sqlinbox.Room
	bell  *bell
	sql   inboxSQL

	tidied time.Time // of the queue's goroutine alone
	turns  turns
	ready  *sqlinbox.Ready
}

var (
	_ inbox.Inbox = (*Inbox)(nil)
	_ inbox.Waker = (*Inbox)(nil)
)

const (
	// putBatch is how many Puts share a transaction at most.
	putBatch = 256
	// putTime bounds a transaction. Who waits for it may go before.
	putTime = 30 * time.Second
)

func newInbox(db *DB) *Inbox {
	cfg, _ := sqlinbox.Config(db.cfg.Inbox).WithDefaults() // New has looked at it
	in := &Inbox{db: db, cfg: cfg, room: sqlinbox.NewRoom(cfg), sql: newInboxSQL(db), ready: &sqlinbox.Ready{}}
	in.bell = newBell(db, in.ready.Changed)
	in.queue = sqlinbox.NewQueue(putBatch, in.putAll, func(err error) bool {
		return errors.Is(failure(context.Background(), "", "", err), errors.Internal)
	})
	return in
}

func (in *Inbox) close() {
	in.queue.Wait()
	in.bell.close()
}

// Wake implements [inbox.Waker].
func (in *Inbox) Wake() <-chan struct{} { return in.bell.wake() }

// Put implements [inbox.Inbox].
func (in *Inbox) Put(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
	p := sqlinbox.NewPlan(slices.Clone(batch)) // the caller may go before it is read
	if len(p.Tenants) == 0 && ctx.Err() == nil {
		return p.Outcomes, nil
	}
	err := in.queue.Do(ctx, p)
	if sqlinbox.UnderWay(err) {
		err = &unsureError{err}
	}
	if err != nil {
		return nil, failure(ctx, "put updates", "", err)
	}
	return p.Outcomes, nil
}

// putAll stores the updates of several Puts in one transaction.
func (in *Inbox) putAll(plans []*sqlinbox.Plan) error {
	ctx, cancel := context.WithTimeout(context.Background(), putTime)
	defer cancel()
	whole := plans[0]
	if len(plans) > 1 {
		var updates []inbox.Update
		for _, p := range plans {
			updates = append(updates, p.Updates...)
		}
		whole = sqlinbox.NewPlan(updates)
	}
	if err := in.put(ctx, whole, false); err != nil {
		return err
	}
	if len(plans) > 1 {
		at := 0
		for _, p := range plans {
			at += copy(p.Outcomes, whole.Outcomes[at:])
		}
	}
	if len(whole.Stored) > 0 {
		in.ready.Add(whole.Tenants...)
		in.bell.ring()
	}
	return in.tidy(ctx)
}

// put stores the updates of a plan. When there is no room for some it looks for
// what has expired, once.
func (in *Inbox) put(ctx context.Context, p *sqlinbox.Plan, final bool) error {
	var expirable bool
	err := in.db.change(ctx, func(conn *pgxpool.Conn) (err error) {
		expirable, err = in.tryPut(ctx, conn, p, final)
		if err != nil {
			p.Undo(in.room)
		}
		return err
	})
	if err != nil || !expirable {
		return err
	}
	if _, err := in.db.pool.Exec(ctx, in.sql.expire); err != nil {
		return err
	}
	return in.put(ctx, p, true)
}

// tryPut is the transaction of a put. expirable says that it was rolled back,
// since there may be room when what has expired is dropped.
func (in *Inbox) tryPut(ctx context.Context, conn *pgxpool.Conn, p *sqlinbox.Plan, final bool) (expirable bool, err error) {
	p.Reset()
	hour, canExpire, err := in.load(ctx, conn, p)
	if err != nil {
		return false, err
	}
	p.Decide(in.room)
	if p.Full && canExpire && !final {
		p.Undo(in.room)
		_, err := conn.Exec(ctx, "ROLLBACK")
		if err == nil {
			err = errRollback
		}
		return true, err
	}
	b := &pgx.Batch{}
	if len(p.Stored) > 0 {
		in.queueUpdates(b, p)
		in.queueChats(b, p)
		tenants, blocks, bits := make([]string, len(p.Marked)), make([]int64, len(p.Marked)), make([][]byte, len(p.Marked))
		for i, m := range p.Marked {
			tenants[i], blocks[i], bits[i] = m.Tenant, m.N, p.Bits(m)
		}
		b.Queue(in.sql.mark, hour, tenants, blocks, bits)
	}
	b.Queue("COMMIT")
	return false, conn.SendBatch(ctx, b).Close()
}

// load begins the transaction and reads what the plan has to know.
func (in *Inbox) load(ctx context.Context, conn *pgxpool.Conn, p *sqlinbox.Plan) (hour int64, canExpire bool, err error) {
	begin := time.Now()
	tenants, blocks := make([]string, len(p.Blocks)), make([]int64, len(p.Blocks))
	for i, b := range p.Blocks {
		tenants[i], blocks[i] = b.Tenant, b.N
	}
	count, all := in.room.Unknown(p, begin)

	b := &pgx.Batch{}
	in.db.begin(b)
	in.lock(b, p.Tenants)
	b.Queue(in.sql.now, all).QueryRow(func(row pgx.Row) error {
		var total *int
		if err := row.Scan(&hour, &canExpire, &total); err != nil {
			return err
		}
		if total != nil {
			in.room.Counted("", *total, begin)
		}
		return nil
	})
	if len(count) > 0 {
		b.Queue(in.sql.count, count, in.cfg.MaxPerTenant).Query(func(rows pgx.Rows) error {
			var tenant string
			var n int
			_, err := pgx.ForEachRow(rows, []any{&tenant, &n}, func() error {
				in.room.Counted(tenant, n, begin)
				return nil
			})
			return err
		})
	}
	b.Queue(in.sql.seen, tenants, blocks, int64(in.cfg.Remember/time.Second)).Query(func(rows pgx.Rows) error {
		var k sqlinbox.Block
		var at int64
		var bits []byte
		_, err := pgx.ForEachRow(rows, []any{&k.Tenant, &k.N, &at, &bits}, func() error {
			p.Load(k, at == hour, bits)
			return nil
		})
		return err
	})
	return hour, canExpire, conn.SendBatch(ctx, b).Close()
}

// lock takes the locks of tenants, in their order.
func (in *Inbox) lock(b *pgx.Batch, tenants []string) {
	locks := make([]int64, 0, len(tenants))
	for _, t := range tenants {
		locks = append(locks, in.lockOf(t))
	}
	slices.Sort(locks)
	b.Queue(lockTenants, slices.Compact(locks))
}

// lockOf names the advisory lock of a tenant, which who puts its updates holds:
// that an id is new must stay so until it is stored. Tenants share locks, so
// that a Put of many does not need more than the server has.
func (in *Inbox) lockOf(tenant string) int64 {
	const locks = 1024
	place, name := fnv.New64a(), fnv.New32a()
	_, _ = place.Write([]byte("tgfleet inbox of " + in.db.cfg.Schema))
	_, _ = name.Write([]byte(tenant))
	return int64(place.Sum64())&^(locks-1) | int64(name.Sum32()%locks)
}

func (in *Inbox) queueUpdates(b *pgx.Batch, p *sqlinbox.Plan) {
	n := len(p.Stored)
	tenants, chats, kinds := make([]string, n), make([]string, n), make([]string, n)
	ids, raws := make([]int64, n), make([][]byte, n)
	received, expires := make([]time.Time, n), make([]*time.Time, n)
	for i, at := range p.Stored {
		u := &p.Updates[at]
		tenants[i], chats[i], ids[i], kinds[i], raws[i] = u.Tenant, u.Chat, u.ID, u.Kind, u.Raw
		received[i], expires[i] = u.ReceivedAt, nullable(u.ExpiresAt)
	}
	b.Queue(in.sql.insert, tenants, chats, ids, kinds, received, expires, raws)
}

// chatName is a chat's key.
type chatName struct{ tenant, chat string }

func compareChats(a, b chatName) int {
	if c := strings.Compare(a.tenant, b.tenant); c != 0 {
		return c
	}
	return strings.Compare(a.chat, b.chat)
}

func (in *Inbox) queueChats(b *pgx.Batch, p *sqlinbox.Plan) {
	names := make([]chatName, len(p.Stored))
	for i, at := range p.Stored {
		names[i] = chatName{p.Updates[at].Tenant, p.Updates[at].Chat}
	}
	slices.SortFunc(names, compareChats)
	names = slices.Compact(names)
	tenants, chats := make([]string, len(names)), make([]string, len(names))
	for i, n := range names {
		tenants[i], chats[i] = n.tenant, n.chat
	}
	b.Queue(in.sql.makeReady, tenants, chats)
}

// tidy forgets some ids, every now and then.
func (in *Inbox) tidy(ctx context.Context) error {
	const every = time.Minute
	if now := time.Now(); now.Sub(in.tidied) >= every {
		tag, err := in.db.pool.Exec(ctx, in.sql.forgetSeen, int64(in.cfg.Remember/time.Second))
		if err == nil && tag.RowsAffected() < tidyMost {
			in.tidied = now
		}
	}
	return nil // what was put is put
}
