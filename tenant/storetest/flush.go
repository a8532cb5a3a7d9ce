package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/health/usage/usagetest"
	"github.com/tgfleet/tgfleet/tenant"
)

func (s suite) health(t *testing.T) {
	healthtest.TestStore(t, func(t *testing.T) health.Store { return s.Health(s.Open(t, s.ring)) })
}

func (s suite) usage(t *testing.T) {
	usagetest.TestStore(t, func(t *testing.T) usage.Store { return s.Usage(s.Open(t, s.ring)) })
}

var (
	firstHour = time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC)
	allHours  = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
)

// flusher writes health and usage as a replica does: each flush counts one
// request for a tenant that all replicas serve, and one for its own.
type flusher struct {
	name   string
	health health.Store
	usage  usage.Store
	seq    uint64 // of the pending flush
	added  bool   // to health
	seen   uint64
}

// flush tries the pending flush once.
func (f *flusher) flush(ctx context.Context) error {
	if !f.added {
		err := f.health.Merge(ctx, health.Flush{Writer: f.name, Seq: f.seq}, []health.Snapshot{
			{Tenant: f.name, Requests: 1}, {Tenant: "all", Requests: 1},
		})
		if err != nil {
			return err
		}
		f.added = true
	}
	start := firstHour.Add(time.Duration(f.seq%48) * time.Hour)
	err := f.usage.Add(ctx, health.Flush{Writer: f.name + " usage", Seq: f.seq}, []usage.Rollup{
		{Tenant: f.name, Start: start, Requests: 1}, {Tenant: "all", Start: start, Requests: 1},
	})
	if err != nil {
		return err
	}
	f.added = false
	f.seq++
	return nil
}

func (f *flusher) done() uint64 { return f.seq - 1 }

// look reads, beside what others write: a flush is seen whole or not at all, and
// nothing that was seen goes away.
func (f *flusher) look(t *testing.T, ctx context.Context) error {
	page, err := f.health.Load(ctx, "", 0)
	if err != nil {
		return err
	}
	all, own := uint64(0), uint64(0)
	for _, snap := range page {
		if snap.Tenant == "all" {
			all = snap.Requests
		} else {
			own += snap.Requests
		}
	}
	assert.Equal(t, all, own, "a flush was seen by half")
	list, err := f.usage.Range(ctx, "all", firstHour, allHours)
	if err != nil {
		return err
	}
	n := requestsOf(list)
	assert.GreaterOrEqual(t, n, f.seen, "what was counted is gone")
	f.seen = n
	return nil
}

// step flushes, looks on, and turns hours into days to which others add. The
// error is of the flush, which is then to be tried again.
func (f *flusher) step(t *testing.T, ctx context.Context, beside func(error)) error {
	if err := f.flush(ctx); err != nil {
		return err
	}
	if err := f.look(t, ctx); err != nil {
		beside(err)
	}
	if f.done()%3 == 0 {
		if _, err := f.usage.Compact(ctx, allHours, 4); err != nil {
			beside(err)
		}
	}
	return nil
}

func requestsOf(list []usage.Rollup) (n uint64) {
	for _, r := range list {
		n += r.Requests
	}
	return n
}

// checkFlushed checks that each flush was counted once.
func checkFlushed(t *testing.T, h health.Store, u usage.Store, flushers []*flusher) {
	t.Helper()
	page, err := h.Load(t.Context(), "", 0)
	require.NoError(t, err)
	got := map[string]uint64{}
	for _, snap := range page {
		got[snap.Tenant] = snap.Requests
	}
	want, counted := map[string]uint64{}, map[string]uint64{}
	for _, f := range flushers {
		want[f.name] = f.done()
		want["all"] += f.done()
	}
	assert.Equal(t, want, got, "health")
	for name := range want {
		list, err := u.Range(t.Context(), name, firstHour, allHours)
		require.NoError(t, err)
		counted[name] = requestsOf(list)
	}
	assert.Equal(t, want, counted, "usage")
}

// flushes lets replicas write at the same time, each over a store of its own.
func (s suite) flushes(t *testing.T) {
	first := s.Open(t, s.ring)
	stores := []tenant.Store{first, s.Again(t, first, s.ring), s.Again(t, first, s.ring)}
	var flushers []*flusher
	var wg sync.WaitGroup
	for i, store := range stores {
		for k := range 2 {
			f := &flusher{name: fmt.Sprint("replica ", i, " ", k), health: s.Health(store), usage: s.Usage(store), seq: 1}
			flushers = append(flushers, f)
			wg.Go(func() {
				for f.done() < 30 {
					if !assert.NoError(t, f.step(t, t.Context(), func(err error) { assert.NoError(t, err) })) {
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for _, store := range stores {
		checkFlushed(t, s.Health(store), s.Usage(store), flushers)
	}

	// Another process may be asked to apply what this one did.
	again := *flushers[0]
	again.health, again.usage = s.Health(stores[1]), s.Usage(stores[1])
	again.seq--
	require.NoError(t, again.flush(t.Context()))
	checkFlushed(t, s.Health(first), s.Usage(first), flushers)
}

// flushFault lets replicas write while something goes wrong. Each repeats a
// flush until it is told of its success, and it counts once.
func (s suite) flushFault(t *testing.T, f Fault) {
	store, begin := f.Open(t, s.ring)
	h, u := s.Health(store), s.Usage(store)
	const calm = 5 // flushes that succeed before the fault and after it
	var failed atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	healed := make(chan struct{})
	var flushers []*flusher
	var ready, wg sync.WaitGroup
	for i := range 3 {
		f := &flusher{name: fmt.Sprint("writer ", i), health: h, usage: u, seq: 1}
		flushers = append(flushers, f)
		ready.Add(1)
		wg.Go(func() {
			step := func() {
				if err := f.step(t, ctx, func(err error) { checkKind(t, err) }); err != nil {
					checkKind(t, err)
					failed.Add(1)
				}
			}
			for f.done() < calm && ctx.Err() == nil {
				step()
			}
			ready.Done()
			for !closed(healed) && ctx.Err() == nil {
				step()
			}
			for last := f.done() + calm; f.done() < last && ctx.Err() == nil; {
				step()
			}
		})
	}
	ready.Wait()
	before := failed.Load()
	end := begin()
	for failed.Load() == before && ctx.Err() == nil {
		if err := h.Merge(ctx, health.Flush{Writer: "probe", Seq: 1}, nil); err != nil {
			checkKind(t, err)
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
	for _, store := range s.views(t, store) {
		checkFlushed(t, s.Health(store), s.Usage(store), flushers)
	}
}
