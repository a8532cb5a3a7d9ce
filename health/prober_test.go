package health_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// bots are what a prober asks after, through a session that tells the monitor.
type bots struct {
	m     *health.Monitor
	mu    sync.Mutex
	asked map[string][]time.Time
	kind  map[string]errors.Kind
	info  func(tenant string) health.WebhookInfo
	takes time.Duration
	now   int
	most  int
}

func (b *bots) me(ctx context.Context, tenant string) error {
	b.mu.Lock()
	if b.asked == nil {
		b.asked = map[string][]time.Time{}
	}
	b.asked[tenant] = append(b.asked[tenant], time.Now())
	kind := b.kind[tenant]
	b.now++
	b.most = max(b.most, b.now)
	b.mu.Unlock()
	defer func() { b.mu.Lock(); b.now--; b.mu.Unlock() }()
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		kind = errors.KindOf(ctx.Err())
	}
	b.m.Observe(tenant, health.Outcome{Kind: kind})
	if kind != errors.None {
		return kind
	}
	return nil
}

func (b *bots) webhook(_ context.Context, tenant string) (health.WebhookInfo, error) {
	b.m.Observe(tenant, health.Outcome{})
	if b.info == nil {
		return health.WebhookInfo{}, nil
	}
	return b.info(tenant), nil
}

func (b *bots) times(tenant string) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[tenant]
}

func startProber(t *testing.T, b *bots, cfg health.ProberConfig) *health.Prober {
	cfg.Monitor, cfg.Me, cfg.Webhook = b.m, b.me, b.webhook
	p, err := health.NewProber(cfg)
	require.NoError(t, err)
	require.NoError(t, p.Start(t.Context()))
	return p
}

func TestASilentBotIsAskedAfterAndABusyOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bots{m: newMonitor(t, health.Config{})}
		for _, id := range []string{"busy", "silent", "sends only"} {
			b.m.Observe(id, health.Outcome{})
		}
		b.m.Update("busy", time.Time{})
		b.m.Suspend("suspended", "")
		p := startProber(t, b, health.ProberConfig{})
		for range 5 * 60 {
			time.Sleep(time.Minute)
			b.m.Observe("busy", health.Outcome{})
			b.m.Update("busy", time.Time{})
			b.m.Observe("sends only", health.Outcome{})
		}
		p.Stop()
		assert.Empty(t, b.times("busy"))
		assert.Empty(t, b.times("suspended"))
		assert.InDelta(t, 5, len(b.times("silent")), 1, "once an hour")
		assert.InDelta(t, 5, len(b.times("sends only")), 1, "whether it hears is another question")
	})
}

func TestProbesAreSpreadAndTheLongestSilentComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bots{m: newMonitor(t, health.Config{}), takes: 20 * time.Second}
		ids := names(300)
		p := startProber(t, b, health.ProberConfig{
			List: func(_ context.Context, after string) ([]string, error) {
				var page []string
				for _, id := range append(ids, "z-known") {
					if id > after && len(page) < 70 {
						page = append(page, id)
					}
				}
				return page, nil
			}})
		b.m.Observe("z-known", health.Outcome{})
		time.Sleep(50 * time.Minute)
		n, first, last := 0, time.Time{}, time.Time{}
		for _, id := range ids {
			for _, at := range b.times(id) {
				n++
				if first.IsZero() || at.Before(first) {
					first = at
				}
				if at.After(last) {
					last = at
				}
			}
		}
		assert.InDelta(t, 250, n, 15, "one in 12 s")
		assert.Greater(t, last.Sub(first), 45*time.Minute)
		assert.LessOrEqual(t, b.most, 4)
		assert.Empty(t, b.times("z-known"), "those of which nothing was ever heard come first")
		time.Sleep(30 * time.Minute)
		assert.NotEmpty(t, b.times("z-known"))
		p.Stop()
		p.Stop()
	})
}

func TestABotThatFailedAndFellSilentIsFoundWellAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bots{m: newMonitor(t, health.Config{}), kind: map[string]errors.Kind{"a": errors.ConnectionFailed}}
		calls(b.m, "a", 5, errors.ConnectionFailed)
		start := time.Now()
		p := startProber(t, b, health.ProberConfig{})
		time.Sleep(4 * time.Hour)
		require.Equal(t, health.Unhealthy, get(t, b.m, "a").Status)
		asked := b.times("a")
		require.InDelta(t, 9, len(asked), 2, "after 1, 2, 4, 8, 16, 32 min, and then every hour")
		assert.Less(t, asked[0].Sub(start), 90*time.Second)
		b.mu.Lock()
		b.kind = nil
		b.mu.Unlock()
		time.Sleep(3 * time.Hour)
		assert.Equal(t, health.Healthy, get(t, b.m, "a").Status, "and the owner had to do nothing")
		p.Stop()
	})
}

