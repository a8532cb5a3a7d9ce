package polling_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// readings counts what is read of a store.
type readings struct {
	tenant.Store
	mu    sync.Mutex
	lists int
	reads map[string]int
	fail  func(id string) error
	after func(id string) // the record was read
}

func (r *readings) Get(ctx context.Context, id string) (tenant.Record, error) {
	r.mu.Lock()
	r.reads[id]++
	fail, after := r.fail, r.after
	r.mu.Unlock()
	if after != nil {
		defer after(id)
	}
	if fail != nil {
		if err := fail(id); err != nil {
			return tenant.Record{}, err
		}
	}
	return r.Store.Get(ctx, id)
}

func (r *readings) failing(fail func(id string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

// since returns what was read since it was last called: lists, and records one
// by one.
func (r *readings) since() (lists, reads int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.reads {
		reads += n
	}
	lists, r.lists, r.reads = r.lists, 0, make(map[string]int)
	return lists, reads
}

func unhooked(r tenant.Record) bool { return r.Metadata["webhook"] == "" }

// change stores a record whose metadata say whether it has a webhook, and that
// something else has changed.
func (s *service) change(id, webhook string, n int) {
	s.t.Helper()
	r, err := s.store.Get(bg, id)
	require.NoError(s.t, err)
	r.Metadata = map[string]string{"webhook": webhook, "n": fmt.Sprint(n)}
	_, err = s.store.Put(bg, r)
	require.NoError(s.t, err)
}

// hooked runs a supervisor of a fleet of which most have webhooks, and whose
// list says so where Wants doesn't.
func hooked(t *testing.T, wants bool, test func(t *testing.T, s *service, p *polling.Supervisor, r *readings)) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		for i := range 100 {
			s.register(fmt.Sprint("hooked", i))
			s.change(fmt.Sprint("hooked", i), "yes", 0)
		}
		s.register("shop")
		r := &readings{Store: s.store, reads: make(map[string]int)}
		cfg := polling.Config{
			Watch: s.store.Watch,
			Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
				r.mu.Lock()
				r.lists++
				r.mu.Unlock()
				return func(yield func(tenant.Record, error) bool) {
					for rec, err := range s.manager.List(ctx, tenant.Filter{}) {
						if (wants || err != nil || unhooked(rec)) && !yield(rec, err) {
							return
						}
					}
				}
			},
		}
		if wants {
			cfg.Wants = unhooked
		}
		p, err := polling.New(s.session, r, s.inbox, cfg)
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		time.Sleep(10 * time.Second)
		require.Equal(t, map[string]int{"polling": 1}, p.Stats().Tenants)
		r.since()
		test(t, s, p, r)
	})
}

// A fleet that is mostly webhooks must not have all of its tenants read again
// because one has changed.
func TestAChangeCostsWhatHasChanged(t *testing.T) {
	hooked(t, true, func(t *testing.T, s *service, p *polling.Supervisor, r *readings) {
		time.Sleep(time.Minute)
		r.since()
		for i := range 600 { // ten minutes
			s.change(fmt.Sprint("hooked", i%100), "yes", i)
			time.Sleep(time.Second)
		}
		lists, reads := r.since()
		assert.Equal(t, 10, lists, "no more than without changes")
		assert.Equal(t, 600, reads, "and one record for each change")

		s.change("shop", "", 1) // is polled
		synctest.Wait()
		lists, reads = r.since()
		assert.Equal(t, [2]int{0, 1}, [2]int{lists, reads})

		for i := range 600 { // at once
			s.change(fmt.Sprint("hooked", i%100), "yes", i)
		}
		_, err := s.manager.Suspend(bg, "hooked7", "unpaid")
		require.NoError(t, err)
		require.NoError(t, s.manager.Remove(bg, "hooked8"))
		synctest.Wait()
		lists, reads = r.since()
		assert.Zero(t, lists)
		assert.LessOrEqual(t, reads, 600)
	})
}

func TestAChangeThatWantsSelectsIsHeardAtOnce(t *testing.T) {
	hooked(t, true, func(t *testing.T, s *service, p *polling.Supervisor, r *readings) {
		bot := s.bot("hooked1")
		s.change("hooked1", "", 1)
		require.Equal(t, polling.Polling, state(t, p, "hooked1"))
		s.ann.Write(bot, "hello")
		synctest.Wait()
		require.Equal(t, 1, s.inbox.count("hooked1"))

		s.change("hooked1", "yes", 2)
		synctest.Wait()
		_, polled := p.Status("hooked1")
		assert.False(t, polled)
		assert.Zero(t, bot.Pending(), "what was taken was confirmed")
		s.ann.Write(bot, "to the webhook")
		time.Sleep(10 * time.Minute)
		assert.Equal(t, 1, bot.Pending())

		p.Add("hooked1") // somebody does not know
		time.Sleep(10 * time.Second)
		_, polled = p.Status("hooked1")
		assert.False(t, polled)
		assert.Equal(t, 1, bot.Pending())

		s.register("new")
		require.Equal(t, polling.Polling, state(t, p, "new"))
		lists, _ := r.since()
		assert.LessOrEqual(t, lists, 11)
	})
}

