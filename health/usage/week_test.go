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
	counted map[span][]event // that are in no flush yet, in order
	flight  []event          // in the pending one
	seq     uint64
	applied bool
	doubt   bool // it failed, and is to be tried again
}

// span is what a roll-up is of.
type span struct {
	tenant string
	start  int64
}

func (e *event) span() span { return span{tenantName(e.tenant), e.at.Truncate(time.Hour).Unix()} }

// world is the store that all replicas share, and a model of what is in it.
type world struct {
	t          *testing.T
	flushEvery time.Duration
	memory     *usage.MemoryStore
	mu         sync.Mutex
	chance     *rand.Rand
	stored     []event
	flushes    int
	again      int // flushes that were repeated after they had been applied
}

// Add fails now and then: before or after it did its work.
func (r *replica) Add(ctx context.Context, f health.Flush, rollups []usage.Rollup) error {
	w := r.w
	w.mu.Lock()
	if f.Seq != r.seq {
		// A roll-up has what was counted first of its hour.
		r.seq, r.flight, r.applied = f.Seq, nil, false
		for i := range rollups {
			u := &rollups[i]
			at, n := span{u.Tenant, u.Start.Unix()}, int(u.Requests+u.Refused+u.Received)
			if has := len(r.counted[at]); n > has { // not require: this is the recorder's goroutine
				w.t.Errorf("flush %d adds %d to %v, of which %d were counted since the last", f.Seq, n, at, has)
				n = has
			}
			r.flight, r.counted[at] = append(r.flight, r.counted[at][:n]...), r.counted[at][n:]
			if len(r.counted[at]) == 0 {
				delete(r.counted, at)
			}
		}
		w.flushes++
	}
	how := w.chance.IntN(12)
	r.doubt = how < 2
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
		return down
	}
	return nil
}

func (w *world) start() *replica {
	r := &replica{Store: w.memory, w: w, counted: make(map[span][]event)}
	r.Recorder = newRecorder(w.t, usage.Config{Store: r, FlushEvery: w.flushEvery, Batch: 7})
	ctx, kill := context.WithCancel(w.t.Context())
	r.kill = kill
	require.NoError(w.t, r.Start(ctx))
	return r
}

func (r *replica) report(e event) {
	r.w.mu.Lock()
	r.counted[e.span()] = append(r.counted[e.span()], e)
	r.w.mu.Unlock()
	name := tenantName(e.tenant)
	if e.call.Method != "" {
		r.Observe(name, e.call)
	} else {
		r.Update(name, e.update)
	}
}

func tenantName(i int) string { return fmt.Sprintf("tenant-%04d", i) }

// A week of a thousand tenants, with the nights in which the clocks change, on two
// replicas that are killed now and then, between and in flushes of many batches,
// and a store that fails: each figure of each report is the model's, in each zone.
// Four tenants have more chats in an hour than are counted exactly.
func TestAWeekOfAThousandTenantsIsWhatAModelCounts(t *testing.T) {
	const tenants = 1000
	pause, flushEvery, broadcasts := 20*time.Second, 3*time.Minute, 200
	if racing {
		pause, flushEvery, broadcasts = 90*time.Second, 15*time.Minute, 50
	}
	var zones []*time.Location
	// Berlin goes forward by an hour that week, and Lord Howe back by half an hour.
	for _, name := range []string{"Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu", "America/St_Johns"} {
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		zones = append(zones, zone)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2000, 3, 22, 0, 0, 0, 0, zones[2]))) // the easternmost
		end := time.Date(2000, 3, 29, 0, 0, 0, 0, zones[5])
		w := &world{t: t, flushEvery: flushEvery, memory: usage.NewMemoryStore(), chance: rand.New(rand.NewPCG(1, 2))}
		rng := rand.New(rand.NewPCG(3, 4))
		replicas := []*replica{w.start(), w.start()}
		reported, lost, killed, cut := 0, 0, 0, 0
		for time.Now().Before(end) {
			for i, r := range replicas {
				n := rng.IntN(2) + 1
				for range n {
					r.report(randomEvent(rng, tenants))
				}
				if rng.IntN(broadcasts) == 0 { // a broadcast to many chats
					for range 250 {
						e := randomEvent(rng, tenants)
						e.tenant, e.update = rng.IntN(2)*2+i, usage.Update{}
						e.call = usage.Call{At: e.at, Method: "sendMessage", Chat: usage.Chat{ID: int64(math.Pow(1000, rng.Float64()))}, Latency: time.Second}
						r.report(e)
						n++
					}
				}
				reported += n
			}
			time.Sleep(pause)
			if rng.IntN(int(4*time.Hour/pause)) > 0 {
				continue
			}
			// One is killed, in whatever it does, and another takes its place.
			which := rng.IntN(2)
			old := replicas[which]
			for second := range rng.IntN(6) * int(flushEvery/time.Second) { // some in mid-flush
				if second%int(pause/time.Second) == 0 { // or there is nothing to flush
					old.report(randomEvent(rng, tenants))
					reported++
				}
				w.mu.Lock()
				flushing := old.doubt
				w.mu.Unlock()
				if flushing {
					cut++
					break
				}
				time.Sleep(time.Second)
			}
			old.kill()
			_ = old.Stop(t.Context())
			killed++
			w.mu.Lock()
			gone := old.flight
			for _, list := range old.counted {
				gone = append(gone, list...)
			}
			for _, e := range gone {
				lost++
				// The time between flushes, and a little while the store fails.
				require.Less(t, time.Since(e.at), flushEvery*11/10+2*time.Minute)
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
		require.Greater(t, cut, 2)
		require.Greater(t, lost, 0)
		require.Greater(t, w.again, 100, "many a flush was repeated after it had been applied")
		t.Logf("%d events, %d lost by %d replicas that were killed, %d of them in mid-flush; %d flushes, %d repeated",
			reported, lost, killed, cut, w.flushes, w.again)

		of := make([][]event, tenants)
		for _, e := range w.stored {
			of[e.tenant] = append(of[e.tenant], e)
		}
		monitor, err := health.New(health.Config{})
		require.NoError(t, err)
		monitor.Suspend(tenantName(0), "unpaid")
		monitor.Observe(tenantName(1), health.Outcome{Kind: errors.RateLimited, RetryAfter: time.Hour})
		reporter := usage.NewReporter(w.memory, monitor)
		report := func(i int, zone *time.Location) *usage.Report {
			from := time.Date(2000, 3, 22, 0, 0, 0, 0, zone)
			rep, err := reporter.Report(t.Context(), tenantName(i), from, from.AddDate(0, 0, 7), zone)
			require.NoError(t, err)
			checkReport(t, of[i], rep, from, zone)
			return rep
		}
		for i := range tenants {
			report(i, zones[i%len(zones)])
		}
		inexact := 0
		for i := range 6 {
			for _, zone := range zones {
				for _, c := range report(i, zone).Chats {
					if c.Missed > 0 {
						inexact++
					}
				}
			}
		}
		require.Greater(t, inexact, 10, "some had more chats than are counted exactly")
		assert.Equal(t, "suspended", report(0, zones[0]).Status)
		assert.Equal(t, errors.Friendly(errors.Suspended, "en"), report(0, zones[0]).Reason)
		assert.True(t, report(1, zones[0]).RateLimited)
	})
}

