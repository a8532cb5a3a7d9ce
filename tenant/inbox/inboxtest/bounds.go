package inboxtest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// full wants an update to have been refused for want of room.
func full(t *testing.T, o inbox.Outcome, scope errors.Scope) {
	t.Helper()
	require.ErrorIs(t, o.Err, inbox.ErrFull)
	require.ErrorIs(t, o.Err, errors.Throttled)
	assert.Positive(t, errors.RetryAfter(o.Err))
	assert.False(t, o.Duplicate)
	e, ok := errors.AsType[*errors.Error](o.Err)
	require.True(t, ok)
	assert.Equal(t, scope, e.Scope)
}

func fullTenant(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "2", 2), update("a", "3", 3))
	o := b.outcomes(update("a", "4", 4), update("b", "1", 1), update("a", "1", 1))
	full(t, o[0], errors.ScopeTenant)
	assert.Equal(t, []inbox.Outcome{{}, {Duplicate: true}}, o[1:], "others have room, and what is known may be confirmed")
	leases := b.lease(1, 2, 3, 1)
	full(t, b.outcomes(update("a", "4", 4))[0], errors.ScopeTenant)
	for _, l := range leases {
		if l.Tenant == "a" && l.ID == 2 {
			b.settle(l, inbox.Bury, 0)
		}
	}
	b.put(update("a", "4", 4))
	full(t, b.outcomes(update("a", "5", 5))[0], errors.ScopeTenant)
	n, err := b.in.Replay(b.ctx, []inbox.Ref{{Tenant: "a", ID: 2}})
	require.NoError(t, err)
	assert.Equal(t, 1, n, "a replay asks for no room")
	b.depth("a", 2, 2, 0)
}

func fullAll(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "1", 2), update("b", "1", 1), update("c", "1", 1))
	o := b.outcomes(update("d", "1", 1), update("c", "1", 1))
	full(t, o[0], errors.ScopeAll)
	assert.Equal(t, inbox.Outcome{Duplicate: true}, o[1])
	b.settle(b.lease(1, 1, 1)[0], inbox.Done, 0)
	b.put(update("d", "1", 1))
	full(t, b.outcomes(update("d", "1", 2))[0], errors.ScopeAll)
	require.NoError(t, b.in.Forget(b.ctx, "d"))
	b.put(update("d", "1", 2))
}

func refusedTogether(t *testing.T, b *bench) {
	b.put(update("a", "1", 1))
	o := b.outcomes(update("a", "1", 2), update("a", "1", 3), update("b", "1", 1), update("a", "1", 1), update("a", "2", 4), update("b", "1", 2))
	assert.Equal(t, inbox.Outcome{}, o[0])
	full(t, o[1], errors.ScopeTenant)
	assert.Equal(t, inbox.Outcome{}, o[2])
	assert.Equal(t, inbox.Outcome{Duplicate: true}, o[3])
	full(t, o[4], errors.ScopeTenant)
	assert.Equal(t, inbox.Outcome{}, o[5])
	for _, l := range b.lease(1, 1) {
		b.settle(l, inbox.Done, 0)
	}
	b.put(update("a", "1", 3)) // a refused id is not remembered
}

func expiredRoom(t *testing.T, b *bench) {
	for id := int64(1); id <= 2; id++ {
		u := update("a", "1", id)
		u.ExpiresAt = time.Now().Add(30 * time.Second)
		b.put(u)
	}
	full(t, b.outcomes(update("a", "1", 3))[0], errors.ScopeTenant)
	b.advance(31 * time.Second)
	b.put(update("a", "1", 3))
	b.one(3)
}

func turns(t *testing.T, b *bench) {
	for i := range 30 {
		b.put(update("flood", "1"+string(rune('a'+i)), int64(i+1)))
	}
	b.put(update("b", "1", 1), update("b", "2", 2), update("c", "1", 1))
	take := func(limit int) map[string]int {
		leases, err := b.in.Lease(b.ctx, inbox.Want{Limit: limit, TTL: ttl})
		require.NoError(t, err)
		require.LessOrEqual(t, len(leases), limit)
		got := make(map[string]int)
		for _, l := range leases {
			got[l.Tenant]++
		}
		return got
	}
	assert.Equal(t, map[string]int{"flood": 1, "b": 1, "c": 1}, take(3))
	assert.Equal(t, map[string]int{"flood": 4, "b": 1}, take(5))
	// Turns go on from call to call, so that nobody is passed over for ever.
	for i := range 10 {
		b.put(update("d", "2"+string(rune('a'+i)), int64(i+1)))
	}
	got := make(map[string]int)
	for range 8 {
		for tenant, n := range take(1) {
			got[tenant] += n
		}
	}
	assert.Len(t, got, 2)
	assert.InDelta(t, got["flood"], got["d"], 2, "%v", got)
}

