package polling_test

import (
	"context"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// forgetful is a store's Watch that can miss changes, and says so afterwards.
type forgetful struct {
	tenant.Store
	missing bool // set while nothing is under way
	again   chan struct{}
}

func (d *forgetful) Watch(ctx context.Context, f func(tenant.Change)) error {
	changes := make(chan tenant.Change, 100)
	go func() {
		for {
			select {
			case <-d.again:
				changes <- tenant.Change{}
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		_ = d.Store.Watch(ctx, func(c tenant.Change) {
			if !d.missing {
				changes <- c
			}
		})
	}()
	for {
		select {
		case c := <-changes:
			f(c)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Without a list nobody else would ever look at those that have stopped.
func TestWithoutAListAMissedChangeStartsWhatHasStopped(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("shop")
		d := &forgetful{Store: s.store, again: make(chan struct{})}
		p, err := polling.New(s.session, s.store, s.inbox, polling.Config{Watch: d.Watch})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		p.Add("shop")
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		_, err = s.manager.Suspend(bg, "shop", "unpaid")
		require.NoError(t, err)
		require.Equal(t, polling.Stopped, state(t, p, "shop"))
		d.missing = true
		_, err = s.manager.Resume(bg, "shop")
		require.NoError(t, err)
		synctest.Wait()
		d.missing = false
		d.again <- struct{}{}
		time.Sleep(10 * time.Second)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

// The list was begun before the change, and ends after it.
func TestAListDoesNotUndoAChangeThatWasReadMeanwhile(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("aaa")
		s.register("shop")
		s.change("shop", "yes", 0)
		var slow atomic.Bool
		p, err := polling.New(s.session, s.store, s.inbox, polling.Config{
			Watch: s.store.Watch,
			Wants: unhooked,
			Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
				slow := slow.Swap(false)
				return func(yield func(tenant.Record, error) bool) {
					page, err := s.store.List(ctx, tenant.Filter{})
					for _, r := range page {
						if !yield(r, err) {
							return
						}
					}
					if slow { // the next page takes its time
						time.Sleep(10 * time.Second)
					}
				}
			},
		})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		time.Sleep(30 * time.Second)
		slow.Store(true)
		time.Sleep(31 * time.Second)
		require.False(t, slow.Load(), "the list is being read")
		s.change("shop", "", 1)
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		time.Sleep(15 * time.Second)
		status, polled := p.Status("shop")
		require.True(t, polled)
		assert.Equal(t, polling.Polling, status.State)

		// Nor does what was added then keep later changes from counting.
		for i, webhook := range []string{"yes", "", "yes", ""} {
			s.change("shop", webhook, 2+i)
			synctest.Wait()
			_, polled = p.Status("shop")
			assert.Equal(t, webhook == "", polled)
		}
	})
}
