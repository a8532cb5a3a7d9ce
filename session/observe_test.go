package session_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
)

func TestAnObservationSaysHowLongACallWaitedAndHowMuchWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []session.Observation
		s, g := guarded(t, answering(200, okMessage), session.GuardConfig{
			Limit: session.LimitConfig{Default: session.Limits{Private: ratelimit.Limit{Rate: 0.5, Burst: 1}}},
		}, session.Observe(session.ObserverFunc(func(_ context.Context, o session.Observation) { seen = append(seen, o) })))
		bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
		for range 2 {
			_, err := bot.RequestWithContext(t.Context(), "SENDMESSAGE", map[string]any{"chat_id": int64(1), "text": "hi"}, nil)
			require.NoError(t, err)
		}
		_, _ = bot.SendDocument(2, gotgbot.InputFileByReader("x", strings.NewReader("content")), nil)
		_, _ = bot.Request("send/"+canarySecret, nil, nil)
		require.Len(t, seen, 3, "the last is no method's name")
		assert.Equal(t, "SENDMESSAGE", seen[0].Method)
		assert.Equal(t, "sendMessage", seen[0].Canonical)
		assert.Zero(t, seen[0].Waited)
		assert.Equal(t, 2*time.Second, seen[1].Waited)
		assert.EqualValues(t, len(`{"chat_id":1,"text":"hi"}`), seen[0].Sent)
		assert.EqualValues(t, len(okMessage), seen[0].Received)
		assert.False(t, seen[0].Upload)
		assert.True(t, seen[2].Upload)
		_, _ = bot.Request("sendSecret", nil, nil)
		assert.Equal(t, "_OTHER", seen[3].Canonical)
		assert.Zero(t, g.Stats(0).Verdicts)
	})
}

func TestEachVerdictIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := guarded(t, mischief(refusedFor(day)), session.GuardConfig{})
		threeRefused(t, s)
		v := g.Stats(0).Verdicts
		assert.Equal(t, session.Verdicts{RefusedChat: 3, RefusedTenant: 3, RefusedAll: 1}, v)
	})
}
