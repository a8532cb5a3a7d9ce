package storetest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

func (s suite) records(t *testing.T) {
	t.Run("what was put comes back, as a copy", func(t *testing.T) {
		store := s.Open(t, s.ring)
		in := Record(t, "täňant 🎉 'x\"; -- \\ %s", 7)
		in.Name, in.Username = "名前 \u202e🤖", "shop_bot"
		in.Status, in.Reason = tenant.Suspended, "не оплачено\n'; DROP TABLE tenants"
		in.Metadata = map[string]string{"plan": "gold", "": "empty key", "ключ": "значение", "json": `{"a":[1,"\u0000"]}`}
		in.Limits = session.Limits{
			Weight: 3, Concurrent: -1, Bot: ratelimit.Limit{Rate: 1.0 / 3, Burst: 7},
			Private: ratelimit.Unlimited, Group: ratelimit.Limit{Burst: -1},
		}
		stored := put(t, store, in)
		want := in.Clone()
		want.Version = 1
		equal(t, want, stored)
		in.Metadata["plan"] = "changed"
		stored.Metadata["plan"] = "changed too"
		for name, get := range map[string]func() (tenant.Record, error){
			"Get":   func() (tenant.Record, error) { return store.Get(t.Context(), in.ID) },
			"ByBot": func() (tenant.Record, error) { return store.ByBot(t.Context(), 7) },
			"GetMany": func() (tenant.Record, error) {
				all, err := store.GetMany(t.Context(), []string{in.ID})
				return all[in.ID], err
			},
			"List": func() (tenant.Record, error) {
				all, err := store.List(t.Context(), tenant.Filter{})
				require.Len(t, all, 1)
				return all[0], err
			},
		} {
			got, err := get()
			require.NoError(t, err, name)
			equal(t, want, got)
			got.Metadata["plan"] = "mine"
		}
	})
	t.Run("zero values and extremes come back", func(t *testing.T) {
		store := s.Open(t, s.ring)
		bare := Record(t, "bare", 1)
		bare = tenant.Record{ID: bare.ID, BotID: bare.BotID, Token: bare.Token}
		want := bare
		want.Version = 1
		put(t, store, bare)
		got, err := store.Get(t.Context(), "bare")
		require.NoError(t, err)
		equal(t, want, got)

		far := Record(t, strings.Repeat("x", tenant.MaxIDLen), 1<<54-1)
		far.CreatedAt = time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)
		far.UpdatedAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.FixedZone("x", 3600))
		far.Metadata = map[string]string{}
		want = put(t, store, far)
		assert.Equal(t, time.Date(9999, 12, 31, 22, 59, 59, 999_999_000, time.UTC), want.UpdatedAt, "UTC, to the microsecond")
		got, err = store.Get(t.Context(), far.ID)
		require.NoError(t, err)
		equal(t, want, got)

		endless := Record(t, "endless", 3)
		endless.Limits.Bot = ratelimit.Per(1, 0)
		require.True(t, math.IsInf(endless.Limits.Bot.Rate, 1))
		put(t, store, endless)
		got, err = store.Get(t.Context(), "endless")
		require.NoError(t, err)
		assert.True(t, got.Limits.Bot.IsUnlimited())
		assert.False(t, got.Limits.Bot.IsZero(), "no limit is not the default limit")
	})
	t.Run("a megabyte of metadata fits, and no more", func(t *testing.T) {
		store := s.Open(t, s.ring)
		r := Record(t, "big", 1)
		value := strings.Repeat("é\"\\\n\u2028 x", tenant.MaxMetadata/11)
		r.Metadata = map[string]string{"k": value, "rest": strings.Repeat("x", tenant.MaxMetadata-len(value)-5)}
		put(t, store, r)
		got, err := store.Get(t.Context(), "big")
		require.NoError(t, err)
		assert.True(t, got.Metadata["k"] == value)
		got.Metadata["rest"] += "x"
		_, err = store.Put(t.Context(), got)
		assert.ErrorIs(t, err, errors.BadRequest)
	})
	t.Run("errors have their kinds", s.kinds)
	t.Run("an id that no record can have is nobody's", func(t *testing.T) {
		store := s.Open(t, s.ring)
		put(t, store, Record(t, "a", 1))
		for _, id := range []string{"", "a\x00", "a\xff", strings.Repeat("x", 10_000), "a\n"} {
			_, err := store.Get(t.Context(), id)
			assert.ErrorIs(t, err, errors.NotFound)
			assert.ErrorIs(t, store.Delete(t.Context(), id, 1), errors.NotFound)
			many, err := store.GetMany(t.Context(), []string{id, "a"})
			assert.NoError(t, err)
			assert.Len(t, many, 1)
			assert.NoError(t, store.SetHealth(t.Context(), map[string]string{id: "up", "a": "down"}))
			if id != "" {
				log, err := store.Log(t.Context(), tenant.LogFilter{Tenant: id})
				assert.NoError(t, err)
				assert.Empty(t, log)
			}
			for _, f := range []tenant.Filter{{After: id}, {Health: []string{id}}} {
				if _, err := store.List(t.Context(), f); err != nil {
					assert.ErrorIs(t, err, errors.BadRequest)
				}
			}
		}
	})
	t.Run("a tenant may move to another bot", func(t *testing.T) {
		store := s.Open(t, s.ring)
		a := put(t, store, Record(t, "a", 1))
		moved := Record(t, "a", 2)
		moved.Version = a.Version
		moved = put(t, store, moved)
		_, err := store.ByBot(t.Context(), 1)
		assert.ErrorIs(t, err, errors.NotFound)
		put(t, store, Record(t, "b", 1))
		moved.BotID, moved.Token = 1, Record(t, "a", 1).Token
		_, err = store.Put(t.Context(), moved)
		assert.ErrorIs(t, err, errors.TokenTaken)
		got, err := store.Get(t.Context(), "a")
		require.NoError(t, err)
		assert.Equal(t, int64(2), got.BotID, "nothing is changed")
		assert.Equal(t, int64(2), got.Token.ID())
	})
	t.Run("many are read at once", func(t *testing.T) {
		store := s.Open(t, s.ring)
		var ids []string
		for i := range 700 {
			id := fmt.Sprintf("t%03d", i)
			ids = append(ids, id)
			if i%2 == 0 {
				put(t, store, Record(t, id, int64(i+1)))
			}
		}
		ids = append(ids, ids...)
		got, err := store.GetMany(t.Context(), ids)
		require.NoError(t, err)
		require.Len(t, got, 350)
		for id, r := range got {
			assert.Equal(t, id, r.ID)
			assert.Equal(t, r.BotID, r.Token.ID())
		}
		none, err := store.GetMany(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, none)
	})
	t.Run("health is no change of the record", func(t *testing.T) {
		store := s.Open(t, s.ring)
		a := put(t, store, Record(t, "a", 1))
		assert.Empty(t, a.Health)
		require.NoError(t, store.SetHealth(t.Context(), map[string]string{"a": "degraded", "nobody": "healthy"}))
		require.NoError(t, store.SetHealth(t.Context(), nil))
		got, err := store.Get(t.Context(), "a")
		require.NoError(t, err)
		assert.Equal(t, "degraded", got.Health)
		assert.Equal(t, a.Version, got.Version)
		a.Health = "what was read before"
		a = put(t, store, a)
		assert.Equal(t, "degraded", a.Health)
		got, err = store.Get(t.Context(), "a")
		require.NoError(t, err)
		assert.Equal(t, "degraded", got.Health, "a Put leaves it")
		assert.ErrorIs(t, store.SetHealth(t.Context(), map[string]string{"a": "\xff"}), errors.BadRequest)
		_, err = store.Get(t.Context(), "nobody")
		assert.ErrorIs(t, err, errors.NotFound)
	})
}

