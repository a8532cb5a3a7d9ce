package webhook

import (
	"fmt"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/ratelimit"
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
