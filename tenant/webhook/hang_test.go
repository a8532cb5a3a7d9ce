package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// crowd has many requests come at the same time, and returns how long the
// slowest answer took.
func crowd(t *testing.T, rc *webhook.Receiver, requests []*http.Request) (codes map[int]int, worst time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes = make(map[int]int)
	begun := time.Now()
	for _, r := range requests {
		wg.Go(func() {
			code := serve(rc, r).Code
			mu.Lock()
			defer mu.Unlock()
			codes[code]++
			worst = max(worst, time.Since(begun))
		})
	}
	wg.Wait()
	return codes, worst
}

func updates(keys *webhook.Keys, n int) (all []*http.Request) {
	for id := range n {
		all = append(all, request(keys, "a", body(int64(id+1))))
	}
	return all
}

func TestAHangingInboxKeepsNobodyWaitingForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		var hang atomic.Bool
		hang.Store(true)
		rc := newReceiver(t, putFunc(func(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			if hang.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return make([]inbox.Outcome, len(batch)), nil
		}), keys, webhook.Config{})
		codes, worst := crowd(t, rc, updates(keys, 3000))
		assert.Equal(t, map[int]int{http.StatusServiceUnavailable: 3000}, codes)
		assert.LessOrEqual(t, worst, 20*time.Second)
		hang.Store(false)
		codes, worst = crowd(t, rc, updates(keys, 3000))
		assert.Equal(t, map[int]int{http.StatusOK: 3000}, codes, "and all is well when it works again")
		assert.Zero(t, worst)
	})
}

func TestAnInboxThatIgnoresItsContextGathersNoMoreThanABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		release := make(chan struct{})
		rc := newReceiver(t, putFunc(func(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			<-release
			return make([]inbox.Outcome, len(batch)), nil
		}), keys, webhook.Config{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(release)
		wg.Go(func() { assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(1))).Code) })
		synctest.Wait()
		codes, worst := crowd(t, rc, updates(keys, 1000))
		assert.Equal(t, map[int]int{http.StatusServiceUnavailable: 1000}, codes)
		assert.Equal(t, 10*time.Second, worst)
	})
}

func TestASlowInboxAnswersThoseItCanTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		stored := 0
		rc := newReceiver(t, putFunc(func(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			time.Sleep(4 * time.Second)
			stored += len(batch)
			return make([]inbox.Outcome, len(batch)), nil
		}), keys, webhook.Config{MaxBatch: 100})
		codes, worst := crowd(t, rc, updates(keys, 1000))
		assert.LessOrEqual(t, worst, 20*time.Second)
		assert.Equal(t, stored, codes[http.StatusOK], "what is answered 503 was not stored")
		assert.Equal(t, 1000, codes[http.StatusOK]+codes[http.StatusServiceUnavailable])
		assert.GreaterOrEqual(t, stored, 201)
		assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(5000))).Code, "the lead was handed on")
	})
}

func TestMoreThanMayWaitAreRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		release := make(chan struct{})
		rc := newReceiver(t, putFunc(func(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			<-release
			return make([]inbox.Outcome, len(batch)), nil
		}), keys, webhook.Config{MaxWaiting: 3})
		var wg sync.WaitGroup
		for id := range 4 {
			wg.Go(func() {
				assert.Equal(t, http.StatusOK, serve(rc, request(keys, fmt.Sprint("t", id), body(1))).Code)
			})
		}
		synctest.Wait()
		w := serve(rc, request(keys, "late", body(1)))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, "5", w.Header().Get("Retry-After"))
		close(release)
		wg.Wait()
		assert.Equal(t, http.StatusOK, serve(rc, request(keys, "late", body(1))).Code)
	})
}

// Those that wait for an inbox that turns out to be down fail with the one that
// found out, and don't each find out anew.
func TestAnInboxThatIsDownIsAskedOnceForAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		var asked atomic.Int64
		rc := newReceiver(t, putFunc(func(context.Context, []inbox.Update) ([]inbox.Outcome, error) {
			asked.Add(1)
			time.Sleep(3 * time.Second)
			return nil, errors.New("no connection")
		}), keys, webhook.Config{MaxBatch: 10})
		codes, worst := crowd(t, rc, updates(keys, 100))
		assert.Equal(t, map[int]int{http.StatusServiceUnavailable: 100}, codes)
		assert.Equal(t, 3*time.Second, worst)
		assert.Equal(t, int64(1), asked.Load())
		assert.Equal(t, http.StatusServiceUnavailable, serve(rc, request(keys, "a", body(1))).Code)
		assert.Equal(t, int64(2), asked.Load())
	})
}

// Whose time is over in the moment in which it is to put for all may not just
// leave, or nobody ever would again.
func TestTheLeadIsNotLostToWhoGivesUp(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			keys := newKeys(t)
			rc := newReceiver(t, putFunc(func(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
				time.Sleep(time.Second)
				return make([]inbox.Outcome, len(batch)), nil
			}), keys, webhook.Config{PutTimeout: time.Second})
			crowd(t, rc, updates(keys, 3))
			require.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(9))).Code)
		})
	}
}

// storeFunc is a store of tenants that does what a test wants.
type storeFunc func(ctx context.Context, id string) (tenant.Record, error)

func (f storeFunc) Get(ctx context.Context, id string) (tenant.Record, error) { return f(ctx, id) }

func TestAHangingStoreOfTenantsStopsNoUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		var hang atomic.Bool
		var asked atomic.Int64
		rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{}), keys, webhook.Config{Tenants: storeFunc(func(ctx context.Context, id string) (tenant.Record, error) {
			asked.Add(1)
			if hang.Load() {
				<-ctx.Done()
				return tenant.Record{}, ctx.Err()
			}
			return tenant.Record{ID: id, Status: tenant.Active}, nil
		})})
		require.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(1))).Code)
		hang.Store(true)
		time.Sleep(11 * time.Second)
		var wg sync.WaitGroup
		begun := time.Now()
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(2))).Code)
			assert.Equal(t, 2*time.Second, time.Since(begun))
		})
		synctest.Wait()
		codes, worst := crowd(t, rc, updates(keys, 100))
		assert.Equal(t, map[int]int{http.StatusOK: 100}, codes)
		assert.Zero(t, worst, "one asks, the others go by what was known")
		wg.Wait()
		assert.Equal(t, int64(2), asked.Load())
		assert.Equal(t, http.StatusServiceUnavailable, serve(rc, request(keys, "new", body(1))).Code)
		assert.Equal(t, 4*time.Second, time.Since(begun))
	})
}
