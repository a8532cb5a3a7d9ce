package storetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// NotUnderstood tests an empty SQL store for rows that a newer version of the
// code has written, which may know more than this one: none of them hides
// another. update runs UPDATE on the table of tenants with what follows SET.
func NotUnderstood(t *testing.T, s tenant.Store, update func(set string)) {
	for i, id := range []string{"a", "b", "c", "d"} {
		put(t, s, Record(t, id, int64(i+1)))
	}
	changes := make(chan tenant.Change, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func(c tenant.Change) { changes <- c }) }()
	assert.Equal(t, tenant.Change{}, <-changes)
	for _, set := range []string{"status = 'archived', version = version + 1 WHERE id = 'a'", "metadata = '[1]' WHERE id = 'b'", "limits = '[]' WHERE id = 'c'"} {
		update(set)
	}
	assert.Equal(t, tenant.Change{ID: "a", Version: 2, Status: tenant.Suspended}, <-changes)
	cancel()
	assert.ErrorIs(t, <-done, errors.Canceled)

	page, err := s.List(t.Context(), tenant.Filter{})
	require.NoError(t, err)
	many, err := s.GetMany(t.Context(), []string{"a", "b", "c", "d"})
	require.NoError(t, err)
	require.Len(t, page, 4)
	require.Len(t, many, 4)
	for i, what := range []string{"status", "metadata", "limits"} {
		r := page[i]
		assert.Equal(t, r, many[r.ID])
		assert.ErrorIs(t, r.TokenErr, tenant.ErrNotUnderstood)
		assert.ErrorContains(t, r.TokenErr, what)
		assert.Equal(t, tenant.Suspended, r.Status)
		assert.True(t, r.Token.IsZero())
		_, err = s.Put(t.Context(), r)
		assert.ErrorIs(t, err, errors.BadRequest, "what was not understood would be lost")
		require.NoError(t, s.Delete(t.Context(), r.ID, r.Version))
	}
	assert.NoError(t, page[3].TokenErr)
}
