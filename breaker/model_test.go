package breaker_test

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
	"pgregory.net/rapid"
)

// model is a breaker that keeps lists of all that happened and counts anew
// each time. It is driven by one goroutine and has no jitter.
type model struct {
	cfg       breaker.Config
	slowRate  float64
	mode      breaker.State
	state     breaker.State
	gen       int
	openUntil time.Duration
	openings  int
	successes int
	streak    int
	retryAt   time.Duration
	results   []modelResult // of this generation
	calls     []*modelCall  // all that ever were
	changes   []breaker.Change
	refused   uint64
}

type modelResult struct {
	at           time.Duration
	failed, slow bool
}

type modelCall struct {
	permit   breaker.Permit
	recorded bool // false for those that passed without a permit
	gen      int
	measured bool
	start    time.Duration
	probe    bool
	expires  time.Duration
	ended    bool
}

func (m *model) shown() breaker.State {
	if m.mode != breaker.Closed {
		return m.mode
	}
	return m.state
}

func (m *model) inWindow(now time.Duration) (calls, failures, slow int) {
	all := m.results
	if m.cfg.Window == 0 && len(all) > m.cfg.WindowCalls {
		all = all[len(all)-m.cfg.WindowCalls:]
	}
	step := m.cfg.Window / 10
	for _, r := range all {
		if m.cfg.Window > 0 && now/step-r.at/step >= 10 {
			continue
		}
		calls++
		if r.failed {
			failures++
		}
		if r.slow {
			slow++
		}
	}
	return calls, failures, slow
}

func (m *model) overdue(now time.Duration) (n int) {
	step := m.cfg.SlowAfter / 4
	for _, c := range m.calls {
		if c.recorded && !c.ended && c.gen == m.gen && c.measured && !c.probe && now/step-c.start/step > 4 {
			n++
		}
	}
	return n
}

func (m *model) inFlight() (n int) {
	for _, c := range m.calls {
		if c.recorded && !c.ended && c.gen == m.gen {
			n++
		}
	}
	return n
}

func (m *model) move(to breaker.State, why breaker.Reason, openFor time.Duration) {
	if m.state != to {
		m.changes = append(m.changes, breaker.Change{From: m.state, To: to, Reason: why,
			Watched: m.mode == breaker.WatchOnly, OpenFor: openFor})
	}
	m.state = to
	m.renew()
}

func (m *model) renew() {
	m.gen++
	m.results, m.streak, m.successes, m.retryAt = nil, 0, 0, 0
}

func (m *model) openTime() time.Duration {
	d := m.cfg.OpenTime
	for range m.openings - 1 {
		d = min(time.Duration(float64(d)*m.cfg.OpenGrowth), m.cfg.MaxOpenTime)
	}
	return d
}

func (m *model) open(now, wait time.Duration, why breaker.Reason) {
	m.openings++
	d := m.openTime()
	if wait > 0 {
		d = wait
	}
	d = max(d, m.retryAt-now)
	m.openUntil = now + d
	m.move(breaker.Open, why, d)
}

func (m *model) judge(now, wait time.Duration) {
	if m.cfg.ConsecutiveFailures > 0 && m.streak >= m.cfg.ConsecutiveFailures {
		m.open(now, wait, breaker.ReasonConsecutiveFailures)
		return
	}
	calls, failures, slow := m.inWindow(now)
	if r := m.cfg.FailureRate; r > 0 && calls >= m.cfg.MinCalls && float64(failures)/float64(calls) >= r {
		m.open(now, wait, breaker.ReasonFailureRate)
		return
	}
	if m.cfg.SlowAfter == 0 {
		return
	}
	late := m.overdue(now)
	if n := calls + late; n >= m.cfg.MinCalls && float64(slow+late)/float64(n) >= m.slowRate {
		m.open(now, wait, breaker.ReasonSlowRate)
	}
}

