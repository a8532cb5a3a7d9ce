package webhook

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// A bot that one limit turns away has used up nothing of another.
func TestAStartThatMustWaitTakesNothing(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := newPace([]ratelimit.Limit{ratelimit.Per(3, time.Hour), ratelimit.Per(1, time.Minute)})
	assert.Zero(t, p.take(now, "a"))
	for range 10 {
		assert.Equal(t, time.Minute, p.take(now, "b"))
	}
	assert.Zero(t, p.take(now.Add(time.Minute), "b"))
	assert.Zero(t, p.take(now.Add(2*time.Minute), "c"))
	assert.Greater(t, p.take(now.Add(3*time.Minute), "d"), 10*time.Minute, "the hour's are used up")
}

// A bot that was called within an hour needs no start.
func TestABotThatIsWarmStartsAtOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := newPace([]ratelimit.Limit{ratelimit.Per(1, 100*time.Hour)})
	assert.Zero(t, p.take(now, "a"))
	for range 3 {
		now = now.Add(time.Hour)
		assert.Zero(t, p.take(now, "a"))
		assert.NotZero(t, p.take(now, "b"))
	}
	assert.NotZero(t, p.take(now.Add(time.Hour+1), "a"), "it is cold again")
}

func TestStartsThatNeverComeAreAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace([]ratelimit.Limit{{Rate: 0, Burst: 1}})
		assert.NoError(t, p.wait(context.Background(), "a"))
		assert.ErrorIs(t, p.wait(context.Background(), "b"), errors.Throttled)
		slow := newPace([]ratelimit.Limit{ratelimit.Per(1, time.Hour)})
		assert.NoError(t, slow.wait(context.Background(), "a"))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		begun := time.Now()
		assert.ErrorIs(t, slow.wait(ctx, "b"), context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(begun))
		begun = time.Now()
		assert.NoError(t, slow.wait(context.Background(), "b"))
		assert.Equal(t, 59*time.Minute, time.Since(begun), "who gave up took nothing")
	})
}