func perTenant(t *testing.T, b *bench) {
	for i := range 10 {
		b.put(update("a", "1"+string(rune('a'+i)), int64(i+1)), update("b", "1"+string(rune('a'+i)), int64(i+1)))
	}
	take := func(w inbox.Want) (a, both int) {
		w.TTL = ttl
		leases, err := b.in.Lease(b.ctx, w)
		require.NoError(t, err)
		for _, l := range leases {
			if l.Tenant == "a" {
				a++
			}
		}
		return a, len(leases)
	}
	a, both := take(inbox.Want{Limit: 100, PerTenant: 3})
	assert.Equal(t, [2]int{3, 6}, [2]int{a, both})
	a, both = take(inbox.Want{Limit: 100, PerTenant: 3, Held: map[string]int{"a": 3, "b": 2, "c": 9}})
	assert.Equal(t, [2]int{0, 1}, [2]int{a, both})
	a, both = take(inbox.Want{Limit: 4, PerTenant: 100, Held: map[string]int{"a": 99}})
	assert.Equal(t, [2]int{1, 4}, [2]int{a, both})
	a, both = take(inbox.Want{Limit: 100, Held: map[string]int{"a": 99}})
	assert.Equal(t, [2]int{6, 9}, [2]int{a, both}, "no bound")
}

// sharedOut has tenants with different numbers of chats and leases of all sizes.
func sharedOut(t *testing.T, b *bench) {
	has := map[string]int{"a": 1, "b": 2, "c": 3, "d": 5, "e": 8, "f": 13, "g": 21, "h": 34}
	var batch []inbox.Update
	for tenant, n := range has {
		for i := range n {
			batch = append(batch, update(tenant, fmt.Sprint(i), int64(i+1)))
		}
	}
	b.put(batch...)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		want := inbox.Want{Limit: 1 + rnd.IntN(100), TTL: ttl, PerTenant: []int{0, 1, 4, 16}[rnd.IntN(4)], Held: make(map[string]int)}
		some := min(want.Limit, 8)
		most, rooms := 0, make(map[string]int)
		for tenant, n := range has {
			if rnd.IntN(3) == 0 {
				want.Held[tenant] = rnd.IntN(6)
			}
			rooms[tenant] = min(n, want.Limit)
			if want.PerTenant > 0 {
				rooms[tenant] = min(n, want.Room(tenant))
			}
			most += rooms[tenant]
		}
		leases, err := b.in.Lease(b.ctx, want)
		require.NoError(t, err)
		require.Len(t, leases, min(want.Limit, most), "%+v", want)
		got := make(map[string]int)
		var back []inbox.Settlement
		for _, l := range leases {
			got[l.Tenant]++
			back = append(back, inbox.Settlement{Lease: l, Verdict: inbox.Return})
		}
		held, err := b.in.Settle(b.ctx, back)
		require.NoError(t, err)
		require.NotContains(t, held, false)
		for tenant, n := range got {
			require.LessOrEqual(t, n, rooms[tenant], "%s of %+v", tenant, want)
		}
		wanted := 0
		for _, room := range rooms {
			if room > 0 {
				wanted++
			}
		}
		require.Len(t, got, min(some, wanted), "nobody has two before all have one: %+v", want)
	}
}

