package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"github.com/tgfleet/tgfleet/tenant/ownership"
)

// Ownership is an [ownership.Store]. Take it from [DB.Ownership].
type Ownership struct {
	db *DB

	begin, attempt, redeem, prove, proof, forget string
}

var _ ownership.Store = (*Ownership)(nil)

func newOwnership(db *DB) *Ownership {
	const store = `ON CONFLICT (tenant) DO UPDATE SET bot_id = excluded.bot_id, telegram_id = excluded.telegram_id,
		method = excluded.method, at = excluded.at, hash = excluded.hash`
	return &Ownership{
		db: db,
		begin: db.name(`WITH gone AS (
				DELETE FROM {schema}.ownership_challenges WHERE (tenant, telegram_id) IN (
					SELECT tenant, telegram_id FROM {schema}.ownership_challenges
					WHERE expires_at <= clock_timestamp() AND (tenant, telegram_id) <> ($1, $2) LIMIT 1000 FOR UPDATE SKIP LOCKED))
			INSERT INTO {schema}.ownership_challenges (tenant, telegram_id, bot_id, hash, attempts, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (tenant, telegram_id) DO UPDATE SET bot_id = excluded.bot_id, hash = excluded.hash,
				attempts = excluded.attempts, expires_at = excluded.expires_at`),
		attempt: db.name(`UPDATE {schema}.ownership_challenges SET attempts = attempts + 1
			WHERE tenant = $1 AND telegram_id = $2 AND attempts < $3 AND expires_at > $4
			RETURNING bot_id, hash, attempts, expires_at`),
		redeem: db.name(`WITH redeemed AS (
				DELETE FROM {schema}.ownership_challenges WHERE tenant = $1 AND telegram_id = $2 AND hash = $3 RETURNING 1)
			INSERT INTO {schema}.ownership_proofs (tenant, bot_id, telegram_id, method, at, hash)
			SELECT $4, $5, $6, $7, $8, $9 FROM redeemed ` + store),
		prove: db.name("INSERT INTO {schema}.ownership_proofs (tenant, bot_id, telegram_id, method, at, hash) VALUES ($1, $2, $3, $4, $5, $6) " + store),
		proof: db.name("SELECT bot_id, telegram_id, method, at, hash FROM {schema}.ownership_proofs WHERE tenant = $1"),
		forget: db.name(`WITH codes AS (DELETE FROM {schema}.ownership_challenges WHERE tenant = $1)
			DELETE FROM {schema}.ownership_proofs WHERE tenant = $1`),
	}
}

// Begin implements [ownership.Store]. It drops what has expired, of all.
func (o *Ownership) Begin(ctx context.Context, c ownership.Challenge) error {
	const op = "begin challenge"
	if err := storable(op, c.Tenant); err != nil {
		return err
	}
	return failure(ctx, op, c.Tenant, o.exec(ctx, o.begin, c.Tenant, c.User, c.BotID, blob(c.Hash), c.Attempts, c.ExpiresAt))
}

// blob is bytes as stored where there must be some, though they be none.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (o *Ownership) exec(ctx context.Context, sql string, args ...any) error {
	return o.db.change(ctx, func(conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
}

// Attempt implements [ownership.Store].
func (o *Ownership) Attempt(ctx context.Context, tenant string, user int64, max int, now time.Time) (ownership.Challenge, error) {
	const op = "count attempt"
	c := ownership.Challenge{Tenant: tenant, User: user}
	if !sqlstore.Storable(tenant) {
		return ownership.Challenge{}, failure(ctx, op, "", pgx.ErrNoRows)
	}
	err := o.db.change(ctx, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, o.attempt, tenant, user, max, now).Scan(&c.BotID, &c.Hash, &c.Attempts, &c.ExpiresAt)
	})
	if err != nil {
		return ownership.Challenge{}, failure(ctx, op, tenant, err)
	}
	c.ExpiresAt = c.ExpiresAt.UTC()
	return c, nil
}

// Redeem implements [ownership.Store].
func (o *Ownership) Redeem(ctx context.Context, c ownership.Challenge, p ownership.Proof) error {
	const op = "redeem challenge"
	if err := storable(op, c.Tenant, p.Tenant); err != nil {
		return err
	}
	err := o.db.change(ctx, func(conn *pgxpool.Conn) error {
		tag, err := conn.Exec(ctx, o.redeem, append([]any{c.Tenant, c.User, blob(c.Hash)}, proofRow(p)...)...)
		if err == nil && tag.RowsAffected() == 0 {
			err = pgx.ErrNoRows
		}
		return err
	})
	return failure(ctx, op, c.Tenant, err)
}

// Prove implements [ownership.Store].
func (o *Ownership) Prove(ctx context.Context, p ownership.Proof) error {
	const op = "store proof"
	if err := storable(op, p.Tenant); err != nil {
		return err
	}
	return failure(ctx, op, p.Tenant, o.exec(ctx, o.prove, proofRow(p)...))
}

func proofRow(p ownership.Proof) []any {
	return []any{p.Tenant, p.BotID, p.User, p.Method.String(), p.At, p.Hash}
}

// Proof implements [ownership.Store].
func (o *Ownership) Proof(ctx context.Context, tenant string) (ownership.Proof, error) {
	const op = "read proof"
	p := ownership.Proof{Tenant: tenant}
	if !sqlstore.Storable(tenant) {
		return ownership.Proof{}, failure(ctx, op, "", pgx.ErrNoRows)
	}
	var method string
	err := o.db.read(ctx, func() error {
		return o.db.pool.QueryRow(ctx, o.proof, tenant).Scan(&p.BotID, &p.User, &method, &p.At, &p.Hash)
	})
	if err == nil {
		err = p.Method.UnmarshalText([]byte(method))
	}
	if err != nil {
		return ownership.Proof{}, failure(ctx, op, tenant, err)
	}
	p.At = p.At.UTC()
	return p, nil
}

// Forget implements [ownership.Store].
func (o *Ownership) Forget(ctx context.Context, tenant string) error {
	if !sqlstore.Storable(tenant) {
		return nil
	}
	return failure(ctx, "forget ownership", tenant, o.exec(ctx, o.forget, tenant))
}
