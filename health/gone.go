package health

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// dropOften drops, now and then, tenants that are gone and of whom nobody told
// this monitor: a process may be killed between the two.
func (m *Monitor) dropOften(ctx context.Context, stop <-chan struct{}) {
	// The first look is soon, for those who were busy until a crash: when they
	// were loaded it was too early to tell them from new ones.
	wait := loop.GoneSoon()
	for {
		select {
		case <-time.After(wait):
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
		err := m.dropGone(ctx, stop)
		if err != nil {
			m.log.Error("look for tenants that are gone", slog.Any("err", errors.Classify(err)))
		}
		wait = loop.GoneLater(err)
	}
}

func (m *Monitor) dropGone(ctx context.Context, stop <-chan struct{}) error {
	for some := range slices.Chunk(m.ids(), loop.GoneBatch) {
		ids, before, err := m.gone.Of(ctx, some)
		if err != nil {
			return err
		}
		for _, id := range ids {
			select {
			case <-stop:
				return nil
			default:
			}
			if m.saver != nil {
				if err := m.saver.forgetGone(ctx, id, before); err != nil {
					return err
				}
			}
			m.drop(id, m.past(before))
		}
	}
	return nil
}

// ids returns all tenants of whom something is known.
func (m *Monitor) ids() (ids []string) {
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		for id := range sh.tenants {
			ids = append(ids, id)
		}
		sh.mu.Unlock()
	}
	return ids
}

// drop forgets a tenant of whom nothing is as late as a time, in this process.
func (m *Monitor) drop(tenant string, before int64) {
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.tenants[tenant]
	if s == nil || m.latest(s) >= before {
		return
	}
	delete(sh.tenants, tenant)
	delete(sh.ill, tenant)
	m.byStatus[s.status].Add(-1)
	m.tenants.Add(-1)
}

// latest is [Snapshot.Latest]. The shard's lock is held.
func (m *Monitor) latest(s *state) int64 {
	at := max(s.lastSuccess, s.lastFailure, s.lastUpdate, s.lastSeen, s.since)
	if r := s.rare; r != nil {
		at = max(at, r.webhook.at, r.toldAt)
		if r.suspension != nil {
			at = max(at, m.past(r.suspension.At))
		}
	}
	return at
}

// forgetGone is forget for who does not bound it.
func (s *saver) forgetGone(ctx context.Context, tenant string, before time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.forget(ctx, tenant, before)
}

// leaveGone removes those of a page that was loaded whose tenants are gone, and
// returns the others. After a look that fails it returns all, and makes no
// other one: nobody is to wait for it, and dropOften looks again.
func (s *saver) leaveGone(ctx context.Context, stop <-chan struct{}, page []Snapshot) []Snapshot {
	if s.ask == nil {
		return page
	}
	tenants := make([]string, len(page))
	for i := range page {
		tenants[i] = page[i].Tenant
	}
	gone, before, err := s.ask.Of(ctx, tenants)
	page = slices.DeleteFunc(page, func(snap Snapshot) bool {
		select {
		case <-stop:
			return false
		default:
		}
		if err != nil || !slices.Contains(gone, snap.Tenant) || !snap.Latest().Before(before) {
			return false
		}
		err = s.forgetGone(ctx, snap.Tenant, before)
		return err == nil
	})
	if err != nil {
		s.log.Error("look for tenants that are gone", slog.Any("err", errors.Classify(err)))
		s.ask = nil
	}
	return page
}
