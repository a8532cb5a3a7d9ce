package health

import (
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Snapshot is what a [Store] keeps of a tenant, and what is added to it: the
// same type serves for both, since adding to nothing stores what is added.
//
// It is written and read as JSON, which later versions of the library extend
// and do not change. A store may keep it as one column, or as many.
type Snapshot struct {
	// Tenant is the tenant's id.
	Tenant string `json:"tenant"`

	// Requests, Failures, Rejected and Refused are as in [Report]. Those of
	// two snapshots are added.
	Requests uint64 `json:"requests,omitempty"`
	Failures uint64 `json:"failures,omitempty"`
	Rejected uint64 `json:"rejected,omitempty"`
	Refused  uint64 `json:"refused,omitempty"`
	// Latency are how long calls took. What there is counts for half or less
	// once it is many, so that the recent ones weigh more; then they are added.
	Latency Sketch `json:"latency,omitzero"`

	// Of each of these the later one stays, and the kind goes with its time.
	LastSuccess      time.Time   `json:"last_success,omitzero"`
	LastFailure      time.Time   `json:"last_failure,omitzero"`
	LastFailureKind  errors.Kind `json:"last_failure_kind,omitzero"`
	LastUpdate       time.Time   `json:"last_update,omitzero"`
	RateLimitedUntil time.Time   `json:"rate_limited_until,omitzero"`

	// State, Webhook, Suspension and Told stay as they are in the snapshot where
	// their own time is later.
	State      State        `json:"state,omitzero"`
	Webhook    *WebhookInfo `json:"webhook,omitempty"`
	Suspension *Suspension  `json:"suspension,omitempty"`
	Told       *Told        `json:"told,omitempty"`
}

// State is what only the last calls tell.
type State struct {
	// At is when the last of them ended.
	At time.Time `json:"at"`
	// Status and Since are as in [Report], and Cause is a number for what the
	// status follows from.
	Status Status    `json:"status"`
	Since  time.Time `json:"since,omitzero"`
	Cause  uint8     `json:"cause,omitempty"`
	// Streak is how many calls in a row succeeded; below zero, failed.
	Streak int32 `json:"streak"`
	// Average is the moving average of the latency, in nanoseconds.
	Average time.Duration `json:"average"`
}

// Merge adds a snapshot of the same tenant. Each store does it with this
// method, so that all agree on what it means. The order in which two replicas'
// are added does not matter for anything but the weights in Latency.
func (s *Snapshot) Merge(add Snapshot) {
	s.Tenant = add.Tenant
	s.Requests += add.Requests
	s.Failures += add.Failures
	s.Rejected += add.Rejected
	s.Refused += add.Refused
	if !add.Latency.IsZero() {
		s.Latency = s.Latency.Clone()
		s.Latency.bins.age(keepAged)
		s.Latency.Merge(&add.Latency)
	}
	later(&s.LastSuccess, add.LastSuccess)
	if add.LastFailure.After(s.LastFailure) {
		s.LastFailure, s.LastFailureKind = add.LastFailure, add.LastFailureKind
	}
	later(&s.LastUpdate, add.LastUpdate)
	later(&s.RateLimitedUntil, add.RateLimitedUntil)
	if add.State.At.After(s.State.At) {
		s.State = add.State
	}
	if add.Webhook != nil && (s.Webhook == nil || add.Webhook.At.After(s.Webhook.At)) {
		info := *add.Webhook
		s.Webhook = &info
	}
	if add.Suspension != nil && (s.Suspension == nil || add.Suspension.At.After(s.Suspension.At)) {
		decision := *add.Suspension
		s.Suspension = &decision
	}
	if add.Told != nil && (s.Told == nil || add.Told.At.After(s.Told.At)) {
		told := *add.Told
		s.Told = &told
	}
}

// Latest returns the latest of the times at which something of it happened.
func (s *Snapshot) Latest() time.Time {
	t := s.LastSuccess
	later(&t, s.LastFailure)
	later(&t, s.LastUpdate)
	later(&t, s.State.At)
	if s.Webhook != nil {
		later(&t, s.Webhook.At)
	}
	if s.Suspension != nil {
		later(&t, s.Suspension.At)
	}
	if s.Told != nil {
		later(&t, s.Told.At)
	}
	return t
}

func later(t *time.Time, u time.Time) {
	if u.After(*t) {
		*t = u
	}
}

// Clone returns a copy that shares nothing that can be changed.
func (s Snapshot) Clone() Snapshot {
	var c Snapshot
	c.Merge(s)
	c.Latency = s.Latency.Clone()
	return c
}

// take returns what is to be added to the store, and notes that it is. The
// shard's lock is held.
func (m *Monitor) take(tenant string, s *state) Snapshot {
	snap := Snapshot{
		Tenant:          tenant,
		Requests:        uint64(s.unsaved.requests),
		Failures:        uint64(s.unsaved.failures),
		Rejected:        uint64(s.unsaved.rejected),
		Refused:         uint64(s.unsaved.refused),
		LastSuccess:     m.wall(s.lastSuccess),
		LastFailure:     m.wall(s.lastFailure),
		LastFailureKind: s.lastKind,
		LastUpdate:      m.wall(s.lastUpdate),
		Webhook:         m.info(s),
		Told:            m.toldOf(s),
	}
	if r := s.rare; r != nil {
		snap.RateLimitedUntil, snap.Suspension = m.wall(r.limitedUntil), r.suspension
	}
	if at := max(s.lastSeen, s.since); at != never {
		snap.State = State{
			At:      m.wall(at),
			Status:  s.status,
			Since:   m.wall(s.since),
			Cause:   uint8(s.cause),
			Streak:  s.streak,
			Average: time.Duration(s.ema),
		}
	}
	merge(&snap.Latency.bins, &s.fresh, maxBins)
	s.older.age(keepAged)
	merge(&s.older, &s.fresh, stateBins)
	s.fresh.clear()
	s.unsaved.requests, s.unsaved.failures, s.unsaved.rejected, s.unsaved.refused = 0, 0, 0, 0
	s.dirty, s.urgent = false, false
	return snap
}

// restore takes in what was stored. Outcomes may have been counted already:
// they are added, and what is later stays. It reports whether there was room.
func (m *Monitor) restore(snap Snapshot) bool {
	sh := m.shard(snap.Tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if m.saver.isGone(snap.Tenant) {
		return true
	}
	s := m.known(sh, snap.Tenant, snap.Suspension != nil && snap.Suspension.Suspended)
	if s != nil {
		s.requests += snap.Requests
		s.failures += snap.Failures
		s.rejected += snap.Rejected
		s.refused += snap.Refused
		merge(&s.older, &snap.Latency.bins, stateBins)
		s.older.age(keepAged)
		s.lastSuccess = max(s.lastSuccess, m.before(snap.LastSuccess))
		if failed := m.before(snap.LastFailure); failed > s.lastFailure {
			s.lastFailure, s.lastKind = failed, snap.LastFailureKind
		}
		s.lastUpdate = max(s.lastUpdate, m.before(snap.LastUpdate))
		if until := m.past(snap.RateLimitedUntil); until > m.now() {
			s.more().limitedUntil = max(s.more().limitedUntil, until)
		}
		if snap.Webhook != nil {
			if h := &s.more().webhook; h.at == never {
				*h = m.webhookOf(snap.Webhook) // with nothing held against it yet
			}
		}
		if d := snap.Suspension; d != nil {
			m.restoreDecision(snap.Tenant, s, d)
		}
		status, why := s.status, s.cause
		if seen := m.before(snap.State.At); seen != never && seen > s.lastSeen {
			status, why = snap.State.Status, cause(snap.State.Cause)
			s.since = m.before(snap.State.Since)
			s.streak, s.ema = snap.State.Streak, float32(snap.State.Average)
			s.lastSeen, s.failing = seen, seen // with the next failure it spans some time
		}
		switch d := s.suspended(); {
		case d != nil && d.Quarantine:
			status, why = Suspended, byQuarantine
		case d != nil:
			status, why = Suspended, byHand
		case status == Suspended, status >= statuses:
			status, why = Healthy, noCause // resumed, by another replica or since
			s.forgive()
		}
		m.byStatus[s.status].Add(-1)
		m.byStatus[status].Add(1)
		s.status, s.cause = status, why
		if status != Healthy {
			s.group = groupOf(why, s.lastKind)
		}
		delete(sh.ill, snap.Tenant)
		if status == Degraded || status == Unhealthy {
			sh.ill[snap.Tenant] = s
		}
		m.restoreTold(snap.Tenant, s, snap.Told)
	}
	return s != nil
}

// restoreDecision takes in a decision that was stored, unless there was one
// since. The shard's lock is held.
func (m *Monitor) restoreDecision(tenant string, s *state, d *Suspension) {
	ours := s.more().suspension
	switch {
	case ours == nil || d.At.After(ours.At) && m.past(d.At) <= m.now():
		s.rare.suspension = d
	case d.At.After(ours.At):
		// By a clock that is ahead of this one; ours came after it was loaded,
		// or is about to be.
		later := *ours
		later.At = d.At.Add(tick)
		s.rare.suspension, s.dirty = &later, true
		m.hurry(tenant, s)
	}
}
