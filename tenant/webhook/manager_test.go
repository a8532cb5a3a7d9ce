package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
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
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// unpaced is a manager that need not wait for cold starts.
func unpaced(cfg webhook.ManagerConfig) webhook.ManagerConfig {
	cfg.Starts = []ratelimit.Limit{}
	return cfg
}

// set are the setWebhook calls so far.
func (f *fleet) set() (calls []bottest.Call) {
	for _, c := range f.srv.Calls() {
		if c.Method == "setWebhook" {
			calls = append(calls, c)
		}
	}
	return calls
}

func TestAWebhookIsSetAsItShouldBeAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "a")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{AllowedUpdates: []string{"message", "callback_query", "message"}, MaxConnections: 10}))
		r, err := m.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		assert.True(t, r.Changed)
		assert.Empty(t, r.Before.Url)
		require.Len(t, f.set(), 1)
		p := f.set()[0].Params
		assert.Equal(t, hookURL+"/"+f.keys.Path("a"), p["url"])
		assert.Equal(t, m.URL("a"), p["url"])
		assert.Equal(t, f.keys.Secret("a"), p["secret_token"])
		assert.Equal(t, "10", p["max_connections"])
		assert.NotContains(t, p, "drop_pending_updates", "nothing is dropped unless it is asked for")
		var allowed []string
		require.NoError(t, json.Unmarshal([]byte(p["allowed_updates"]), &allowed))
		assert.Equal(t, []string{"callback_query", "message"}, allowed)
		for range 3 {
			r, err = m.Ensure(bg, "a", webhook.Options{})
			require.NoError(t, err)
			assert.False(t, r.Changed)
			assert.Equal(t, m.URL("a"), r.Before.Url)
		}
		assert.Len(t, f.set(), 1)
	})
}

func TestTheTokenIsNowhereInAWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot := f.add(t, "a")
		_, err := f.webhooks(t, unpaced(webhook.ManagerConfig{})).Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		id, secret, _ := strings.Cut(bot.Token(), ":")
		for _, v := range f.set()[0].Params {
			assert.NotContains(t, v, id)
			assert.NotContains(t, v, secret)
		}
	})
}

// Telegram once advised to put the token into the path, so a bot that comes from
// elsewhere may have it there.
func TestAForeignWebhooksTokenIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot := f.add(t, "a")
		_, secret, _ := strings.Cut(bot.Token(), ":")
		for _, path := range []string{bot.Token(), url.QueryEscape(bot.Token()), "hook?bot=7&secret=" + secret} {
			require.NoError(t, f.pool.Do(bg, "a", func(ctx context.Context, tn *tenant.Tenant) error {
				_, err := tn.Bot.SetWebhookWithContext(ctx, "https://elsewhere.example.com/"+path, nil)
				return err
			}))
			r, err := f.webhooks(t, unpaced(webhook.ManagerConfig{})).Ensure(bg, "a", webhook.Options{})
			require.NoError(t, err)
			assert.True(t, r.Changed)
			assert.Contains(t, r.Before.Url, "https://elsewhere.example.com/", "an operator is to see whose it was")
			shown, err := json.Marshal(r)
			require.NoError(t, err)
			assert.NotContains(t, fmt.Sprintf("%s %+v %#v", shown, r, r), secret)
		}
	})
}

func TestWhatDiffersIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "a")
		ensure := func(cfg webhook.ManagerConfig) bool {
			t.Helper()
			r, err := f.webhooks(t, unpaced(cfg)).Ensure(bg, "a", webhook.Options{})
			require.NoError(t, err)
			return r.Changed
		}
		base := webhook.ManagerConfig{}
		assert.True(t, ensure(base))
		assert.False(t, ensure(base))
		for name, cfg := range map[string]webhook.ManagerConfig{
			"another URL":          {URL: "https://other.example.com/x/"},
			"other kinds":          {AllowedUpdates: []string{"poll"}},
			"more connections":     {MaxConnections: 41},
			"an address":           {IPAddress: "8.8.8.8"},
			"a port":               {URL: "https://hooks.example.com:8443/webhook"},
			"kinds not sent usual": {AllowedUpdates: []string{"message_reaction", "chat_member"}},
		} {
			assert.True(t, ensure(cfg), name)
			assert.False(t, ensure(cfg), name)
			if name != "an address" { // an address that is shown may be what DNS says
				assert.True(t, ensure(base), "and back from "+name)
				assert.False(t, ensure(base), "and back from "+name)
			}
		}
	})
}

