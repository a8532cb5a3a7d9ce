package sqlitestore

import (
	"context"
	"time"

	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Watch implements [tenant.Store]. It looks for changes every
// [Config].PollInterval. The latest 10,000 are kept for those who come late.
func (s *Tenants) Watch(ctx context.Context, f func(tenant.Change)) error {
	const op = "watch tenants"
	var last int64
	if err := s.where.QueryRowContext(ctx).Scan(&last); err != nil {
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
			changes, first, seq, err := s.changesAfter(ctx, last)
			if err != nil {
				return failure(ctx, op, "", err)
			}
			if len(changes) == 0 {
				break
			}
			if first != last+1 {
				f(tenant.Change{}) // what came between is no longer kept
			}
			for _, c := range changes {
				f(c)
			}
			last = seq
		}
	}
}

// changesAfter returns the changes after one, and the first and last one's
// place.
func (s *Tenants) changesAfter(ctx context.Context, last int64) (changes []tenant.Change, first, seq int64, err error) {
	rows, err := s.changes.QueryContext(ctx, last)
	if err != nil {
		return nil, 0, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var c tenant.Change
		var status string
		if err := rows.Scan(&seq, &c.ID, &c.Version, &status); err != nil {
			return nil, 0, 0, err
		}
		if c.Version != 0 {
			c.Status = sqlstore.StatusOf(status)
		}
		if len(changes) == 0 {
			first = seq
		}
		changes = append(changes, c)
	}
	return changes, first, seq, rows.Err()
}
