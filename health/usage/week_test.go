package usage_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

// event is a call or an update, as a model keeps it.
type event struct {
	tenant int
	at     time.Time
	call   usage.Call   // its Method is "" for an update
	update usage.Update // its Type is "" for a call
}

func (e *event) chat() usage.Chat {
	if e.call.Method != "" {
		return e.call.Chat
	}
	return e.update.Chat
}

// replica is a recorder, its way to the store, and the events that the store
// does not have for sure.
type replica struct {
	usage.Store
	*usage.Recorder
	kill context.CancelFunc
	w    *world

	// w.mu guards what follows.
	counted []event // since the last flush
	flight  []event // in the pending one
	seq     uint64
	applied bool
}

// world is the store that all replicas share, and a model of what is in it.
type world struct {
	t          *testing.T
	flushEvery time.Duration
	memory     *usage.MemoryStore
	mu         sync.Mutex
	chance     *rand.Rand
	stored     []event
	failed     int
	again      int // flushes that were repeated after they had been applied
}

// Add fails now and then: before or after it did its work.
func (r *replica) Add(ctx context.Context, f health.Flush, rollups []usage.Rollup) error {
	w := r.w
	w.mu.Lock()
	if f.Seq != r.seq {
		// All that was counted before is in this flush: there is one batch.
		r.seq, r.flight, r.counted, r.applied = f.Seq, r.counted, nil, false
	}
	how := w.chance.IntN(12)
	w.mu.Unlock()
	down := errors.New("store is down")
	if how == 0 {
		return down
	}
	if err := w.memory.Add(ctx, f, rollups); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.applied {
		w.again++
	} else {
		w.stored = append(w.stored, r.flight...)
	}
	r.applied, r.flight = true, nil
	if how == 1 {
		w.failed++
		return down
	}
	return nil
}

func (w *world) start() *replica {
	r := &replica{Store: w.memory, w: w}
	r.Recorder = newRecorder(w.t, usage.Config{Store: r, FlushEvery: w.flushEvery, Batch: 100_000})
	ctx, kill := context.WithCancel(w.t.Context())
	r.kill = kill
	require.NoError(w.t, r.Start(ctx))
	return r
}

func (r *replica) report(e event) {
	name := tenantName(e.tenant)
	if e.call.Method != "" {
		r.Observe(name, e.call)
	} else {
		r.Update(name, e.update)
	}
	r.w.mu.Lock()
	r.counted = append(r.counted, e)
	r.w.mu.Unlock()
}

func tenantName(i int) string { return fmt.Sprintf("tenant-%04d", i) }

