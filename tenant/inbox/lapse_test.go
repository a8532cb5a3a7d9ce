package inbox_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// noExtend is an inbox that can't extend leases.
type noExtend struct{ *inbox.Memory }

func (noExtend) Extend(context.Context, []inbox.Lease, time.Duration) ([]bool, error) {
	return nil, errors.New("down")
}

func TestAChatWhoseLeaseHasLapsedWaitsForTheHandlerThatStillRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var running, most, done atomic.Int64
		work(t, noExtend{m}, poolFunc(nil), inbox.WorkersConfig{HandlerTimeout: time.Minute}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			if u.ID == 1 && done.Load() == 0 {
				time.Sleep(40 * time.Second) // takes no notice of its context
			}
			done.Add(1)
			return nil
		})
		put(t, m, message("a", 1, 1), message("a", 1, 2))
		pass(5 * time.Minute)
		assert.Equal(t, int64(1), most.Load(), "handlers of the chat at one time")
		assert.Equal(t, int64(3), done.Load(), "the first came again")
		isEmpty(t, m)
	})
}
