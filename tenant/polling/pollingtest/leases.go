package pollingtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// Harness is what the suite knows of the leases. Only Open is required.
type Harness struct {
	// Open returns leases that nobody has, which share nothing with any others
	// and are closed when t ends.
	Open func(t *testing.T) polling.Leases
	// Again returns other leases over the data of l, as another process would
	// open them. Nil has the suite use l itself.
	Again func(t *testing.T, l polling.Leases) polling.Leases
	// Brief is how long a lease lasts that is to end while the suite waits. 0
	// means 1 s, which suits a clock of whole seconds.
	Brief time.Duration
}

// What is to stay lasts for long. Patience is only ever spent by a test that
// fails.
const (
	long     = 10 * time.Minute
	patience = 30 * time.Second
)

type suite struct{ brief time.Duration }

// TestLeases tests leases.
func TestLeases(t *testing.T, h Harness) {
	s := suite{cmp.Or(h.Brief, time.Second)}
	for _, c := range []struct {
		name string
		test func(t *testing.T, a, b polling.Leases)
	}{
		{"a lease has one owner", oneOwner},
		{"a lease that was given back is free", givenBack},
		{"nobody gives back another's lease", anothers},
		{"a lease that ended is free", s.endedIsFree},
		{"a lease that is extended does not end when it would have", s.extended},
		{"a lease ends when it was last said", s.shortened},
		{"each tenant of a call is answered for itself, in order", inOrder},
		{"names are any text", anyText},
		{"no tenants are no error", nothing},
		{"of many who ask at the same time one gets each lease", together},
		{"owners know of each other", known},
		{"an owner that is silent is not there any more", s.silent},
		{"owners and tenants have names of their own", ownNames},
		{"of many who tell of themselves at the same time none is missed", knownTogether},
		{"a context that has ended takes nothing", contexts},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.Open(t)
			b := a
			if h.Again != nil {
				b = h.Again(t, a)
			}
			c.test(t, a, b)
		})
	}
}

func acquire(t testing.TB, l polling.Leases, owner string, ttl time.Duration, tenants ...string) []string {
	t.Helper()
	holders, err := l.Acquire(context.Background(), owner, tenants, ttl)
	require.NoError(t, err)
	require.Len(t, holders, len(tenants))
	return holders
}

func release(t testing.TB, l polling.Leases, owner string, tenants ...string) {
	t.Helper()
	require.NoError(t, l.Release(context.Background(), owner, tenants))
}

// eventually asks until owner has the lease.
func (s suite) eventually(t testing.TB, l polling.Leases, owner, tenant string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(s.brief / 20) {
		if acquire(t, l, owner, long, tenant)[0] == owner {
			return
		}
		require.True(t, time.Now().Before(deadline), "%s never gets the lease of %s", owner, tenant)
	}
}

func oneOwner(t *testing.T, a, b polling.Leases) {
	assert.Equal(t, []string{"a"}, acquire(t, a, "a", long, "shop"))
	assert.Equal(t, []string{"a"}, acquire(t, b, "b", long, "shop"))
	assert.Equal(t, []string{"a"}, acquire(t, a, "a", long, "shop"), "it is its own")
	assert.Equal(t, []string{"a"}, acquire(t, b, "", long, "shop"), "an empty name is one like others")
}

func givenBack(t *testing.T, a, b polling.Leases) {
	acquire(t, a, "a", long, "shop", "cafe")
	release(t, a, "a", "shop")
	assert.Equal(t, []string{"b", "a"}, acquire(t, b, "b", long, "shop", "cafe"))
	release(t, a, "a", "shop", "cafe", "not there")
	assert.Equal(t, []string{"b", "a"}, acquire(t, a, "a", long, "shop", "cafe"))
}

func anothers(t *testing.T, a, b polling.Leases) {
	acquire(t, a, "a", long, "shop")
	release(t, b, "b", "shop")
	assert.Equal(t, []string{"a"}, acquire(t, b, "b", long, "shop"))
}

func (s suite) endedIsFree(t *testing.T, a, b polling.Leases) {
	acquire(t, a, "a", s.brief, "shop")
	s.eventually(t, b, "b", "shop")
	assert.Equal(t, []string{"b"}, acquire(t, a, "a", long, "shop"), "the first has lost it")
	release(t, a, "a", "shop")
	assert.Equal(t, []string{"b"}, acquire(t, a, "a", long, "shop"), "and can't give it back")
}

func (s suite) extended(t *testing.T, a, b polling.Leases) {
	acquire(t, a, "a", s.brief, "shop", "mark")
	acquire(t, a, "a", long, "shop")
	s.eventually(t, b, "b", "mark") // the time is over, by the store's clock
	assert.Equal(t, []string{"a"}, acquire(t, b, "b", long, "shop"))
}

func (s suite) shortened(t *testing.T, a, b polling.Leases) {
	acquire(t, a, "a", long, "shop")
	acquire(t, a, "a", s.brief, "shop")
	s.eventually(t, b, "b", "shop")
}

func inOrder(t *testing.T, a, b polling.Leases) {
	ids := make([]string, 1000)
	want := make([]string, len(ids))
	for i := range ids {
		ids[i], want[i] = fmt.Sprint((i*7919)%len(ids)), "b"
		if i%3 == 0 {
			acquire(t, a, "a", long, ids[i])
			want[i] = "a"
		}
	}
	assert.Equal(t, want, acquire(t, b, "b", long, ids...))
	assert.Equal(t, []string{"a", "b", "a", "b"}, acquire(t, b, "b", long, ids[0], ids[1], ids[0], ids[1]), "some twice")
	release(t, b, "b", append(slices.Clone(ids), ids...)...)
	assert.Equal(t, slices.Repeat([]string{"a"}, len(ids)), acquire(t, a, "a", long, ids...))
}

