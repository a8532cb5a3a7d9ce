package usage_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/usage"
)

func newRecorder(t testing.TB, cfg usage.Config) *usage.Recorder {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = usage.NewMemoryStore()
	}
	r, err := usage.New(cfg)
	require.NoError(t, err)
	return r
}

// BenchmarkObserve counts calls of 1,000 busy tenants, in no order, each of
// which has 20 chats. In BenchmarkObserveManyChats each call goes to another
// chat, which is the worst case for finding the most active ones.
func BenchmarkObserve(b *testing.B) { benchmarkObserve(b, 20) }

func BenchmarkObserveManyChats(b *testing.B) { benchmarkObserve(b, 1<<20) }

func benchmarkObserve(b *testing.B, chats int) {
	r := newRecorder(b, usage.Config{})
	methods := []string{"sendMessage", "answerCallbackQuery", "sendMessage", "editMessageText", "sendMessage", "sendPhoto"}
	rng := rand.New(rand.NewPCG(1, 2))
	list := make([]usage.Call, 1<<12)
	now := time.Now()
	for i := range list {
		list[i] = usage.Call{At: now, Method: methods[i%len(methods)], Chat: usage.Chat{ID: 1 + int64(rng.IntN(chats))},
			Latency: time.Duration(float64(80*time.Millisecond) * (0.7 + rng.ExpFloat64()))}
		if i%50 == 0 {
			list[i].Kind = errors.Blocked
		}
	}
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf("tenant-%06d", i)
	}
	// What comes first for a tenant needs room.
	for i := range 1000 * len(ids) {
		r.Observe(ids[i%len(ids)], list[(i/len(ids)*31+i%len(ids)*7)%len(list)])
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	i, at := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		r.Observe(ids[i], list[at])
		if i++; i == len(ids) {
			i = 0
		}
		if at++; at == len(list) {
			at = 0
		}
	}
}
