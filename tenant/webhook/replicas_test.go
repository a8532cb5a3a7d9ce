package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// cold are the limits of the real server's cold start.
func cold() bottest.Limits {
	l := bottest.NoLimits()
	l.ColdPerMinute, l.ColdPerHour, l.SetWebhookEvery = 20, 600, time.Second
	return l
}

// refusals counts what the server has refused so far.
func (f *fleet) refusals() (n int) {
	for _, c := range f.srv.Calls() {
		if c.Status == http.StatusTooManyRequests {
			n++
		}
	}
	return n
}

// Three replicas begin at the same time and with the limits of one each: they
// walk the fleet side by side, so a bot starts once, and is set once or, by
// those who looked at the same moment, again and the same.
func TestReplicasThatReconcileTogetherKeepToTheColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 300
		f := newFleet(t, cold())
		for i := range all {
			f.add(t, fmt.Sprintf("t%03d", i))
		}
		var wg sync.WaitGroup
		begun := time.Now()
		for i := range 3 {
			m := f.webhooks(t, webhook.ManagerConfig{})
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				r, err := m.Reconcile(bg, webhook.Reconcile{})
				assert.NoError(t, err)
				assert.Zero(t, r.Failed)
				assert.Equal(t, all, r.Changed+r.Right)
			})
		}
		wg.Wait()
		assert.Less(t, time.Since(begun), all/20*time.Minute+time.Minute)
		urls := make(map[string]map[string]bool)
		for _, c := range f.set() {
			if urls[c.Params["url"]] == nil {
				urls[c.Params["url"]] = make(map[string]bool)
			}
			urls[c.Params["url"]][fmt.Sprint(c.Params)] = true
		}
		assert.Len(t, urls, all)
		for at, different := range urls {
			assert.Len(t, different, 1, at)
		}
		r := reconcile(t, f.webhooks(t, unpaced(webhook.ManagerConfig{})))
		assert.Equal(t, all, r.Right)
	})
}

// Two replicas at different places of the fleet, each with its part of what one
// address may start: nothing is refused.
func TestReplicasThatShareTheStartsAreNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 200
		f := newFleet(t, cold())
		for i := range all {
			f.add(t, fmt.Sprintf("t%03d", i))
		}
		starts := []ratelimit.Limit{ratelimit.Per(8, time.Minute), ratelimit.Per(280, time.Hour)}
		var wg sync.WaitGroup
		for _, after := range []string{"", "t099"} {
			m := f.webhooks(t, webhook.ManagerConfig{Starts: starts})
			wg.Go(func() {
				r, err := m.Reconcile(bg, webhook.Reconcile{After: after})
				assert.NoError(t, err)
				assert.Zero(t, r.Failed)
			})
		}
		wg.Wait()
		assert.Zero(t, f.refusals())
		assert.Len(t, f.set(), all)
	})
}

// A process dies in the middle of a run, and all that is left of it is what it
// has told. Another goes on there, at once, with the limits of a whole one.
func TestARunGoesOnAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 200
		f := newFleet(t, cold())
		for i := range all {
			f.add(t, fmt.Sprintf("t%03d", i))
		}
		saved := ""
		for crash := range 4 {
			ctx, kill := context.WithTimeout(bg, 60*time.Second+time.Duration(crash)*700*time.Millisecond)
			_, err := f.webhooks(t, webhook.ManagerConfig{}).Reconcile(ctx, webhook.Reconcile{After: saved, Progress: func(next string) {
				assert.Greater(t, next, saved)
				saved = next
			}})
			kill()
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.NotEmpty(t, saved)
		r, err := f.webhooks(t, webhook.ManagerConfig{}).Reconcile(bg, webhook.Reconcile{After: saved})
		require.NoError(t, err)
		assert.Zero(t, r.Failed)
		assert.Equal(t, fmt.Sprintf("t%03d", all-1), r.Next)
		assert.Equal(t, all, reconcile(t, f.webhooks(t, unpaced(webhook.ManagerConfig{}))).Right)
		sets := make(map[string]int)
		for _, c := range f.set() {
			if c.Status == http.StatusOK {
				sets[c.Params["url"]]++
			}
		}
		assert.Len(t, sets, all)
		for at, n := range sets {
			assert.LessOrEqual(t, n, 2, at)
		}
	})
}

