package tenant_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestMemoryStore(t *testing.T) {
	testStore(t, func(*testing.T) tenant.Store { return tenant.NewMemoryStore() })
}

// testStore is what every store must pass.
func testStore(t *testing.T, open func(*testing.T) tenant.Store) {
	ctx := context.Background()
	put := func(t *testing.T, s tenant.Store, r tenant.Record) tenant.Record {
		t.Helper()
		stored, err := s.Put(ctx, r)
		require.NoError(t, err)
		return stored
	}
	t.Run("what was put comes back, as a copy", func(t *testing.T) {
		s := open(t)
		in := record(t, "täňant 🎉", 7)
		in.Metadata = map[string]string{"plan": "gold"}
		in.Status, in.Reason = tenant.Suspended, "unpaid"
		stored := put(t, s, in)
		assert.Equal(t, int64(1), stored.Version)
		in.Metadata["plan"] = "changed"
		stored.Metadata["plan"] = "changed too"
		for _, get := range []func() (tenant.Record, error){
			func() (tenant.Record, error) { return s.Get(ctx, in.ID) },
			func() (tenant.Record, error) { return s.ByBot(ctx, 7) },
		} {
			got, err := get()
			require.NoError(t, err)
			assert.Equal(t, "gold", got.Metadata["plan"])
			assert.Equal(t, tenant.Suspended, got.Status)
			assert.Equal(t, "unpaid", got.Reason)
			assert.True(t, got.Token.Equal(in.Token))
			got.Metadata["plan"] = "mine"
		}
	})
	t.Run("errors have their kinds", func(t *testing.T) {
		s := open(t)
		_, err := s.Get(ctx, "nobody")
		assert.ErrorIs(t, err, errors.NotFound)
		_, err = s.ByBot(ctx, 1)
		assert.ErrorIs(t, err, errors.NotFound)
		assert.ErrorIs(t, s.Delete(ctx, "nobody", 1), errors.NotFound)

		a := put(t, s, record(t, "a", 1))
		_, err = s.Put(ctx, record(t, "a", 1))
		assert.ErrorIs(t, err, errors.Exists)
		_, err = s.Put(ctx, record(t, "b", 1))
		assert.ErrorIs(t, err, errors.TokenTaken)
		gone := record(t, "c", 3)
		gone.Version = 5
		_, err = s.Put(ctx, gone)
		assert.ErrorIs(t, err, errors.NotFound)

		newer := put(t, s, a)
		_, err = s.Put(ctx, a)
		assert.ErrorIs(t, err, errors.Stale)
		assert.ErrorIs(t, s.Delete(ctx, "a", a.Version), errors.Stale)
		require.NoError(t, s.Delete(ctx, "a", newer.Version))
		put(t, s, record(t, "b", 1)) // the bot is free again

		for _, bad := range []tenant.Record{{}, {ID: "x"}, {ID: "x\n", BotID: 9, Token: a.Token}, {ID: "x", BotID: 9, Token: a.Token}} {
			_, err = s.Put(ctx, bad)
			assert.ErrorIs(t, err, errors.BadRequest)
		}
		done, cancel := context.WithCancel(ctx)
		cancel()
		_, err = s.Get(done, "b")
		assert.ErrorIs(t, err, errors.Canceled)
		_, err = s.List(done, tenant.Filter{})
		assert.ErrorIs(t, err, errors.Canceled)
		_, err = s.Put(done, record(t, "z", 99))
		assert.ErrorIs(t, err, errors.Canceled)
	})
	t.Run("a tenant may move to another bot", func(t *testing.T) {
		s := open(t)
		a := put(t, s, record(t, "a", 1))
		moved := record(t, "a", 2)
		moved.Version = a.Version
		put(t, s, moved)
		_, err := s.ByBot(ctx, 1)
		assert.ErrorIs(t, err, errors.NotFound)
		put(t, s, record(t, "b", 1))
	})
	t.Run("pages hold all, once, while others come and go", func(t *testing.T) {
		s := open(t)
		for i := range 250 {
			r := record(t, fmt.Sprintf("t%03d", i*2), int64(i+1))
			if i%5 == 0 {
				r.Status = tenant.Quarantined
			}
			put(t, s, r)
		}
		var seen []string
		f := tenant.Filter{Limit: 40}
		for page := 0; ; page++ {
			records, err := s.List(ctx, f)
			require.NoError(t, err)
			if len(records) == 0 {
				break
			}
			assert.LessOrEqual(t, len(records), 40)
			for _, r := range records {
				seen = append(seen, r.ID)
			}
			f.After = seen[len(seen)-1]
			put(t, s, record(t, fmt.Sprintf("t%03d", page*2+1), int64(1000+page))) // behind the page
		}
		assert.Len(t, seen, 250)
		assert.IsIncreasing(t, seen)

		quarantined, err := s.List(ctx, tenant.Filter{Status: []tenant.Status{tenant.Quarantined, tenant.Suspended}})
		require.NoError(t, err)
		assert.Len(t, quarantined, 50)
		all, err := s.List(ctx, tenant.Filter{})
		require.NoError(t, err)
		assert.Len(t, all, tenant.DefaultLimit)
		none, err := s.List(ctx, tenant.Filter{After: "zzz"})
		require.NoError(t, err)
		assert.Empty(t, none)
	})
	t.Run("of two writers of one version one wins", func(t *testing.T) {
		s := open(t)
		a := put(t, s, record(t, "a", 1))
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 20 {
			wg.Go(func() {
				_, err := s.Put(ctx, a)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else {
					assert.ErrorIs(t, err, errors.Stale)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, 1, won)
	})
}

func TestARecordPrintsWithoutItsSecret(t *testing.T) {
	r := record(t, "a", 123456)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	out := fmt.Sprintf("%v %+v %#v %s", r, r, r, text)
	assert.Contains(t, out, "123456:***")
	assert.NotContains(t, out, r.Token.Reveal())
}

func TestStatusText(t *testing.T) {
	for _, s := range []tenant.Status{tenant.Active, tenant.Suspended, tenant.Quarantined} {
		text, err := s.MarshalText()
		require.NoError(t, err)
		var back tenant.Status
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, s, back)
	}
	var s tenant.Status
	assert.Error(t, s.UnmarshalText([]byte("fine")))
	assert.Equal(t, "Status(9)", tenant.Status(9).String())
}
