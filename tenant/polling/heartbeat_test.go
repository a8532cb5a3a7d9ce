package polling_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// lines counts what is logged, by message.
type lines struct {
	mu sync.Mutex
	n  map[string]int
}

func (l *lines) logger() *slog.Logger { l.n = make(map[string]int); return slog.New(l) }

func (l *lines) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n[message]
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n[r.Message]++
	return nil
}

// deafen has the heartbeats of all processes fail.
func (f *fleet) deafen(d deaf) {
	for _, m := range f.live {
		m.sight.deafen(d)
	}
}

// A store of leases whose heartbeats fail while its leases work leaves each
// tenant where it is polled, and tells nobody to give or take any.
func TestHeartbeatsThatFailMoveNoTenants(t *testing.T) {
	for name, d := range map[string]deaf{"they fail": fails, "they hang": hangs, "their answers are lost": unheard} {
		t.Run(name, func(t *testing.T) {
			balanced(t, 30, func(t *testing.T, f *fleet) {
				var log lines
				a := f.join(polling.Config{Logger: log.logger()})
				f.join(polling.Config{})
				f.join(polling.Config{})
				f.pass(4 * time.Minute)
				f.even("three")
				moved := f.gaveAway()
				f.gap = 0
				loops := f.live[a].Stats().Loops
				f.live[a].sight.since()

				f.deafen(d)
				f.pass(20 * time.Second)
				assert.Equal(t, 10, f.live[a].Stats().Share, "what it has heard is true for a while")
				f.pass(30 * time.Second)
				assert.Equal(t, -1, f.live[a].Stats().Share, "and then it knows nothing")
				f.pass(10 * time.Minute)
				assert.Equal(t, loops, f.live[a].Stats().Loops)
				assert.Equal(t, moved, f.gaveAway(), "none were given")
				assert.LessOrEqual(t, f.gap, time.Second, "and all are polled")
				beats, asked := f.live[a].sight.since()
				assert.LessOrEqual(t, beats, 30, "once in a lease")
				// 10 of its own three times in a lease, and 20 of others once.
				assert.LessOrEqual(t, asked, 22*(3*12+20)+50)
				assert.Equal(t, 1, log.count("other processes that poll can't be heard"))
				assert.Zero(t, log.count("leases can't be reached"), "they can")

				// One that comes finds none that is free, and one that dies leaves its
				// own to the others.
				late := f.join(polling.Config{})
				f.live[late].sight.deafen(d)
				f.pass(5 * time.Minute)
				if d != unheard {
					assert.Equal(t, moved, f.gaveAway())
				}
				f.gap = 0
				f.crash(a)
				f.pass(3 * time.Minute)
				assert.Less(t, f.gap, 80*time.Second)
				sum := 0
				for _, n := range f.loops() {
					sum += n
				}
				assert.Equal(t, 30, sum)

				f.deafen(hears)
				f.pass(6 * time.Minute)
				f.even("they hear each other again")
				assert.Zero(t, f.conflicts())
			})
		})
	}
}

// Those who hear each other share what is left by one whom they do not hear, and
// do not ask for its leases again and again.
func TestAProcessThatIsNotHeardKeepsWhatItPolls(t *testing.T) {
	balanced(t, 45, func(t *testing.T, f *fleet) {
		var all []string
		for range 3 {
			all = append(all, f.join(polling.Config{}))
		}
		f.pass(4 * time.Minute)
		f.even("three")
		moved, loops := f.gaveAway(), f.loops()
		f.live[all[0]].sight.deafen(fails)
		f.pass(2 * time.Minute)
		f.gap = 0
		f.live[all[1]].sight.since()
		f.pass(10 * time.Minute)
		_, asked := f.live[all[1]].sight.since()
		// 15 of its own three times in a lease, and 30 of others once.
		assert.LessOrEqual(t, asked, 22*(3*17+30))
		assert.ElementsMatch(t, loops, f.loops())
		assert.Equal(t, moved, f.gaveAway())
		assert.LessOrEqual(t, f.gap, time.Second)
		assert.Zero(t, f.conflicts())
	})
}

// It hears now and then only.
func TestHeartbeatsThatComeAndGoMoveNoTenants(t *testing.T) {
	balanced(t, 30, func(t *testing.T, f *fleet) {
		for range 3 {
			f.join(polling.Config{})
		}
		f.pass(4 * time.Minute)
		f.even("three")
		moved := f.gaveAway()
		f.gap = 0
		for i := range 30 {
			f.deafen(fails)
			f.pass(time.Duration(20+5*(i%9)) * time.Second)
			f.deafen(hears)
			f.pass(time.Duration(1+i%7) * time.Second)
		}
		assert.Equal(t, moved, f.gaveAway())
		assert.LessOrEqual(t, f.gap, time.Second)
		f.pass(3 * time.Minute)
		f.even("the end")
		assert.Zero(t, f.conflicts())
	})
}

// Heartbeats that hang keep nobody from starting, nor leases from being
// extended.
func TestHeartbeatsThatHangKeepNobodyFromStarting(t *testing.T) {
	virtualOver(t, bottest.Config{Limits: bottest.NoLimits(), KeepCalls: -1}, wireless, func(t *testing.T, s *service) {
		n := &network{Leases: polling.NewMemoryLeases()}
		n.deafen(hangs)
		p := s.supervisor(polling.Config{Leases: n, Starting: 10})
		defer stop(t, p)
		for i := range 100 {
			s.register(fmt.Sprint(i))
			p.Add(fmt.Sprint(i))
		}
		time.Sleep(20 * time.Second)
		assert.Equal(t, 100, p.Stats().Tenants["polling"])
		time.Sleep(5 * time.Minute)
		assert.Zero(t, p.Stats().Lost)
		assert.Equal(t, 100, p.Stats().Loops)
	})
}

// A process that hears the others but can't take leases asks for none to be
// given to it.
func TestAProcessThatCanNotTakeLeasesIsGivenNone(t *testing.T) {
	balanced(t, 40, func(t *testing.T, f *fleet) {
		good := f.join(polling.Config{})
		f.join(polling.Config{})
		f.pass(3 * time.Minute)
		f.even("two")
		for name, m := range f.live {
			if name != good {
				m.sight.set(true, false, false)
				m.sight.beating = true
			}
		}
		f.pass(3 * time.Minute)
		require.Equal(t, 40, f.live[good].Stats().Loops)
		f.gap = 0
		moved := f.gaveAway()
		f.pass(10 * time.Minute)
		assert.LessOrEqual(t, f.gap, time.Second, "none are offered in vain")
		assert.Equal(t, moved, f.gaveAway())
		for _, m := range f.live {
			m.sight.set(false, false, false)
		}
		f.pass(4 * time.Minute)
		f.even("two again")
	})
}
