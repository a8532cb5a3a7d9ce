package sqlitestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Watch implements [tenant.Store]. It looks for changes every
// [Config].PollInterval. The latest 10,000 are kept for those who come late.
//
// Where an older copy was restored into the database, any record may have
// changed, and that is what f hears.
func (s *Tenants) Watch(ctx context.Context, f func(tenant.Change)) error {
	const op = "watch tenants"
	last, err := s.latest(ctx)
	if err != nil {
		return failure(ctx, op, "", err)
	}
	f(tenant.Change{})
	tick := time.NewTicker(s.db.cfg.PollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return sqlstore.Ended(ctx, op, "")
		case <-tick.C:
		}
		for {
			changes, known, err := s.changesAfter(ctx, last)
			if err == nil && !known {
				if last, err = s.latest(ctx); err == nil {
					f(tenant.Change{})
				}
			}
			if err != nil {
				return failure(ctx, op, "", err)
			}
			if len(changes) == 0 {
				break
			}
			for _, c := range changes {
				f(c.Change)
			}
			last = changes[len(changes)-1]
		}
	}
}

// placed is a change and its place among all.
type placed struct {
	tenant.Change
	seq int64
}

// latest returns the last change, and the zero one where there is none.
func (s *Tenants) latest(ctx context.Context) (placed, error) {
	last, err := scanChange(s.lastChange.QueryRowContext(ctx))
	if err == sql.ErrNoRows {
		return placed{}, nil
	}
	return last, err
}

// changesAfter returns the changes after the last one that was heard. It is not
// known where its place is empty, since it is no longer kept, or another one's,
// since an older database was restored: then there are none.
func (s *Tenants) changesAfter(ctx context.Context, last placed) (changes []placed, known bool, err error) {
	rows, err := s.changes.QueryContext(ctx, last.seq)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	known = last.seq == 0
	for rows.Next() {
		c, err := scanChange(rows)
		switch {
		case err != nil:
			return nil, false, err
		case known && len(changes) == 0 && c.seq != last.seq+1, !known && c != last:
			return nil, false, nil
		case !known:
			known = true
		default:
			changes = append(changes, c)
		}
	}
	return changes, known, rows.Err()
}

func scanChange(row interface{ Scan(...any) error }) (c placed, err error) {
	var status string
	if err := row.Scan(&c.seq, &c.ID, &c.Version, &status); err != nil {
		return placed{}, err
	}
	if c.Version != 0 {
		c.Status = sqlstore.StatusOf(status)
	}
	return c, nil
}