// A revoked bot is told of, once: it is quarantined, and later runs pass it by.
func TestARevokedBotIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "a").Revoke()
		f.add(t, "b")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		r, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, [2]int{1, 1}, [2]int{r.Changed, r.Failed})
		assert.ErrorIs(t, r.Failures[0].Err, errors.Unauthorized)
		calls := len(f.srv.Calls())
		assert.Equal(t, webhook.Report{Right: 1, Next: "b"}, reconcile(t, m))
		assert.Equal(t, calls+1, len(f.srv.Calls()))
		_, err = m.Ensure(bg, "a", webhook.Options{})
		assert.ErrorIs(t, err, errors.Suspended)
		_, err = m.Remove(bg, "a", webhook.Options{})
		assert.ErrorIs(t, err, errors.Suspended)
	})
}

// opening is how long opens of bots that come together may gather.
const opening = float64(50 * time.Millisecond)

// A run goes on with others while Telegram wants it to wait with one, and comes
// back to it when it may and not before.
func TestARunKeepsToRetryAfter(t *testing.T) {
	for _, method := range []string{"getWebhookInfo", "setWebhook"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, bottest.NoLimits())
				bot := f.add(t, "a")
				f.add(t, "b")
				f.srv.Fail(bottest.Fault{Bot: bot, Method: method, Do: bottest.TooManyRequests(90 * time.Second), Times: 2})
				begun := time.Now()
				// The pool may wait a moment for others to open bots with.
				after := func(at time.Time) time.Duration { return at.Sub(begun).Round(10 * time.Millisecond) }
				r := reconcile(t, f.webhooks(t, unpaced(webhook.ManagerConfig{})))
				assert.Equal(t, webhook.Report{Changed: 2, Next: "b"}, r)
				assert.Equal(t, 3*time.Minute, after(time.Now()))
				var at []time.Duration
				for _, c := range f.srv.Calls() {
					if c.Method == method && c.Bot == bot {
						at = append(at, after(c.Time))
					} else if c.Bot != bot {
						assert.Zero(t, after(c.Time), "the other does not wait")
					}
				}
				assert.Equal(t, []time.Duration{0, 90 * time.Second, 3 * time.Minute}, at)
			})
		})
	}
}

// A program elsewhere polls with the token: the webhook is set, and the program
// gets a 409. Where it deletes the webhook again, each run sets it once.
func TestABotThatIsPolledElsewhereGetsItsWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot := f.add(t, "a")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		elsewhere := func(method, params string) int {
			r, err := http.NewRequest(http.MethodPost, "https://api.telegram.org/bot"+bot.Token()+"/"+method, strings.NewReader(params))
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := f.srv.Transport().RoundTrip(r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			return resp.StatusCode
		}
		for range 3 {
			var wg sync.WaitGroup
			wg.Go(func() { assert.Equal(t, http.StatusConflict, elsewhere("getUpdates", "timeout=50")) })
			synctest.Wait()
			assert.Equal(t, webhook.Report{Changed: 1, Next: "a"}, reconcile(t, m))
			wg.Wait()
			assert.Equal(t, http.StatusConflict, elsewhere("getUpdates", "timeout=50"), "a webhook is active")
			assert.Equal(t, webhook.Report{Right: 1, Next: "a"}, reconcile(t, m))
			assert.Equal(t, http.StatusOK, elsewhere("deleteWebhook", ""))
		}
		assert.Len(t, f.set(), 3)
	})
}

// Two that set a webhook end each other's call with a 409, which passes; one
// that does not is told of, and stops no others.
func TestAConflictIsTriedAgainForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		passing, lasting := f.add(t, "a"), f.add(t, "b")
		f.add(t, "c")
		f.srv.Fail(bottest.Fault{Bot: passing, Method: "setWebhook", Do: bottest.Conflict409(), Times: 2})
		f.srv.Fail(bottest.Fault{Bot: lasting, Method: "setWebhook", Do: bottest.Conflict409()})
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		begun := time.Now()
		r, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, [2]int{2, 1}, [2]int{r.Changed, r.Failed})
		assert.Equal(t, "b", r.Failures[0].Tenant)
		assert.ErrorIs(t, r.Failures[0].Err, errors.Conflict)
		assert.Equal(t, "c", r.Next)
		assert.Less(t, time.Since(begun), 10*time.Second)
		begun = time.Now()
		before := len(f.set())
		_, err = m.Ensure(bg, "b", webhook.Options{})
		assert.ErrorIs(t, err, errors.Conflict)
		assert.Equal(t, 7*time.Second, time.Since(begun), "after 1, 2 and 4 s")
		assert.Len(t, f.set(), before+4)
	})
}