// allow returns the call if it is let in.
func (m *model) allow(now time.Duration) *modelCall {
	c := &modelCall{gen: m.gen, measured: m.cfg.SlowAfter > 0, start: now}
	switch m.mode {
	case breaker.Disabled:
		return c
	case breaker.ForcedOpen:
		m.refused++
		return nil
	}
	if m.state == breaker.Closed && m.cfg.SlowAfter > 0 && m.overdue(now) > 0 {
		m.judge(now, 0)
	}
	if m.state == breaker.Open && now >= m.openUntil {
		m.move(breaker.HalfOpen, breaker.ReasonTimeOver, 0)
	}
	c.gen = m.gen
	probes := 0
	for _, c := range m.calls {
		if c.recorded && c.probe && c.gen == m.gen && !c.ended && c.expires > now {
			probes++
		}
	}
	switch {
	case m.state == breaker.Closed:
		c.recorded = true
	case m.state == breaker.HalfOpen && probes < m.cfg.Probes:
		c.recorded, c.probe, c.expires = true, true, now+m.cfg.ProbeTimeout
	default:
		m.refused++
		if m.mode != breaker.WatchOnly {
			return nil
		}
	}
	return c
}

func (m *model) end(c *modelCall, now time.Duration, made bool, err error) {
	if c.ended || !c.recorded {
		return
	}
	c.ended = true
	if c.gen != m.gen {
		return
	}
	verdict := breaker.Ignore
	if made {
		verdict = classify(bg, err)
	}
	slow := made && c.measured && now-c.start >= m.cfg.SlowAfter
	wait := retryAfter(err)
	if m.state == breaker.HalfOpen {
		switch {
		case verdict == breaker.Failure || slow:
			m.open(now, wait, breaker.ReasonProbeFailed)
		case verdict == breaker.Success:
			if m.successes++; m.successes == m.cfg.Successes {
				m.openings = 0
				m.move(breaker.Closed, breaker.ReasonRecovered, 0)
			}
		}
		return
	}
	switch verdict {
	case breaker.Success:
		m.streak, m.retryAt = 0, 0
	case breaker.Failure:
		m.streak++
		m.retryAt = max(m.retryAt, now+wait)
	default:
		if !slow {
			return
		}
	}
	m.results = append(m.results, modelResult{now, verdict == breaker.Failure, slow})
	m.judge(now, wait)
}

func (m *model) trip(now, d time.Duration) {
	if m.mode == breaker.ForcedOpen || m.mode == breaker.Disabled {
		return
	}
	switch {
	case m.state == breaker.Open:
		if d == 0 {
			d = m.openTime()
		}
		m.openUntil = max(m.openUntil, now+d)
	case d == 0:
		m.open(now, 0, breaker.ReasonManual)
	default:
		m.openings++
		m.openUntil = now + d
		m.move(breaker.Open, breaker.ReasonManual, d)
	}
}

func (m *model) force(s breaker.State, now time.Duration) {
	from := m.shown()
	change := breaker.Change{From: from, To: s, Reason: breaker.ReasonManual}
	m.mode, m.state, m.openings = breaker.Closed, breaker.Closed, 0
	switch s {
	case breaker.Open:
		m.state, m.openings, m.openUntil = s, 1, now+m.cfg.OpenTime
		change.OpenFor = m.cfg.OpenTime
	case breaker.HalfOpen:
		m.state = s
	case breaker.Closed:
	default:
		m.mode = s
	}
	m.renew()
	if from != s {
		m.changes = append(m.changes, change)
	}
}

