package webhook_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

func generation(g uint32) webhook.Key { return webhook.Key{Master: master, Generation: g} }

// of are the keys that a process has that knows just one.
func of(t testing.TB, key webhook.Key) *webhook.Keys {
	t.Helper()
	k, err := webhook.NewKeys(key)
	require.NoError(t, err)
	return k
}

// takes reports whether keys take what is signed with another.
func takes(t testing.TB, keys *webhook.Keys, key webhook.Key) bool {
	t.Helper()
	signed := of(t, key)
	return opens(t, keys, signed.Path("a"), signed.Secret("a"))
}

func TestAKeyThatIsAcceptedCanBeRotatedToAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		require.NoError(t, keys.Accept(generation(2), time.Time{}))
		assert.True(t, takes(t, keys, generation(2)))
		assert.Equal(t, uint32(1), keys.Generation(), "it is not the current one yet")
		require.NoError(t, keys.Rotate(generation(2), time.Hour))
		assert.Equal(t, of(t, generation(2)).Path("a"), keys.Path("a"))
		assert.Equal(t, of(t, generation(2)).Secret("a"), keys.Secret("a"))
		time.Sleep(59 * time.Minute)
		require.NoError(t, keys.Rotate(generation(2), time.Hour), "a rotation may be repeated")
		assert.True(t, takes(t, keys, generation(1)))
		require.NoError(t, keys.Rotate(generation(1), time.Hour), "back")
		assert.Equal(t, uint32(1), keys.Generation())
		assert.Equal(t, "webhook keys 1 2", keys.String())
		time.Sleep(59 * time.Minute)
		assert.True(t, takes(t, keys, generation(1)), "the current key has no end")
		assert.True(t, takes(t, keys, generation(2)))
		time.Sleep(time.Minute)
		assert.True(t, takes(t, keys, generation(1)))
		assert.False(t, takes(t, keys, generation(2)))
	})
}

func TestAKeyIsAcceptedUntilItsTimeWhichMayChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		require.NoError(t, keys.Accept(generation(2), time.Now().Add(time.Minute)))
		time.Sleep(59 * time.Second)
		assert.True(t, takes(t, keys, generation(2)))
		require.NoError(t, keys.Accept(generation(2), time.Now().Add(time.Minute)))
		time.Sleep(59 * time.Second)
		assert.True(t, takes(t, keys, generation(2)))
		time.Sleep(time.Second)
		assert.False(t, takes(t, keys, generation(2)))
		require.NoError(t, keys.Accept(generation(2), time.Time{}))
		time.Sleep(10_000 * time.Hour)
		assert.True(t, takes(t, keys, generation(2)))
		require.NoError(t, keys.Accept(generation(2), time.Now()))
		assert.False(t, takes(t, keys, generation(2)), "one that leaked ends at once")
		require.NoError(t, keys.Accept(generation(1), time.Now()))
		assert.True(t, takes(t, keys, generation(1)), "the current one is the current one")
		require.NoError(t, keys.Rotate(generation(3), 0))
		assert.False(t, takes(t, keys, generation(1)), "no grace")
	})
}

func TestAKeyThatDoesNotFitChangesNothing(t *testing.T) {
	keys := newKeys(t, webhook.Accepted{Key: generation(4)})
	other := webhook.Key{Master: []byte(strings.Repeat("o", 32))}
	for _, g := range []uint32{1, 4} {
		other.Generation = g
		assert.ErrorIs(t, keys.Accept(other, time.Time{}), errors.BadRequest)
		assert.ErrorIs(t, keys.Rotate(other, time.Hour), errors.BadRequest)
	}
	other.Generation = 3
	assert.ErrorIs(t, keys.Rotate(other, time.Hour), errors.BadRequest, "it is not accepted, and not the newest")
	assert.ErrorIs(t, keys.Accept(webhook.Key{Master: master[:31], Generation: 5}, time.Time{}), errors.BadRequest)
	assert.ErrorIs(t, keys.Rotate(webhook.Key{Master: master[:31], Generation: 5}, 0), errors.BadRequest)
	assert.ErrorIs(t, keys.Rotate(generation(4), -1), errors.BadRequest)
	assert.Equal(t, "webhook keys 1 4", keys.String())
	require.NoError(t, keys.Accept(other, time.Time{}))
	require.NoError(t, keys.Rotate(other, 0), "but then it is")
	assert.Equal(t, "webhook keys 3 1 4", keys.String())
}

