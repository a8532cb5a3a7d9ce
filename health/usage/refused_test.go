package usage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

// picky refuses a tenant, as a database does whose column is too short for it.
type picky struct{ usage.Store }

func (p picky) Add(ctx context.Context, f health.Flush, list []usage.Rollup) error {
	for _, r := range list {
		if len(r.Tenant) > 100 {
			return errors.BadRequest
		}
	}
	return p.Store.Add(ctx, f, list)
}

func TestARollUpThatTheStoreRefusesDoesNotKeepTheOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := picky{usage.NewMemoryStore()}
		r := newRecorder(t, usage.Config{Store: store, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, r.Start(t.Context()))
		long := string(bytes.Repeat([]byte{'x'}, 101))
		for i := range 100 {
			r.Observe(fmt.Sprint("t", i), usage.Call{Method: "getMe"})
		}
		r.Observe(long, usage.Call{Method: "getMe"})
		r.Observe("", usage.Call{Method: "getMe"})
		r.Update("", usage.Update{Type: "message"})
		time.Sleep(time.Minute)
		synctest.Wait()
		for i := range 100 {
			calls, _ := sum(stored(t, store, fmt.Sprint("t", i)))
			assert.EqualValues(t, 1, calls, i)
		}
		assert.EqualValues(t, 3, r.Dropped())
		assert.Contains(t, log.String(), "usage dropped")
		r.Observe("t0", usage.Call{Method: "getMe"})
		require.NoError(t, r.Stop(t.Context()))
		calls, _ := sum(stored(t, store, "t0"))
		assert.EqualValues(t, 2, calls)
	})
}

func TestAChatIsCountedInTheFormInWhichItIsStored(t *testing.T) {
	for _, c := range []struct {
		name string
		in   usage.Chat
		want usage.Chat
	}{
		{"a number", usage.Chat{ID: -100}, usage.Chat{ID: -100}},
		{"a username", usage.Chat{Username: "@shop_1"}, usage.Chat{Username: "@shop_1"}},
		{"a username in capitals", usage.Chat{Username: "@Shop"}, usage.Chat{Username: "@shop"}},
		{"both", usage.Chat{ID: 3, Username: "@x"}, usage.Chat{ID: 3}},
		{"a name without @", usage.Chat{Username: "shop"}, usage.Chat{}},
		{"a name that is a number", usage.Chat{Username: "12"}, usage.Chat{}},
		{"a title", usage.Chat{Username: "@my shop"}, usage.Chat{}},
		{"an @ alone", usage.Chat{Username: "@"}, usage.Chat{}},
		{"a novel", usage.Chat{Username: "@" + string(bytes.Repeat([]byte{'a'}, 1000))}, usage.Chat{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := usage.NewMemoryStore()
			r := newRecorder(t, usage.Config{Store: store})
			r.Observe("a", usage.Call{Method: "sendMessage", Chat: c.in})
			r.Update("a", usage.Update{Type: "message", Chat: c.want})
			require.NoError(t, r.Flush(t.Context()))
			list := stored(t, store, "a")
			require.Len(t, list, 1)
			data, err := json.Marshal(list[0])
			require.NoError(t, err)
			var back usage.Rollup
			require.NoError(t, json.Unmarshal(data, &back))
			if c.want.IsZero() {
				assert.Zero(t, back.Unique.Count())
				assert.Empty(t, back.Top.Chats(9))
				return
			}
			assert.EqualValues(t, 1, back.Unique.Count())
			assert.Equal(t, []usage.ChatCount{{Chat: c.want, In: 1, Out: 1}}, back.Top.Chats(9))
		})
	}
}

func TestARollUpWithANameThatIsNoneIsStillRead(t *testing.T) {
	var r usage.Rollup
	require.NoError(t, json.Unmarshal([]byte(`{"tenant":"a","start":"2026-03-29T01:00:00Z","requests":9,`+
		`"top":{"chats":[{"chat":"shop","in":0,"out":4},{"chat":"@News","in":1,"out":1},{"chat":"@news","in":1,"out":2}]}}`), &r))
	assert.EqualValues(t, 9, r.Requests)
	assert.Equal(t, []usage.ChatCount{{Chat: usage.Chat{Username: "@news"}, In: 2, Out: 3}}, r.Top.Chats(9))
}

func TestDaysAreKeptAtLeastAsLongAsHours(t *testing.T) {
	for _, hourly := range []time.Duration{-1, 500 * usage.Day, 2 * usage.Day} {
		_, err := usage.New(usage.Config{Store: usage.NewMemoryStore(), Hourly: hourly})
		assert.NoError(t, err, hourly)
	}
	_, err := usage.New(usage.Config{Store: usage.NewMemoryStore(), Hourly: -1, Daily: 500 * usage.Day})
	assert.ErrorContains(t, err, "Daily is below Hourly")
}

func TestAReportEndsWithItsContext(t *testing.T) {
	store := usage.NewMemoryStore()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := usage.NewReporter(ending{store, cancel}, nil).Report(ctx, "a", time.Now(), time.Now().Add(time.Hour), nil)
	require.ErrorIs(t, err, errors.Canceled)
}

// ending is a store whose caller goes away meanwhile.
type ending struct {
	usage.Store
	cancel context.CancelFunc
}

func (e ending) Range(context.Context, string, time.Time, time.Time) ([]usage.Rollup, error) {
	e.cancel()
	return make([]usage.Rollup, 5), nil
}