func TestUpdatesAreDroppedOnlyWhenThatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		ann.Write(bot, "hi")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		_, err := m.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		_, err = m.Remove(bg, "a", webhook.Options{})
		require.NoError(t, err)
		_, err = m.Ensure(bg, "a", webhook.Options{Force: true})
		require.NoError(t, err)
		assert.Equal(t, 1, bot.Pending())
		r, err := m.Ensure(bg, "a", webhook.Options{DropPending: true})
		require.NoError(t, err)
		assert.True(t, r.Changed)
		assert.Zero(t, bot.Pending())
	})
}

func TestOnlyAWebhookOfOursIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "a")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		r, err := m.Remove(bg, "a", webhook.Options{})
		require.NoError(t, err)
		assert.False(t, r.Changed, "there is none")
		theirs := f.webhooks(t, unpaced(webhook.ManagerConfig{URL: "https://theirs.example.com/bot"}))
		_, err = theirs.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		r, err = m.Remove(bg, "a", webhook.Options{})
		require.NoError(t, err)
		assert.False(t, r.Changed)
		assert.Equal(t, theirs.URL("a"), r.Before.Url)
		r, err = theirs.Remove(bg, "a", webhook.Options{})
		require.NoError(t, err)
		assert.True(t, r.Changed)
		_, err = theirs.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		r, err = m.Remove(bg, "a", webhook.Options{Force: true})
		require.NoError(t, err)
		assert.True(t, r.Changed)
	})
}

func TestARotationIsCarriedOutByReconcileAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for i := range 5 {
			f.add(t, fmt.Sprint("t", i))
		}
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		report, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Changed: 5, Next: "t4"}, report)
		require.NoError(t, f.keys.Rotate(webhook.Key{Master: master, Generation: 2}, time.Hour))
		report, err = m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Changed: 5, Next: "t4"}, report)
		last := f.set()[9]
		assert.Contains(t, last.Params["url"], "/2.")
		report, err = m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Right: 5, Next: "t4"}, report)

		// A replica that does not know of it yet leaves it alone.
		behind, err := webhook.NewManager(f.pool, f.Manager, newKeys(t), unpaced(webhook.ManagerConfig{URL: hookURL}))
		require.NoError(t, err)
		report, err = behind.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Newer: 5, Next: "t4"}, report)
		assert.Len(t, f.set(), 10)
		r, err := behind.Ensure(bg, "t0", webhook.Options{Force: true})
		require.NoError(t, err)
		assert.True(t, r.Changed)
	})
}