// equal compares records, tokens included.
func equal(t *testing.T, want, got tenant.Record) {
	t.Helper()
	assert.NoError(t, got.TokenErr)
	assert.True(t, want.Token.Equal(got.Token), "the token is another")
	want, got = want.Normal(), got.Normal()
	want.Token, got.Token = session.Token{}, session.Token{}
	assert.Equal(t, want, got)
}

func (s suite) kinds(t *testing.T) {
	ctx := t.Context()
	store := s.Open(t, s.ring)
	_, err := store.Get(ctx, "nobody")
	assert.ErrorIs(t, err, errors.NotFound)
	_, err = store.ByBot(ctx, 1)
	assert.ErrorIs(t, err, errors.NotFound)
	assert.ErrorIs(t, store.Delete(ctx, "nobody", 1), errors.NotFound)

	a := put(t, store, Record(t, "a", 1))
	put(t, store, Record(t, "other", 9))
	_, err = store.Put(ctx, Record(t, "a", 1))
	assert.ErrorIs(t, err, errors.Exists)
	_, err = store.Put(ctx, Record(t, "a", 9))
	assert.ErrorIs(t, err, errors.Exists, "which comes before the bot that is taken")
	_, err = store.Put(ctx, Record(t, "b", 1))
	assert.ErrorIs(t, err, errors.TokenTaken)
	gone := Record(t, "c", 3)
	gone.Version = 5
	_, err = store.Put(ctx, gone)
	assert.ErrorIs(t, err, errors.NotFound)

	newer := put(t, store, a)
	assert.Equal(t, int64(2), newer.Version)
	_, err = store.Put(ctx, a)
	assert.ErrorIs(t, err, errors.Stale)
	stolen := Record(t, "a", 9)
	stolen.Version = a.Version
	_, err = store.Put(ctx, stolen)
	assert.ErrorIs(t, err, errors.Stale, "which comes before the bot that is taken")
	assert.ErrorIs(t, store.Delete(ctx, "a", a.Version), errors.Stale)
	require.NoError(t, store.Delete(ctx, "a", newer.Version))
	_, err = store.Get(ctx, "a")
	assert.ErrorIs(t, err, errors.NotFound)
	late := put(t, store, Record(t, "late", 50))
	require.NoError(t, store.Delete(ctx, "late", late.Version, entry("removed")))
	anew := put(t, store, Record(t, "late", 51), entry("registered anew"))
	assert.Greater(t, anew.Version, late.Version)
	_, err = store.Put(ctx, late)
	assert.ErrorIs(t, err, errors.Stale, "who has the record that was removed does not change the new one")
	assert.ErrorIs(t, store.Delete(ctx, "late", late.Version), errors.Stale)
	b := put(t, store, Record(t, "b", 1)) // the bot is free again
	put(t, store, Record(t, "a", 77))     // and so is the id

	good := Record(t, "x", 100)
	change := func(f func(*tenant.Record)) tenant.Record {
		r := good
		f(&r)
		return r
	}
	for name, bad := range map[string]tenant.Record{
		"nothing":                     {},
		"no token":                    change(func(r *tenant.Record) { r.Token = session.Token{} }),
		"a control character":         change(func(r *tenant.Record) { r.ID = "x\n" }),
		"another bot's token":         change(func(r *tenant.Record) { r.BotID = 101 }),
		"a NUL":                       change(func(r *tenant.Record) { r.Name = "a\x00b" }),
		"bytes that are no text":      change(func(r *tenant.Record) { r.Reason = "a\xff" }),
		"metadata that is no text":    change(func(r *tenant.Record) { r.Metadata = map[string]string{"a": "\xc3"} }),
		"a NUL in metadata":           change(func(r *tenant.Record) { r.Metadata = map[string]string{"\x00": ""} }),
		"an unknown status":           change(func(r *tenant.Record) { r.Status = 200 }),
		"limits that are not numbers": change(func(r *tenant.Record) { r.Limits.Bot.Rate = math.NaN() }),
		"a negative version":          change(func(r *tenant.Record) { r.Version = -1 }),
		"a time beyond time":          change(func(r *tenant.Record) { r.CreatedAt = time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"the token in the metadata":   change(func(r *tenant.Record) { r.Metadata = map[string]string{"token": r.Token.Reveal()} }),
		"no token, and none stored":   change(func(r *tenant.Record) { r.Token, r.TokenErr = session.Token{}, errors.New("sealed") }),
	} {
		_, err = store.Put(ctx, bad)
		assert.ErrorIs(t, err, errors.BadRequest, name)
	}
	for name, bad := range map[string]tenant.Entry{
		"no action":             {},
		"a long actor":          {Action: "a", Actor: strings.Repeat("x", 300)},
		"a detail that is none": {Action: "a", Detail: "\xff"},
		"a token":               {Action: "a", Detail: good.Token.Reveal()},
	} {
		_, err = store.Put(ctx, good, entry("fine"), bad)
		assert.ErrorIs(t, err, errors.BadRequest, name)
		assert.ErrorIs(t, store.Delete(ctx, "b", b.Version, bad), errors.BadRequest, name)
	}
	_, err = store.Get(ctx, "x")
	assert.ErrorIs(t, err, errors.NotFound)
	_, err = store.Get(ctx, "b")
	assert.NoError(t, err)
}