// The record is changed, and its reader told, while the record before is read.
func TestAChangeBackWhileTheRecordIsReadIsHeard(t *testing.T) {
	hooked(t, true, func(t *testing.T, s *service, p *polling.Supervisor, r *readings) {
		once := sync.OnceFunc(func() {
			s.change("shop", "", 2)
			time.Sleep(time.Second) // what was read is old by now
		})
		r.mu.Lock()
		r.after = func(id string) {
			if id == "shop" {
				once()
			}
		}
		r.mu.Unlock()
		s.change("shop", "yes", 1)
		time.Sleep(10 * time.Second)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

func TestAChangeThatCanNotBeReadIsReadLater(t *testing.T) {
	hooked(t, true, func(t *testing.T, s *service, p *polling.Supervisor, r *readings) {
		r.failing(func(id string) error {
			switch id {
			case "hooked1":
				return errors.StoreUnavailable
			case "hooked2":
				return errors.Internal
			case "hooked3":
				panic("oops")
			}
			return nil
		})
		for i := 1; i <= 4; i++ {
			s.change(fmt.Sprint("hooked", i), "", 1)
		}
		require.Equal(t, polling.Polling, state(t, p, "hooked4"), "the others are read")
		time.Sleep(20 * time.Second)
		lists, reads := r.since()
		assert.Zero(t, lists)
		assert.LessOrEqual(t, reads, 10)
		r.failing(nil)
		time.Sleep(30 * time.Second)
		assert.Equal(t, polling.Polling, state(t, p, "hooked1"))
		time.Sleep(time.Minute)
		assert.Equal(t, map[string]int{"polling": 5}, p.Stats().Tenants, "and the list has all")
	})
}

func TestAStoreThatIsAwayIsNotAskedForEachChange(t *testing.T) {
	hooked(t, true, func(t *testing.T, s *service, p *polling.Supervisor, r *readings) {
		r.failing(func(string) error { return errors.StoreUnavailable })
		for i := range 100 {
			s.change(fmt.Sprint("hooked", i), "", 1)
		}
		time.Sleep(30 * time.Second)
		_, reads := r.since()
		assert.LessOrEqual(t, reads, 6*3)
		r.failing(nil)
		time.Sleep(25 * time.Second)
		assert.Equal(t, map[string]int{"polling": 101}, p.Stats().Tenants)
		lists, _ := r.since()
		assert.LessOrEqual(t, lists, 1)
	})
}

func TestARecordThatIsReadBeforeAChangeDoesNotUndoIt(t *testing.T) {
	hooked(t, true, func(t *testing.T, s *service, p *polling.Supervisor, r *readings) {
		r.failing(func(id string) error {
			if id == "hooked1" {
				require.NoError(t, p.Remove(bg, "hooked1"))
			}
			return nil
		})
		s.change("hooked1", "", 1)
		synctest.Wait()
		_, polled := p.Status("hooked1")
		assert.False(t, polled)
	})
}

// Where only the list can say who is polled, changes that bring nobody have it
// read less and less often.
func TestListsThatBringNobodyAreReadLessOften(t *testing.T) {
	hooked(t, false, func(t *testing.T, s *service, p *polling.Supervisor, r *readings) {
		time.Sleep(time.Minute)
		r.since()
		churn := func(minutes int) (lists int) {
			for i := range 60 * minutes {
				s.change(fmt.Sprint("hooked", i%100), "yes", i)
				time.Sleep(time.Second)
			}
			lists, reads := r.since()
			assert.Zero(t, reads)
			return lists
		}
		assert.LessOrEqual(t, churn(2), 9, "it begins with many")
		assert.LessOrEqual(t, churn(20), 40)

		s.change("hooked1", "", 1)
		time.Sleep(time.Minute)
		require.Equal(t, polling.Polling, state(t, p, "hooked1"), "within SyncEvery at the latest")
		s.change("hooked2", "", 1)
		time.Sleep(4 * time.Second)
		require.Equal(t, polling.Polling, state(t, p, "hooked2"), "and soon again, since that brought somebody")
	})
}

// A webhook that is in the way may have been set for a tenant that is polled no
// more, which this process has not heard.
func TestTheWebhookOfATenantThatIsNotToBePolledIsNotDeleted(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		r := &readings{Store: s.store, reads: make(map[string]int)}
		p, err := polling.New(s.session, r, s.inbox, polling.Config{DeleteWebhook: true, Wants: unhooked}) // no Watch
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		r.failing(func(string) error { return errors.StoreUnavailable })
		s.change("shop", "yes", 1)
		call(t, s, bot, "setWebhook", map[string]any{"url": "https://127.0.0.1:1/hook"})
		time.Sleep(time.Minute)
		assert.Zero(t, s.srv.CallCount("deleteWebhook"), "nor while it is not known")
		r.failing(nil)
		time.Sleep(time.Hour)
		assert.Zero(t, s.srv.CallCount("deleteWebhook"))
		_, polled := p.Status("shop")
		assert.False(t, polled)
	})
}
