package inbox

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
)

// A flood of updates that fail all wait for another try, and must cost the
// others nothing when that comes.
func TestTimesOfOtherTriesAreFewAndNotBeforeTheirTime(t *testing.T) {
	m, err := NewMemory(MemoryConfig{})
	require.NoError(t, err)
	w, err := NewWorkers(m, noPool{}, HandlerFunc(func(context.Context, *tenant.Tenant, Update) error { return nil }), WorkersConfig{})
	require.NoError(t, err)
	l := newLoop(w, t.Context())
	defer l.ioEnd()
	for range 10_000 {
		at := l.began.Add(rand.N(time.Second))
		l.try(at)
		i, _ := slices.BinarySearchFunc(l.tries, at, time.Time.Compare)
		require.Less(t, i, len(l.tries))
		require.Less(t, l.tries[i].Sub(at), tryEvery)
	}
	assert.LessOrEqual(t, len(l.tries), 101)
	assert.True(t, slices.IsSortedFunc(l.tries, time.Time.Compare))
}