// The bot sends and its poller seems to run, but somebody else gets its
// updates, or nobody does.
func TestUpdatesThatPileUpAreFoundWhileTheBotSeemsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := &bots{m: newMonitor(t, health.Config{})}
		b.info = func(string) health.WebhookInfo {
			return health.WebhookInfo{Pending: int(time.Since(start) / (2 * time.Second))}
		}
		p := startProber(t, b, health.ProberConfig{})
		for range 20 * 60 {
			time.Sleep(time.Second)
			b.m.Observe("a", health.Outcome{})
		}
		r := get(t, b.m, "a")
		assert.Equal(t, health.Degraded, r.Status)
		assert.Contains(t, r.Reason, "updates pile up")
		assert.Less(t, time.Since(r.Since), 20*time.Minute)
		synctest.Wait() // the prober may be asking at this moment
		b.info = func(string) health.WebhookInfo { return health.WebhookInfo{} }
		for range 2 * 3600 {
			time.Sleep(time.Second)
			b.m.Observe("a", health.Outcome{})
		}
		p.Stop()
		assert.Equal(t, health.Healthy, get(t, b.m, "a").Status)
	})
}

func TestATenantThatIsGoneIsNotAskedAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bots{m: newMonitor(t, health.Config{})}
		n := 0
		b.info = func(string) health.WebhookInfo { n++; return health.WebhookInfo{Pending: n} }
		for _, id := range names(100) {
			b.m.Observe(id, health.Outcome{})
		}
		p := startProber(t, b, health.ProberConfig{})
		time.Sleep(5 * time.Minute)
		for _, id := range names(100) {
			require.NoError(t, b.m.Forget(t.Context(), id))
		}
		time.Sleep(20 * time.Minute)
		p.Stop()
		assert.Zero(t, b.m.Fleet().Tenants)
	})
}

func TestAProberStopsAtOnceAndOutlivesPanicsAndErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := &bots{m: newMonitor(t, health.Config{})}
		n := 0
		p, err := health.NewProber(health.ProberConfig{
			Monitor: b.m,
			Me:      func(context.Context, string) error { panic("no") },
			Logger:  slog.New(slog.NewTextHandler(&log, nil)),
			List: func(_ context.Context, after string) ([]string, error) {
				n++
				switch {
				case n == 1:
					panic("list")
				case n == 2:
					return nil, errors.New("no list")
				case after == "":
					return []string{"a", "b"}, nil
				}
				return nil, nil
			},
		})
		require.NoError(t, err)
		require.NoError(t, p.Start(t.Context()))
		require.ErrorIs(t, p.Start(t.Context()), errors.Exists)
		time.Sleep(time.Hour)
		p.Stop()
		for _, part := range []string{"during=list", "during=getMe", "no list"} {
			assert.Contains(t, log.String(), part)
		}

		b.takes = time.Hour
		b.m.Observe("a", health.Outcome{})
		q := startProber(t, b, health.ProberConfig{Every: time.Second, Timeout: 2 * time.Hour})
		time.Sleep(30 * time.Minute)
		require.NotEmpty(t, b.times("a"))
		start := time.Now()
		q.Stop()
		assert.Zero(t, time.Since(start))
		require.ErrorIs(t, q.Start(t.Context()), errors.Closed)
		assert.Zero(t, get(t, b.m, "a").Failures, "what the prober gave up says nothing of the bot")
	})
}

func TestAProbersConfigIsChecked(t *testing.T) {
	_, err := health.NewProber(health.ProberConfig{Silence: -1, Again: -1, Every: -1, Timeout: -1, Parallel: -1})
	for _, field := range []string{"Monitor", "Me", "Silence", "Again", "Every", "Timeout", "Parallel"} {
		assert.ErrorContains(t, err, field)
	}
	(&health.Prober{}).Stop()
}

func TestABusyBotWhoseWebhookFailedIsLookedAtUntilItIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bots{m: newMonitor(t, health.Config{})}
		b.m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: time.Now(), LastError: "x"})
		require.Equal(t, health.Degraded, get(t, b.m, "a").Status)
		p := startProber(t, b, health.ProberConfig{})
		for range 30 * 60 {
			time.Sleep(time.Second)
			b.m.Observe("a", health.Outcome{})
			b.m.Update("a", time.Time{})
		}
		p.Stop()
		assert.Equal(t, health.Healthy, get(t, b.m, "a").Status)
	})
}

func TestBotsWhoseUpdatesGrowDoNotHideTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bots{m: newMonitor(t, health.Config{Thresholds: health.Thresholds{Pending: 1_000_000}})}
		n := 0
		b.info = func(tenant string) health.WebhookInfo {
			if tenant == "silent" {
				return health.WebhookInfo{}
			}
			n++
			return health.WebhookInfo{Pending: n}
		}
		for _, id := range names(40) {
			b.m.Observe(id, health.Outcome{})
		}
		p := startProber(t, b, health.ProberConfig{})
		time.Sleep(2 * time.Hour)
		b.m.Observe("silent", health.Outcome{})
		time.Sleep(time.Hour)
		p.Stop()
		assert.NotEmpty(t, b.times("silent"))
	})
}

func TestAStrangerIsAskedAfterOnceAnHourThoughThereIsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bots{m: newMonitor(t, health.Config{MaxTenants: 1})}
		b.m.Observe("known", health.Outcome{})
		p := startProber(t, b, health.ProberConfig{Every: time.Second, List: func(_ context.Context, after string) ([]string, error) {
			if after != "" {
				return nil, nil
			}
			return []string{"known", "stranger"}, nil
		}})
		time.Sleep(5 * time.Hour)
		p.Stop()
		assert.InDelta(t, 5, len(b.times("stranger")), 1)
		assert.InDelta(t, 5, len(b.times("known")), 1)
	})
}
