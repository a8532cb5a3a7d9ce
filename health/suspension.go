package health

import "time"

// Suspension is the last decision on whether a tenant may be used.
type Suspension struct {
	// Suspended says whether it is switched off.
	Suspended bool `json:"suspended"`
	// Quarantine says that Telegram no longer accepts the token, and nobody
	// here decided.
	Quarantine bool `json:"quarantine,omitempty"`
	// Reason is why, for the operator; at most [MaxTextLen] bytes of it are
	// kept, and nothing that looks like a token. The tenant's own people do not
	// get it: see [Report.ForTenant].
	Reason string `json:"reason,omitempty"`
	// At is when it was decided.
	At time.Time `json:"at"`
}

// Suspend marks a tenant as switched off, until [Monitor.Resume], also after
// restarts. It only says so: it is package tenant's Manager that keeps the bot
// from being used. Other replicas learn of it when they start, or by being told
// as well.
func (m *Monitor) Suspend(tenant, reason string) {
	m.decide(tenant, Suspension{Suspended: true, Reason: short(reason)})
}

// Quarantine marks a tenant as switched off because Telegram no longer accepts
// its token.
func (m *Monitor) Quarantine(tenant, reason string) {
	m.decide(tenant, Suspension{Suspended: true, Quarantine: true, Reason: short(reason)})
}

// Resume ends a suspension or quarantine. The tenant begins anew: healthy, and
// with nothing held against it, since what failed was with the old token or
// for the old reason. One that is not suspended stays as it is; one that is not
// known yet is from now on, as healthy. Where there is a store the decision is
// kept in any case, since another replica may have suspended the tenant.
func (m *Monitor) Resume(tenant string) { m.decide(tenant, Suspension{}) }

func (m *Monitor) decide(tenant string, d Suspension) {
	now := m.now()
	d.At = m.wall(now).UTC()
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// There is always room for a decision: to drop it would let a bot back in.
	if s := m.known(sh, tenant, true); s != nil {
		switch last := s.suspended(); {
		case !d.Suspended:
			if last == nil && m.saver == nil {
				return
			}
			if last != nil {
				s.forgive()
			}
		case last != nil && last.Quarantine == d.Quarantine && last.Reason == d.Reason:
			return // whoever repeats it, such as after a restart, decides nothing new
		}
		if last := s.more().suspension; last != nil && d.At.Before(last.At.Add(tick)) {
			// It was decided by a clock that is ahead of this one. The later one
			// stays in the store, and this is it.
			d.At = last.At.Add(tick)
		}
		s.more().suspension, s.dirty = &d, true
		m.settle(sh, tenant, s, now)
		m.hurry(tenant, s)
	}
}

// tick is how much later a decision is than the one before, at least, so that
// each database can tell them apart.
const tick = time.Millisecond

// forgive drops what speaks against a tenant.
func (s *state) forgive() {
	s.streak = 0
	s.short, s.long = window[uint16]{at: s.short.at}, window[uint32]{at: s.long.at}
	if s.rare != nil {
		s.rare.conflicts = 0
		s.rare.webhook.grown, s.rare.webhook.fails = 0, false
	}
}
