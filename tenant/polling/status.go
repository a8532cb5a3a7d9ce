package polling

import (
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Status is what is known of a tenant's polling at one moment. It holds no
// token and nothing of a user's.
type Status struct {
	// Tenant is the tenant's id, and State what becomes of its updates.
	Tenant string `json:"tenant"`
	State  State  `json:"state"`
	// Since is when that State began.
	Since time.Time `json:"since"`
	// Kind is why it is not [Polling]; [errors.None] where nothing failed.
	Kind errors.Kind `json:"kind"`
	// Conflict says with whom it is [Conflicting].
	Conflict string `json:"conflict,omitempty"`
	// Reason says why in words for the operator; "" where nothing failed.
	Reason string `json:"reason,omitempty"`
	// Failures counts calls that failed in a row.
	Failures int `json:"failures,omitempty"`
	// RetryAt is when it is tried again; zero where it is not waited for.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// Holder is who has the tenant's lease, as far as is known here.
	Holder string `json:"holder,omitempty"`
	// LastPoll is when Telegram last answered a getUpdates, and LastUpdate
	// when an update came; zero where that was never.
	LastPoll   time.Time `json:"last_poll,omitzero"`
	LastUpdate time.Time `json:"last_update,omitzero"`
	// Received counts updates that are in the inbox, each time they came.
	Received uint64 `json:"received"`
}

// Healthy is that of the status's State, but for a tenant that waits because
// the leases can't be reached: nobody may be polling it.
func (s Status) Healthy() bool {
	return s.State.Healthy() && (s.State != Waiting || s.Kind == errors.None)
}

// Stats are a supervisor's figures.
type Stats struct {
	// Tenants counts them by their State, now.
	Tenants map[string]int `json:"tenants"`
	// Loops is how many goroutines poll or wait to poll again, now.
	Loops int `json:"loops"`
	// Share is how many would be polled here if each process that shares the
	// leases polled as many as it can of what all want to poll, and Given
	// counts those that other processes took of what was too much here.
	Share int    `json:"share"`
	Given uint64 `json:"given"`
	// Polls counts calls of getUpdates, and Failures those that failed, of
	// which Conflicts with a 409.
	Polls     uint64 `json:"polls"`
	Failures  uint64 `json:"failures"`
	Conflicts uint64 `json:"conflicts"`
	// Received counts updates that are in the inbox; Duplicates those of them
	// that it had already.
	Received   uint64 `json:"received"`
	Duplicates uint64 `json:"duplicates"`
	// Refused counts updates that the inbox had no room for. They come again.
	Refused uint64 `json:"refused"`
	// Unusable counts what Telegram sent that is no update, or that the inbox
	// will never take. It is logged and passed over.
	Unusable uint64 `json:"unusable"`
	// Lost counts leases that ended before they were given back.
	Lost uint64 `json:"lost"`
}

// Status returns what is known of a tenant; false where it is not to be
// polled.
func (s *Supervisor) Status(id string) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil || !e.wanted {
		return Status{}, false
	}
	return e.status, true
}

// Statuses returns what is known of all tenants, in no order.
func (s *Supervisor) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, 0, len(s.entries))
	for _, e := range s.entries {
		if e.wanted {
			all = append(all, e.status)
		}
	}
	return all
}

// Stats returns the figures of this moment. It takes time in proportion to the
// tenants.
func (s *Supervisor) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Loops, stats.Share = s.loops, s.share
	stats.Tenants = make(map[string]int, states)
	for _, e := range s.entries {
		if e.wanted {
			stats.Tenants[e.status.State.String()]++
		}
	}
	return stats
}