func drawConfig(t *rapid.T) breaker.Config {
	cfg := breaker.Config{
		ConsecutiveFailures: rapid.SampledFrom([]int{-1, 1, 2, 3}).Draw(t, "consecutive failures"),
		FailureRate:         rapid.SampledFrom([]float64{0, 0.3, 0.5, 1}).Draw(t, "failure rate"),
		SlowAfter:           rapid.SampledFrom([]time.Duration{0, 4 * time.Second}).Draw(t, "slow after"),
		MinCalls:            rapid.IntRange(1, 5).Draw(t, "min calls"),
		OpenTime:            7 * time.Second,
		MaxOpenTime:         30 * time.Second,
		OpenGrowth:          rapid.SampledFrom([]float64{1, 1.5, 2}).Draw(t, "growth"),
		Jitter:              -1,
		Probes:              rapid.IntRange(1, 3).Draw(t, "probes"),
		ProbeTimeout:        rapid.SampledFrom([]time.Duration{3 * time.Second, 20 * time.Second}).Draw(t, "probe timeout"),
		Successes:           rapid.IntRange(1, 3).Draw(t, "successes"),
		Start:               rapid.SampledFrom([]breaker.State{breaker.Closed, breaker.Closed, breaker.WatchOnly}).Draw(t, "start"),
		Classify:            classify,
		RetryAfter:          retryAfter,
	}
	if cfg.SlowAfter > 0 {
		cfg.SlowRate = rapid.SampledFrom([]float64{0, 0.3, 1}).Draw(t, "slow rate")
	}
	if rapid.Bool().Draw(t, "by time") {
		cfg.Window = 10 * time.Second
	} else {
		cfg.WindowCalls = rapid.IntRange(cfg.MinCalls, 8).Draw(t, "window")
	}
	return cfg
}

// Whatever is done to a breaker, in whatever order, it does what a plain model
// does that forgets nothing and counts anew each time.
func TestTheStateMachineIsThatOfThePlainModel(t *testing.T) {
	reached := map[breaker.Change]int{}
	synctest.Test(t, func(t *testing.T) {
		// rapid would ask t for its deadline, which is not of the bubble's time.
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { walk(t, reached) })
	})
	// A walk that gets nowhere would show nothing.
	for _, why := range []breaker.Reason{
		breaker.ReasonConsecutiveFailures, breaker.ReasonFailureRate, breaker.ReasonSlowRate,
		breaker.ReasonProbeFailed, breaker.ReasonTimeOver, breaker.ReasonRecovered, breaker.ReasonManual,
	} {
		n := 0
		for c, times := range reached {
			if c.Reason == why {
				n += times
			}
		}
		require.NotZero(t, n, "no walk came to a change for %v", why)
	}
}

