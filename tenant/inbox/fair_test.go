package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// p99 is the time from receipt to the handler's end, at the 99th percentile, of
// 50 tenants that get 1000 updates a second in all, beside one that has 10,000
// updates waiting in 500 chats, which flood handles. Without a flood it is there
// without any.
func p99(t *testing.T, flood inbox.HandlerFunc) (p99 time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var mu sync.Mutex
		var latencies []time.Duration
		var floods atomic.Int64
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(ctx context.Context, tn *tenant.Tenant, u inbox.Update) error {
			if u.Tenant == "flood" {
				floods.Add(1)
				return flood(ctx, tn, u)
			}
			time.Sleep(time.Duration(5+u.ID%20) * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, time.Since(u.ReceivedAt))
			return nil
		})
		if flood != nil {
			var batch []inbox.Update
			for id := int64(1); id <= 10_000; id++ {
				batch = append(batch, message("flood", id%500, id))
			}
			put(t, m, batch...)
		}
		id := int64(0)
		for range 15 * 20 { // 15 s
			for range 50 {
				id++
				put(t, m, message(fmt.Sprint("tenant", id%50), id%3000, id))
			}
			time.Sleep(50 * time.Millisecond)
		}
		pass(time.Second)
		mu.Lock()
		got := slices.Sorted(slices.Values(latencies))
		mu.Unlock()
		if assert.Len(t, got, int(id)) {
			p99 = got[len(got)*99/100]
		}
		if flood != nil {
			assert.GreaterOrEqual(t, floods.Load(), int64(16), "the flood itself goes on")
		}
		ctx, cancel := context.WithCancel(bg)
		cancel()
		_ = w.Stop(ctx)
		time.Sleep(time.Hour) // whoever took no notice of that ends
	})
	return p99
}

func TestOneTenantsFloodLeavesTheOthersLatencyAsItWas(t *testing.T) {
	without := p99(t, nil)
	for name, flood := range map[string]inbox.HandlerFunc{
		"whose handlers take 5 s":               func(context.Context, *tenant.Tenant, inbox.Update) error { time.Sleep(5 * time.Second); return nil },
		"whose handlers take no time":           func(context.Context, *tenant.Tenant, inbox.Update) error { return nil },
		"whose handlers always fail":            func(context.Context, *tenant.Tenant, inbox.Update) error { return errors.New("no") },
		"whose handlers fail for good":          func(context.Context, *tenant.Tenant, inbox.Update) error { return inbox.Permanent(errors.New("no")) },
		"whose handlers fail slowly":            func(ctx context.Context, _ *tenant.Tenant, _ inbox.Update) error { <-ctx.Done(); return ctx.Err() },
		"whose handlers always panic":           func(context.Context, *tenant.Tenant, inbox.Update) error { panic("boom") },
		"whose handlers end their goroutine":    func(context.Context, *tenant.Tenant, inbox.Update) error { runtime.Goexit(); return nil },
		"whose handlers ignore their context":   func(context.Context, *tenant.Tenant, inbox.Update) error { time.Sleep(10 * time.Minute); return nil },
		"whose handlers reach Telegram's limit": func(context.Context, *tenant.Tenant, inbox.Update) error { return errors.RateLimited },
	} {
		t.Run(name, func(t *testing.T) {
			with := p99(t, flood)
			t.Logf("p99 of the others: %v without the flood, %v with it", without, with)
			assert.LessOrEqual(t, with, 2*without)
		})
	}
}

func TestManySlowTenantsHoldUpNobodyElse(t *testing.T) {
	for _, slow := range []int{16, 64} {
		t.Run(fmt.Sprint(slow), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t)
				var worst, good, most atomic.Int64
				w := work(t, m, poolFunc(nil), inbox.WorkersConfig{}, func(ctx context.Context, tn *tenant.Tenant, u inbox.Update) error {
					if u.Tenant == "good" {
						good.Add(1)
						worst.Store(max(worst.Load(), int64(time.Since(u.ReceivedAt))))
						return nil
					}
					<-ctx.Done() // hangs until its deadline
					return nil
				})
				for s := range slow {
					for c := range int64(40) {
						put(t, m, message(fmt.Sprint("slow", s), c+1, c+1))
					}
				}
				pass(time.Second)
				for i := range int64(100) {
					put(t, m, message("good", i+1, i+1))
					pass(100 * time.Millisecond)
					most.Store(max(most.Load(), int64(w.Stats().Running)))
				}
				assert.Equal(t, int64(100), good.Load())
				assert.Zero(t, worst.Load(), "its handlers did not wait")
				assert.Less(t, most.Load(), int64(256), "places are kept for tenants that have none")
				pass(10 * time.Minute)
				isEmpty(t, m) // the slow ones come all to their turn
			})
		})
	}
}

func TestATenantThatWasPassedOverUnderPressureGoesOnWhenPlacesAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		// A place is free as soon as one ends, not only when the inbox is asked again.
		work(t, m, poolFunc(nil), inbox.WorkersConfig{Concurrency: 4, PerTenant: 4, PollEvery: time.Hour}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			time.Sleep(time.Second)
			return nil
		})
		for c := range int64(30) {
			put(t, m, message("a", c+1, c+1))
		}
		pass(10*time.Second + time.Millisecond)
		isEmpty(t, m)
	})
}

func TestAHandlerPastItsDeadlineIsToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var logs bytes.Buffer
		w := work(t, m, poolFunc(nil), inbox.WorkersConfig{Logger: slog.New(slog.NewTextHandler(&logs, nil))}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			time.Sleep(5 * time.Minute) // takes no notice of its context
			return nil
		})
		put(t, m, message("a", 1, 1))
		pass(29 * time.Second)
		assert.Zero(t, w.Stats().Overdue)
		pass(3 * time.Minute)
		assert.Equal(t, 1, w.Stats().Overdue)
		assert.Equal(t, 1, strings.Count(logs.String(), "past its deadline"))
		pass(3 * time.Minute)
		assert.Zero(t, w.Stats().Overdue)
		isEmpty(t, m)
	})
}
