package healthtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// patience is for a busy machine; nothing takes as long.
const patience = time.Minute

// process is a monitor that can be killed.
type process struct {
	*health.Monitor
	told chan health.Alert
	kill context.CancelFunc
}

// start returns once the store was loaded. Its alerts wait for so long.
func start(t *testing.T, s health.Store, groupWait time.Duration, log *slog.Logger) *process {
	t.Helper()
	p := &process{told: make(chan health.Alert, 100)}
	m, err := health.New(health.Config{Store: s, SaveBatch: 7, Logger: log, Alerts: health.AlertConfig{
		GroupWait: groupWait, CoolDown: groupWait, Handlers: []health.AlertHandler{
			health.AlertFunc(func(_ context.Context, a health.Alert) error { p.told <- a; return nil })}}})
	require.NoError(t, err)
	p.Monitor = m
	ctx, kill := context.WithCancel(context.Background())
	p.kill = kill
	t.Cleanup(func() { p.crash(t) })
	require.NoError(t, m.Start(ctx))
	until(t, func() bool { return m.Ready() == nil })
	return p
}

func (p *process) crash(t *testing.T) {
	t.Helper()
	p.kill()
	_ = p.Stop(context.Background())
}

func until(t *testing.T, what func() bool) {
	t.Helper()
	require.Eventually(t, what, patience, 5*time.Millisecond)
}

// next returns the next alert's transitions.
func (p *process) next(t *testing.T) []health.Transition {
	t.Helper()
	select {
	case a := <-p.told:
		return a.Transitions
	case <-time.After(patience):
		t.Fatal("nothing is told")
		return nil
	}
}

func toldAfterCrash(t *testing.T, s health.Store) {
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	stored := func(tenant string) health.Snapshot { return load(t, s)[tenant] }
	fail := func(p *process) {
		for range 5 {
			p.Observe("ill", health.Outcome{Kind: errors.Timeout})
		}
	}

	p := start(t, s, time.Hour, log)
	fail(p)
	p.Suspend("off", "unpaid")
	until(t, func() bool { return stored("ill").State.Status == health.Unhealthy && stored("off").Suspension != nil })
	p.crash(t)
	assert.Empty(t, p.told, "it waited")

	p = start(t, s, time.Millisecond, log)
	var got []health.Transition
	for len(got) < 2 {
		got = append(got, p.next(t)...)
	}
	if got[0].Tenant == "off" {
		got[0], got[1] = got[1], got[0]
	}
	assert.Equal(t, []any{"ill", health.Healthy, health.Unhealthy, "platform", errors.Timeout},
		[]any{got[0].Tenant, got[0].From, got[0].To, got[0].Group, got[0].Kind})
	assert.Equal(t, "the last 5 calls failed, the last one: timed out", got[0].Reason)
	assert.Equal(t, []any{"off", health.Healthy, health.Suspended, "suspension", "suspended: unpaid"},
		[]any{got[1].Tenant, got[1].From, got[1].To, got[1].Group, got[1].Reason})
	until(t, func() bool { return stored("ill").Told != nil && stored("off").Told != nil })
	p.crash(t)

	// What was told is not told again; what ended meanwhile is.
	p = start(t, s, time.Hour, log)
	p.Resume("off")
	until(t, func() bool { return !stored("off").Suspension.Suspended })
	require.NoError(t, p.Stop(ctx))
	got = p.next(t)
	require.Len(t, got, 1)
	assert.Equal(t, []any{"off", health.Suspended, health.Healthy, "suspension"}, []any{got[0].Tenant, got[0].From, got[0].To, got[0].Group})
	p = start(t, s, time.Millisecond, log)
	require.NoError(t, p.Stop(ctx))
	assert.Empty(t, p.told)
}

// picky refuses a row for ever, as a database does whose rule it breaks.
type picky struct{ health.Store }

func (p picky) Merge(ctx context.Context, f health.Flush, list []health.Snapshot) error {
	for i := range list {
		if list[i].Tenant == "refused" {
			return &errors.Error{Kind: errors.BadRequest, Op: "merge", Err: errors.New("violates a constraint")}
		}
	}
	return p.Store.Merge(ctx, f, list)
}

func refusedRow(t *testing.T, s health.Store) {
	var log bytes.Buffer
	p := start(t, picky{s}, time.Hour, slog.New(slog.NewTextHandler(&log, nil)))
	const rounds = 3
	for i := range rounds {
		for n := range 40 {
			p.Observe(fmt.Sprintf("t%02d", n), health.Outcome{})
		}
		p.Observe("refused", health.Outcome{})
		p.Suspend("refused", fmt.Sprint("why ", i))
		p.Suspend("off", fmt.Sprint("why ", i))
		until(t, func() bool {
			off := load(t, s)["off"]
			return off.Suspension != nil && off.Suspension.Reason == fmt.Sprint("why ", i)
		})
	}
	require.NoError(t, p.Stop(context.Background()))
	got := load(t, s)
	assert.NotContains(t, got, "refused")
	for n := range 40 {
		assert.EqualValues(t, rounds, got[fmt.Sprintf("t%02d", n)].Requests)
	}
	assert.Equal(t, 1, strings.Count(log.String(), "snapshot dropped"), "it is logged now and then")
}