func anyText(t *testing.T, a, b polling.Leases) {
	names := []string{"x", "X", "é", "e\u0301", "'; DROP TABLE leases; --", "%", "_", `\`, strings.Repeat("t", 128), "🤖", " x", "x "}
	for i, name := range names {
		owner := name
		assert.Equal(t, []string{owner}, acquire(t, a, owner, long, name), "name %d", i)
	}
	for i, name := range names {
		assert.Equal(t, []string{name}, acquire(t, b, "another", long, name), "name %d", i)
	}
}

func nothing(t *testing.T, a, _ polling.Leases) {
	assert.Empty(t, acquire(t, a, "a", long))
	release(t, a, "a")
}

func together(t *testing.T, a, b polling.Leases) {
	const owners, tenants = 8, 50
	ids := make([]string, tenants)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	got := make([][]string, owners)
	var all sync.WaitGroup
	for i := range owners {
		all.Go(func() {
			// Each in an order of its own, as loops over maps have it.
			mine := append(slices.Clone(ids[i*5:]), ids[:i*5]...)
			l := a
			if i%2 == 1 {
				l = b
			}
			holders, err := l.Acquire(context.Background(), fmt.Sprint("owner ", i), mine, long)
			if !assert.NoError(t, err) {
				return
			}
			got[i] = append(slices.Clone(holders[tenants-i*5:]), holders[:tenants-i*5]...)
		})
	}
	all.Wait()
	for i := 1; i < owners; i++ {
		assert.Equal(t, got[0], got[i], "all agree on who has what")
	}
}

func beat(t testing.TB, l polling.Leases, owner string, want int, ttl time.Duration) map[string]int {
	t.Helper()
	wants, err := l.Heartbeat(context.Background(), owner, want, ttl)
	require.NoError(t, err)
	return wants
}

func known(t *testing.T, a, b polling.Leases) {
	assert.Equal(t, map[string]int{"a": 5}, beat(t, a, "a", 5, long))
	assert.Equal(t, map[string]int{"a": 5, "b": 0}, beat(t, b, "b", 0, long))
	assert.Equal(t, map[string]int{"a": 1 << 30, "b": 0}, beat(t, a, "a", 1<<30, long), "the last word counts")
	assert.Equal(t, map[string]int{"b": 0}, beat(t, a, "a", 3, 0), "it leaves")
	assert.Equal(t, map[string]int{"b": 0}, beat(t, a, "a", 3, 0), "which it may do twice")
	assert.Equal(t, map[string]int{"b": 7}, beat(t, b, "b", 7, long))
}

func (s suite) silent(t *testing.T, a, b polling.Leases) {
	beat(t, a, "a", 1, s.brief)
	beat(t, a, "c", 1, s.brief)
	assert.Equal(t, map[string]int{"a": 1, "b": 1, "c": 2}, func() map[string]int {
		beat(t, a, "c", 2, long)
		return beat(t, b, "b", 1, long)
	}())
	for deadline := time.Now().Add(patience); ; time.Sleep(s.brief / 20) {
		if wants := beat(t, b, "b", 1, long); len(wants) == 2 {
			assert.Equal(t, map[string]int{"b": 1, "c": 2}, wants)
			return
		}
		require.True(t, time.Now().Before(deadline), "a stays for ever")
	}
}

func ownNames(t *testing.T, a, b polling.Leases) {
	names := []string{"shop", "Shop", "", "'; DROP TABLE leases; --", "%", `\`, strings.Repeat("o", 128), "🤖", " "}
	want := make(map[string]int)
	for i, name := range names {
		want[name] = i
		beat(t, a, name, i, long)
		if name != "" {
			assert.Equal(t, []string{"b"}, acquire(t, b, "b", long, name))
			release(t, a, name, name)
		}
	}
	assert.Equal(t, want, beat(t, b, "shop", 0, long))
	beat(t, a, "b", 0, 0)
	assert.Equal(t, []string{"b"}, acquire(t, a, "a", long, "shop"), "its leases do not end with its heartbeat")
}

func knownTogether(t *testing.T, a, b polling.Leases) {
	const owners = 10
	var all sync.WaitGroup
	for i := range owners {
		all.Go(func() {
			l := a
			if i%2 == 1 {
				l = b
			}
			for range 3 {
				wants, err := l.Heartbeat(context.Background(), fmt.Sprint(i), i, long)
				if assert.NoError(t, err) {
					assert.Equal(t, i, wants[fmt.Sprint(i)])
				}
			}
		})
	}
	all.Wait()
	assert.Len(t, beat(t, a, "0", 0, long), owners)
}

func contexts(t *testing.T, a, b polling.Leases) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := a.Acquire(ctx, "a", []string{"shop"}, long)
	assert.ErrorIs(t, err, errors.Canceled)
	assert.Equal(t, []string{"b"}, acquire(t, b, "b", long, "shop"))
	assert.ErrorIs(t, b.Release(ctx, "b", []string{"shop"}), errors.Canceled)
	assert.Equal(t, []string{"b"}, acquire(t, a, "a", long, "shop"))
	_, err = a.Heartbeat(ctx, "a", 1, long)
	assert.ErrorIs(t, err, errors.Canceled)
	assert.Equal(t, map[string]int{"b": 1}, beat(t, b, "b", 1, long))
}
