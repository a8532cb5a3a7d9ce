package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"
)

// The statements of the inbox.
const (
	insertUpdate = iota
	addChat
	countTenant
	countAll
	seen
	mark
	forgetSeen
	expire
	wakeChats
	dataVersion
	readyTenants
	readyChats
	firstUpdate
	saveAttempt
	deleteUpdate
	deleteChat
	lendChat
	extendChat
	leasedChat
	doneUpdate
	doneChat
	nextUpdate
	retryChat
	buryUpdate
	pruneDead
	readDead
	dropDead
	forgetUpdates
	forgetChats
	forgetDead
	forgetIDs
	counterNow
	setCounter
	inboxStmtCount
)

// stillThere is not so of an update that has expired after its lease has.
const stillThere = ` AND EXISTS (SELECT 1 FROM inbox_updates AS u WHERE u.tenant = ?1 AND u.chat = ?2 AND u.id = inbox_chats.id)`

// What at of inbox_chats is, in the words of the indexes.
const (
	isPlace = "at < 1000000000000"
	isTime  = "at >= 1000000000000"
)

// wakeMost is how many chats whose time has come get a place in the queue before
// a lease. What more there are get theirs before the next.
const wakeMost = 10_000

// tidyMost is how many rows of forgotten ids a transaction deletes.
const tidyMost = 1000

var inboxTexts = [inboxStmtCount]string{
	insertUpdate: `INSERT INTO inbox_updates (tenant, chat, id, kind, received_at, expires_at, attempt, raw)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
		WHERE NOT EXISTS (SELECT 1 FROM inbox_updates WHERE tenant = ?1 AND chat = ?2 AND id = ?3)`,
	addChat:     "INSERT INTO inbox_chats (tenant, chat, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
	countTenant: "SELECT count(*) FROM inbox_updates WHERE tenant = ?",
	countAll:    "SELECT count(*) FROM inbox_updates",
	seen:        "SELECT hour, bits FROM inbox_seen WHERE tenant = ? AND block = ? AND hour >= ?",
	mark: `INSERT INTO inbox_seen (tenant, block, hour, bits) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET bits = excluded.bits`,
	forgetSeen: fmt.Sprintf(`DELETE FROM inbox_seen WHERE (tenant, block, hour) IN
		(SELECT tenant, block, hour FROM inbox_seen WHERE hour < ? LIMIT %d)`, tidyMost),
	expire: `DELETE FROM inbox_updates AS u WHERE expires_at <= ?1 AND NOT EXISTS
		(SELECT 1 FROM inbox_chats AS c WHERE c.tenant = u.tenant AND c.chat = u.chat AND c.id = u.id AND c.token <> 0 AND c.at > ?1)`,

	wakeChats: fmt.Sprintf(`UPDATE inbox_chats SET at = due.place
		FROM (SELECT tenant, chat, ?2 + row_number() OVER (ORDER BY at) AS place FROM inbox_chats
			WHERE at <= ?1 AND %s ORDER BY at LIMIT ?3 + 0) AS due
		WHERE inbox_chats.tenant = due.tenant AND inbox_chats.chat = due.chat RETURNING inbox_chats.tenant`, isTime),
	dataVersion: "PRAGMA data_version",
	// From tenant to tenant, however many chats each has.
	readyTenants: `WITH RECURSIVE walk (tenant) AS (
			SELECT (SELECT tenant FROM inbox_chats WHERE tenant >= '' AND ` + isPlace + ` ORDER BY tenant LIMIT 1)
			UNION ALL SELECT (SELECT c.tenant FROM inbox_chats AS c WHERE c.tenant > walk.tenant AND c.` + isPlace + ` ORDER BY c.tenant LIMIT 1)
			FROM walk WHERE walk.tenant IS NOT NULL)
		SELECT tenant FROM walk WHERE tenant IS NOT NULL`,
	// "+ 0" keeps SQLite from compiling the statement anew for each limit.
	readyChats:   "SELECT chat, id, attempt FROM inbox_chats WHERE tenant = ? AND " + isPlace + " ORDER BY at LIMIT ? + 0",
	firstUpdate:  "SELECT id, kind, received_at, expires_at, attempt, raw FROM inbox_updates WHERE tenant = ? AND chat = ? ORDER BY id LIMIT 1",
	saveAttempt:  "UPDATE inbox_updates SET attempt = ?4 WHERE tenant = ?1 AND chat = ?2 AND id = ?3",
	deleteUpdate: "DELETE FROM inbox_updates WHERE tenant = ? AND chat = ? AND id = ?",
	deleteChat:   "DELETE FROM inbox_chats WHERE tenant = ? AND chat = ?",
	lendChat:     "UPDATE inbox_chats SET at = ?3, id = ?4, attempt = ?5, token = ?6 WHERE tenant = ?1 AND chat = ?2",
	extendChat:   "UPDATE inbox_chats SET at = ?4 WHERE tenant = ?1 AND chat = ?2 AND token = ?3" + stillThere,

	leasedChat: "SELECT id, attempt FROM inbox_chats WHERE tenant = ?1 AND chat = ?2 AND token = ?3" + stillThere,
	doneUpdate: `DELETE FROM inbox_updates WHERE tenant = ?1 AND chat = ?2 AND id = ?3
		AND EXISTS (SELECT 1 FROM inbox_chats WHERE tenant = ?1 AND chat = ?2 AND id = ?3 AND token = ?4)`,
	doneChat: `DELETE FROM inbox_chats WHERE tenant = ?1 AND chat = ?2
		AND NOT EXISTS (SELECT 1 FROM inbox_updates WHERE tenant = ?1 AND chat = ?2)`,
	nextUpdate: "UPDATE inbox_chats SET at = ?3, id = 0, attempt = 0, token = 0 WHERE tenant = ?1 AND chat = ?2",
	retryChat:  "UPDATE inbox_chats SET at = ?3, attempt = ?4, token = 0 WHERE tenant = ?1 AND chat = ?2",

	buryUpdate: `INSERT OR REPLACE INTO inbox_dead (tenant, id, chat, kind, received_at, expires_at, attempt, raw, reason, died_at)
		SELECT tenant, id, chat, kind, received_at, expires_at, ?4, raw, ?5, ?6 FROM inbox_updates
		WHERE tenant = ?1 AND chat = ?2 AND id = ?3`,
	pruneDead: `DELETE FROM inbox_dead WHERE tenant = ?1 AND id IN
		(SELECT id FROM inbox_dead WHERE tenant = ?1 ORDER BY died_at DESC LIMIT -1 OFFSET ?2)`,
	readDead: "SELECT chat, kind, received_at, raw FROM inbox_dead WHERE tenant = ? AND id = ?",
	dropDead: "DELETE FROM inbox_dead WHERE tenant = ? AND id = ?",

	forgetUpdates: "DELETE FROM inbox_updates WHERE tenant = ?",
	forgetChats:   "DELETE FROM inbox_chats WHERE tenant = ?",
	forgetDead:    "DELETE FROM inbox_dead WHERE tenant = ?",
	forgetIDs:     "DELETE FROM inbox_seen WHERE tenant = ?",

	counterNow: "SELECT n FROM inbox_counter",
	setCounter: "UPDATE inbox_counter SET n = ?",
}