var (
	methods = []string{"sendMessage", "sendMessage", "sendMessage", "editMessageText", "sendPhoto", "answerCallbackQuery", "getUpdates"}
	types   = []string{"message", "message", "callback_query", "inline_query"}
	kinds   = []errors.Kind{0, 0, 0, 0, 0, 0, 0, 0, 0, errors.Blocked, errors.Timeout, errors.RateLimited, errors.NotModified, errors.Throttled, errors.BreakerOpen}
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
	to := from.AddDate(0, 0, 7)
	// What is kept is of hours of UTC, so each counts for the one in which it begins.
	events = slices.DeleteFunc(slices.Clone(events), func(e event) bool {
		start := e.at.Truncate(time.Hour)
		return start.Before(from) || !start.Before(to)
	})
	inHour := map[int64]map[usage.Chat]bool{}
	activity := map[int64]uint64{}
	for _, e := range events {
		if e.at.After(last) {
			last = e.at
		}
		start := e.at.Truncate(time.Hour)
		at := start.In(zone)
		byDay[at.Format(time.DateOnly)] = append(byDay[at.Format(time.DateOnly)], e)
		if e.held() {
			continue
		}
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
			if inHour[start.Unix()] == nil {
				inHour[start.Unix()] = map[usage.Chat]bool{}
			}
			inHour[start.Unix()][c.Chat] = true
			activity[start.Unix()]++
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
	chats := []usage.ChatCount{}
	for _, c := range byChat {
		chats = append(chats, c)
	}
	slices.SortFunc(chats, func(a, b usage.ChatCount) int {
		return cmp.Or(cmp.Compare(b.In+b.Out, a.In+a.Out), cmp.Compare(a.Chat.ID, b.Chat.ID))
	})
	// An hour with more than 64 chats does not count them all: what it may have
	// missed of one is a part of what it had.
	missed := uint64(0)
	for start, list := range inHour {
		if len(list) > 64 {
			missed += activity[start] / 64
		}
	}
	if missed == 0 {
		require.Equal(t, chats[:min(10, len(chats))], rep.Chats)
	}
	require.Len(t, rep.Chats, min(10, len(chats)))
	shown := map[usage.Chat]bool{}
	least := uint64(math.MaxUint64)
	for _, c := range rep.Chats {
		is := byChat[c.Chat]
		require.LessOrEqual(t, c.In, is.In)
		require.LessOrEqual(t, c.Out, is.Out)
		require.LessOrEqual(t, is.In+is.Out, c.In+c.Out+c.Missed)
		require.LessOrEqual(t, c.Missed, missed)
		shown[c.Chat], least = true, min(least, c.In+c.Out+c.Missed)
	}
	for _, c := range chats {
		if !shown[c.Chat] {
			require.LessOrEqual(t, c.In+c.Out, least+missed)
		}
	}
	require.True(t, last.Equal(rep.LastActive))
}

// held reports whether the call was never sent.
func (e *event) held() bool {
	return e.call.Kind == errors.Throttled || e.call.Kind == errors.BreakerOpen
}

func fails(k errors.Kind) bool { return k != errors.None && k != errors.NotModified }

func checkTotals(t *testing.T, events []event, got usage.Totals) {
	t.Helper()
	var want usage.Totals
	var sum time.Duration
	var latencies []time.Duration
	chats := map[usage.Chat]bool{}
	crowded := false
	inHour := map[int64]map[usage.Chat]bool{}
	for _, e := range events {
		if e.held() {
			want.Refused++
			continue
		}
		if !e.chat().IsZero() {
			chats[e.chat()] = true
			at := e.at.Truncate(time.Hour).Unix()
			if inHour[at] == nil {
				inHour[at] = map[usage.Chat]bool{}
			}
			inHour[at][e.chat()] = true
			crowded = crowded || len(inHour[at]) > 128
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
	if crowded {
		require.InEpsilon(t, want.Chats, got.Chats, 0.08) // four times the error that is usual
		want.Chats = got.Chats
	}
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
