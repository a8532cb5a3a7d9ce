package polling_test

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
	"pgregory.net/rapid"
)

// Whatever happens in whatever order, each update is in the inbox in the end,
// once, in its order, and none is confirmed before it is.
func TestNothingIsLostWhateverHappens(t *testing.T) {
	// The plan is drawn first: what runs in a bubble may not draw.
	plans := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{
			what:  rapid.SampledFrom(slices.Sorted(maps.Keys(actions))).Draw(rt, "what"),
			times: rapid.IntRange(1, 5).Draw(rt, "times"),
			kind:  rapid.IntRange(0, len(faults)-1).Draw(rt, "kind"),
			wait:  time.Duration(rapid.IntRange(0, 90).Draw(rt, "wait")) * time.Second,
		}
	}), 1, 40)
	rapid.Check(t, func(rt *rapid.T) {
		plan := plans.Draw(rt, "plan")
		ok := t.Run("plan", func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
				m := &model{t: t, s: s, bot: s.register("shop"), leases: polling.NewMemoryLeases()}
				m.start()
				defer func() { stop(t, m.p) }()
				for _, st := range plan {
					actions[st.what](m, st)
					time.Sleep(st.wait)
					m.check()
				}
				m.end()
			})
		})
		if !ok {
			rt.FailNow()
		}
	})
}

// step is a part of a plan.
type step struct {
	what        string
	times, kind int
	wait        time.Duration
}

var actions = map[string]func(*model, step){
	"write": func(m *model, st step) {
		for range st.times {
			m.s.ann.Write(m.bot, fmt.Sprint(m.written))
			m.written++
		}
	},
	"fault": func(m *model, st step) {
		m.s.srv.Fail(bottest.Fault{Method: "getUpdates", Times: st.times, Do: faults[st.kind]})
	},
	"inbox": func(m *model, st step) {
		m.how.Store(int32(st.kind % 4))
		m.broken.Store(int32(st.times))
	},
	"restart": func(m *model, _ step) {
		stop(m.t, m.p)
		m.start()
	},
	"remove":  func(m *model, _ step) { _ = m.p.Remove(bg, "shop"); m.p.Add("shop") },
	"refresh": func(m *model, _ step) { m.p.Refresh("shop") },
	"rotate":  func(m *model, _ step) { m.s.put("shop", m.bot.RotateToken()); m.p.Refresh("shop") },
	// A rival gets the updates, and confirms none.
	"rival": func(m *model, _ step) { go func(token string) { _ = m.s.pollAs(token) }(m.bot.Token()) },
}

var faults = []bottest.Action{
	bottest.ResetBefore(), bottest.ResetAfter(), bottest.CutJSON(), bottest.HangAfter(), bottest.Hang(), bottest.HTML502(),
	bottest.Restart500(), bottest.EmptyBody(), bottest.NoOK(), bottest.TooManyRequests(7 * time.Second), bottest.Conflict409(),
}

type model struct {
	t       *testing.T
	s       *service
	bot     *bottest.Bot
	p       *polling.Supervisor
	leases  *polling.MemoryLeases
	written int
	broken  atomic.Int32 // how many calls of the inbox are to fail
	how     atomic.Int32
}

func (m *model) start() {
	m.p = m.s.supervisor(polling.Config{Leases: m.leases})
	m.p.Add("shop")
	m.s.inbox.failing(func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
		if m.broken.Add(-1) < 0 {
			m.broken.Store(0)
			return nil, nil, false
		}
		switch m.how.Load() {
		case 0:
			return nil, errors.ConnectionFailed, true
		case 1: // stored, but nobody hears of it
			_, _ = m.s.inbox.Memory.Put(bg, b)
			m.s.inbox.note(b)
			return nil, errors.Timeout, true
		case 2:
			panic("oops")
		default: // full from the second on
			out, err := m.s.inbox.Memory.Put(bg, b[:1])
			if !out[0].Duplicate {
				m.s.inbox.note(b[:1])
			}
			for range b[1:] {
				out = append(out, inbox.Outcome{Err: inbox.Full("shop", errors.ScopeTenant, time.Second)})
			}
			return out, err, true
		}
	})
}

// check holds after each step.
func (m *model) check() {
	synctest.Wait()
	got, pending := m.s.inbox.count("shop"), m.bot.Pending()
	require.GreaterOrEqual(m.t, got+pending, m.written, "what is not in the inbox waits at Telegram")
	require.LessOrEqual(m.t, got, m.written)
}

func (m *model) end() {
	m.broken.Store(0)
	m.s.put("shop", m.bot.Token())
	m.p.Add("shop")
	m.p.Refresh("shop")
	time.Sleep(30 * time.Minute)
	require.Equal(m.t, m.written, m.s.inbox.count("shop"))
	require.Zero(m.t, m.bot.Pending())
	require.Equal(m.t, polling.Polling, state(m.t, m.p, "shop"))
	m.s.inbox.mu.Lock()
	defer m.s.inbox.mu.Unlock()
	require.IsIncreasing(m.t, append([]int64{0}, m.s.inbox.got["shop"]...))
}