// deadOf lists those of the rows that are where it says.
func deadOf(where string) string {
	return `SELECT tenant, id, chat, kind, received_at, expires_at, attempt, raw, reason, died_at FROM inbox_dead
		WHERE (tenant, id) > (?1, ?2) AND ` + where + " ORDER BY tenant, id LIMIT ?4"
}

// depthOf measures those of the rows that are where it says.
func depthOf(where string) string {
	return fmt.Sprintf(`SELECT count(*), min(received_at),
		(SELECT count(*) FROM inbox_chats WHERE %[1]s AND token <> 0 AND at > ?2 AND %[2]s),
		(SELECT count(*) FROM inbox_dead WHERE %[1]s) FROM inbox_updates WHERE %[1]s`, where, isTime)
}

// inboxStmts are those of transactions, and those that only read.
type inboxStmts struct {
	tx                      [inboxStmtCount]*sql.Stmt
	dead, deadOfTenant      *sql.Stmt
	depthTenant, depthOfAll *sql.Stmt
}

func (s *inboxStmts) prepare(ctx context.Context, db *DB) (err error) {
	for i, text := range inboxTexts {
		if s.tx[i], err = db.write.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.dead, deadOf("?3 = ''")},
		{&s.deadOfTenant, deadOf("tenant = ?3")},
		{&s.depthTenant, depthOf("tenant = ?1")},
		{&s.depthOfAll, depthOf("?1 = ''")},
	} {
		if *p.stmt, err = db.read.PrepareContext(ctx, p.text); err != nil {
			return err
		}
	}
	return nil
}

// inboxTx is a transaction of the queue.
type inboxTx struct {
	in  *Inbox
	tx  *sql.Tx
	now time.Time

	stmts          [inboxStmtCount]*sql.Stmt
	counter, saved int64
	counting       bool
	ready          bool // something is
}

func (t *inboxTx) stmt(n int) *sql.Stmt {
	if t.stmts[n] == nil {
		t.stmts[n] = t.tx.StmtContext(context.Background(), t.in.stmts.tx[n])
	}
	return t.stmts[n]
}

// exec runs a statement and returns how many rows it has changed. No context
// that can end: the driver would start a goroutine to watch it.
func (t *inboxTx) exec(n int, args ...any) (int64, error) {
	result, err := t.stmt(n).ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (t *inboxTx) row(n int, args ...any) *sql.Row {
	return t.stmt(n).QueryRowContext(context.Background(), args...)
}

func (t *inboxTx) rows(n int, args ...any) (*sql.Rows, error) {
	return t.stmt(n).QueryContext(context.Background(), args...)
}

// next returns the next number of the counter.
func (t *inboxTx) next() (int64, error) {
	if !t.counting {
		if err := t.row(counterNow).Scan(&t.counter); err != nil {
			return 0, err
		}
		t.counting, t.saved = true, t.counter
	}
	t.counter++
	return t.counter, nil
}

// wake gives a place in the queue to chats whose time has come.
func (t *inboxTx) wake() error {
	place, err := t.next()
	if err != nil {
		return err
	}
	t.counter-- // it is free still
	rows, err := t.rows(wakeChats, t.now.UnixMicro(), place-1, t.in.wakes)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var tenant string
		if err := rows.Scan(&tenant); err != nil {
			return err
		}
		t.counter++
		t.in.ready.Add(tenant)
	}
	return rows.Err()
}

// isReady notes that a tenant has something that may be lent.
func (t *inboxTx) isReady(tenant string) {
	t.ready = true
	t.in.ready.Add(tenant)
}

// end is the last to be done before the commit.
func (t *inboxTx) end() error {
	if t.counter == t.saved {
		return nil
	}
	_, err := t.exec(setCounter, t.counter)
	return err
}

// makeReady gives a chat that has a new update a place in the queue, if it has
// none.
func (t *inboxTx) makeReady(tenant, chat string) error {
	at, err := t.next()
	if err != nil {
		return err
	}
	t.isReady(tenant)
	_, err = t.exec(addChat, tenant, chat, at)
	return err
}

// errBadConn makes database/sql close a connection.
var errBadConn = driver.ErrBadConn
