package seal_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// rows is a store in memory.
type rows struct {
	mu  sync.Mutex
	all []seal.Row // by At
}

func newRows(t *testing.T, r *seal.Ring, n int) *rows {
	s := &rows{}
	for i := range n {
		row := seal.Row{Purpose: purpose, Owner: fmt.Sprint("tenant-", i), At: fmt.Sprintf("%06d", i)}
		var err error
		row.Sealed, err = r.Seal(row.Purpose, row.Owner, []byte(fmt.Sprint("secret-", i)))
		require.NoError(t, err)
		s.all = append(s.all, row)
	}
	return s
}

func (s *rows) Sealed(_ context.Context, after, except string, limit int) ([]seal.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []seal.Row
	for _, r := range s.all {
		if id, _ := seal.KeyOf(r.Sealed); r.At > after && id != except && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, nil
}

func (s *rows) Replace(_ context.Context, row seal.Row, sealed []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(r seal.Row) bool { return r.At == row.At })
	if i < 0 || !bytes.Equal(s.all[i].Sealed, row.Sealed) {
		return false, nil
	}
	s.all[i].Sealed = sealed
	return true, nil
}

func (s *rows) open(t *testing.T, r *seal.Ring) {
	for i, row := range s.all {
		text, err := r.Open(row.Purpose, row.Owner, row.Sealed)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("secret-", i), string(text))
	}
}

func TestResealCanBeStoppedAndGoesOn(t *testing.T) {
	old, newer := key(t, "old"), key(t, "new")
	s := newRows(t, ring(t, old), 1000)
	both := ring(t, newer, old)

	ctx, stop := context.WithCancel(t.Context())
	p, err := seal.Reseal(ctx, both, s, seal.ResealConfig{Batch: 64, OnBatch: func(p seal.Progress) {
		if p.Resealed >= 300 {
			stop()
		}
	}})
	assert.ErrorIs(t, err, errors.Canceled)
	assert.Equal(t, 320, p.Resealed)
	s.open(t, both) // half and half

	p, err = seal.Reseal(t.Context(), both, s, seal.ResealConfig{After: p.After})
	require.NoError(t, err)
	assert.Equal(t, 680, p.Resealed)
	s.open(t, ring(t, newer))

	p, err = seal.Reseal(t.Context(), both, s, seal.ResealConfig{})
	require.NoError(t, err)
	assert.Equal(t, seal.Progress{}, p, "nothing is left")
}

func TestResealLeavesWhatDoesNotOpenAndSaysSo(t *testing.T) {
	old, newer, lost := key(t, "old"), key(t, "new"), key(t, "lost")
	s := newRows(t, ring(t, old), 10)
	foreign, err := ring(t, lost).Seal(purpose, s.all[3].Owner, []byte("x"))
	require.NoError(t, err)
	s.all[3].Sealed = bytes.Clone(foreign)
	s.all[7].Sealed = s.all[6].Sealed // copied from another tenant's row
	p, err := seal.Reseal(t.Context(), ring(t, newer, old), s, seal.ResealConfig{Batch: 3})
	assert.ErrorIs(t, err, seal.ErrNoKey)
	assert.ErrorContains(t, err, "2 sealed rows")
	assert.Equal(t, 8, p.Resealed)
	assert.Equal(t, 2, p.Failed)
	assert.Equal(t, foreign, s.all[3].Sealed, "nothing is lost")
}

func TestResealTellsKeysOfOneNameApart(t *testing.T) {
	old, newer, impostor := key(t, "old"), key(t, "2026-07"), key(t, "2026-07")
	s := newRows(t, ring(t, old), 10)
	for i := range 4 {
		var err error
		s.all[i].Sealed, err = ring(t, impostor).Seal(purpose, s.all[i].Owner, []byte("x"))
		require.NoError(t, err)
	}
	both := ring(t, newer, old)
	for _, n := range []int{6, 0} { // a second walk does not call it done either
		p, err := seal.Reseal(t.Context(), both, s, seal.ResealConfig{Batch: 3})
		assert.ErrorIs(t, err, seal.ErrWrongKey)
		assert.Equal(t, n, p.Resealed)
		assert.Equal(t, 4, p.Failed)
	}
}

func TestResealDoesNotUndoWhatOthersChange(t *testing.T) {
	old, newer := key(t, "old"), key(t, "new")
	s := newRows(t, ring(t, old), 10)
	both := ring(t, newer, old)
	slow := &changing{rows: s, change: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		fresh, err := both.Seal(purpose, s.all[5].Owner, []byte("secret-5"))
		require.NoError(t, err)
		s.all[5].Sealed = fresh
	}}
	p, err := seal.Reseal(t.Context(), both, slow, seal.ResealConfig{})
	require.NoError(t, err)
	assert.Equal(t, 9, p.Resealed)
	assert.Equal(t, 1, p.Changed)
	s.open(t, ring(t, newer))

	// Two at once.
	s = newRows(t, ring(t, old), 200)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			_, err := seal.Reseal(t.Context(), both, s, seal.ResealConfig{Batch: 7})
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	s.open(t, ring(t, newer))
}

// changing has a row changed after it was read.
type changing struct {
	*rows
	change func()
}

func (c *changing) Sealed(ctx context.Context, after, except string, limit int) ([]seal.Row, error) {
	page, err := c.rows.Sealed(ctx, after, except, limit)
	if c.change != nil {
		c.change()
		c.change = nil
	}
	return page, err
}
