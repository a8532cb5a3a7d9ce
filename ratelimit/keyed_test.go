package ratelimit_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

func nan() float64 { return math.NaN() }

func TestEveryKeyHasABucket(t *testing.T) {
	k := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Rate: 1, Burst: 3}})
	now := time.Now().Add(time.Second)
	assert.Equal(t, ratelimit.Decision{OK: true, Remaining: 1, Reset: 2 * time.Second}, k.AllowAt(now, "a", 2))
	assert.Equal(t, ratelimit.Decision{Wait: time.Second, Remaining: 1, Reset: 2 * time.Second}, k.AllowAt(now, "a", 2))
	assert.Equal(t, ratelimit.Decision{OK: true, Remaining: 0, Reset: 3 * time.Second}, k.AllowAt(now, "b", 3))
	assert.Equal(t, ratelimit.Decision{Wait: ratelimit.Forever, Remaining: 3}, k.AllowAt(now, "c", 4))
	assert.Equal(t, ratelimit.Decision{OK: true, Remaining: 3}, k.AllowAt(now, "d", 0))
	assert.Equal(t, ratelimit.Decision{OK: true, Remaining: 1, Reset: 2 * time.Second}, k.AllowAt(now, "a", -5), "gives nothing back")
	assert.Equal(t, 2, k.Len(), "who took nothing is not remembered")
	free := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{})
	assert.True(t, free.Allow("a", 1<<40).OK)
}

func TestWhatIsGivenBackCanBeTakenAgainOnce(t *testing.T) {
	k := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Rate: 1, Burst: 3}})
	now := time.Now().Add(time.Second)
	before := k.AllowAt(now, "a", 1)
	require.True(t, k.AllowAt(now, "a", 2).OK)
	k.Give("a", 2)
	k.Give("a", 0)
	k.Give("a", -1)
	k.Give("unknown", 5)
	after := k.AllowAt(now, "a", 0)
	assert.Equal(t, []any{2, time.Second}, []any{after.Remaining, after.Reset}, "as it was")
	assert.Equal(t, before.Remaining, after.Remaining)
	k.Give("a", 100)
	assert.Equal(t, 3, k.AllowAt(now, "a", 0).Remaining, "no more than the burst")
	assert.Equal(t, 3, k.AllowAt(now, "unknown", 0).Remaining)
	assert.Equal(t, 1, k.Len())
	never := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Burst: 1}})
	require.True(t, never.AllowAt(now, "a", 1).OK)
	never.Give("a", 1)
	assert.True(t, never.AllowAt(now, "a", 1).OK)
	assert.False(t, never.AllowAt(now, "a", 1).OK)
}

func TestAFrozenKeyIsRefusedUntilThen(t *testing.T) {
	k := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Per(2, time.Second), MaxKeys: 1})
	now := time.Now()
	k.Freeze("a", now.Add(time.Hour))
	k.Freeze("a", now.Add(time.Minute))
	k.Freeze("b", now.Add(time.Hour)) // there is no room
	assert.Equal(t, 2, k.Len())
	assert.InDelta(t, float64(time.Hour), float64(k.AllowAt(now, "a", 1).Wait), float64(time.Second))
	assert.True(t, k.AllowAt(now, "c", 1).Full)
	k.Thaw("a")
	k.Thaw("unknown")
	assert.True(t, k.AllowAt(now.Add(time.Millisecond), "a", 1).OK)
	assert.False(t, k.AllowAt(now.Add(59*time.Minute), "b", 1).OK)
	assert.True(t, k.AllowAt(now.Add(61*time.Minute), "b", 1).OK)
	assert.True(t, k.AllowAt(now.Add(62*time.Minute), "d", 1).OK)
	assert.LessOrEqual(t, k.Len(), 2)
}

func TestAMillionKeysTakeNoMoreThanTheBound(t *testing.T) {
	const most = 1000
	k := ratelimit.NewKeyed[int](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Rate: 1000, Burst: 1}, MaxKeys: most})
	now := time.Now().Add(time.Second)
	var refused int
	for i := range 1_000_000 {
		d := k.AllowAt(now, i, 1)
		if d.Full {
			refused++
			assert.GreaterOrEqual(t, d.Wait, time.Second)
		}
		if k.Len() > most {
			t.Fatalf("%d keys are remembered", k.Len())
		}
		now = now.Add(2 * time.Microsecond) // 500 of them are not full at a time
	}
	assert.Zero(t, refused)
	assert.Less(t, k.Len(), 750, "it remembers as many as it must")
}

func TestAKeyThatIsNotEqualToItselfIsRefused(t *testing.T) {
	k := ratelimit.NewKeyed[float64](ratelimit.KeyedConfig{Limit: ratelimit.Per(1, time.Second)})
	for range 10 {
		assert.Equal(t, ratelimit.Decision{Wait: ratelimit.Forever}, k.Allow(nan(), 1))
		k.Freeze(nan(), time.Now().Add(time.Hour))
	}
	assert.Zero(t, k.Len())
	assert.True(t, k.Allow(0, 1).OK)
}

func TestAKeyedClockThatStepsBack(t *testing.T) {
	k := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Rate: 1, Burst: 1}})
	now := time.Now().Add(time.Hour)
	require.True(t, k.AllowAt(now, "a", 1).OK)
	back := now.Add(-2 * time.Hour)
	assert.Equal(t, time.Second, k.AllowAt(back, "a", 1).Wait)
	assert.True(t, k.AllowAt(back, "b", 1).OK)
	assert.True(t, k.AllowAt(back.Add(time.Second), "a", 1).OK)
}
