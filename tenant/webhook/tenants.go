package webhook

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// Tenants tells whether a tenant's updates are wanted. A [tenant.Store] is one.
type Tenants interface {
	// Get returns the tenant's record; an error of kind [errors.NotFound]
	// where there is none.
	Get(ctx context.Context, id string) (tenant.Record, error)
}

// standing is what a tenant's updates are met with.
type standing uint8

const (
	welcome standing = iota
	away             // suspended or quarantined
	gone
)

// statuses remembers tenants' standing for a while. Only tenants whose path
// and secret have been shown get in, so strangers can't make it grow.
type statuses struct {
	tenants Tenants // nil: all are welcome
	keep    time.Duration
	known   *lru.Cache[string, known]
}

type known struct {
	standing standing
	at       time.Time
}

// maxKnown bounds how many tenants' standing is remembered, at some 150 bytes
// each.
const maxKnown = 1 << 16

// lookUp bounds a look-up, so that a store that hangs stops no updates of
// tenants that are known.
const lookUp = 2 * time.Second

func newStatuses(tenants Tenants, keep time.Duration) statuses {
	cache, err := lru.New[string, known](maxKnown)
	if err != nil {
		panic(err) // only a size below 1 is an error
	}
	return statuses{tenants, keep, cache}
}

// of returns a tenant's standing. Where it can't be had, what was last known
// is better than turning updates away.
func (s *statuses) of(ctx context.Context, id string) (standing, error) {
	if s.tenants == nil {
		return welcome, nil
	}
	now := time.Now()
	k, found := s.known.Get(id)
	if found && now.Sub(k.at) < s.keep {
		return k.standing, nil
	}
	if found { // the others go by what was known meanwhile
		s.known.Add(id, known{k.standing, now})
	}
	ctx, cancel := context.WithTimeout(ctx, lookUp)
	defer cancel()
	r, err := s.tenants.Get(ctx, id)
	switch {
	case err == nil && r.Status == tenant.Active:
		k.standing = welcome
	case err == nil:
		k.standing = away
	case errors.Is(err, errors.NotFound):
		k.standing = gone
	case !found:
		return 0, err
	}
	k.at = time.Now()
	s.known.Add(id, k)
	return k.standing, nil
}
