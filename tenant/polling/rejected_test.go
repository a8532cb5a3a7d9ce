package polling_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// managed is a service whose manager runs and whose supervisor reports to it.
type managed struct {
	*service
	p *polling.Supervisor

	mu          sync.Mutex
	quarantined []string
	accepted    []string
}

// managing runs a test with n tenants, "0" and so on, that are polled.
func managing(t *testing.T, n int, cfg tenant.ManagerConfig, test func(t *testing.T, s *managed)) {
	t.Helper()
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, s *service) {
		m := &managed{service: s}
		cfg.OnQuarantine = func(_ context.Context, r tenant.Record, _ error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.quarantined = append(m.quarantined, r.ID)
		}
		cfg.OnAccepted = func(_ context.Context, r tenant.Record) {
			m.mu.Lock()
			m.accepted = append(m.accepted, r.ID)
			m.mu.Unlock()
			m.p.Add(r.ID)
		}
		s.manager = tenant.NewManager(s.pool, cfg)
		m.p = s.supervisor(polling.Config{Watch: s.store.Watch, OnChange: polling.Quarantine(s.pool)})
		defer stop(t, m.p)
		require.NoError(t, s.manager.Start(bg))
		defer s.manager.Stop()
		for i := range n {
			s.register(fmt.Sprint(i))
			m.p.Add(fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		m.all(t, n, polling.Polling)
		test(t, m)
	})
}

// all checks the state of n tenants.
func (m *managed) all(t *testing.T, n int, want polling.State) {
	t.Helper()
	for i := range n {
		require.Equal(t, want, state(t, m.p, fmt.Sprint(i)), i)
	}
}

// write has each of n bots get an update, which ends the poll that is under way.
func (m *managed) write(n int) {
	for i := range n {
		m.ann.Write(m.bot(fmt.Sprint(i)), "hello")
	}
}

func (m *managed) status(t *testing.T, id string) tenant.Status {
	t.Helper()
	r, err := m.store.Get(bg, id)
	require.NoError(t, err)
	return r.Status
}

func (m *managed) heard() (quarantined, accepted int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.quarantined), len(m.accepted)
}

func notFound() bottest.Action {
	return bottest.Respond(404, "application/json", `{"ok":false,"error_code":404,"description":"Not Found"}`)
}

// Polling stopped for good after 5 s of it, with the tenant still active in its record.
func TestTenMinutesOf404EndNoPolling(t *testing.T) {
	for _, method := range []string{"getUpdates", ""} {
		t.Run("of "+method, func(t *testing.T) {
			managing(t, 2, tenant.ManagerConfig{}, func(t *testing.T, s *managed) {
				end := s.srv.Fail(bottest.Fault{Method: method, Do: notFound()})
				s.write(2)
				time.Sleep(10 * time.Minute)
				s.all(t, 2, polling.Rejected)
				st, _ := s.p.Status("0")
				assert.Equal(t, errors.InvalidToken, st.Kind)
				assert.False(t, st.Healthy())
				assert.False(t, st.RetryAt.IsZero())
				assert.Equal(t, tenant.Active, s.status(t, "0"))
				end()
				time.Sleep(4 * time.Minute)
				s.all(t, 2, polling.Polling)
				s.write(2)
				synctest.Wait()
				assert.Equal(t, 2, s.inbox.count("0"))
				time.Sleep(3 * time.Hour)
				s.all(t, 2, polling.Polling)
				quarantined, _ := s.heard()
				assert.Zero(t, quarantined)
			})
		})
	}
}

func TestThreeMinutesOf401sEndNoPollingOfASmallFleet(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		for _, quiet := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, quiet %v", n, quiet), func(t *testing.T) {
				managing(t, n, tenant.ManagerConfig{}, func(t *testing.T, s *managed) {
					end := s.srv.Fail(bottest.Fault{Do: bottest.Unauthorized401()})
					if !quiet {
						s.write(n)
					}
					time.Sleep(3 * time.Minute)
					s.all(t, n, polling.Rejected)
					end()
					time.Sleep(40 * time.Second) // less than a long poll lasts
					s.all(t, n, polling.Polling)
					if quiet {
						s.write(n)
						synctest.Wait()
					}
					for i := range n {
						assert.Equal(t, 1, s.inbox.count(fmt.Sprint(i)))
					}
					quarantined, accepted := s.heard()
					assert.Zero(t, quarantined)
					assert.Equal(t, n, accepted)
				})
			})
		}
	}
}