// gotgbot's SetAllBotWebhooks stops at the first error.
func TestOneThatFailsStopsNoneOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bots := make(map[string]*bottest.Bot)
		for i := range 20 {
			id := fmt.Sprintf("t%02d", i)
			bots[id] = f.add(t, id)
		}
		bots["t00"].Revoke()
		bots["t07"].Revoke()
		f.srv.Fail(bottest.Fault{Bot: bots["t03"], Method: "setWebhook", Do: bottest.HTML502()})
		f.srv.Fail(bottest.Fault{Bot: bots["t05"], Method: "getWebhookInfo", Do: bottest.Restart500(), Times: 2})
		_, err := f.Suspend(bg, "t09", "test")
		require.NoError(t, err)
		var log bytes.Buffer
		report, err := f.webhooks(t, unpaced(webhook.ManagerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})).Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, 3, strings.Count(log.String(), "webhook not in order"))
		assert.Equal(t, 16, strings.Count(log.String(), "webhook changed"))
		for id, bot := range bots {
			assert.NotContains(t, log.String(), bot.Token())
			assert.NotContains(t, log.String(), f.keys.Path(id))
			assert.NotContains(t, log.String(), f.keys.Secret(id))
		}
		assert.Equal(t, [3]int{16, 3, 0}, [3]int{report.Changed, report.Failed, report.Skipped})
		assert.Equal(t, "t19", report.Next)
		kinds := make(map[string]errors.Kind)
		for _, x := range report.Failures {
			kinds[x.Tenant] = errors.KindOf(x.Err)
		}
		assert.Equal(t, map[string]errors.Kind{"t00": errors.Unauthorized, "t07": errors.Unauthorized, "t03": errors.Unavailable}, kinds)
		r, err := f.Get(bg, "t00")
		require.NoError(t, err)
		assert.Equal(t, tenant.Quarantined, r.Status)
	})
}

func TestARunThatEndedEarlyIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for i := range 50 {
			f.add(t, fmt.Sprintf("t%02d", i))
		}
		f.srv.Fail(bottest.Fault{Method: "getWebhookInfo", Do: bottest.Latency(time.Second)})
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{Concurrency: 4}))
		ctx, cancel := context.WithTimeout(bg, 4500*time.Millisecond)
		defer cancel()
		var told []string
		report, err := m.Reconcile(ctx, webhook.Reconcile{Progress: func(next string) { told = append(told, next) }})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 16, report.Changed)
		assert.Zero(t, report.Failed, "those that were cut short are not failures")
		assert.Equal(t, "t15", report.Next)
		assert.Equal(t, "t15", told[len(told)-1])
		assert.IsIncreasing(t, told)
		before := len(f.set())
		report, err = m.Reconcile(bg, webhook.Reconcile{After: report.Next})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Changed: 34, Next: "t49"}, report)
		assert.Equal(t, 50, len(f.set()), "%d before", before)
	})
}

// brokenList lists some tenants and then fails.
type brokenList struct{ *fleet }

func (b brokenList) List(ctx context.Context, filter tenant.Filter) iter.Seq2[tenant.Record, error] {
	return func(yield func(tenant.Record, error) bool) {
		n := 0
		for r, err := range b.fleet.List(ctx, filter) {
			if n++; n > 3 {
				yield(tenant.Record{}, errors.Internal)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func TestTenantsThatCantBeListedEndTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for i := range 10 {
			f.add(t, fmt.Sprint("t", i))
		}
		m, err := webhook.NewManager(f.pool, brokenList{f}, f.keys, unpaced(webhook.ManagerConfig{URL: hookURL}))
		require.NoError(t, err)
		report, err := m.Reconcile(bg, webhook.Reconcile{})
		require.ErrorIs(t, err, errors.Internal)
		assert.Equal(t, webhook.Report{Changed: 3, Next: "t2"}, report)
	})
}

func TestReplicasMayReconcileAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := bottest.NoLimits()
		limits.SetWebhookEvery = time.Second
		f := newFleet(t, limits)
		for i := range 40 {
			f.add(t, fmt.Sprintf("t%02d", i))
		}
		var wg sync.WaitGroup
		reports := make([]webhook.Report, 3)
		for i := range reports {
			m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
			wg.Go(func() {
				var err error
				reports[i], err = m.Reconcile(bg, webhook.Reconcile{})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		right := 0
		for _, r := range reports {
			assert.Zero(t, r.Failed)
			assert.Equal(t, 40, r.Changed+r.Right)
			right += r.Right
		}
		assert.NotZero(t, right)
		report, err := f.webhooks(t, unpaced(webhook.ManagerConfig{})).Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, 40, report.Right)
	})
}

func TestReplicasThatClaimShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for i := range 40 {
			f.add(t, fmt.Sprintf("t%02d", i))
		}
		var mu sync.Mutex
		claimed, out := make(map[string]bool), 0
		claim := func(_ context.Context, id string) (func(), bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if id == "t05" {
				return nil, false, errors.New("the store is down")
			}
			if claimed[id] {
				return nil, false, nil
			}
			claimed[id] = true
			out++
			return func() { mu.Lock(); out--; mu.Unlock() }, true, nil
		}
		var wg sync.WaitGroup
		reports := make([]webhook.Report, 2)
		for i := range reports {
			m := f.webhooks(t, unpaced(webhook.ManagerConfig{Claim: claim}))
			wg.Go(func() { reports[i], _ = m.Reconcile(bg, webhook.Reconcile{}) })
		}
		wg.Wait()
		assert.Equal(t, 39, reports[0].Changed+reports[1].Changed)
		assert.Equal(t, 39, reports[0].Skipped+reports[1].Skipped)
		assert.Equal(t, 2, reports[0].Failed+reports[1].Failed)
		assert.Len(t, f.set(), 39)
		assert.Zero(t, out)
	})
}

func TestWhatTelegramSaysOfWaitingIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "a")
		f.srv.Fail(bottest.Fault{Method: "setWebhook", Do: bottest.TooManyRequests(30 * time.Second), Times: 2})
		begun := time.Now()
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{MaxWait: time.Minute}))
		r, err := m.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		assert.True(t, r.Changed)
		assert.Equal(t, time.Minute, time.Since(begun))
		f.srv.Fail(bottest.Fault{Method: "getWebhookInfo", Do: bottest.TooManyRequests(300 * time.Second), Times: 1})
		begun = time.Now()
		_, err = m.Ensure(bg, "a", webhook.Options{})
		require.ErrorIs(t, err, errors.RateLimited, "longer than we wait")
		assert.Zero(t, time.Since(begun))

		f.add(t, "b")
		f.srv.Reset()
		f.srv.Fail(bottest.Fault{Method: "setWebhook", Do: bottest.TooManyRequests(time.Second)})
		_, err = m.Ensure(bg, "b", webhook.Options{})
		require.ErrorIs(t, err, errors.RateLimited)
		assert.Equal(t, 20, f.srv.CallCount("setWebhook"), "nor for ever")
	})
}

// 10,000 webhooks in virtual time, within the limits of the real server's cold
// start, 600 bots an hour: those that differ are set and no others, and a
// second run sets none.
func TestTenThousandWebhooksAreReconciled(t *testing.T) {
	all := 10_000
	if raceEnabled {
		all = 1_000
	}
	right := all - all/10
	synctest.Test(t, func(t *testing.T) {
		limits := bottest.NoLimits()
		limits.ColdPerMinute, limits.ColdPerHour, limits.SetWebhookEvery = 20, 600, time.Second
		f := newFleet(t, limits)
		m := f.webhooks(t, webhook.ManagerConfig{})
		for i := range all {
			id := fmt.Sprintf("t%05d", i)
			bot := f.add(t, id)
			if i%10 != 0 { // it is as it should be
				f.setDirectly(t, bot, m.URL(id), f.keys.Secret(id))
				bot.Restart()
			}
		}
		pass(2 * time.Hour) // what that took of the limits is back
		f.srv.Reset()
		begun := time.Now()
		report, err := m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		took := time.Since(begun)
		assert.Equal(t, webhook.Report{Changed: all - right, Right: right, Next: fmt.Sprintf("t%05d", all-1)}, report)
		assert.Equal(t, all-right, f.srv.CallCount("setWebhook"))
		assert.Equal(t, all, f.srv.CallCount("getWebhookInfo"), "no call was refused and repeated")
		hours := time.Duration(all) * time.Hour / 600 // but for the first 600
		assert.Greater(t, took, hours-2*time.Hour)
		assert.Less(t, took, hours)
		for _, c := range f.srv.Calls() {
			require.NotEqual(t, 429, c.Status)
		}
		t.Logf("first run: %d set, %d right, in %v", report.Changed, report.Right, took)

		f.srv.Reset()
		begun = time.Now()
		report, err = m.Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Right: all, Next: fmt.Sprintf("t%05d", all-1)}, report)
		assert.Zero(t, f.srv.CallCount("setWebhook"))
		t.Logf("second run: %d set, %d right, in %v", report.Changed, report.Right, time.Since(begun))
	})
}

