package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// Unreadable tests an empty SQL store for a row that the database itself can't
// read any more: it fails its own tenant and nobody else. spoil makes it so.
func Unreadable(t *testing.T, s tenant.Store, spoil func(id string)) {
	const bad = "tenant-07"
	var ids []string
	for i := range 20 {
		r := Record(t, fmt.Sprintf("tenant-%02d", i), int64(i+1))
		r.Metadata = map[string]string{"text": fmt.Sprintf("%0100000d", i)} // on pages of its own
		ids = append(ids, put(t, s, r).ID)
	}
	spoil(bad)
	_, err := s.Get(t.Context(), bad)
	require.ErrorIs(t, err, errors.Internal)
	_, err = s.GetMany(t.Context(), ids)
	require.ErrorIs(t, err, errors.Internal, "all of them in one query")
	others, err := s.GetMany(t.Context(), append(append([]string(nil), ids[:7]...), ids[8:]...))
	require.NoError(t, err)
	assert.Len(t, others, len(ids)-1)

	nowhere, err := session.New(session.Config{Transport: nowhere{}})
	require.NoError(t, err)
	for name, open := range map[string]func(*tenant.Pool){
		"opened at once": func(p *tenant.Pool) {
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() {
					l, err := p.Acquire(t.Context(), id)
					if id == bad {
						assert.ErrorIs(t, err, errors.Internal)
						return
					}
					if assert.NoError(t, err, id) {
						l.Release()
					}
				})
			}
			wg.Wait()
		},
		"warmed": func(p *tenant.Pool) {
			n, err := p.Warm(t.Context(), ids)
			assert.Equal(t, len(ids)-1, n)
			assert.ErrorIs(t, err, errors.Internal)
		},
	} {
		p, err := tenant.NewPool(nowhere, s, tenant.PoolConfig{})
		require.NoError(t, err)
		open(p)
		assert.Equal(t, len(ids)-1, p.Stats().Open, name)
		require.NoError(t, p.Close(context.WithoutCancel(t.Context())))
	}
	require.NoError(t, nowhere.Close(context.WithoutCancel(t.Context())))
}
