package sqlitestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tgfleet/tgfleet/tenant/ownership"
)

// Ownership is an [ownership.Store]. Take it from [DB.Ownership].
type Ownership struct {
	db *DB

	begin, attempt, redeem, prove, proof *sql.Stmt
	prune, forgetCodes, forgetProof      *sql.Stmt
}

var _ ownership.Store = (*Ownership)(nil)

func newOwnership(ctx context.Context, db *DB) (*Ownership, error) {
	o := &Ownership{db: db}
	for _, p := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&o.begin, db.write, `INSERT OR REPLACE INTO ownership_challenges (tenant, user, bot_id, hash, attempts, expires_at)
			VALUES (?, ?, ?, ?, ?, ?)`},
		{&o.prune, db.write, "DELETE FROM ownership_challenges WHERE expires_at <= ?"},
		{&o.attempt, db.write, `UPDATE ownership_challenges SET attempts = attempts + 1
			WHERE tenant = ? AND user = ? AND attempts < ? AND expires_at > ? RETURNING bot_id, hash, attempts, expires_at`},
		{&o.redeem, db.write, "DELETE FROM ownership_challenges WHERE tenant = ? AND user = ? AND hash = ?"},
		{&o.prove, db.write, "INSERT OR REPLACE INTO ownership_proofs (tenant, bot_id, user, method, at, hash) VALUES (?, ?, ?, ?, ?, ?)"},
		{&o.proof, db.read, "SELECT bot_id, user, method, at, hash FROM ownership_proofs WHERE tenant = ?"},
		{&o.forgetCodes, db.write, "DELETE FROM ownership_challenges WHERE tenant = ?"},
		{&o.forgetProof, db.write, "DELETE FROM ownership_proofs WHERE tenant = ?"},
	} {
		var err error
		if *p.stmt, err = p.db.PrepareContext(ctx, p.text); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// Begin implements [ownership.Store]. It drops what has expired, of all.
func (o *Ownership) Begin(ctx context.Context, c ownership.Challenge) error {
	err := o.db.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.StmtContext(ctx, o.prune).ExecContext(ctx, time.Now().UnixMicro()); err != nil {
			return err
		}
		_, err := tx.StmtContext(ctx, o.begin).ExecContext(ctx, c.Tenant, c.User, c.BotID, blob(c.Hash), c.Attempts, c.ExpiresAt.UnixMicro())
		return err
	})
	return failure(ctx, "begin challenge", c.Tenant, err)
}

// blob is bytes as stored where there must be some, though they be none.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Attempt implements [ownership.Store].
func (o *Ownership) Attempt(ctx context.Context, tenant string, user int64, max int, now time.Time) (ownership.Challenge, error) {
	c := ownership.Challenge{Tenant: tenant, User: user}
	var expires int64
	// A query does not end the statement's transaction before its rows are
	// read, and Scan does not say how that went: change does.
	err := o.db.change(ctx, func(tx *sql.Tx) error {
		return tx.StmtContext(ctx, o.attempt).QueryRowContext(ctx, tenant, user, max, now.UnixMicro()).
			Scan(&c.BotID, &c.Hash, &c.Attempts, &expires)
	})
	if err != nil {
		return ownership.Challenge{}, failure(ctx, "count attempt", tenant, err)
	}
	c.ExpiresAt = time.UnixMicro(expires).UTC()
	return c, nil
}

// Redeem implements [ownership.Store].
func (o *Ownership) Redeem(ctx context.Context, c ownership.Challenge, p ownership.Proof) error {
	err := o.db.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.StmtContext(ctx, o.redeem).ExecContext(ctx, c.Tenant, c.User, blob(c.Hash))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return sql.ErrNoRows
		}
		return o.store(ctx, tx.StmtContext(ctx, o.prove), p)
	})
	return failure(ctx, "redeem challenge", c.Tenant, err)
}

// Prove implements [ownership.Store].
func (o *Ownership) Prove(ctx context.Context, p ownership.Proof) error {
	err := o.db.change(ctx, func(tx *sql.Tx) error { return o.store(ctx, tx.StmtContext(ctx, o.prove), p) })
	return failure(ctx, "store proof", p.Tenant, err)
}

func (o *Ownership) store(ctx context.Context, stmt *sql.Stmt, p ownership.Proof) error {
	_, err := stmt.ExecContext(ctx, p.Tenant, p.BotID, p.User, p.Method.String(), p.At.UnixMicro(), p.Hash)
	return err
}

// Proof implements [ownership.Store].
func (o *Ownership) Proof(ctx context.Context, tenant string) (ownership.Proof, error) {
	p := ownership.Proof{Tenant: tenant}
	var method string
	var at int64
	err := o.proof.QueryRowContext(ctx, tenant).Scan(&p.BotID, &p.User, &method, &at, &p.Hash)
	if err == nil {
		err = p.Method.UnmarshalText([]byte(method))
	}
	if err != nil {
		return ownership.Proof{}, failure(ctx, "read proof", tenant, err)
	}
	p.At = time.UnixMicro(at).UTC()
	return p, nil
}

// Forget implements [ownership.Store].
func (o *Ownership) Forget(ctx context.Context, tenant string) error {
	err := o.db.change(ctx, func(tx *sql.Tx) error {
		for _, stmt := range []*sql.Stmt{o.forgetCodes, o.forgetProof} {
			if _, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, tenant); err != nil {
				return err
			}
		}
		return nil
	})
	return failure(ctx, "forget ownership", tenant, err)
}