// Many change the keys at once: none of what they did goes missing.
func TestConcurrentChangesAllCount(t *testing.T) {
	const many, each = 8, 100
	keys := newKeys(t)
	var wg sync.WaitGroup
	for i := range uint32(many) {
		wg.Go(func() {
			for n := range uint32(each) {
				g := 2 + i*each + n
				assert.NoError(t, keys.Accept(generation(g), time.Time{}))
				if n%4 == 0 {
					assert.NoError(t, keys.Rotate(generation(g), time.Hour))
				}
			}
		})
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, g := range strings.Fields(keys.String()) {
		seen[g] = true
	}
	for g := range uint32(many*each + 1) {
		assert.True(t, seen[fmt.Sprint(g+1)], g+1)
	}
	assert.Len(t, strings.Fields(keys.String()), 2+many*each+1, "each once")
}

// Replicas that have rotated, have not yet, and have gone back agree on whose
// webhooks are set.
func TestAManagerKnowsARotationAheadFromOneGoneBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "a")
		m := newMemory(t, inbox.MemoryConfig{})
		reconcile := func(keys *webhook.Keys) string {
			t.Helper()
			h, err := webhook.NewManager(f.pool, f.Manager, keys, unpaced(webhook.ManagerConfig{URL: hookURL}))
			require.NoError(t, err)
			r, err := h.Reconcile(bg, webhook.Reconcile{})
			require.NoError(t, err)
			require.Zero(t, r.Failed)
			return fmt.Sprintf("%d set, %d right, %d newer", r.Changed, r.Right, r.Newer)
		}
		one, two := newKeys(t), newKeys(t)
		for _, k := range []*webhook.Keys{one, two} {
			require.NoError(t, k.Accept(generation(2), time.Time{}))
		}
		require.NoError(t, two.Rotate(generation(2), time.Hour))
		assert.Equal(t, "1 set, 0 right, 0 newer", reconcile(two))
		assert.Equal(t, "0 set, 0 right, 1 newer", reconcile(one), "it accepts it, and waits to rotate")
		assert.Equal(t, "0 set, 0 right, 1 newer", reconcile(newKeys(t)), "one that was started older")
		bot, ann := f.add(t, "b"), f.srv.NewUser("Ann")
		f.deliverTo(newReceiver(t, m, one, webhook.Config{}))
		assert.Equal(t, "1 set, 1 right, 0 newer", reconcile(two))
		ann.Write(bot, "hi")
		synctest.Wait()
		assert.Equal(t, 1, depth(t, m), "the replica behind receives it")

		require.NoError(t, two.Rotate(generation(1), time.Hour))
		assert.Equal(t, "2 set, 0 right, 0 newer", reconcile(two), "back")
		assert.Equal(t, "0 set, 2 right, 0 newer", reconcile(one))
		require.NoError(t, one.Rotate(generation(2), time.Hour))
		assert.Equal(t, "2 set, 0 right, 0 newer", reconcile(one))
		time.Sleep(2 * time.Hour)
		require.NoError(t, two.Accept(generation(7), time.Time{}))
		assert.Equal(t, "2 set, 0 right, 0 newer", reconcile(two), "also when its grace is over")
		require.NoError(t, one.Rotate(generation(2), time.Hour))
		assert.Equal(t, "2 set, 0 right, 0 newer", reconcile(one))
		started, err := webhook.NewKeys(generation(1), webhook.Accepted{Key: generation(2), Until: time.Now().Add(time.Hour), Retired: true})
		require.NoError(t, err)
		assert.Equal(t, "2 set, 0 right, 0 newer", reconcile(started), "and one that was started after that")
	})
}

// The key is rotated while a webhook is being set with the one before, which has
// no grace.
func TestAKeyThatIsRotatedWhileAWebhookIsSetIsTheOneItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := bottest.NoLimits()
		limits.SetWebhookEvery = time.Second
		f := newFleet(t, limits)
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		ann.Write(bot, "old")
		m := newMemory(t, inbox.MemoryConfig{})
		f.deliverTo(newReceiver(t, m, f.keys, webhook.Config{}))
		f.srv.Fail(bottest.Fault{Method: "setWebhook", Do: bottest.SlowAnswer(500 * time.Millisecond), Times: 1})
		hooks := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		var wg sync.WaitGroup
		wg.Go(func() {
			r, err := hooks.Ensure(bg, "a", webhook.Options{DropPending: true})
			assert.NoError(t, err)
			assert.True(t, r.Changed)
			assert.Empty(t, r.Before.Url)
		})
		pass(200 * time.Millisecond)
		require.NoError(t, f.keys.Rotate(generation(2), 0))
		ann.Write(bot, "new")
		wg.Wait()
		pass(time.Minute)
		require.Len(t, f.set(), 3, "one of them too soon")
		last := f.set()[len(f.set())-1]
		assert.Contains(t, last.Params["url"], "/2.")
		assert.NotContains(t, last.Params, "drop_pending_updates", "that was done")
		assert.Equal(t, 1, depth(t, m))
	})
}
