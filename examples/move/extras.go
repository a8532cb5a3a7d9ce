package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// page is how much is read and written at a time.
const page = 500

// flushes numbers the writes of a run.
type flushes struct{ last health.Flush }

func newFlushes() *flushes { return &flushes{health.Flush{Writer: "move-" + rand.Text()}} }

func (f *flushes) next() health.Flush {
	f.last.Seq++
	return f.last
}

// moved returns those of the tenants that the target has too. Another
// tenant there may have the name of one that could not be moved.
func moved(ctx context.Context, from, to tenant.Store, ids []string) (map[string]struct{}, error) {
	source, err := from.GetMany(ctx, ids)
	if err != nil {
		return nil, err
	}
	target, err := to.GetMany(ctx, ids)
	if err != nil {
		return nil, err
	}
	both := make(map[string]struct{}, len(source))
	for id, r := range source {
		if t, ok := target[id]; ok && t.BotID == r.BotID {
			both[id] = struct{}{}
		}
	}
	return both, nil
}

// moveHealth copies how bots do, of those of whom the target knows nothing: what
// is added twice would count twice.
func moveHealth(ctx context.Context, from, to database.DB) (n int, err error) {
	there := make(map[string]struct{})
	err = eachHealth(ctx, to.Health, func(all []health.Snapshot) error {
		for _, s := range all {
			there[s.Tenant] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	writes := newFlushes()
	return n, eachHealth(ctx, from.Health, func(all []health.Snapshot) error {
		ids := make([]string, len(all))
		for i, s := range all {
			ids[i] = s.Tenant
		}
		both, err := moved(ctx, from.Tenants, to.Tenants, ids)
		if err != nil {
			return err
		}
		var missing []health.Snapshot
		for _, s := range all {
			_, known := there[s.Tenant]
			if _, ok := both[s.Tenant]; ok && !known {
				missing = append(missing, s)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		err = to.Health.Merge(ctx, writes.next(), missing)
		if err == nil {
			n += len(missing)
		}
		return err
	})
}

func eachHealth(ctx context.Context, store health.Store, f func([]health.Snapshot) error) error {
	for after := ""; ; {
		all, err := store.Load(ctx, after, page)
		if err != nil || len(all) == 0 {
			return err
		}
		if err := f(all); err != nil {
			return err
		}
		after = all[len(all)-1].Tenant
	}
}

// slot is what one roll-up is about.
type slot struct {
	start time.Time
	daily bool
}

// moveUsage copies what the bots of all tenants have done, hour by hour and day
// by day, but for what the target has already.
func moveUsage(ctx context.Context, from, to database.DB) (n int, err error) {
	writes := newFlushes()
	var batch []usage.Rollup
	add := func(least int) error {
		if len(batch) == 0 || len(batch) < least {
			return nil
		}
		// A tenant's are one write: where a day is there, so are its hours that
		// were not part of it yet.
		if err := to.Usage.Add(ctx, writes.next(), batch); err != nil {
			return err
		}
		n += len(batch)
		batch = batch[:0]
		return nil
	}
	err = eachMoved(ctx, from, to, func(id string) error {
		missing, err := missingUsage(ctx, from.Usage, to.Usage, id)
		if err != nil {
			return err
		}
		batch = append(batch, missing...)
		return add(page)
	})
	if err == nil {
		err = add(0)
	}
	return n, err
}

// eachMoved calls f for each tenant of the source that the target has too.
func eachMoved(ctx context.Context, from, to database.DB, f func(id string) error) error {
	for filter := (tenant.Filter{Limit: page}); ; {
		records, err := from.Tenants.List(ctx, filter)
		if err != nil || len(records) == 0 {
			return err
		}
		ids := make([]string, len(records))
		for i, r := range records {
			ids[i] = r.ID
		}
		both, err := moved(ctx, from.Tenants, to.Tenants, ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, ok := both[id]; !ok {
				continue
			}
			if err := f(id); err != nil {
				return err
			}
		}
		filter.After = ids[len(ids)-1]
	}
}

// moveProofs copies who has proved to own a bot, of those tenants of whom the
// target has no proof.
func moveProofs(ctx context.Context, from, to database.DB) (n int, err error) {
	err = eachMoved(ctx, from, to, func(id string) error {
		p, err := from.Owners.Proof(ctx, id)
		if errors.Is(err, errors.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := to.Owners.Proof(ctx, id); !errors.Is(err, errors.NotFound) {
			return err // nil where there is one
		}
		if err = to.Owners.Prove(ctx, p); err == nil {
			n++
		}
		return err
	})
	return n, err
}

// checkInbox refuses to leave updates behind that wait to be handled, and tells
// of dead letters.
func checkInbox(ctx context.Context, in inbox.Inbox, leave bool, stderr io.Writer) error {
	d, err := in.Depth(ctx, "")
	if err != nil {
		return err
	}
	if n := d.Waiting + d.Leased; n > 0 && !leave {
		return fmt.Errorf("%d updates wait to be handled and would be left behind: let the service empty its inbox first, or pass -leave-updates", n)
	} else if n > 0 {
		fmt.Fprintf(stderr, "%d updates that wait to be handled are left behind\n", n)
	}
	if d.Dead > 0 {
		fmt.Fprintf(stderr, "%d dead letters are left behind\n", d.Dead)
	}
	return nil
}

// missingUsage returns a tenant's roll-ups that the target lacks.
func missingUsage(ctx context.Context, from, to usage.Store, id string) ([]usage.Rollup, error) {
	// Nothing is older than Telegram's bots, and a day from now nothing is newer.
	first, last := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().Add(24*time.Hour)
	all, err := from.Range(ctx, id, first, last)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	stored, err := to.Range(ctx, id, first, last)
	if err != nil {
		return nil, err
	}
	there := make(map[slot]struct{}, len(stored))
	days := make(map[time.Time]struct{})
	for _, r := range stored {
		there[slot{r.Start, r.Daily}] = struct{}{}
		if r.Daily {
			days[r.Start] = struct{}{}
		}
	}
	var missing []usage.Rollup
	for _, r := range all {
		_, ok := there[slot{r.Start, r.Daily}]
		_, compacted := days[r.Start.UTC().Truncate(24*time.Hour)] // its hour may be in that
		if !ok && !compacted {
			missing = append(missing, r)
		}
	}
	return missing, nil
}
