package breaker

import (
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A clock that is set must neither keep a breaker open for an hour more nor
// close it at once. The test sets back what a time says of the wall clock and
// leaves what it says of the monotonic one.
func TestTheMonotonicClockCountsAndNotTheWallClock(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		b, err := New(Config{OpenTime: time.Minute, Jitter: -1})
		require.NoError(t, err)
		b.Trip(0)
		before := b.RemainingDelay()

		field, ok := reflect.TypeFor[time.Time]().FieldByName("wall")
		require.True(t, ok)
		wall := (*uint64)(unsafe.Add(unsafe.Pointer(&b.cfg.base), field.Offset))
		require.NotZero(t, *wall>>63, "the time has no monotonic reading")
		*wall += uint64(int64(step/time.Second)) << 30
		require.InDelta(t, step.Seconds(), b.cfg.base.Round(0).Sub(time.Now().Round(0)).Seconds(), 60, "the wall clock was not set")

		assert.LessOrEqual(t, b.RemainingDelay(), before)
		assert.Positive(t, b.RemainingDelay())
		_, err = b.Allow()
		assert.ErrorIs(t, err, ErrOpen)
	}
}
