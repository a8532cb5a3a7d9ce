package ratelimit

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestWhatALimitSays(t *testing.T) {
	for _, test := range []struct {
		name   string
		limit  Limit
		text   string
		units  int
		window time.Duration
	}{
		{"zero is no limit", Limit{}, "unlimited", 0, 0},
		{"unlimited", Unlimited, "unlimited", 0, 0},
		{"infinite", Limit{Rate: math.Inf(1), Burst: 3}, "unlimited", 0, 0},
		{"less than infinite", Limit{Rate: math.Inf(-1), Burst: 3}, "unlimited", 0, 0},
		{"per second", Per(30, time.Second), "30/s, burst 30", 30, time.Second},
		{"per minute", Limit{Rate: 20.0 / 60, Burst: 10}, "20/min, burst 10", 10, 30 * time.Second},
		{"per minute, more than one a second", Per(90, time.Minute), "1.5/s, burst 90", 90, time.Minute},
		{"no rate", Limit{Burst: 5}, "0/s, burst 5", 5, 0},
		{"no burst given", Limit{Rate: 2.5}, "2.5/s, burst 3", 3, 1200 * time.Millisecond},
		{"a rate below one", Limit{Rate: 0.0123}, "0.0123/s, burst 1", 1, time.Duration(math.Round(1e9 / 0.0123))},
		{"nothing passes", Per(0, time.Second), "0/s, burst 0", 0, 0},
		{"less than nothing", Per(-4, time.Second), "0/s, burst 0", 0, 0},
		{"in no time", Per(4, 0), "unlimited", 0, 0},
		{"slower than time is long", Limit{Rate: 1e-300}, "1e-300/s, burst 1", 1, 0},
		{"faster than bursts count", Limit{Rate: 1e300}, "1e+300/s, burst 2147483647", math.MaxInt32, 0},
		{"not a number", Limit{Rate: math.NaN()}, "NaN/s, burst 1", 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.text, test.limit.String())
			assert.Equal(t, test.units, test.limit.Units())
			assert.Equal(t, test.window, test.limit.Window())
			assert.Equal(t, test.limit == Limit{}, test.limit.IsZero())
			assert.Equal(t, math.IsNaN(test.limit.Rate), test.limit.Check() != nil)
		})
	}
}

func TestLevelsHaveNames(t *testing.T) {
	assert.Equal(t, "all starts tenant key Level(9)", LevelAll.String()+" "+LevelStarts.String()+" "+LevelTenant.String()+" "+LevelKey.String()+" "+Level(9).String())
}
