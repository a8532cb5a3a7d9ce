package healthtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// TestStore tests stores that open returns. Each must be empty; what open
// registers with t.Cleanup closes it.
func TestStore(t *testing.T, open func(*testing.T) health.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, health.Store)
	}{
		{"what was merged comes back", comesBack},
		{"counts are added and the later of two times stays", added},
		{"two replicas add to each other", twoReplicas},
		{"a flush counts once", once},
		{"a flush is applied whole or not at all", whole},
		{"pages hold all, once, by id", pages},
		{"a suspension survives what others save", suspension},
		{"what was not told before a crash is told after it, once", toldAfterCrash},
		{"a row that is refused for ever keeps no other one out", refusedRow},
		{"what was deleted is gone, and begins anew", deleted},
		{"what is not before a time stays", deletedBefore},
		{"errors have their kinds", kinds},
		{"writers at the same time lose nothing", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// day is a time that each database can hold exactly.
var day = time.Date(2026, 3, 29, 1, 30, 0, 123_000_000, time.UTC)

func full(tenant string) health.Snapshot {
	s := health.Snapshot{
		Tenant: tenant, Requests: 1 << 40, Failures: 20, Rejected: 3, Refused: 4,
		LastSuccess: day, LastFailure: day.Add(time.Second), LastFailureKind: errors.Timeout,
		LastUpdate: day.Add(2 * time.Second), RateLimitedUntil: day.Add(time.Hour),
		State:      health.State{At: day.Add(3 * time.Second), Status: health.Degraded, Since: day, Cause: 2, Streak: -3, Average: 81 * time.Millisecond},
		Webhook:    &health.WebhookInfo{At: day, Set: true, Pending: 7, LastErrorAt: day.Add(-time.Minute), LastError: "Read timeout expired – 'quoted'"},
		Suspension: &health.Suspension{Suspended: true, Quarantine: true, Reason: "why", At: day},
		Told:       &health.Told{At: day, Status: health.Degraded, Group: "platform"},
	}
	for i := range 100 {
		s.Latency.Add(time.Duration(i) * 10 * time.Millisecond)
	}
	return s
}

func load(t *testing.T, s health.Store) map[string]health.Snapshot {
	t.Helper()
	list, err := s.Load(context.Background(), "", 0)
	require.NoError(t, err)
	all := make(map[string]health.Snapshot)
	for _, snap := range list {
		all[snap.Tenant] = snap
	}
	require.Len(t, all, len(list))
	return all
}

func same(t *testing.T, want, got health.Snapshot) {
	t.Helper()
	w, err := want.Latency.MarshalBinary()
	require.NoError(t, err)
	g, err := got.Latency.MarshalBinary()
	require.NoError(t, err)
	assert.Equal(t, w, g, "latencies")
	want.Latency, got.Latency = health.Sketch{}, health.Sketch{}
	assert.Equal(t, want, got)
}

func merge(t *testing.T, s health.Store, writer string, seq uint64, snaps ...health.Snapshot) {
	t.Helper()
	require.NoError(t, s.Merge(context.Background(), health.Flush{Writer: writer, Seq: seq}, snaps))
}

func comesBack(t *testing.T, s health.Store) {
	want := full("täňant 🎉")
	in := want.Clone()
	merge(t, s, "w", 1, in, health.Snapshot{Tenant: "empty"})
	in.Webhook.Pending, in.Suspension.Reason = 99, "changed"
	in.Latency.Add(time.Second)
	got := load(t, s)
	require.Len(t, got, 2)
	same(t, want, got[want.Tenant])
	same(t, health.Snapshot{Tenant: "empty"}, got["empty"])
	got[want.Tenant].Webhook.Pending = 98
	same(t, want, load(t, s)[want.Tenant])
}

func added(t *testing.T, s health.Store) {
	first, second := full("a"), full("a")
	second.LastSuccess = day.Add(-time.Hour) // older: stays as it is
	second.LastFailure, second.LastFailureKind = day.Add(time.Hour), errors.Conflict
	second.State = health.State{At: day.Add(time.Hour), Status: health.Healthy, Streak: 4}
	second.Webhook = nil
	second.Told = &health.Told{At: day.Add(-time.Minute)}
	second.Suspension = &health.Suspension{At: day.Add(time.Minute)}
	merge(t, s, "w", 1, first)
	merge(t, s, "w", 2, second)
	want := first.Clone()
	want.Merge(second)
	got := load(t, s)["a"]
	same(t, want, got)
	assert.EqualValues(t, 2<<40, got.Requests)
	assert.EqualValues(t, 200, got.Latency.Count())
	assert.Equal(t, errors.Conflict, got.LastFailureKind)
	assert.Equal(t, day, got.LastSuccess)
	assert.False(t, got.Suspension.Suspended)
}

func twoReplicas(t *testing.T, s health.Store) {
	var want health.Snapshot
	for i := range 6 {
		snap := full("a")
		snap.Requests = uint64(i + 1)
		snap.State.At = day.Add(time.Duration(i) * time.Second)
		merge(t, s, fmt.Sprint("writer", i%2), uint64(i/2+1), snap)
		want.Merge(snap)
	}
	same(t, want, load(t, s)["a"])
	assert.EqualValues(t, 21, load(t, s)["a"].Requests)
}

func once(t *testing.T, s health.Store) {
	a := health.Snapshot{Tenant: "a", Requests: 1}
	merge(t, s, "w", 1, a)
	merge(t, s, "w", 1, a)
	merge(t, s, "w", 7, a) // numbers may be left out
	merge(t, s, "w", 7, a)
	merge(t, s, "w", 3, a, health.Snapshot{Tenant: "b", Requests: 1})
	merge(t, s, "v", 1, a)
	merge(t, s, "v", 1<<40)
	merge(t, s, "v", 1<<40, a)
	got := load(t, s)
	assert.EqualValues(t, 3, got["a"].Requests)
	assert.NotContains(t, got, "b")
}

func whole(t *testing.T, s health.Store) {
	a := health.Snapshot{Tenant: "a", Requests: 1}
	err := s.Merge(context.Background(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{a, {}})
	require.ErrorIs(t, err, errors.BadRequest)
	done, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, s.Merge(done, health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{a}), errors.Canceled)
	assert.Empty(t, load(t, s))
	merge(t, s, "w", 1, a) // the number is not used up
	assert.EqualValues(t, 1, load(t, s)["a"].Requests)
}

func pages(t *testing.T, s health.Store) {
	ctx := context.Background()
	var all []health.Snapshot
	for i := range 250 {
		all = append(all, health.Snapshot{Tenant: fmt.Sprintf("t%03d", i*7%250), Requests: uint64(i) + 1})
	}
	// Bytes decide on the order, not a language: "B" < "a" < "é" < "–".
	for _, id := range []string{"a", "B", "é", "–", "t", "T000"} {
		all = append(all, health.Snapshot{Tenant: id, Requests: 1})
	}
	merge(t, s, "w", 1, all...)
	var seen []string
	after := ""
	for {
		page, err := s.Load(ctx, after, 40)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		assert.LessOrEqual(t, len(page), 40)
		for _, snap := range page {
			seen = append(seen, snap.Tenant)
		}
		after = seen[len(seen)-1]
	}
	assert.Len(t, seen, len(all))
	assert.IsIncreasing(t, seen)
	none, err := s.Load(ctx, "\U0010ffff", 10)
	require.NoError(t, err)
	assert.Empty(t, none)
	some, err := s.Load(ctx, "", -1)
	require.NoError(t, err)
	assert.Len(t, some, len(all))
}

func suspension(t *testing.T, s health.Store) {
	merge(t, s, "w", 1, health.Snapshot{Tenant: "a", Suspension: &health.Suspension{Suspended: true, Reason: "unpaid", At: day}})
	merge(t, s, "v", 1, health.Snapshot{Tenant: "a", Requests: 5})
	merge(t, s, "v", 2, health.Snapshot{Tenant: "a", Suspension: &health.Suspension{At: day.Add(-time.Hour)}})
	got := load(t, s)["a"]
	assert.EqualValues(t, 5, got.Requests)
	require.NotNil(t, got.Suspension)
	assert.Equal(t, health.Suspension{Suspended: true, Reason: "unpaid", At: day}, *got.Suspension)
}

func deleted(t *testing.T, s health.Store) {
	ctx := context.Background()
	merge(t, s, "w", 1, full("a"), full("b"))
	require.NoError(t, s.Delete(ctx, "a", time.Time{}))
	require.NoError(t, s.Delete(ctx, "a", time.Time{}))
	require.NoError(t, s.Delete(ctx, "nobody", time.Time{}))
	got := load(t, s)
	assert.NotContains(t, got, "a")
	assert.Contains(t, got, "b")
	merge(t, s, "w", 1, full("a")) // repeated: stays deleted
	assert.NotContains(t, load(t, s), "a")
	merge(t, s, "w", 2, health.Snapshot{Tenant: "a", Requests: 1})
	assert.EqualValues(t, 1, load(t, s)["a"].Requests)
}

func deletedBefore(t *testing.T, s health.Store) {
	ctx := context.Background()
	merge(t, s, "w", 1, full("a"), full("b"), health.Snapshot{Tenant: "timeless", Requests: 1})
	latest := day.Add(3 * time.Second) // of the times in full
	require.NoError(t, s.Delete(ctx, "a", latest))
	require.NoError(t, s.Delete(ctx, "nobody", latest))
	got := load(t, s)
	same(t, full("a"), got["a"])
	same(t, full("b"), got["b"])
	require.NoError(t, s.Delete(ctx, "a", latest.Add(time.Microsecond)))
	require.NoError(t, s.Delete(ctx, "timeless", day))
	got = load(t, s)
	assert.Len(t, got, 1)
	assert.Contains(t, got, "b")
	merge(t, s, "v", 1, health.Snapshot{Tenant: "a", LastUpdate: latest.Add(time.Hour)}) // since
	require.NoError(t, s.Delete(ctx, "a", latest.Add(time.Minute)))
	assert.Contains(t, load(t, s), "a")
	done, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, s.Delete(done, "a", latest.Add(2*time.Hour)), errors.Canceled)
}

func kinds(t *testing.T, s health.Store) {
	ctx := context.Background()
	for _, bad := range []health.Flush{{}, {Writer: "w"}, {Seq: 1}} {
		assert.ErrorIs(t, s.Merge(ctx, bad, nil), errors.BadRequest)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.Load(done, "", 1)
	assert.ErrorIs(t, err, errors.Canceled)
	assert.ErrorIs(t, s.Delete(done, "a", time.Time{}), errors.Canceled)
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	_, err = s.Load(late, "", 1)
	assert.ErrorIs(t, err, errors.Timeout)
}

func concurrent(t *testing.T, s health.Store) {
	const writers, flushes = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for seq := range flushes {
				// All write the same rows, in different orders.
				snaps := []health.Snapshot{{Tenant: "a", Requests: 1}, {Tenant: "b", Requests: 2}, {Tenant: fmt.Sprint("own", w), Requests: 1}}
				if w%2 == 0 {
					snaps[0], snaps[1] = snaps[1], snaps[0]
				}
				for range 2 { // the second time it is a repetition
					assert.NoError(t, s.Merge(context.Background(), health.Flush{Writer: fmt.Sprint(w), Seq: uint64(seq + 1)}, snaps))
				}
			}
		})
	}
	wg.Wait()
	got := load(t, s)
	assert.EqualValues(t, writers*flushes, got["a"].Requests)
	assert.EqualValues(t, 2*writers*flushes, got["b"].Requests)
	assert.Len(t, got, 2+writers)
}
