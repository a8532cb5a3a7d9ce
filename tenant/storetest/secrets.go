package storetest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// secrets looks for tokens where a thief would.
func (s suite) secrets(t *testing.T) {
	store := s.Open(t, s.ring)
	r := put(t, store, Record(t, "a", 1), entry("first"))
	r.Token, r.BotID = Record(t, "a", 2).Token, 2
	r = put(t, store, r, entry("rotated"))
	gone := put(t, store, Record(t, "gone", 3))
	require.NoError(t, store.Delete(t.Context(), "gone", gone.Version, entry("removed")))
	_, err := store.Put(t.Context(), Record(t, "b", 2))
	require.ErrorIs(t, err, errors.TokenTaken)
	assert.NotContains(t, err.Error(), canary)
	dump := s.Dump(t, store)
	require.True(t, bytes.Contains(dump, []byte(r.Username)), "a dump that holds nothing proves nothing")
	assert.False(t, bytes.Contains(dump, []byte(canary)), "a token is readable")
	for _, key := range s.ring.Keys() {
		assert.True(t, bytes.Contains(dump, []byte(key)), "which key it was is no secret")
	}
}

// keys rotates keys and loses some.
func (s suite) keys(t *testing.T) {
	key := func(id string) seal.Key {
		k, err := seal.GenerateKey(id)
		require.NoError(t, err)
		return k
	}
	ring := func(keys ...seal.Key) *seal.Ring {
		r, err := seal.New(keys...)
		require.NoError(t, err)
		return r
	}
	old, newer := key("old"), key("new")
	first := s.Open(t, ring(old))
	const n = 30
	for i := range n {
		put(t, first, Record(t, "t"+strings.Repeat("x", i), int64(i+1)))
	}
	readable := func(store tenant.Store) (good, bad int) {
		for _, r := range listAll(t, store, tenant.Filter{Limit: 7}) {
			if r.TokenErr == nil {
				assert.Equal(t, r.BotID, r.Token.ID())
				good++
				continue
			}
			assert.True(t, r.Token.IsZero())
			bad++
		}
		return good, bad
	}

	t.Run("a key that is missing hides no tenant and loses no token", func(t *testing.T) {
		blind := s.Again(t, first, ring(newer))
		good, bad := readable(blind)
		assert.Equal(t, []int{0, n}, []int{good, bad})
		r, err := blind.Get(t.Context(), "t")
		require.NoError(t, err)
		assert.ErrorIs(t, r.TokenErr, seal.ErrNoKey)
		many, err := blind.GetMany(t.Context(), []string{"t"})
		require.NoError(t, err)
		assert.ErrorIs(t, many["t"].TokenErr, seal.ErrNoKey)
		wrong, err := s.Again(t, first, ring(key("old"))).Get(t.Context(), "t")
		require.NoError(t, err)
		assert.ErrorIs(t, wrong.TokenErr, seal.ErrWrongKey)

		r.Status, r.Reason = tenant.Suspended, "no key"
		r = put(t, blind, r)
		assert.Equal(t, int64(2), r.Version)
		assert.Error(t, r.TokenErr, "it is still not known")
		got, err := first.Get(t.Context(), "t")
		require.NoError(t, err)
		assert.Equal(t, tenant.Suspended, got.Status)
		assert.True(t, got.Token.Equal(Record(t, "t", 1).Token), "it was kept")

		// The owner gives a new token: that mends it.
		r.Token, r.TokenErr = Record(t, "t", 1).Token, nil
		put(t, blind, r)
		r, err = blind.Get(t.Context(), "t")
		require.NoError(t, err)
		assert.NoError(t, r.TokenErr)
	})
	if s.Rows == nil {
		return
	}
	t.Run("all are sealed again with a new key", func(t *testing.T) {
		both := s.Again(t, first, ring(newer, old))
		before := listAll(t, both, tenant.Filter{})
		p, err := seal.Reseal(t.Context(), ring(newer, old), s.Rows(both), seal.ResealConfig{Batch: 4})
		require.NoError(t, err)
		assert.Equal(t, n-1, p.Resealed)
		p, err = seal.Reseal(t.Context(), ring(newer, old), s.Rows(both), seal.ResealConfig{})
		require.NoError(t, err)
		assert.Equal(t, seal.Progress{}, p)
		after := listAll(t, s.Again(t, first, ring(newer)), tenant.Filter{})
		require.Len(t, after, n)
		for i := range after {
			assert.NoError(t, after[i].TokenErr)
			assert.True(t, before[i].Token.Equal(after[i].Token))
			before[i].Token, after[i].Token = session.Token{}, session.Token{}
		}
		assert.Equal(t, before, after, "nothing else has changed")
	})
	t.Run("another key of the same name is not the one that sealed", func(t *testing.T) {
		impostor := ring(key("new"))
		p, err := seal.Reseal(t.Context(), impostor, s.Rows(s.Again(t, first, impostor)), seal.ResealConfig{})
		assert.ErrorIs(t, err, seal.ErrWrongKey)
		assert.Equal(t, n, p.Failed)
	})
	t.Run("a row that changes meanwhile is left alone", func(t *testing.T) {
		third := key("third")
		store := s.Again(t, first, ring(third, newer))
		rows, err := s.Rows(store).Sealed(t.Context(), "", "third", 10)
		require.NoError(t, err)
		require.Len(t, rows, 10)
		r, err := store.Get(t.Context(), rows[0].Owner)
		require.NoError(t, err)
		put(t, store, r)
		done, err := s.Rows(store).Replace(t.Context(), rows[0], rows[1].Sealed)
		require.NoError(t, err)
		assert.False(t, done)
		r, err = store.Get(t.Context(), rows[0].Owner)
		require.NoError(t, err)
		assert.NoError(t, r.TokenErr)
	})
}
