package pgstore

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

var _ seal.Rows = (*DB)(nil)

// atTenant begins the place of a tenant's token in the walk over all that is
// sealed.
const atTenant = "tenant/"

// Sealed implements [seal.Rows], for [seal.Reseal].
func (db *DB) Sealed(ctx context.Context, after, except string, limit int) (page []seal.Row, err error) {
	err = db.read(ctx, func() error {
		page = nil
		rows, err := db.pool.Query(ctx, db.tenants.sealed, strings.TrimPrefix(after, atTenant), except, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r := seal.Row{Purpose: sqlstore.TokenPurpose}
			if err := rows.Scan(&r.Owner, &r.Sealed); err != nil {
				return err
			}
			r.At = atTenant + r.Owner
			page = append(page, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, failure(ctx, "read sealed rows", "", err)
	}
	return page, nil
}

// Replace implements [seal.Rows].
func (db *DB) Replace(ctx context.Context, row seal.Row, sealed []byte) (bool, error) {
	const op = "reseal row"
	key, err := seal.KeyOf(sealed)
	if err != nil {
		return false, err
	}
	if row.Purpose != sqlstore.TokenPurpose {
		return false, sqlstore.Fail(op, row.Owner, errors.Internal, errors.New("purpose is not known"))
	}
	var n int64
	err = db.change(ctx, func(conn *pgxpool.Conn) error {
		tag, err := conn.Exec(ctx, db.tenants.replace, sealed, key, row.Owner, row.Sealed)
		n = tag.RowsAffected()
		return err
	})
	return n > 0, failure(ctx, op, row.Owner, err)
}
