package session_test

import (
	"io"
	"log"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/internal/wiretest"
)

// hostileRow describes how servers fail, and the outcome that a call must have.
type hostileRow struct {
	name      string
	protocols []wiretest.Protocol
	methods   []hostileMethod // nil means hostileMethods

	// scripts are for the requests of the call, in their order.
	scripts []wiretest.Script
	// first is for a previous call on the same connection. Nil makes none.
	first *wiretest.Script
	// idle happens to that connection just before the call is made. With
	// idleExecutes the server executes the call if it still arrives there.
	idle         wiretest.Fault
	idleExecutes bool
	// proxy are for the CONNECT requests of a proxy before the server.
	proxy []wiretest.Script
	// refused refuses connections until the first attempt has failed.
	refused bool
	// short bounds each attempt by a second or two, since the server falls silent.
	short bool

	// certain says that the client knows that the call was not executed.
	certain bool
	// recovers says that the guard repeats a call until it succeeds, if it may.
	recovers bool
	// dead says that the connection falls silent and no first-byte time-out ends
	// it. With HTTP/2 the call does not recover before a ping has failed.
	dead bool
	// succeeds says that the call succeeds at once.
	succeeds bool
	// partly says that a server refuses the call after some of its effects, if
	// the method has several. Such a call counts as executed.
	partly bool
	// kind, retryAfter and migrateTo are those of the answer. Without an answer
	// the kind is None, and the outcome of a call that may not be repeated is
	// unknown.
	kind       errors.Kind
	retryAfter time.Duration
	migrateTo  int64
	// anyKind permits any kind.
	anyKind bool
}

// hostileMethod is a group of methods that are alike.
type hostileMethod struct {
	names      []string // the runs take turns
	repeatable bool
	several    bool // a call has several effects
	upload     int  // size of the file in bytes, 0 for none
}

var hostileMethods = []hostileMethod{
	{names: []string{"sendMessage"}},
	{names: []string{"sendMediaGroup", "copyMessages", "forwardMessages"}, several: true},
	{names: []string{"editMessageText", "getMe"}, repeatable: true},
}

// hostileRuns returns how often each combination runs.
func hostileRuns(t *testing.T) int {
	if text := os.Getenv("TGFLEET_HOSTILE_RUNS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, "TGFLEET_HOSTILE_RUNS")
		return n
	}
	if testing.Short() {
		return 1
	}
	return 5
}

// Servers and proxies fail at every point of a call. The methods have one
// effect, several effects, or can be repeated. They are called with the guard
// and without. No call is executed twice, and no executed call is reported as
// not delivered.
//
// TGFLEET_HOSTILE_RUNS sets the number of runs of each combination; see "make
// hostile".
func TestHostileServers(t *testing.T) {
	runs := hostileRuns(t)
	rows := hostileRows()
	log.SetOutput(io.Discard) // net/http reports unsolicited answers there
	defer log.SetOutput(os.Stderr)
	defer countStalls()()
	var totals hostileTotals
	t.Run("rows", func(t *testing.T) {
		names := make(map[string]bool)
		for _, row := range rows {
			require.False(t, names[row.name], "two rows: %s", row.name)
			names[row.name] = true
			t.Run(row.name, func(t *testing.T) {
				report := row.start(runs, &totals)
				t.Parallel() // all rows have started when the first one reports
				report(t)
			})
		}
	})
	t.Logf("hostile servers: %d rows, %d combinations, %d runs, executed twice %d, wrongly NotDelivered %d, other failures %d",
		len(rows), totals.combinations.Load(), totals.runs.Load(), totals.twice.Load(), totals.wrongly.Load(), totals.others.Load())
}

// hostileTotals are the sums over all rows.
type hostileTotals struct {
	combinations, runs, twice, wrongly, others atomic.Int64
}

// start starts all combinations of a row. It returns a function that waits for
// them and reports what failed.
func (row hostileRow) start(runs int, totals *hostileTotals) (report func(t *testing.T)) {
	methods := row.methods
	if methods == nil {
		methods = hostileMethods
	}
	var all sync.WaitGroup
	var calls []*hostileCall
	for _, protocol := range row.protocols {
		for _, method := range methods {
			for _, guard := range []bool{false, true} {
				c := &hostileCall{row: row, protocol: protocol, method: method, guard: guard}
				calls = append(calls, c)
				all.Go(func() { c.runAll(runs) })
			}
		}
	}
	return func(t *testing.T) {
		all.Wait()
		for _, c := range calls {
			c.report(t, runs, totals)
		}
	}
}

// The slots bound the calls under way, and so the open sockets. Calls of short
// rows mostly wait, so they have slots of their own.
var hostileSlots, hostileShortSlots = make(chan struct{}, 8), make(chan struct{}, hostileWaiting())

func hostileWaiting() int {
	if session.RaceEnabled {
		return 64
	}
	return 128
}

// runAll runs a combination.
func (c *hostileCall) runAll(runs int) {
	c.failed, c.examples = make(map[string]int), make(map[string]string)
	slots := hostileSlots
	if c.row.short {
		slots = hostileShortSlots
	}
	var all sync.WaitGroup
	for n := range runs {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			o := c.run(n)
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, f := range o.failures(c) {
				c.failed[f]++
				c.examples[f] = o.String()
			}
		})
	}
	all.Wait()
}

// report reports each failure of a combination once.
func (c *hostileCall) report(t *testing.T, runs int, totals *hostileTotals) {
	totals.combinations.Add(1)
	totals.runs.Add(int64(runs))
	for f, times := range c.failed {
		t.Errorf("%s: %s in %d of %d runs, such as: %s", c, f, times, runs, c.examples[f])
		switch f {
		case executedTwice:
			totals.twice.Add(int64(times))
		case wronglyNotDelivered:
			totals.wrongly.Add(int64(times))
		default:
			totals.others.Add(int64(times))
		}
	}
}

// hostileStalls counts how often a goroutine had to wait too long for a
// processor.
var hostileStalls atomic.Int64

// countStalls adds to hostileStalls until stop is called.
func countStalls() (stop func()) {
	const tick, late = 10 * time.Millisecond, 200 * time.Millisecond
	done := make(chan struct{})
	var counting sync.WaitGroup
	counting.Go(func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for last := time.Now(); ; last = time.Now() {
			select {
			case <-ticker.C:
				if time.Since(last) > late {
					hostileStalls.Add(1)
				}
			case <-done:
				return
			}
		}
	})
	return func() { close(done); counting.Wait() }
}
