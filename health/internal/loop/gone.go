package loop

import (
	"context"
	"time"
)

// Gone says which of some tenants are there no longer.
type Gone func(ctx context.Context, tenants []string) ([]string, error)

const (
	// GoneBatch is how many tenants are asked for at once.
	GoneBatch = 500
	// Tenants that are gone are looked for this often, and sooner after a look
	// that failed.
	goneEvery, goneSoon = 24 * time.Hour, time.Hour
	// Skew is how far apart the clocks of two replicas may be, for what is
	// decided by comparing their times.
	Skew = time.Minute

	goneTimeout = 30 * time.Second
)

// Of returns those of the tenants that are gone, and the time before which all
// that is known of them is of who had the id then: somebody may register with
// it as soon as this has returned.
func (gone Gone) Of(ctx context.Context, tenants []string) (ids []string, before time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	before = time.Now().Add(-Skew)
	said, err := gone(ctx, tenants)
	if err != nil {
		return nil, before, err
	}
	asked := make(map[string]bool, len(tenants))
	for _, id := range tenants {
		asked[id] = true
	}
	for _, id := range said {
		if asked[id] { // no other one, and none twice
			ids, asked[id] = append(ids, id), false
		}
	}
	return ids, before, nil
}

// GoneSoon returns the time until a look that is to be soon.
func GoneSoon() time.Duration { return Jitter(goneSoon) }

// GoneLater returns the time until the next look.
func GoneLater(err error) time.Duration {
	if err != nil {
		return GoneSoon()
	}
	return Jitter(goneEvery)
}
