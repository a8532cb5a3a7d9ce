package sqlitestore

import (
	"context"
	"database/sql"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

var _ seal.Rows = (*DB)(nil)

// atTenant begins the place of a tenant's token in the walk over all that is
// sealed.
const atTenant = "tenant/"

// Sealed implements [seal.Rows], for [seal.Reseal].
func (db *DB) Sealed(ctx context.Context, after, except string, limit int) ([]seal.Row, error) {
	const op = "read sealed rows"
	rows, err := db.tenants.sealed.QueryContext(ctx, strings.TrimPrefix(after, atTenant), except, limit)
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	defer rows.Close()
	var page []seal.Row
	for rows.Next() {
		r := seal.Row{Purpose: sqlstore.TokenPurpose}
		if err := rows.Scan(&r.Owner, &r.Sealed); err != nil {
			return nil, failure(ctx, op, "", err)
		}
		r.At = atTenant + r.Owner
		page = append(page, r)
	}
	return page, failure(ctx, op, "", rows.Err())
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
	err = db.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.StmtContext(ctx, db.tenants.replace).ExecContext(ctx, sealed, key, row.Owner, row.Sealed)
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return err == nil && n > 0, failure(ctx, op, row.Owner, err)
}
