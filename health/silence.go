package health

import (
	"cmp"
	"slices"
	"time"
)

// What the prober asks the monitor.

// asked notes that a tenant is asked after now. It reports whether the tenant
// is known.
func (m *Monitor) asked(tenant string) bool {
	now := m.now()
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.tenants[tenant]
	if s == nil {
		return false
	}
	r := s.more()
	r.asked = now
	if s.status == Healthy {
		r.probes = 0
	} else {
		r.probes = min(r.probes+1, 60)
	}
	return true
}

// isIll reports whether a tenant is degraded or unhealthy.
func (m *Monitor) isIll(tenant string) bool {
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.ill[tenant] != nil
}

// knows reports whether anything is known of a tenant.
func (m *Monitor) knows(tenant string) bool {
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.tenants[tenant] != nil
}

// inUse reports whether a tenant is known and not suspended.
func (m *Monitor) inUse(tenant string) bool {
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.tenants[tenant]
	return s != nil && s.status != Suspended
}

// pendingOf returns how many updates last waited for a tenant.
func (m *Monitor) pendingOf(tenant string) (n int, known bool) {
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.tenants[tenant]
	if s == nil || s.rare == nil || s.rare.webhook.at == never {
		return 0, false
	}
	return int(s.rare.webhook.pending), true
}

// illDue returns the tenant that is ill and was due first: a minute after
// anything was heard of it that may show it well, and then after ever longer
// pauses.
func (m *Monitor) illDue(most time.Duration) (string, bool) {
	now, first, found := m.now(), int64(0), ""
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		for tenant, s := range sh.ill {
			pause, last := time.Minute, max(s.lastSeen, s.since)
			if s.rare != nil {
				for range s.rare.probes {
					if pause *= 2; pause >= most {
						break
					}
				}
				if s.cause == pending || s.cause == webhookFails {
					// Only a look tells how it is by now, however much it calls.
					last = max(s.since, s.rare.webhook.at)
				}
				last = max(last, s.rare.asked)
			}
			due := last + int64(min(pause, most))
			if due <= now && (found == "" || due < first) {
				first, found = due, tenant
			}
		}
		sh.mu.Unlock()
	}
	return found, found != ""
}

// quiet returns since when a tenant has made no call or received no update,
// whichever is longer, and whether it is to be asked after.
func (s *state) quiet(now int64, silence, again time.Duration) (int64, bool) {
	since := min(s.lastSeen, s.lastUpdate)
	heard := since != never && now-since < int64(silence)
	asked := s.rare != nil && s.rare.asked != never && now-s.rare.asked < int64(again)
	return since, s.status == Healthy && !heard && !asked
}

// silent reports whether a tenant is to be asked after; one of which nothing is
// known is if strangers are.
func (m *Monitor) silent(tenant string, silence, again time.Duration, strangers bool) bool {
	now := m.now()
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.tenants[tenant]
	if s == nil {
		return strangers
	}
	_, is := s.quiet(now, silence, again)
	return is
}

type silentOne struct {
	tenant string
	since  int64
}

func inOrder(list []silentOne) []string {
	slices.SortFunc(list, func(a, b silentOne) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.tenant, b.tenant))
	})
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].tenant
	}
	return ids
}

// silentOnes returns all that are to be asked after, the longest silent first.
func (m *Monitor) silentOnes(silence, again time.Duration) []string {
	now := m.now()
	var list []silentOne
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		for tenant, s := range sh.tenants {
			if since, is := s.quiet(now, silence, again); is {
				list = append(list, silentOne{tenant, since})
			}
		}
		sh.mu.Unlock()
	}
	return inOrder(list)
}

// silentOf is silentOnes for some of them.
func (m *Monitor) silentOf(tenants []string, silence, again time.Duration) []string {
	now := m.now()
	var list []silentOne
	for _, tenant := range tenants {
		sh := m.shard(tenant)
		sh.mu.Lock()
		if s := sh.tenants[tenant]; s != nil {
			if since, is := s.quiet(now, silence, again); is {
				list = append(list, silentOne{tenant, since})
			}
		}
		sh.mu.Unlock()
	}
	return inOrder(list)
}
