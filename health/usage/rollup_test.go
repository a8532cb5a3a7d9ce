package usage_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/usage"
)

// What is written today must be read for ever.
func TestARollUpsJSONIsFixed(t *testing.T) {
	store := usage.NewMemoryStore()
	r := newRecorder(t, usage.Config{Store: store})
	at := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
	r.Observe("a", usage.Call{At: at, Method: "sendMessage", Chat: usage.Chat{ID: -1001}, Latency: 80 * time.Millisecond})
	r.Observe("a", usage.Call{At: at, Method: "sendMessage", Chat: usage.Chat{Username: "@news"}, Kind: errors.Blocked, Latency: 90 * time.Millisecond})
	r.Update("a", usage.Update{At: at, Type: "message", Chat: usage.Chat{ID: -1001}})
	require.NoError(t, r.Flush(t.Context()))
	list := stored(t, store, "a")
	require.Len(t, list, 1)
	const want = `{"tenant":"a","start":"2026-03-29T01:00:00Z","requests":2,"failures":1,"kinds":[{"kind":"blocked","count":1}],` +
		`"methods":[{"method":"sendMessage","requests":2,"failures":1}],"timed":2,"latency":170000000,"latencies":"AQCrAQEAAQE",` +
		`"received":1,"updates":[{"type":"message","count":1}],"unique":"AQgeC0XSYOdAx54hp15wuXI",` +
		`"top":{"chats":[{"chat":"-1001","in":1,"out":1},{"chat":"@news","in":0,"out":1}]},"last_active":"2026-03-29T01:30:00Z"}`
	got, err := json.Marshal(list[0])
	require.NoError(t, err)
	assert.Equal(t, want, string(got))
	var back usage.Rollup
	require.NoError(t, json.Unmarshal(got, &back))
	again, err := json.Marshal(back)
	require.NoError(t, err)
	assert.Equal(t, want, string(again))

	var twice usage.Rollup
	twice.Merge(&back)
	twice.Merge(&list[0])
	assert.EqualValues(t, 4, twice.Requests)
	assert.EqualValues(t, 2, twice.Unique.Count())
	assert.Equal(t, uint64(2), twice.Top.Chats(1)[0].In)
}
