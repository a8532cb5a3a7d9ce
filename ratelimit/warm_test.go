package ratelimit_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

func TestATenantThatWasUsedElsewhereNeedsNoStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[int](t, ratelimit.Config{Starts: []ratelimit.Limit{{Burst: 1}}, WarmFor: time.Hour})
		admit := func(tenant string) error {
			p, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: tenant, MaxWait: time.Minute})
			p.Release()
			return err
		}
		require.NoError(t, admit("the only start"))
		s.Warm("lately", time.Now().Add(-59*time.Minute))
		s.Warm("long ago", time.Now().Add(-time.Hour))
		s.Warm("never", time.Time{})
		s.Warm("to come", time.Now().Add(time.Hour))
		assert.NoError(t, admit("lately"))
		assert.NoError(t, admit("to come"))
		assert.ErrorIs(t, admit("long ago"), ratelimit.ErrTooLate)
		assert.ErrorIs(t, admit("never"), ratelimit.ErrTooLate)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() {
			p, err := s.Admit(ctx, ratelimit.Request[int]{Tenant: "waits"})
			p.Release()
			done <- err
		}()
		synctest.Wait()
		s.Warm("waits", time.Now())
		assert.NoError(t, <-done, "who waits for a start goes")
	})
}
