package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

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
