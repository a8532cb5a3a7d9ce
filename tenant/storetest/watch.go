package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

func (s suite) watch(t *testing.T) {
	run := func(t *testing.T, store, other tenant.Store) {
		put(t, other, Record(t, "before", 9))
		changes := watching(t, store)
		second := watching(t, store) // as many as like
		a := put(t, other, Record(t, "a 🎉", 1))
		a.Status = tenant.Suspended
		a = put(t, other, a)
		require.NoError(t, other.SetHealth(t.Context(), map[string]string{a.ID: "down"}))
		_, err := other.Put(t.Context(), Record(t, "b", 1))
		require.Error(t, err, "what was refused is no change")
		require.NoError(t, other.Delete(t.Context(), a.ID, a.Version))
		anew := put(t, other, Record(t, a.ID, 1))
		want := []tenant.Change{
			{ID: a.ID, Version: 1},
			{ID: a.ID, Version: 2, Status: tenant.Suspended},
			{ID: a.ID},
			{ID: a.ID, Version: anew.Version},
		}
		for _, c := range []<-chan tenant.Change{changes, second} {
			var got []tenant.Change
			for range want {
				got = append(got, next(t, c))
			}
			assert.Equal(t, want, got)
		}
	}
	t.Run("changes of this process are seen", func(t *testing.T) {
		store := s.Open(t, s.ring)
		run(t, store, store)
	})
	if s.Again != nil {
		t.Run("changes of another process are seen", func(t *testing.T) {
			store := s.Open(t, s.ring)
			run(t, store, s.Again(t, store, s.ring))
		})
	}
	t.Run("a slow watcher hears of every tenant, or that any may have changed", func(t *testing.T) {
		store := s.Open(t, s.ring)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		begun, go_ := make(chan struct{}), make(chan struct{})
		missing := map[string]bool{}
		const n = 600 // more than a page of changes
		for i := range n {
			missing[fmt.Sprintf("t%04d", i)] = true
		}
		done := make(chan error)
		first, heard := true, make(chan struct{})
		go func() {
			done <- store.Watch(ctx, func(c tenant.Change) {
				if first {
					first = false
					close(begun)
					<-go_ // and sleeps while all the rest happens
					return
				}
				if c == (tenant.Change{}) {
					clear(missing)
				}
				delete(missing, c.ID)
				if len(missing) == 0 {
					select {
					case <-heard:
					default:
						close(heard)
					}
				}
			})
		}()
		next(t, begun)
		r := Record(t, "t0000", 1)
		for i := range n {
			r.ID, r.Version = fmt.Sprintf("t%04d", i), 0
			r.BotID = int64(i + 1)
			r.Token = Record(t, r.ID, r.BotID).Token
			put(t, store, r)
		}
		close(go_)
		next(t, heard)
		stop()
		assert.ErrorIs(t, next(t, done), errors.Canceled)
	})
	t.Run("a context that has ended is obeyed", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		err := s.Open(t, s.ring).Watch(ctx, func(tenant.Change) {})
		assert.ErrorIs(t, err, errors.Canceled)
	})
}