// A week of a thousand tenants, with the night in which the clocks go forward,
// on two replicas that are killed now and then and a store that fails: each
// figure of each report is the model's.
func TestAWeekOfAThousandTenantsIsWhatAModelCounts(t *testing.T) {
	const tenants = 1000
	// A replica has up to 2*each events at a time.
	each, pause, flushEvery := 3, 5*time.Second, 30*time.Second
	if racing {
		each, pause, flushEvery = 1, 15*time.Second, 3*time.Minute
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		from := time.Date(2000, 3, 22, 0, 0, 0, 0, berlin)
		to := time.Date(2000, 3, 29, 0, 0, 0, 0, berlin)
		time.Sleep(time.Until(from))
		w := &world{t: t, flushEvery: flushEvery, memory: usage.NewMemoryStore(), chance: rand.New(rand.NewPCG(1, 2))}
		rng := rand.New(rand.NewPCG(3, 4))
		replicas := []*replica{w.start(), w.start()}
		reported, lost, killed := 0, 0, 0
		for time.Now().Before(to) {
			for _, r := range replicas {
				for range rng.IntN(2*each) + 1 {
					r.report(randomEvent(rng, tenants))
					reported++
				}
			}
			time.Sleep(pause)
			if rng.IntN(int(5*time.Hour/pause)) > 0 {
				continue
			}
			// One is killed, in whatever it does, and another takes its place.
			which := rng.IntN(2)
			old := replicas[which]
			old.kill()
			_ = old.Stop(t.Context())
			killed++
			w.mu.Lock()
			for _, e := range append(old.flight, old.counted...) {
				lost++
				// The time between flushes, and a little while the store fails.
				require.Less(t, time.Since(e.at), flushEvery*11/10+30*time.Second)
			}
			w.mu.Unlock()
			replicas[which] = w.start()
		}
		for _, r := range replicas {
			require.NoError(t, r.Stop(t.Context()))
			r.kill()
		}
		require.Equal(t, reported-lost, len(w.stored))
		require.Greater(t, killed, 10)
		require.Greater(t, lost, 0)
		require.Greater(t, w.again, 100, "many a flush was repeated after it had been applied")
		t.Logf("%d events, %d lost by %d replicas that were killed, %d flushes repeated", reported, lost, killed, w.again)

		of := make([][]event, tenants)
		for _, e := range w.stored {
			of[e.tenant] = append(of[e.tenant], e)
		}
		monitor, err := health.New(health.Config{})
		require.NoError(t, err)
		monitor.Suspend(tenantName(0), "unpaid")
		monitor.Observe(tenantName(1), health.Outcome{Kind: errors.RateLimited, RetryAfter: time.Hour})
		reporter := usage.NewReporter(w.memory, monitor)
		for i := range tenants {
			rep, err := reporter.Report(t.Context(), tenantName(i), from, to, berlin)
			require.NoError(t, err)
			checkReport(t, of[i], rep, from, berlin)
		}
		rep, err := reporter.Report(t.Context(), tenantName(0), from, to, berlin)
		require.NoError(t, err)
		assert.Equal(t, "suspended", rep.Status)
		rep, err = reporter.Report(t.Context(), tenantName(1), from, to, berlin)
		require.NoError(t, err)
		assert.True(t, rep.RateLimited)
	})
}

var (
	methods = []string{"sendMessage", "sendMessage", "sendMessage", "editMessageText", "sendPhoto", "answerCallbackQuery", "getUpdates"}
	types   = []string{"message", "message", "callback_query", "inline_query"}
	kinds   = []errors.Kind{0, 0, 0, 0, 0, 0, 0, 0, 0, errors.Blocked, errors.Timeout, errors.RateLimited, errors.NotModified}
)

func randomEvent(rng *rand.Rand, tenants int) event {
	now := time.Now()
	u := rng.Float64()
	e := event{tenant: int(float64(tenants) * u * u), at: now} // some are much busier
	chat := usage.Chat{ID: 1 + int64(math.Pow(rng.Float64(), 2)*40)}
	if rng.IntN(10) == 0 {
		chat = usage.Chat{Username: "@channel"}
	}
	if rng.IntN(3) == 0 {
		e.update = usage.Update{At: now, Type: types[rng.IntN(len(types))], Chat: chat}
		if e.update.Type == "inline_query" {
			e.update.Chat = usage.Chat{}
		}
		return e
	}
	latency := time.Duration(float64(30*time.Millisecond) * math.Exp(rng.NormFloat64()))
	e.call = usage.Call{At: now, Method: methods[rng.IntN(len(methods))], Chat: chat, Kind: kinds[rng.IntN(len(kinds))], Latency: latency}
	if e.call.Method == "getUpdates" || e.call.Method == "answerCallbackQuery" {
		e.call.Chat = usage.Chat{}
	}
	return e
}

