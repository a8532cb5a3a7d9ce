package pgstore

import "time"

// SetIdleLimit sets how long a transaction may wait for its next statement.
func (db *DB) SetIdleLimit(d time.Duration) { db.idle = d }

// Statements returns those that read or change health and usage.
func (db *DB) Statements() []string {
	h, u := db.health, db.usage
	return []string{h.lock, h.update, h.load, h.remove, u.lock, u.update, u.span, u.hours, u.drop, u.prune, u.lockAll}
}

// InboxStatements returns those of the inbox that every Put and Lease take.
func (db *DB) InboxStatements() (now, seen, forgetSeen, lease, look, leaseOf string) {
	s := db.inbox.sql
	return s.now, s.seen, s.forgetSeen, s.lease, s.look, s.leaseOf
}

// LeasedStatements returns those of what is leased.
func (db *DB) LeasedStatements() (lock, end, retry, extend, bury string) {
	s := db.inbox.sql
	return s.lockLeased, s.end, s.retry, s.extend, s.bury
}

// SetCloseTime sets how long Close waits.
func (db *DB) SetCloseTime(d time.Duration) { db.closing = d }
