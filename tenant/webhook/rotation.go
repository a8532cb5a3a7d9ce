package webhook

import (
	"fmt"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Accept makes the keys take what is signed with another key too, until a time;
// zero is for ever, and one that has passed ends it at once. It is the first
// step of a rotation, and changes the time of a key that is accepted already.
// For the current key it does nothing: that one is accepted as long as it is
// the current one.
//
// A generation that another key has already is an error of kind
// [errors.BadRequest].
func (k *Keys) Accept(key Key, until time.Time) error { return k.accept(key, until, time.Now()) }

func (k *Keys) accept(key Key, until time.Time, now time.Time) error {
	const op = "accept a webhook key"
	d, err := derive(key)
	if err != nil {
		return fail(op, "", errors.BadRequest, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.still(now)
	at, err := find(all, d)
	switch {
	case err != nil:
		return fail(op, "", errors.BadRequest, err)
	case at == 0:
		return nil
	}
	if at > 0 {
		all[at].until = until
	} else {
		all = append(all, accepted{derived: d, until: until})
	}
	k.set.Store(&keySet{current: all[0].derived, all: all})
	return nil
}

// Rotate makes next the current key, with which webhooks are set from now on,
// and accepts the one before for grace more; 0 is not at all. next is a key
// that is accepted, newer or older, or one with a greater generation than any
// so far. To rotate to the key that is current already changes nothing, so
// that a rotation may be repeated.
//
// See [Keys] for how a fleet of replicas rotates. Errors are of kind
// [errors.BadRequest] and leave the keys as they were.
func (k *Keys) Rotate(next Key, grace time.Duration) error { return k.rotate(next, grace, time.Now()) }

func (k *Keys) rotate(next Key, grace time.Duration, now time.Time) error {
	const op = "rotate webhook keys"
	d, err := derive(next)
	if err != nil {
		return fail(op, "", errors.BadRequest, err)
	}
	if grace < 0 {
		return fail(op, "", errors.BadRequest, errors.New("grace is negative"))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.still(now)
	at, err := find(old, d)
	switch {
	case err != nil:
		return fail(op, "", errors.BadRequest, err)
	case at == 0:
		return nil
	case at < 0:
		for _, a := range old {
			if a.generation > d.generation {
				return fail(op, "", errors.BadRequest, fmt.Errorf("generation %d is not accepted, and not greater than %d", d.generation, a.generation))
			}
		}
	}
	all := []accepted{{derived: d}}
	for i, a := range old {
		switch i {
		case at:
			continue
		case 0:
			a.until, a.retired = now.Add(grace), true
		}
		all = append(all, a)
	}
	k.set.Store(&keySet{current: d, all: all})
	return nil
}

// find returns where a key is among all, -1 where it is not. Another key of
// its generation is an error.
func find(all []accepted, d *derived) (int, error) {
	for i, a := range all {
		switch {
		case a.generation != d.generation:
		case a.print != d.print:
			return 0, fmt.Errorf("generation %d is another key's", d.generation)
		default:
			return i, nil
		}
	}
	return -1, nil
}

// ahead reports whether a generation is one that other replicas have rotated
// to already, and not one that was rolled back from.
func (s *keySet) ahead(generation uint32) bool {
	return generation > s.current.generation &&
		!slices.ContainsFunc(s.all, func(a accepted) bool { return a.generation == generation && a.retired })
}

// still returns a copy of the keys without those whose time is over. That a
// newer one was gone back from stays known: there may be webhooks that still
// have it.
func (k *Keys) still(now time.Time) []accepted {
	set := k.set.Load()
	return slices.DeleteFunc(slices.Clone(set.all), func(a accepted) bool {
		return a.expired(now) && (!a.retired || a.generation < set.current.generation)
	})
}

func (a *accepted) expired(now time.Time) bool { return !a.until.IsZero() && !now.Before(a.until) }