// The server tells a host in lower case.
func TestAHostIsComparedAsTheServerTellsIt(t *testing.T) {
	m, err := webhook.NewManager(nilPool{}, nilPool{}, newKeys(t), webhook.ManagerConfig{URL: "HTTPS://Hooks.Example.COM:8443/WebHook"})
	require.NoError(t, err)
	assert.Equal(t, "https://hooks.example.com:8443/WebHook/"+newKeys(t).Path("a"), m.URL("a"))
}

func TestABadManagerConfigurationIsReportedAtOnce(t *testing.T) {
	_, err := webhook.NewManager(nilPool{}, nilPool{}, &webhook.Keys{}, webhook.ManagerConfig{URL: hookURL})
	assert.ErrorContains(t, err, "not from NewKeys")
	_, err = webhook.NewReceiver(newMemory(t, inbox.MemoryConfig{}), &webhook.Keys{}, webhook.Config{})
	assert.ErrorContains(t, err, "not from NewKeys")
	_, err = webhook.NewManager(nil, nil, nil, webhook.ManagerConfig{
		URL: "http://example.com", AllowedUpdates: []string{"massage"}, MaxConnections: 101, Concurrency: -1, MaxWait: -1,
		IPAddress: "hooks.example.com",
		Starts:    []ratelimit.Limit{{Rate: 1, Burst: -1}, {Rate: 0, Burst: 1 << 62}},
	})
	for _, want := range []string{"pool is nil", "tenants are nil", "keys are nil", "URL is not https", `"massage"`, "MaxConnections", "Concurrency", "MaxWait", "IPAddress"} {
		assert.ErrorContains(t, err, want)
	}
	for url, ok := range map[string]bool{
		"": false, "example.com/x": false, "https://": false, "https://example.com?x=1": false, "https://example.com/#x": false,
		"https://u:p@example.com": false, "https://example.com:444/": false, "https://example.com": true, "https://example.com:88/x/": true,
		"http://localhost:8080/webhook": true, "http://127.0.0.1:8080": true, "ftp://example.com": false, "https://exa mple.com": false,
	} {
		_, err := webhook.NewManager(nilPool{}, nilPool{}, newKeys(t), webhook.ManagerConfig{URL: url})
		assert.Equal(t, ok, err == nil, "%s: %v", url, err)
	}
}

type nilPool struct{}

func (nilPool) Do(context.Context, string, func(context.Context, *tenant.Tenant) error) error {
	return nil
}

func (nilPool) List(context.Context, tenant.Filter) iter.Seq2[tenant.Record, error] { return nil }

func TestAnAddressIsOneThatTelegramDeliversTo(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "203.0.113.5": true, "203.0.113": false, "2001:db8::1": false, "::ffff:203.0.113.5": false, "203.0.113.5:443": false, " ": false,
	} {
		_, err := webhook.NewManager(nilPool{}, nilPool{}, newKeys(t), webhook.ManagerConfig{URL: hookURL, IPAddress: address})
		assert.Equal(t, ok, err == nil, "%q: %v", address, err)
	}
}

func TestAfterANewTokenTheWebhookIsSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		_, err := m.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		_, err = f.Rotate(bg, "a", bot.RotateToken())
		require.NoError(t, err)
		ann.Write(bot, "hi")
		r, err := m.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		assert.True(t, r.Changed)
		assert.Empty(t, r.Before.Url)
		assert.EqualValues(t, 1, r.Before.PendingUpdateCount, "what came meanwhile waits")
	})
}

