package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"golang.org/x/time/rate"

	"github.com/tgfleet/tgfleet/ratelimit"
)

// admitter lets one request of a tenant and a chat pass three limits: of all, of
// the tenant and of the chat.
type admitter interface {
	admit(tenant string, chat int64) bool
}

// BenchmarkAdmission is an admission at three levels of 10,000 tenants with a
// chat each, in no order, where there is room for all and nobody waits. Only
// tgfleet's is all or nothing, holds slots, bounds its memory, and would be fair
// if there were no room; the others do less for their time.
func BenchmarkAdmission(b *testing.B) {
	const tenants = 10_000
	names := make([]string, tenants)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%d", i)
	}
	for _, library := range []struct {
		name string
		make func(b *testing.B) admitter
	}{
		{"tgfleet", newTgfleet},
		{"xtime", newXTime},
		{"failsafe", newFailsafe},
		{"go-limiter", newGoLimiter},
	} {
		b.Run(library.name, func(b *testing.B) {
			a := library.make(b)
			i := 0
			next := func() {
				i = (i + 7919) % tenants
				if !a.admit(names[i], int64(i)+1) {
					b.Fatal("it was not let in")
				}
			}
			for range tenants {
				next()
			}
			b.ReportAllocs()
			for b.Loop() {
				next()
			}
		})
	}
}

const plenty = 1 << 30

type tgfleet struct{ s *ratelimit.Scheduler[int64] }

func newTgfleet(b *testing.B) admitter {
	limit := ratelimit.Limit{Rate: 1e9, Burst: plenty}
	s, err := ratelimit.NewScheduler[int64](ratelimit.Config{
		Total:    limit,
		InFlight: plenty,
		Tenant:   ratelimit.Limits{InFlight: plenty, Classes: []ratelimit.Limit{limit}, Keys: []ratelimit.Limit{limit}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return tgfleet{s}
}

func (t tgfleet) admit(tenant string, chat int64) bool {
	permit, err := t.s.Admit(context.Background(), ratelimit.Request[int64]{Tenant: tenant, Key: chat})
	permit.Release()
	return err == nil
}

type place struct {
	tenant string
	chat   int64
}

// under is how limiters of one key are kept for many: in maps under a lock.
type under[L any] struct {
	mu      sync.Mutex
	make    func() L
	all     L
	tenants map[string]L
	chats   map[place]L
}

func newUnder[L any](makeOne func() L) *under[L] {
	return &under[L]{make: makeOne, all: makeOne(), tenants: map[string]L{}, chats: map[place]L{}}
}

func (u *under[L]) of(tenant string, chat int64) (all, ofTenant, ofChat L) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ofTenant, found := u.tenants[tenant]
	if !found {
		ofTenant = u.make()
		u.tenants[tenant] = ofTenant
	}
	ofChat, found = u.chats[place{tenant, chat}]
	if !found {
		ofChat = u.make()
		u.chats[place{tenant, chat}] = ofChat
	}
	return u.all, ofTenant, ofChat
}

type xtime struct{ *under[*rate.Limiter] }

func newXTime(*testing.B) admitter {
	return xtime{newUnder(func() *rate.Limiter { return rate.NewLimiter(1e9, plenty) })}
}

func (x xtime) admit(tenant string, chat int64) bool {
	all, ofTenant, ofChat := x.of(tenant, chat)
	now := time.Now()
	return ofChat.AllowN(now, 1) && ofTenant.AllowN(now, 1) && all.AllowN(now, 1)
}

type failsafe struct {
	*under[ratelimiter.RateLimiter[any]]
}

func newFailsafe(*testing.B) admitter {
	return failsafe{newUnder(func() ratelimiter.RateLimiter[any] { return ratelimiter.NewBursty[any](plenty, time.Second) })}
}

func (f failsafe) admit(tenant string, chat int64) bool {
	all, ofTenant, ofChat := f.of(tenant, chat)
	return ofChat.TryAcquirePermit() && ofTenant.TryAcquirePermit() && all.TryAcquirePermit()
}

type goLimiter struct{ all, tenants, chats limiter.Store }

func newGoLimiter(b *testing.B) admitter {
	store := func() limiter.Store {
		s, err := memorystore.New(&memorystore.Config{Tokens: plenty, Interval: time.Second})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = s.Close(context.Background()) })
		return s
	}
	return goLimiter{store(), store(), store()}
}

// Its keys are strings. A tenant has but one chat here, so its name will do.
func (g goLimiter) admit(tenant string, _ int64) bool {
	ctx := context.Background()
	for _, take := range []struct {
		store limiter.Store
		key   string
	}{{g.chats, tenant}, {g.tenants, tenant}, {g.all, "all"}} {
		if _, _, _, ok, err := take.store.Take(ctx, take.key); !ok || err != nil {
			return false
		}
	}
	return true
}

// The comparison would mean nothing if a library let in what it should not.
func TestEachLibraryKeepsItsLimits(t *testing.T) {
	few := under[*rate.Limiter]{
		make: func() *rate.Limiter { return rate.NewLimiter(1e-9, 3) }, all: rate.NewLimiter(1e-9, plenty),
		tenants: map[string]*rate.Limiter{}, chats: map[place]*rate.Limiter{},
	}
	fewer := under[ratelimiter.RateLimiter[any]]{
		make: func() ratelimiter.RateLimiter[any] { return ratelimiter.NewBursty[any](3, time.Hour) }, all: ratelimiter.NewBursty[any](plenty, time.Hour),
		tenants: map[string]ratelimiter.RateLimiter[any]{}, chats: map[place]ratelimiter.RateLimiter[any]{},
	}
	limit := ratelimit.Limit{Burst: 3}
	s, err := ratelimit.NewScheduler[int64](ratelimit.Config{Tenant: ratelimit.Limits{Classes: []ratelimit.Limit{limit}, Keys: []ratelimit.Limit{limit}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	store, err := memorystore.New(&memorystore.Config{Tokens: 3, Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(context.Background())
	for name, admit := range map[string]func() bool{
		"tgfleet": func() bool {
			_, err := s.Admit(context.Background(), ratelimit.Request[int64]{Tenant: "a", Key: 1, MaxWait: 1})
			return err == nil
		},
		"xtime":      func() bool { return xtime{&few}.admit("a", 1) },
		"failsafe":   func() bool { return failsafe{&fewer}.admit("a", 1) },
		"go-limiter": func() bool { return took(store) },
	} {
		for i := range 5 {
			if got := admit(); got != (i < 3) {
				t.Errorf("%s: request %d was let in: %v", name, i, got)
			}
		}
	}
}

func took(s limiter.Store) bool {
	_, _, _, ok, err := s.Take(context.Background(), "a")
	return ok && err == nil
}
