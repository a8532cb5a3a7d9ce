package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// fault lets writers write while something goes wrong. Afterwards nothing that
// was confirmed is missing, and nothing is there by half: each record's parts
// say its version, and the log has one entry for each version.
func (s suite) fault(t *testing.T, f Fault) {
	store, begin := f.Open(t, s.ring)
	const writers = 4
	const calm = 5 // changes that succeed before the fault and after it
	var confirmed [writers]int64
	var failed atomic.Int64
	var wg sync.WaitGroup
	var ready sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	ready.Add(writers)
	healed := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			id := fmt.Sprint("writer-", w)
			attempt := func() bool {
				r, err := store.Get(ctx, id)
				if err != nil && !errors.Is(err, errors.NotFound) {
					checkKind(t, err)
					failed.Add(1)
					return false
				}
				// A change that failed and was made all the same counts as
				// confirmed once it was seen.
				confirmed[w] = max(confirmed[w], r.Version)
				next := numberedBy(t, id, w, r.Version+1)
				stored, err := store.Put(ctx, next, entry("change"))
				if err != nil {
					checkKind(t, err)
					failed.Add(1)
					return false
				}
				assert.Equal(t, next.Version+1, stored.Version)
				confirmed[w] = stored.Version
				return true
			}
			for n := 0; n < calm && ctx.Err() == nil; {
				if attempt() {
					n++
				}
			}
			ready.Done()
			for ctx.Err() == nil && !closed(healed) {
				attempt()
			}
			for n := 0; n < calm && ctx.Err() == nil; {
				if attempt() {
					n++
				}
			}
		})
	}
	ready.Wait()
	before := failed.Load()
	end := begin()
	for failed.Load() == before && ctx.Err() == nil {
		_, err := store.Put(ctx, numberedBy(t, "probe", writers, 1), entry("change"))
		if err != nil && !errors.Is(err, errors.Exists) {
			failed.Add(1)
		}
	}
	assert.Greater(t, failed.Load(), before, "the fault was not felt")
	if end != nil {
		end()
	}
	close(healed)
	wg.Wait()
	require.NoError(t, ctx.Err(), "it does not recover")

	for _, check := range s.views(t, store) {
		for w := range writers {
			id := fmt.Sprint("writer-", w)
			r, err := check.Get(t.Context(), id)
			require.NoError(t, err)
			assert.Equal(t, confirmed[w], r.Version, "confirmed and lost, or the other way round")
			checkNumbered(t, r)
			log := logOf(t, check, id)
			require.Len(t, log, int(r.Version), "the record and its log are of one transaction")
			for i, e := range log {
				assert.Equal(t, int64(i+1), e.Version)
			}
		}
		if r, there := settled(t, check, "probe", 1); there {
			checkNumbered(t, r)
		}
	}
}

// views returns the store, and another over the same data.
func (s suite) views(t *testing.T, store tenant.Store) []tenant.Store {
	if s.Again == nil {
		return []tenant.Store{store}
	}
	return []tenant.Store{store, s.Again(t, store, s.ring)}
}

// checkKind reports an error that does not say what its caller should do.
func checkKind(t *testing.T, err error) {
	switch errors.KindOf(err) {
	case errors.StoreUnavailable, errors.Timeout, errors.Stale, errors.Exists:
		// The last two: an attempt that failed was carried out all the same,
		// and the read before this one came from before it.
	default:
		assert.Failf(t, "a fault's error is of another kind", "%v: %v", errors.KindOf(err), err)
	}
	assert.NotContains(t, err.Error(), canary)
}

// numberedBy returns a record like numbered, with a bot that no other writer
// uses.
func numberedBy(t testing.TB, id string, writer int, version int64) tenant.Record {
	r := numbered(t, id, version)
	r.BotID = int64(writer+1)*1_000_000_000 + 1000 + version
	r.Token = Record(t, id, r.BotID).Token
	return r
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
