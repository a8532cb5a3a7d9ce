package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// What is remembered of tenants that are called no more does not stay.
func TestWhatIsRememberedOfTenantsIsForgotten(t *testing.T) {
	now := time.Unix(1e9, 0)
	p, r := newPace([]ratelimit.Limit{ratelimit.Per(1000, time.Second)}), &refusals{}
	for day := range 100 {
		for i := range 10 {
			id := fmt.Sprint(day, "/", i)
			assert.Zero(t, p.take(now, id))
			r.set(id, &gotgbot.WebhookInfo{LastErrorMessage: badAnswer + "401 Unauthorized", LastErrorDate: now.Unix()}, now)
		}
		now = now.Add(24 * time.Hour)
	}
	assert.LessOrEqual(t, len(p.warm), 20)
	assert.LessOrEqual(t, len(r.cured), 40)
}

// However an answer's wait ends, nothing of it stays.
func TestAnAnswersWaitLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, err := NewKeys(generation(1))
		require.NoError(t, err)
		for _, err := range []error{nil, errors.New("disk on fire")} {
			rc, fail := NewReceiver(putFunc(func(batch []inbox.Update) ([]inbox.Outcome, error) { return make([]inbox.Outcome, len(batch)), err }), keys, Config{ReplyWithin: time.Second})
			require.NoError(t, fail)
			r := httptest.NewRequest(http.MethodPost, "/"+keys.Path("a"), strings.NewReader(`{"update_id":1}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(secretHeader, keys.Secret("a"))
			rc.ServeHTTP(httptest.NewRecorder(), r)
			assert.Empty(t, rc.replies.waiting)
		}
	})
}

type putFunc func(batch []inbox.Update) ([]inbox.Outcome, error)

func (f putFunc) Put(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
	return f(batch)
}
