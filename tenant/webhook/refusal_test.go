package webhook_test

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

func reconcile(t *testing.T, m *webhook.Manager) (r webhook.Report) {
	t.Helper()
	r, err := m.Reconcile(bg, webhook.Reconcile{})
	require.NoError(t, err)
	require.Zero(t, r.Failed)
	return r
}

// Somebody has set the webhook with a secret of theirs, or none, which Telegram
// does not show.
func TestAWrongSecretIsFoundByWhatItDoes(t *testing.T) {
	for name, secret := range map[string]string{"wrong": "wrong", "lost": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, bottest.NoLimits())
				bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
				f.add(t, "b")
				in := newMemory(t, inbox.MemoryConfig{})
				f.deliverTo(newReceiver(t, in, f.keys, webhook.Config{}))
				m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
				assert.Equal(t, 2, reconcile(t, m).Changed)
				f.setDirectly(t, bot, m.URL("a"), secret)
				assert.Equal(t, webhook.Report{Right: 2, Next: "b"}, reconcile(t, m), "it looks right")
				ann.Write(bot, "hi")
				pass(time.Minute)
				assert.Zero(t, depth(t, in))
				assert.Equal(t, webhook.Report{Changed: 1, Right: 1, Refused: 1, Next: "b"}, reconcile(t, m))
				pass(2 * time.Minute)
				assert.Equal(t, 1, depth(t, in), "nothing is lost")
				for range 30 {
					assert.Equal(t, webhook.Report{Right: 2, Next: "b"}, reconcile(t, m))
					pass(time.Hour)
				}
			})
		})
	}
}

// turning answers as something before the receiver does that turns updates away.
func turning(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

// Telegram goes on showing a failure when all is well again.
func TestAFailureThatIsOverIsSetForOnce(t *testing.T) {
	for status, want := range map[int]int{401: 1, 403: 1, 404: 1, 400: 0, 408: 0, 429: 0, 500: 0, 503: 0} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, bottest.NoLimits())
				bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
				in := newMemory(t, inbox.MemoryConfig{})
				var log bytes.Buffer
				m := f.webhooks(t, unpaced(webhook.ManagerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
				reconcile(t, m)
				f.deliverTo(turning(status))
				ann.Write(bot, "hi")
				pass(time.Minute)
				f.deliverTo(newReceiver(t, in, f.keys, webhook.Config{}))
				pass(3 * time.Minute)
				require.Equal(t, 1, depth(t, in))
				for i := range 48 {
					r := reconcile(t, m)
					assert.Equal(t, i == 0 && want == 1, r.Changed == 1, "run %d", i)
					assert.Equal(t, r.Changed, r.Refused)
					pass(time.Hour)
				}
				assert.Equal(t, want, strings.Count(log.String(), "turned away"))
				// A process that knows nothing of all this looks for a day only.
				assert.Zero(t, reconcile(t, f.webhooks(t, unpaced(webhook.ManagerConfig{}))).Changed)
			})
		})
	}
}

// What turns updates away is not the secret, and stays: the webhook is set for
// it ever more rarely, and the report goes on saying so.
func TestAFailureThatStaysIsNotSetForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		reconcile(t, m)
		f.deliverTo(turning(http.StatusForbidden))
		var hours []int
		for hour := range 24 * 5 {
			if hour%12 == 0 {
				ann.Write(bot, "hi")
			}
			pass(15 * time.Minute)
			for range 2 {
				r := reconcile(t, m)
				if r.Changed > 0 {
					hours = append(hours, hour)
				} else {
					assert.Equal(t, hours[len(hours)-1] < hour, r.Refused == 1, "hour %d", hour)
				}
			}
			pass(45 * time.Minute)
		}
		assert.Equal(t, []int{0, 1, 3, 7, 15, 31, 55, 79, 103}, hours)
		// When it is over, that is over.
		f.deliverTo(newReceiver(t, newMemory(t, inbox.MemoryConfig{}), f.keys, webhook.Config{}))
		pass(48 * time.Hour)
		assert.Equal(t, webhook.Report{Right: 1, Next: "a"}, reconcile(t, m))
	})
}

// What failed at another URL says nothing of ours.
func TestAFailureElsewhereIsNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		f.deliverTo(turning(http.StatusNotFound))
		f.setDirectly(t, bot, "https://theirs.example.com/bot", "")
		ann.Write(bot, "hi")
		pass(time.Minute)
		assert.Equal(t, webhook.Report{Changed: 1, Next: "a"}, reconcile(t, f.webhooks(t, unpaced(webhook.ManagerConfig{}))))
	})
}

