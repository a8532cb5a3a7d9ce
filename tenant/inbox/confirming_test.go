package inbox_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Whether a token is dead takes up to an hour to find out. Updates wait meanwhile, and
// do not become dead letters.
func TestUpdatesWaitWhileTheirTokenIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		bot := f.register(t, "shop")
		require.NoError(t, f.Start(bg))
		defer f.Stop()
		ann := f.srv.NewUser("Ann")
		ann.Start(bot, "")
		m := newMemory(t)
		answer := inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
			_, err := t.Bot.SendMessageWithContext(ctx, ann.ID, fmt.Sprint(u.ID), nil)
			return err
		})
		w, err := inbox.NewWorkers(m, f.pool, answer, inbox.WorkersConfig{})
		require.NoError(t, err)
		require.NoError(t, w.Start(bg))
		defer func() { require.NoError(t, w.Stop(bg)) }()

		end := f.srv.Fail(bottest.Fault{Bot: bot, Do: bottest.Unauthorized401()})
		const n = 50
		for id := range int64(n) {
			put(t, m, written("shop", ann.ID+id%7, id+1, "hello"))
			time.Sleep(time.Minute)
		}
		assert.Zero(t, w.Stats().Handled)
		end()
		time.Sleep(30 * time.Second) // it is used, so it is asked about soon
		assert.Zero(t, w.Stats().Buried)
		assert.EqualValues(t, n, w.Stats().Handled)
		isEmpty(t, m)
	})
}
