package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"modernc.org/sqlite"
)

// LimitPages bounds the database's size; beyond it SQLite says that the disk
// is full. 0 takes the bound away.
func (db *DB) LimitPages(n int) error {
	if n == 0 {
		n = 1<<32 - 2 // SQLite's own bound
	}
	_, err := db.write.ExecContext(context.Background(), fmt.Sprintf("PRAGMA max_page_count = %d", n))
	return err
}

// SetVersion pretends that the database is of another version.
func (db *DB) SetVersion(n int) error {
	_, err := db.write.ExecContext(context.Background(), fmt.Sprintf("PRAGMA user_version = %d", n))
	return err
}

// Exec runs a statement as an operator would.
func (db *DB) Exec(text string, args ...any) error {
	_, err := db.write.ExecContext(context.Background(), text, args...)
	return err
}

// Plan returns how a statement would be carried out.
func (db *DB) Plan(text string) (steps []string, err error) {
	args := make([]any, strings.Count(text, "?"))
	rows, err := db.read.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return steps, rows.Err()
}

// Synchronous is what the connection that writes does for durability: 2 is
// FULL.
func (db *DB) Synchronous() (n int, err error) {
	err = db.write.QueryRow("PRAGMA synchronous").Scan(&n)
	return n, err
}

// OnCommit puts f in the place of each COMMIT.
func (db *DB) OnCommit(f func(tx *sql.Tx) error) { db.commitTx = f }

// RefuseCommits makes SQLite itself roll back instead of committing.
func (db *DB) RefuseCommits() error {
	conn, err := db.write.Conn(context.Background())
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		c.(sqlite.HookRegisterer).RegisterCommitHook(func() int32 { return 1 })
		return nil
	})
}

// Change runs f in a transaction.
func (db *DB) Change(ctx context.Context, f func(tx *sql.Tx) error) error {
	return failure(ctx, "test", "", db.change(ctx, f))
}

// Scan reads one row as another program would.
func (db *DB) Scan(text string, into ...any) error { return db.read.QueryRow(text).Scan(into...) }

// Statements are those that a fleet's every day takes, by what they do.
func Statements() map[string]string {
	all := map[string]string{
		"dead letters": deadOf("?3 = ''"), "dead letters of a tenant": deadOf("tenant = ?3"), "depth": depthOf("tenant = ?1"),
	}
	for i, text := range inboxTexts {
		if i != countAll && i != counterNow && i != setCounter { // of a table of one row
			all[fmt.Sprint("inbox ", i)] = text
		}
	}
	for i, p := range new(Tenants).prepared(&DB{}) {
		all[fmt.Sprint("tenants ", i)] = p.text
		if strings.HasPrefix(p.text, entries) && strings.Contains(p.text, " tenant = ") {
			all["log of a tenant"] = p.text
		}
	}
	return all
}

// SetWakeMost sets how many chats whose time has come a lease wakes.
func (in *Inbox) SetWakeMost(n int) { in.wakes = n }

// SetDropMost sets how many expired updates a lease drops in a transaction.
func (in *Inbox) SetDropMost(n int) { in.drops = n }