// The webhook's own certificate, and what else Telegram shows.
func TestACertificateIsADifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot := f.add(t, "a")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		reconcile(t, m)
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		for k, v := range map[string]string{"url": m.URL("a"), "secret_token": f.keys.Secret("a"), "max_connections": "40"} {
			require.NoError(t, w.WriteField(k, v))
		}
		file, err := w.CreateFormFile("certificate", "cert.pem")
		require.NoError(t, err)
		_, err = file.Write([]byte("-----BEGIN CERTIFICATE-----"))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		r, err := http.NewRequest(http.MethodPost, "https://api.telegram.org/bot"+bot.Token()+"/setWebhook", &form)
		require.NoError(t, err)
		r.Header.Set("Content-Type", w.FormDataContentType())
		resp, err := f.srv.Transport().RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		result, err := m.Ensure(bg, "a", webhook.Options{})
		require.NoError(t, err)
		assert.True(t, result.Before.HasCustomCertificate)
		assert.True(t, result.Changed)
		assert.Zero(t, reconcile(t, m).Changed)
	})
}

// Where updates are dropped that is all that changes, also where there is no
// webhook to delete; somebody else's webhook keeps its updates.
func TestRemoveDropsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		bot, ann := f.add(t, "a"), f.srv.NewUser("Ann")
		m := f.webhooks(t, unpaced(webhook.ManagerConfig{}))
		remove := func(o webhook.Options) bool {
			t.Helper()
			r, err := m.Remove(bg, "a", o)
			require.NoError(t, err)
			return r.Changed
		}
		ann.Write(bot, "hi")
		assert.False(t, remove(webhook.Options{}))
		assert.Equal(t, 1, bot.Pending())
		assert.True(t, remove(webhook.Options{DropPending: true}), "there is no webhook")
		assert.Zero(t, bot.Pending())
		f.setDirectly(t, bot, "https://theirs.example.com/bot", "")
		ann.Write(bot, "hi")
		assert.False(t, remove(webhook.Options{DropPending: true}), "it is somebody else's")
		assert.Equal(t, 1, bot.Pending())
		reconcile(t, m)
		assert.True(t, remove(webhook.Options{DropPending: true}), "it is ours")
		assert.Zero(t, bot.Pending())
		f.setDirectly(t, bot, "https://theirs.example.com/bot", "")
		ann.Write(bot, "hi")
		assert.True(t, remove(webhook.Options{DropPending: true, Force: true}))
		assert.Zero(t, bot.Pending())
	})
}

// Somebody sets a webhook between this replica's set and look: that is not how
// the server shows ours.
func TestWhatAnotherAskedForIsNotTakenForOurs(t *testing.T) {
	for _, test := range []struct{ at, kinds string }{
		{"", `["poll","callback_query"]`}, {"", "[]"}, {"https://theirs.example.com/bot", `["poll"]`},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, bottest.NoLimits())
			bot := f.add(t, "a")
			f.add(t, "b")
			m := f.webhooks(t, unpaced(webhook.ManagerConfig{AllowedUpdates: []string{"message", "poll"}, Concurrency: 1}))
			reconcile(t, m)
			asked := 0
			f.srv.Fail(bottest.Fault{Bot: bot, Method: "getWebhookInfo", Do: bottest.Latency(time.Second), When: func(bottest.Call) bool {
				asked++
				return asked == 2 // after the set
			}})
			f.setKinds(t, bot, m.URL("a"), f.keys.Secret("a"), test.kinds)
			var wg sync.WaitGroup
			wg.Go(func() { assert.Equal(t, 1, reconcile(t, m).Changed) })
			pass(500 * time.Millisecond)
			f.setKinds(t, bot, cmp.Or(test.at, m.URL("a")), f.keys.Secret("a"), test.kinds)
			wg.Wait()
			require.Equal(t, 2, asked)
			assert.Equal(t, 1, reconcile(t, m).Changed, "it differs, and is set")
			assert.Zero(t, reconcile(t, m).Changed)
			f.setKinds(t, bot, m.URL("a"), f.keys.Secret("a"), `["poll"]`)
			assert.Equal(t, 1, reconcile(t, m).Changed)
		})
	}
}
