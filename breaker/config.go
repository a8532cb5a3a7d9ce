package breaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"
)

// Config configures a [Breaker] or, within a [GroupConfig], many. Its zero
// value opens after five failures in a row, for a minute, and closes after two
// probes that succeed.
type Config struct {
	// ConsecutiveFailures is how many failures in a row open the breaker. 0
	// means 5, negative that it does not look at that.
	ConsecutiveFailures int
	// FailureRate is the share of calls, above 0 and at most 1, whose failure
	// opens it. 0 means that it does not look at that.
	FailureRate float64
	// SlowAfter is from when on a call is slow, and SlowRate the share of slow
	// ones that opens the breaker. A call that is still under way counts as
	// soon as it has lasted that long, give or take a quarter. A slow probe has
	// failed. 0 for SlowAfter means that it does not look at how long calls
	// take; 0 for SlowRate means 0.5.
	SlowAfter time.Duration
	SlowRate  float64

	// WindowCalls or Window say which calls the rates are of: the last so many,
	// at most a million, or those that ended within the last so long, which is
	// kept in ten steps. At most one may be set; neither means the last 100
	// calls.
	WindowCalls int
	Window      time.Duration
	// MinCalls is how many calls there must be before the rates mean anything.
	// 0 means 20, or WindowCalls if that is less.
	MinCalls int

	// OpenTime is how long the breaker stays open at first. 0 means 1 min.
	OpenTime time.Duration
	// OpenGrowth multiplies the time whenever a probe fails, until it closes,
	// up to MaxOpenTime. 0 means 2, and 1 that it does not grow. 0 for
	// MaxOpenTime means 5 times OpenTime.
	OpenGrowth  float64
	MaxOpenTime time.Duration
	// Jitter adds up to that share to each open time, so that not all breakers
	// probe at once. 0 means 0.1, negative none; at most 1.
	Jitter float64

	// Probes is how many calls at once a half-open breaker lets pass. 0 means
	// 1; at most 1000.
	Probes int
	// ProbeTimeout is when a probe has taken so long that another call may go
	// in its place; whoever loses a permit can't block the breaker for ever. 0
	// means 30 s. If the late probe ends all the same, its result counts.
	ProbeTimeout time.Duration
	// Successes is how many probes must succeed for the breaker to close. One
	// that fails opens it again. 0 means 2.
	Successes int

	// Classify judges results. It is called without a lock, once for each call,
	// by [Permit.Done]. If it panics, the permit is given back without a result
	// and the panic goes on. Nil means [Classify].
	Classify func(ctx context.Context, err error) Verdict
	// RetryAfter says for how long the callee does not want to be called, if a
	// failure says so; 0 if not. A breaker that opens by that failure stays open
	// for that long instead of its own time, and is never shorter than any
	// failure since the last success said. Jitter is added, and MaxOpenTime does
	// not apply. It is called like Classify. Nil means that failures don't say.
	RetryAfter func(err error) time.Duration

	// OnStateChange hears of every change of state, one after the other and in
	// order, on the goroutine of a call that made one. It is called without a
	// lock and may call the breaker; the changes that it makes are told when it
	// has returned. A panic in it is logged and goes no further. It should be
	// quick, since a call waits for it. Nil hears nothing.
	OnStateChange func(Change)
	// Start is the state to begin in, and to go back to by [Breaker.Reset]:
	// Closed, ForcedOpen, Disabled or WatchOnly.
	Start State
	// Logger hears of panics in OnStateChange. Nil discards.
	Logger *slog.Logger
}

// maxSpan bounds what is added to a time, so that no sum overflows: 73 years.
const maxSpan = time.Duration(1) << 61

// settings is a Config with its defaults, and what the breakers of a group
// share.
type settings struct {
	Config
	rates bool // a rate is looked at
	// step is how long an epoch of the calls under way is.
	step    int64
	base    time.Time // with a monotonic reading: times are nanoseconds since
	tickets sync.Pool
}

// now returns the time since base by the monotonic clock, which no one sets.
// It is never 0.
func (s *settings) now() int64 { return int64(time.Since(s.base)) }

func newSettings(c Config) (*settings, error) {
	var bad []error
	fail := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	count := func(name string, value *int, zero, most int) {
		if *value == 0 {
			*value = zero
		}
		if *value < 1 || *value > most {
			fail("%s is %d", name, *value)
		}
	}
	span := func(name string, value *time.Duration, zero time.Duration) {
		if *value == 0 {
			*value = zero
		}
		if *value < 0 || *value > maxSpan {
			fail("%s is %v", name, *value)
		}
	}
	share := func(name string, value float64) {
		if !(value >= 0 && value <= 1) { // NaN too
			fail("%s is %v", name, value)
		}
	}

	if c.ConsecutiveFailures == 0 {
		c.ConsecutiveFailures = 5
	}
	share("FailureRate", c.FailureRate)
	share("SlowRate", c.SlowRate)
	span("SlowAfter", &c.SlowAfter, 0)
	span("Window", &c.Window, 0)
	switch {
	case c.SlowAfter == 0 && c.SlowRate != 0:
		fail("SlowRate is %v without SlowAfter", c.SlowRate)
	case c.SlowAfter != 0 && c.SlowRate == 0:
		c.SlowRate = 0.5
	}
	least := 20
	switch {
	case c.Window != 0 && c.WindowCalls != 0:
		fail("Window and WindowCalls are both set")
	case c.Window == 0:
		count("WindowCalls", &c.WindowCalls, 100, 1_000_000)
		least = max(1, min(least, c.WindowCalls))
	}
	count("MinCalls", &c.MinCalls, least, math.MaxInt32)
	if c.Window == 0 && c.MinCalls > c.WindowCalls && c.WindowCalls > 0 {
		fail("MinCalls is %d, more than the window's %d calls", c.MinCalls, c.WindowCalls)
	}
	span("OpenTime", &c.OpenTime, time.Minute)
	span("MaxOpenTime", &c.MaxOpenTime, max(c.OpenTime, min(c.OpenTime, maxSpan/5)*5))
	if c.MaxOpenTime < c.OpenTime {
		fail("MaxOpenTime is %v, less than OpenTime", c.MaxOpenTime)
	}
	if c.OpenGrowth == 0 {
		c.OpenGrowth = 2
	}
	if !(c.OpenGrowth >= 1) {
		fail("OpenGrowth is %v", c.OpenGrowth)
	}
	switch {
	case c.Jitter == 0:
		c.Jitter = 0.1
	case c.Jitter < 0:
		c.Jitter = 0
	}
	share("Jitter", c.Jitter)
	count("Probes", &c.Probes, 1, 1000)
	span("ProbeTimeout", &c.ProbeTimeout, 30*time.Second)
	count("Successes", &c.Successes, 2, math.MaxInt32)
	if c.Start != Closed && !c.Start.isMode() {
		fail("Start is %v", c.Start)
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("configure breaker: %w", errors.Join(bad...))
	}

	if c.Classify == nil {
		c.Classify = Classify
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &settings{
		Config: c,
		rates:  c.FailureRate > 0 || c.SlowAfter > 0,
		step:   (int64(c.SlowAfter) + epochs - 1) / epochs,
		base:   time.Now().Add(-1), // so that now is never 0
	}
	s.tickets.New = func() any { return new(ticket) }
	return s, nil
}

// newWindow returns an empty window, or nil where no rate is looked at.
func (s *settings) newWindow() window {
	switch {
	case !s.rates:
		return nil
	case s.Window > 0:
		return newTimeWindow(s.Window)
	}
	return newCountWindow(s.WindowCalls)
}