func walk(t *rapid.T, reached map[breaker.Change]int) {
	cfg := drawConfig(t)
	var told log
	heard := cfg
	heard.OnStateChange = told.add
	b, err := breaker.New(heard)
	require.NoError(t, err)
	created := time.Now()
	now := func() time.Duration { return time.Since(created) + 1 }

	m := &model{cfg: cfg, mode: cfg.Start, slowRate: cfg.SlowRate}
	if m.slowRate == 0 {
		m.slowRate = 0.5
	}
	failures := []error{errBoom, errBoom, waitError(2 * time.Second), waitError(40 * time.Second)}
	pick := func() *modelCall {
		if len(m.calls) == 0 {
			return &modelCall{}
		}
		var running []*modelCall
		for _, c := range m.calls {
			if c.recorded && !c.ended && c.gen == m.gen {
				running = append(running, c)
			}
		}
		// Mostly one that counts, and now and then one that is long gone.
		if len(running) > 0 && rapid.IntRange(0, 3).Draw(t, "any") > 0 {
			return rapid.SampledFrom(running).Draw(t, "call")
		}
		return m.calls[rapid.IntRange(max(0, len(m.calls)-rapid.SampledFrom([]int{2, 5, 100}).Draw(t, "back")), len(m.calls)-1).Draw(t, "call")]
	}
	step := func() {
		switch rapid.SampledFrom([]string{"allow", "allow", "allow", "succeed", "fail", "fail", "ignore", "cancel",
			"pause", "resume", "wait", "wait", "wait long", "act"}).Draw(t, "step") {
		case "allow":
			c := m.allow(now())
			p, err := b.Allow()
			if c == nil {
				var refusal *breaker.OpenError
				require.ErrorAs(t, err, &refusal)
				want := breaker.OpenError{State: m.shown()}
				if m.shown() == breaker.Open {
					want.RetryAfter = m.openUntil - now()
				}
				require.Equal(t, want, *refusal)
				break
			}
			require.NoError(t, err)
			require.Equal(t, c.recorded, p != breaker.Permit{})
			c.permit = p
			m.calls = append(m.calls, c)
		case "succeed":
			c := pick()
			m.end(c, now(), true, nil)
			c.permit.Done(bg, nil)
		case "fail":
			c, err := pick(), rapid.SampledFrom(failures).Draw(t, "failure")
			m.end(c, now(), true, err)
			c.permit.Done(bg, err)
		case "ignore":
			c := pick()
			m.end(c, now(), true, errIgnored)
			c.permit.Done(bg, errIgnored)
		case "cancel":
			c := pick()
			m.end(c, now(), false, nil)
			c.permit.Cancel()
		case "pause":
			c := pick()
			if !c.ended && c.gen == m.gen {
				c.measured = false
			}
			c.permit.Pause()
		case "resume":
			c := pick()
			if !c.ended && c.gen == m.gen {
				c.measured, c.start = cfg.SlowAfter > 0, now()
			}
			c.permit.Resume()
		case "wait":
			time.Sleep(time.Duration(rapid.IntRange(0, 12).Draw(t, "quarters")) * time.Second / 4)
		case "wait long":
			time.Sleep(time.Duration(rapid.IntRange(5, 60).Draw(t, "seconds")) * time.Second)
		case "act":
			switch rapid.IntRange(0, 9).Draw(t, "act") {
			case 0:
				d := time.Duration(rapid.IntRange(0, 20).Draw(t, "trip")) * time.Second
				m.trip(now(), d)
				b.Trip(d)
			case 1:
				m.force(cfg.Start, now())
				b.Reset()
			case 2:
				s := breaker.State(rapid.IntRange(0, 5).Draw(t, "state"))
				m.force(s, now())
				require.NoError(t, b.Force(s))
			case 3:
				if m.state == breaker.Open {
					m.openUntil = min(m.openUntil, now())
				}
				b.ProbeNow()
			}
		}
	}
	for range rapid.IntRange(1, 150).Draw(t, "steps") {
		step()
		require.Equal(t, m.changes, told.take())
		for _, c := range m.changes {
			reached[c]++
		}
		m.changes = nil
		require.Equal(t, m.shown(), b.State())
		left := time.Duration(0)
		if m.shown() == breaker.Open {
			left = max(0, m.openUntil-now())
		}
		require.Equal(t, left, b.RemainingDelay())

		want := breaker.Counts{
			State: m.shown(), Watched: m.shown(), ConsecutiveFailures: m.streak, Successes: m.successes,
			InFlight: m.inFlight(), Openings: m.openings, Refused: m.refused,
		}
		if m.mode == breaker.WatchOnly {
			want.Watched = m.state
		}
		if cfg.FailureRate > 0 || cfg.SlowAfter > 0 {
			want.Calls, want.Failures, want.Slow = m.inWindow(now())
		}
		if cfg.SlowAfter > 0 {
			want.Overdue = m.overdue(now())
		}
		require.Equal(t, want, b.Counts())
	}
}

// Growth that would overflow stops at the longest open time.
func TestOpenTimesGrowUpToTheLongestAndDoNotOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{OpenTime: time.Second, MaxOpenTime: time.Hour, OpenGrowth: math.MaxFloat64, Jitter: -1})
		calls(t, b, 5, errBoom)
		require.Equal(t, time.Second, b.RemainingDelay())
		for range 3000 {
			time.Sleep(b.RemainingDelay())
			calls(t, b, 1, errBoom)
			require.Equal(t, time.Hour, b.RemainingDelay())
		}
		require.True(t, errors.Is(refused(t, b), breaker.ErrOpen))
	})
}
