package polling_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// BenchmarkIdle is what a tenant costs that has nothing to say: one that is
// polled, with all that the session has of the call but without the
// transport's part, and one that another process polls.
func BenchmarkIdle(b *testing.B) {
	b.Run("polled", func(b *testing.B) { idle(b, polling.NewMemoryLeases(), "polling") })
	b.Run("standby", func(b *testing.B) { idle(b, others{}, "standby") })
}

func idle(b *testing.B, leases polling.Leases, state string) {
	const n = 5000
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	s := newService(b, srv, waiting{})
	defer s.close()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("tenant-", i)
		s.register(ids[i])
	}
	for b.Loop() {
		p := s.unstarted(polling.Config{Leases: leases})
		memory, goroutines := used(), runtime.NumGoroutine()
		p.Add(ids...)
		require.NoError(b, p.Start(b.Context()))
		for p.Stats().Tenants[state] < n {
			runtime.Gosched()
		}
		b.ReportMetric(float64(used()-memory)/n, "B/tenant")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/n, "goroutines/tenant")
		stop(b, p)
	}
}

// used is the memory in use: heap and stacks.
func used() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// waiting is a Telegram whose long polls wait for ever.
type waiting struct{}

func (waiting) RoundTrip(r *http.Request) (*http.Response, error) {
	var params struct{ Timeout int }
	_ = json.NewDecoder(r.Body).Decode(&params)
	r.Body.Close()
	if params.Timeout > 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return response(r, 200, `{"ok":true,"result":[]}`), nil
}

// others are leases that others have.
type others struct{}

func (others) Heartbeat(_ context.Context, owner string, want int, _ time.Duration) (map[string]int, error) {
	return map[string]int{owner: want, "others": want}, nil
}

func (others) Acquire(_ context.Context, _ string, tenants []string, _ time.Duration) ([]string, error) {
	holders := make([]string, len(tenants))
	for i := range holders {
		holders[i] = "another"
	}
	return holders, nil
}

func (others) Release(context.Context, string, []string) error { return nil }