// manyHeld has many tenants with updates of which nothing is wanted, since
// they are suspended, beside some that others' are wanted of.
func manyHeld(t *testing.T, b *bench) {
	const many, some = 600, 20
	want := inbox.Want{Limit: 50, TTL: ttl, PerTenant: 16, Held: make(map[string]int)}
	var batch []inbox.Update
	for n := range many {
		tenant := fmt.Sprintf("held %04d", n)
		want.Held[tenant] = want.PerTenant
		batch = append(batch, update(tenant, "1", 1), update(tenant, "2", 2))
	}
	b.put(batch...)
	lease := func() map[string]int {
		leases, err := b.in.Lease(b.ctx, want)
		require.NoError(t, err)
		got := make(map[string]int)
		var done []inbox.Settlement
		for _, l := range leases {
			got[l.Tenant]++
			require.Positive(t, want.Room(l.Tenant), "%s is held", l.Tenant)
			done = append(done, inbox.Settlement{Lease: l, Verdict: inbox.Done})
		}
		held, err := b.in.Settle(b.ctx, done)
		require.NoError(t, err)
		require.NotContains(t, held, false)
		return got
	}
	require.Empty(t, lease())
	for round := range 3 {
		batch = batch[:0]
		for n := range some { // among the others
			for c := range 3 {
				batch = append(batch, update(fmt.Sprintf("held %04d, not", n*many/some), fmt.Sprint(c), int64(round*10+c+1)))
			}
		}
		b.put(batch...)
		first := lease()
		require.Len(t, first, some, "each has one before any has three")
		for tenant, n := range lease() {
			first[tenant] += n
		}
		for tenant, n := range first {
			require.Equal(t, 3, n, tenant)
		}
		require.Empty(t, lease())
	}

	// Leases that lapse, and tries whose time has come, are found as well.
	b.put(update("lapses", "1", 1), update("waits", "1", 1))
	leases, err := b.in.Lease(b.ctx, want)
	require.NoError(t, err)
	require.Len(t, leases, 2)
	for _, l := range leases {
		if l.Tenant == "waits" {
			b.settle(l, inbox.Retry, 30*time.Second)
		}
	}
	require.Empty(t, lease())
	b.advance(ttl + time.Second)
	require.Equal(t, map[string]int{"lapses": 1, "waits": 1}, lease())

	// And each is lent from as soon as something is wanted of it, of one on
	// trial one update.
	want.Held["held 0007"] = want.PerTenant - 1
	delete(want.Held, "held 0599")
	require.Equal(t, map[string]int{"held 0007": 1, "held 0599": 2}, lease())
	b.advance(2 * time.Second)
	want.Held, want.Limit = nil, 2*many
	left := 0
	for _, n := range lease() {
		left += n
	}
	require.Equal(t, 2*many-3, left)
}

func depth(t *testing.T, b *bench) {
	old := update("a", "1", 1)
	old.ReceivedAt = time.Now().Add(-time.Hour)
	b.put(old, update("a", "1", 2), update("b", "1", 1))
	d := b.depth("a", 2, 0, 0)
	assert.WithinDuration(t, old.ReceivedAt, d.Oldest, time.Millisecond)
	assert.InDelta(t, time.Hour, d.Age(time.Now()), float64(time.Minute))
	d = b.depth("", 3, 0, 0)
	assert.WithinDuration(t, old.ReceivedAt, d.Oldest, time.Millisecond)
	for _, l := range b.lease(1, 1) {
		if l.Tenant == "a" {
			d = b.depth("a", 1, 1, 0)
			assert.WithinDuration(t, old.ReceivedAt, d.Oldest, time.Millisecond, "one that is leased is there too")
			b.settle(l, inbox.Done, 0)
		}
	}
	d = b.depth("a", 1, 0, 0)
	assert.Less(t, d.Age(time.Now()), 30*time.Minute)
	b.depth("", 1, 1, 0)
	assert.Zero(t, inbox.Depth{}.Age(time.Now()))
}

func forget(t *testing.T, b *bench) {
	b.kill(update("a", "1", 1))
	b.put(update("a", "1", 2), update("a", "1", 3), update("a", "2", 4), update("b", "1", 1))
	leases := b.lease(2, 4, 1)
	require.NoError(t, b.in.Forget(b.ctx, "a"))
	b.depth("a", 0, 0, 0)
	b.depth("", 0, 1, 0)
	assert.Empty(t, b.dead(inbox.DeadFilter{}))
	for _, l := range leases {
		assert.Equal(t, l.Tenant == "b", b.settled(inbox.Settlement{Lease: l, Verdict: inbox.Done}))
	}
	b.put(update("a", "1", 1)) // its duplicates are forgotten too
	b.one(1)
	b.advance(2 * ttl)
	b.one(1)
}