// The manager decides, and polling keeps to the record: it stops, and goes on once the
// manager has resumed the tenant.
func TestAnHourOf401sStopsPollingUntilTheTokenWorksAgain(t *testing.T) {
	managing(t, 2, tenant.ManagerConfig{}, func(t *testing.T, s *managed) {
		end := s.srv.Fail(bottest.Fault{Bot: s.bot("0"), Do: bottest.Unauthorized401()})
		s.write(2)
		time.Sleep(59 * time.Minute)
		require.Equal(t, polling.Rejected, state(t, s.p, "0"))
		require.Equal(t, tenant.Active, s.status(t, "0"))
		time.Sleep(3 * time.Minute)
		require.Equal(t, tenant.Quarantined, s.status(t, "0"))
		require.Equal(t, polling.Stopped, state(t, s.p, "0"))
		require.Equal(t, polling.Polling, state(t, s.p, "1"))
		quarantined, _ := s.heard()
		assert.Equal(t, 1, quarantined)
		n := 0
		for _, c := range s.srv.Calls() {
			if c.Method == "getUpdates" && c.Bot == s.bot("0") {
				n++
			}
		}
		assert.Less(t, n, 50, "an hour of back-off")
		end()
		time.Sleep(24 * time.Hour)
		require.Equal(t, tenant.Active, s.status(t, "0"))
		s.all(t, 2, polling.Polling)
		assert.Equal(t, 1, s.inbox.count("0"), "it waited at Telegram")
	})
}

func TestARejectedTenantThatIsSuspendedOrRemovedIsNotPolledOn(t *testing.T) {
	for name, do := range map[string]func(m *tenant.Manager) error{
		"suspended": func(m *tenant.Manager) error { _, err := m.Suspend(bg, "0", "unpaid"); return err },
		"removed":   func(m *tenant.Manager) error { return m.Remove(bg, "0") },
	} {
		for _, heard := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, heard %v", name, heard), func(t *testing.T) {
				virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
					var cfg polling.Config
					if heard {
						cfg.Watch = s.store.Watch
					}
					p := s.supervisor(cfg)
					defer stop(t, p)
					bot := s.register("0")
					p.Add("0")
					time.Sleep(time.Minute)
					bot.Revoke()
					time.Sleep(10 * time.Minute)
					require.Equal(t, polling.Rejected, state(t, p, "0"))
					require.NoError(t, do(s.manager))
					n := s.polls()
					if !heard { // the record is read before each try
						time.Sleep(3 * time.Minute)
					}
					require.Equal(t, polling.Stopped, state(t, p, "0"))
					assert.Equal(t, n, s.polls())
				})
			})
		}
	}
}

func TestAProxysAnswersForAnHourEndNoPolling(t *testing.T) {
	for name, do := range map[string]bottest.Action{
		"an HTML 404":      bottest.Respond(404, "text/html", "<html>Not Found</html>"),
		"an HTML 403":      bottest.Respond(403, "text/html", "<html>Forbidden</html>"),
		"an HTML 401":      bottest.Respond(401, "text/html", "<html>Unauthorized</html>"),
		"a 404 of a proxy": bottest.Respond(404, "application/json", `{"ok":false,"error_code":404,"description":"Not Found: no route"}`),
	} {
		t.Run(name, func(t *testing.T) {
			managing(t, 2, tenant.ManagerConfig{}, func(t *testing.T, s *managed) {
				end := s.srv.Fail(bottest.Fault{Do: do})
				s.write(2)
				time.Sleep(time.Hour)
				s.all(t, 2, polling.Failing)
				end()
				time.Sleep(3 * time.Minute) // a pause and a long poll
				s.all(t, 2, polling.Polling)
				assert.Equal(t, 1, s.inbox.count("0"))
				quarantined, accepted := s.heard()
				assert.Zero(t, quarantined+accepted)
			})
		})
	}
}

// The guard's circuit breaker holds back the polls of a bot whose token is rejected. That
// is no reason to call the bot healthy.
func TestARejectedTenantThatTheGuardHoldsBackIsStillRejected(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		guard, err := session.NewGuard(session.GuardConfig{})
		require.NoError(t, err)
		defer guard.Close()
		other := s.session
		defer other.Close(bg)
		s.session, err = session.New(session.Config{Transport: s.srv.Transport(), Guard: guard})
		require.NoError(t, err)
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(time.Minute)
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		end := s.srv.Fail(bottest.Fault{Bot: bot, Do: bottest.Unauthorized401()})
		s.ann.Write(bot, "hello")
		for range 600 {
			time.Sleep(time.Second)
			require.Equal(t, polling.Rejected, state(t, p, "shop"))
			st, _ := p.Status("shop")
			require.Equal(t, errors.Unauthorized, st.Kind)
		}
		end()
		time.Sleep(4 * time.Minute)
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}