// Whatever gives a bot another token, also while it is suspended.
func TestOnActiveKeepsTheWebhookThroughNewTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot := f.add(t, "a")
		var m *webhook.Manager
		f.Manager = tenant.NewManager(f.pool, tenant.ManagerConfig{OnActive: func(ctx context.Context, r tenant.Record) {
			_, err := m.Ensure(ctx, r.ID, webhook.Options{})
			assert.NoError(t, err)
		}})
		m = f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		right := func() {
			t.Helper()
			r, err := m.Ensure(bg, "a", webhook.Options{})
			require.NoError(t, err)
			assert.False(t, r.Changed)
			assert.Equal(t, m.URL("a"), r.Before.Url)
		}
		_, err := f.Register(bg, "a", bot.Token())
		require.NoError(t, err)
		right()
		_, err = f.Rotate(bg, "a", bot.RotateToken())
		require.NoError(t, err)
		right()
		_, err = f.Suspend(bg, "a", "unpaid")
		require.NoError(t, err)
		_, err = f.Rotate(bg, "a", bot.RotateToken())
		require.NoError(t, err)
		_, err = f.Resume(bg, "a")
		require.NoError(t, err)
		right()
	})
}

// Telegram shows the address in use, but not whether it is fixed.
func TestAnAddressThatNobodyWantsIsGoneOnceAllIsSetAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		for i := range 3 {
			f.add(t, fmt.Sprint("t", i))
		}
		_, err := f.webhooks(t, unpaced(webhook.ManagerConfig{IPAddress: "203.0.113.5"})).Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		r, err := m.Ensure(bg, "t0", webhook.Options{})
		require.NoError(t, err)
		assert.False(t, r.Changed)
		assert.Equal(t, "203.0.113.5", r.Before.IpAddress)

		saved := ""
		report, err := m.Reconcile(bg, webhook.Reconcile{After: "t0", Anew: true, Progress: func(next string) { saved = next }})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Changed: 2, Next: "t2"}, report, "it goes on after t0")
		assert.Equal(t, "t2", saved)
		for id, want := range map[string]string{"t0": "203.0.113.5", "t1": "<unknown>", "t2": "<unknown>"} {
			r, err := m.Ensure(bg, id, webhook.Options{})
			require.NoError(t, err)
			assert.False(t, r.Changed, id)
			assert.Equal(t, want, r.Before.IpAddress, id)
		}
	})
}

func TestWhatANewerKeyHasSetIsNotSetAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "a")
		require.NoError(t, f.keys.Rotate(webhook.Key{Master: master, Generation: 2}, time.Hour))
		_, err := f.webhooks(t, unpaced(webhook.ManagerConfig{})).Reconcile(bg, webhook.Reconcile{})
		require.NoError(t, err)
		behind, err := webhook.NewManager(f.pool, f.Manager, newKeys(t), unpaced(webhook.ManagerConfig{URL: hookURL}))
		require.NoError(t, err)
		report, err := behind.Reconcile(bg, webhook.Reconcile{Anew: true})
		require.NoError(t, err)
		assert.Equal(t, webhook.Report{Newer: 1, Next: "a"}, report)
		assert.Len(t, f.set(), 1)
	})
}

// setDirectly sets a bot's webhook as somebody at another address does.
func (f *fleet) setDirectly(t *testing.T, bot *bottest.Bot, at, secret string) {
	t.Helper()
	f.setKinds(t, bot, at, secret, "[]")
}

func (f *fleet) setKinds(t *testing.T, bot *bottest.Bot, at, secret, kinds string) {
	t.Helper()
	form := url.Values{"url": {at}, "secret_token": {secret}, "max_connections": {"40"}, "allowed_updates": {kinds}}
	r, err := http.NewRequest(http.MethodPost, "https://api.telegram.org/bot"+bot.Token()+"/setWebhook", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Real-IP", fmt.Sprintf("10.%d.%d.%d", bot.ID()>>16&255, bot.ID()>>8&255, bot.ID()&255))
	resp, err := f.srv.Transport().RoundTrip(r)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