// checkReport compares a report with what a model counts.
func checkReport(t *testing.T, events []event, rep *usage.Report, from time.Time, zone *time.Location) {
	t.Helper()
	byDay := map[string][]event{}
	var hours [7][24]usage.HourCount
	byMethod := map[string]usage.MethodCount{}
	byKind := map[errors.Kind]uint64{}
	byType := map[string]uint64{}
	byChat := map[usage.Chat]usage.ChatCount{}
	var last time.Time
	for _, e := range events {
		at := e.at.In(zone)
		byDay[at.Format(time.DateOnly)] = append(byDay[at.Format(time.DateOnly)], e)
		h := &hours[at.Weekday()][at.Hour()]
		c := byChat[e.chat()]
		c.Chat = e.chat()
		if e.call.Method == "" {
			h.Received++
			byType[e.update.Type]++
			c.In++
		} else {
			h.Requests++
			m := byMethod[e.call.Method]
			m.Method = e.call.Method
			m.Requests++
			if fails(e.call.Kind) {
				m.Failures++
				byKind[e.call.Kind]++
			}
			byMethod[e.call.Method] = m
			c.Out++
		}
		if !e.chat().IsZero() {
			byChat[c.Chat] = c
		}
		if e.at.After(last) {
			last = e.at
		}
	}
	checkTotals(t, events, rep.Totals)
	require.Len(t, rep.Days, 7)
	for i, day := range rep.Days {
		want := from.AddDate(0, 0, i).Format(time.DateOnly)
		require.Equal(t, want, day.Date)
		checkTotals(t, byDay[want], day.Totals)
	}
	require.Equal(t, hours, rep.Hours)
	busiest := uint64(math.MaxUint64)
	for _, b := range rep.Busiest {
		n := b.Requests + b.Received
		require.LessOrEqual(t, n, busiest)
		busiest = n
	}
	more := 0
	for _, day := range hours {
		for _, h := range day {
			if h.Requests+h.Received > busiest {
				more++
			}
		}
	}
	require.Less(t, more, 5, "no hour that is left out is busier")

	require.Len(t, rep.Methods, len(byMethod))
	for _, m := range rep.Methods {
		require.Equal(t, byMethod[m.Method], m)
	}
	require.True(t, slices.IsSortedFunc(rep.Methods, func(a, b usage.MethodCount) int { return cmp.Compare(b.Requests, a.Requests) }))
	require.Len(t, rep.Kinds, len(byKind))
	for _, k := range rep.Kinds {
		require.Equal(t, byKind[k.Kind], k.Count)
	}
	require.Len(t, rep.Updates, len(byType))
	for _, u := range rep.Updates {
		require.Equal(t, byType[u.Type], u.Count)
	}
	var chats []usage.ChatCount
	for _, c := range byChat {
		chats = append(chats, c)
	}
	slices.SortFunc(chats, func(a, b usage.ChatCount) int {
		return cmp.Or(cmp.Compare(b.In+b.Out, a.In+a.Out), cmp.Compare(a.Chat.ID, b.Chat.ID))
	})
	require.Equal(t, chats[:min(10, len(chats))], rep.Chats)
	require.True(t, last.Equal(rep.LastActive))
}

func fails(k errors.Kind) bool { return k != errors.None && k != errors.NotModified }

func checkTotals(t *testing.T, events []event, got usage.Totals) {
	t.Helper()
	var want usage.Totals
	var sum time.Duration
	var latencies []time.Duration
	chats := map[usage.Chat]bool{}
	for _, e := range events {
		if !e.chat().IsZero() {
			chats[e.chat()] = true
		}
		if e.call.Method == "" {
			want.Received++
			continue
		}
		want.Requests++
		if fails(e.call.Kind) {
			want.Failures++
		}
		if e.call.Method != "getUpdates" {
			latencies = append(latencies, e.call.Latency)
			sum += e.call.Latency
		}
	}
	want.Successes = want.Requests - want.Failures
	want.Chats = uint64(len(chats))
	if want.Requests > 0 {
		want.ErrorRate = math.Round(1e4*float64(want.Failures)/float64(want.Requests)) / 100
	}
	if len(latencies) > 0 {
		want.Average = math.Round(float64(sum)/float64(len(latencies))/1e4) / 100
		slices.Sort(latencies)
		for _, p := range []struct{ q, got float64 }{{0.5, got.P50}, {0.95, got.P95}, {0.99, got.P99}} {
			exact := float64(latencies[max(int(math.Ceil(p.q*float64(len(latencies)))), 1)-1]) / 1e6
			require.InDelta(t, exact, p.got, 0.02*exact+0.005, "percentile %v", p.q)
		}
	}
	want.P50, want.P95, want.P99 = got.P50, got.P95, got.P99
	require.Equal(t, want, got)
}
