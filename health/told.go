package health

import (
	"fmt"
	"time"
)

// Told is what the handlers of alerts were last told of a tenant.
type Told struct {
	// At is when the tenant came to that status.
	At     time.Time `json:"at"`
	Status Status    `json:"status"`
	// Group is the alert's.
	Group string `json:"group"`
}

// told notes that all handlers have had an alert.
func (m *Monitor) told(a Alert) {
	if m.saver == nil {
		return // it matters only for who loads it
	}
	for _, t := range a.last() {
		sh := m.shard(t.Tenant)
		sh.mu.Lock()
		if s := sh.tenants[t.Tenant]; s != nil {
			m.note(t, s)
		}
		sh.mu.Unlock()
	}
}

// note is called with the shard's lock held.
func (m *Monitor) note(t Transition, s *state) {
	r, at := s.more(), m.past(t.At)
	if at < r.toldAt {
		if r.toldAt <= m.now() {
			return // a later one was told, since a queue was full
		}
		at = r.toldAt + int64(tick) // by a clock that was ahead; the later one stays in the store
	}
	r.told, r.toldGroup, r.toldAt = t.To, groupNamed(t.Group), at
	s.dirty = true
	m.hurry(t.Tenant, s)
}

// hurry has a tenant saved at once. The shard's lock is held.
func (m *Monitor) hurry(tenant string, s *state) {
	if m.saver != nil && !s.urgent {
		s.urgent = true
		m.saver.hurry(tenant)
	}
}

// toldOf returns what is to be stored, nil where nothing was told yet.
func (m *Monitor) toldOf(s *state) *Told {
	if s.rare == nil || s.rare.toldAt == never {
		return nil
	}
	return &Told{At: m.wall(s.rare.toldAt), Status: s.rare.told, Group: groupName(s.rare.toldGroup)}
}

// restoreTold takes in what was told, and has told what was not. The shard's
// lock is held.
func (m *Monitor) restoreTold(tenant string, s *state, told *Told) {
	if told != nil && told.Status < statuses {
		if at := m.past(told.At); s.rare == nil || at > s.rare.toldAt {
			r := s.more()
			r.told, r.toldGroup, r.toldAt = told.Status, groupNamed(told.Group), at
		}
	}
	if m.alerts == nil {
		return
	}
	m.alerts.retract(tenant) // which began with a tenant that had no past
	from, group := Healthy, groupNone
	if s.rare != nil && s.rare.toldAt != never {
		from, group = s.rare.told, s.rare.toldGroup
	}
	if from == s.status {
		return
	}
	if s.status > from {
		group = s.group
	}
	at := s.since
	if at == never || s.rare != nil && at < s.rare.toldAt {
		at = m.now() // another replica came to it before this was told
	}
	m.alerts.add(Transition{
		Tenant: tenant,
		From:   from,
		To:     s.status,
		At:     m.wall(at),
		Kind:   s.kind(),
		Reason: m.oldReason(s),
		Group:  groupName(group),
	})
}

// oldReason is reason for a status of another process, whose figures are gone.
func (m *Monitor) oldReason(s *state) string {
	switch s.cause {
	case shortRate, longRate, conflicting, pending, webhookFails:
		return fmt.Sprintf("so before the restart; the last failure: %s", s.lastKind.Error())
	}
	return m.reason(s, m.now())
}
