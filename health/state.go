package health

import (
	"math"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// state is what is known of a tenant. Its times are since the monitor's start,
// on the monotonic clock. There are 100,000 of them in a large fleet, so it is
// kept small; its shard's lock guards it.
type state struct {
	requests, failures, rejected, refused uint64
	lastSuccess, lastFailure, lastUpdate  int64
	since                                 int64 // of the status
	lastSeen                              int64 // of any outcome
	failing                               int64 // since when, while calls fail in a row
	short                                 window[uint16]
	long                                  window[uint32]

	// fresh are the latencies since the last save, and older those before,
	// aged so that the recent ones weigh more.
	fresh, older bins[uint16]

	// unsaved are the counts since the last save.
	unsaved struct{ requests, failures, rejected, refused uint32 }

	rare *rare // nil for most

	ema    float32 // of the latency, in ns; 0 before the first
	streak int32   // successes in a row; below zero, failures

	status   Status
	cause    cause
	breaker  Breaker
	lastKind errors.Kind // of the last failure
	group    uint8       // that its alerts are of: a kind, or one of the groups
	dirty    bool
	urgent   bool // the saver has been told to hurry
	had      bool // by this round of saves
}

// rare is what few tenants need at a time.
type rare struct {
	suspension   *Suspension // replaced, not changed
	limitedUntil int64
	conflictAt   int64 // when conflicts were last counted
	asked        int64 // when the prober last did
	toldAt       int64 // of the transition that was last told; never before the first
	webhook      webhookState
	told         Status // to which it was
	toldGroup    uint8  // of whose alert
	conflicts    uint8
	probes       uint8 // how often the prober asked since the tenant was well
}

const never = math.MinInt64

const (
	// stateBins bounds each of the two sketches of a tenant: 256 bytes. While
	// the slowest call took less than 140 times as long as the quickest,
	// percentiles are within 2 %; up to 20,000 times, within 4 %.
	stateBins = 128
	// keepAged is how many latencies, at most, count besides the fresh ones.
	keepAged = 4096

	emaAlpha = 0.3 // the weight of the newest call in the running average

	// forgiveConflict is much longer than the minute that a long poll may
	// take, so that one 409 for each is not forgiven.
	forgiveConflict = int64(10 * time.Minute)
)

func newState() *state {
	return &state{lastSuccess: never, lastFailure: never, lastUpdate: never, lastSeen: never, since: never}
}

// more returns what few need, to write to.
func (s *state) more() *rare {
	if s.rare == nil {
		s.rare = &rare{limitedUntil: never, conflictAt: never, asked: never, toldAt: never, webhook: webhookState{at: never, errorAt: never}}
	}
	return s.rare
}

// suspended returns the decision by which the tenant is suspended, or nil.
func (s *state) suspended() *Suspension {
	if s.rare == nil || s.rare.suspension == nil || !s.rare.suspension.Suspended {
		return nil
	}
	return s.rare.suspension
}

// observe counts an outcome. most is the number of conflicts that matters.
func (s *state) observe(now int64, shortSlot, longSlot int32, o *Outcome, v verdict, bin, most int) {
	s.dirty = true
	if v == refused {
		s.refused++
		s.unsaved.refused++
		return
	}
	s.requests++
	s.unsaved.requests++
	s.lastSeen = max(s.lastSeen, now)
	failed := v == failure
	s.short.add(shortSlot, failed)
	s.long.add(longSlot, failed)
	if failed {
		s.failures++
		s.unsaved.failures++
		if s.streak >= 0 {
			s.failing = now
		}
		s.failing = min(s.failing, now) // they need not be told in order
		s.streak = max(min(s.streak, 0)-1, -math.MaxInt32)
		if now >= s.lastFailure {
			s.lastFailure, s.lastKind = now, o.Kind
		}
		switch o.Kind {
		case errors.Conflict:
			s.conflict(now, 2*most)
		case errors.RateLimited:
			more := s.more()
			more.limitedUntil = max(more.limitedUntil, now+int64(min(max(o.RetryAfter, 0), -longAgo)))
		}
	} else {
		if v == rejected {
			s.rejected++
			s.unsaved.rejected++
		}
		s.streak = min(max(s.streak, 0)+1, math.MaxInt32-1)
		s.lastSuccess = max(s.lastSuccess, now)
	}
	if o.Poll {
		return
	}
	s.fresh.add(bin, 1, stateBins)
	if s.ema == 0 {
		s.ema = float32(o.Latency)
	} else {
		s.ema += emaAlpha * (float32(o.Latency) - s.ema)
	}
}

// conflict counts a 409. Time forgives and not a success, since two pollers of
// one token end each other's calls and both succeed now and then. Most bounds
// the count, so that a bot whose rival has left is well again in good time.
func (s *state) conflict(now int64, most int) {
	n, more := s.conflictsAt(now), s.more()
	more.conflicts = uint8(min(n+1, most))
	more.conflictAt = max(more.conflictAt, now)
}

func (s *state) conflictsAt(now int64) int {
	if s.rare == nil || s.rare.conflicts == 0 {
		return 0
	}
	forgiven := max(now-s.rare.conflictAt, 0) / forgiveConflict
	return int(max(int64(s.rare.conflicts)-forgiven, 0))
}

// latency returns all latencies that are known of.
func (s *state) latency() bins[uint32] {
	var all bins[uint32]
	merge(&all, &s.older, maxBins)
	merge(&all, &s.fresh, maxBins)
	return all
}
