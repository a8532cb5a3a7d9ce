package ratelimit

import (
	"slices"
	"time"
)

// hold keeps a key for one request that is to be made again.
type hold struct {
	ticket uint64
	until  int64 // before which the request itself does not go
}

// Hold keeps a key for the request with a ticket, which was admitted, has
// failed and is to be made again from a time on: until [Scheduler.Unhold] all
// that came after it waits, so that nothing overtakes it. Free requests pass.
// Of several holds of a key the oldest request's counts.
//
// Every Hold needs its Unhold, once the request has ended or is given up.
func (s *Scheduler[K]) Hold(tenant string, id K, ticket uint64, until time.Time) {
	var none K
	if ticket == 0 || id == none || !same(id, id) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.release(now, ticket)
	k := s.keyOf(now, s.tenantOf(now, tenant, true), id, true)
	k.keep(hold{ticket, int64(until.Sub(s.base))})
	s.holders[ticket] = k
	s.placeKey(now, k)
	s.pump(now)
}

// Unhold ends the hold of a ticket. It does nothing where there is none.
func (s *Scheduler[K]) Unhold(ticket uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.release(now, ticket)
	s.pump(now)
}

func (s *Scheduler[K]) release(now int64, ticket uint64) {
	k, found := s.holders[ticket]
	if !found {
		return
	}
	delete(s.holders, ticket)
	k.holds = slices.DeleteFunc(k.holds, func(h hold) bool { return h.ticket == ticket })
	s.placeKey(now, k)
}

// keep adds a hold, in the order of the tickets.
func (k *key[K]) keep(h hold) {
	i, _ := slices.BinarySearchFunc(k.holds, h, func(a, b hold) int {
		if a.ticket < b.ticket {
			return -1
		}
		return 1
	})
	k.holds = slices.Insert(k.holds, i, h)
}

// kept returns when a request may go as far as holds are concerned, and
// whether it is one for which the key is kept.
func (k *key[K]) kept(ticket uint64) (until int64, own bool) {
	if len(k.holds) == 0 || ticket < k.holds[0].ticket {
		return 0, false
	}
	if ticket == k.holds[0].ticket {
		return k.holds[0].until, true
	}
	return never, false
}
