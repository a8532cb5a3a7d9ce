package breaker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Both windows count what a list of all calls would, whatever comes when.
func TestTheWindowsCountWhatAListWould(t *testing.T) {
	type call struct {
		at           int64
		failed, slow bool
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 20).Draw(t, "size")
		step := rapid.Int64Range(1, 50).Draw(t, "step")
		count, timed := newCountWindow(size), newTimeWindow(time.Duration(step*slots))
		var all []call
		now := rapid.Int64Range(0, 1_000_000).Draw(t, "start")
		for range rapid.IntRange(1, 200).Draw(t, "calls") {
			now += rapid.Int64Range(0, 3*step).Draw(t, "wait")
			if rapid.IntRange(0, 30).Draw(t, "long") == 0 {
				now += slots * step
			}
			count.roll(now)
			timed.roll(now)
			switch rapid.IntRange(0, 40).Draw(t, "what") {
			case 0:
				all = nil
				count.clear()
				timed.clear()
			default:
				c := call{now, rapid.Bool().Draw(t, "failed"), rapid.Bool().Draw(t, "slow")}
				all = append(all, c)
				count.add(c.failed, c.slow)
				timed.add(c.failed, c.slow)
			}
			var byCount, byTime tally
			for i, c := range all {
				if i >= len(all)-size {
					byCount.add(tallyOf(c.failed, c.slow))
				}
				if now/step-c.at/step < slots {
					byTime.add(tallyOf(c.failed, c.slow))
				}
			}
			require.Equal(t, byCount, count.sum())
			require.Equal(t, byTime, timed.sum())
		}
	})
}
