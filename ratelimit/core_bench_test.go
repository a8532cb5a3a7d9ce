package ratelimit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// These drive a scheduler without goroutines, so what they measure is its own
// work, and let time pass by moving its base.

// wait makes a request that waits.
func wait(tb testing.TB, s *Scheduler[int], r Request[int]) *waiter[int] {
	if err := r.check(s.cfg.Lanes); err != nil {
		tb.Fatal(err)
	}
	w, _, err := s.ask(&r, nil, time.Time{})
	if err != nil || w == nil {
		tb.Fatal("it does not wait", err)
	}
	return w
}

// BenchmarkContended is a release, the admission of the next, and a request that
// waits in its stead, while as many wait, of a tenth as many tenants.
func BenchmarkContended(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			plenty := Limit{Rate: 1e9, Burst: 1 << 30}
			s, err := NewScheduler[int](Config{
				Total: plenty, InFlight: 1, MaxWaiting: 1 << 20,
				Tenant: Limits{Classes: []Limit{plenty}, Keys: []Limit{plenty}},
			})
			require.NoError(b, err)
			defer s.Close()
			hold, err := s.Admit(context.Background(), Request[int]{Tenant: "0"})
			require.NoError(b, err)
			requests := make([]Request[int], n)
			waiting := make([]*waiter[int], 0, n)
			for i := range requests {
				requests[i] = Request[int]{Tenant: fmt.Sprint(i % max(n/10, 1)), Key: i + 1}
				waiting = append(waiting, wait(b, s, requests[i]))
			}
			permit := hold
			// Tenants and their keys take turns, so who waits longest goes next.
			next := 0
			b.ReportAllocs()
			for b.Loop() {
				permit.Release()
				w := waiting[next]
				if err := <-w.done; err != nil {
					b.Fatal(err)
				}
				permit = Permit[int]{s: s, tenant: w.flow.gate.tenant, slot: true}
				s.recycle(w)
				waiting[next] = wait(b, s, requests[next])
				next = (next + 1) % n
			}
		})
	}
}

// BenchmarkFairness is ten minutes of a hundred tenants that all want more than
// their share of 25 a second, one of them 1000 times as much, with keys of one a
// second. It tells Jain's index of what they got, and what part it was of what
// the limit allows.
func BenchmarkFairness(b *testing.B) {
	const tenants, keys, span = 100, 40, 10 * time.Minute
	total := Limit{Rate: 25, Burst: 25}
	var jain, percent float64
	for b.Loop() {
		s, err := NewScheduler[int](Config{
			Total:  total,
			Tenant: Limits{Classes: []Limit{{Rate: 30, Burst: 20}}, Keys: []Limit{{Rate: 1, Burst: 3}}},
		})
		require.NoError(b, err)
		var all []*waiter[int]
		var requests []Request[int]
		got := make([]float64, tenants)
		ask := func(i int) {
			for {
				r := requests[i]
				if err := r.check(2); err != nil {
					b.Fatal(err)
				}
				w, _, err := s.ask(&r, nil, time.Time{})
				if err != nil {
					b.Fatal(err)
				}
				if w != nil {
					all[i] = w
					return
				}
				got[i%tenants]++
			}
		}
		for i := range tenants * 10 {
			requests = append(requests, Request[int]{Tenant: fmt.Sprint(i % tenants), Key: 1 + i/tenants%keys, Slotless: true})
		}
		for i := range 10_000 - 10 { // more of the first
			requests = append(requests, Request[int]{Tenant: "0", Key: 1 + i%keys, Slotless: true})
		}
		all = make([]*waiter[int], len(requests))
		for i := range requests {
			ask(i)
		}
		begin := s.now()
		for s.now() < begin+int64(span) {
			s.mu.Lock()
			s.base = s.base.Add(-time.Duration(max(s.armed-s.now(), 1)))
			s.mu.Unlock()
			s.fire()
			for i, w := range all {
				if len(w.done) > 0 {
					<-w.done
					s.recycle(w)
					got[tenantOfRequest(i, tenants)]++
					ask(i)
				}
			}
		}
		elapsed := time.Duration(s.now() - begin).Seconds()
		sum, squares := 0.0, 0.0
		for _, n := range got {
			sum += n
			squares += n * n
		}
		jain = sum * sum / (tenants * squares)
		percent = 100 * sum / (float64(total.Burst) + total.Rate*elapsed)
		s.Close()
	}
	b.ReportMetric(jain, "jain")
	b.ReportMetric(percent, "percent-of-limit")
}

func tenantOfRequest(i, tenants int) int {
	if i < tenants*10 {
		return i % tenants
	}
	return 0
}

// BenchmarkFull is a request of a new tenant that is refused, since 100,000 are
// remembered and none of them can be forgotten.
func BenchmarkFull(b *testing.B) {
	const n = 100_000
	slow := Limit{Rate: 1e-6, Burst: 2}
	s, err := NewScheduler[int](Config{MaxTenants: n, MaxKeys: n, Tenant: Limits{Classes: []Limit{slow}, Keys: []Limit{slow}}})
	require.NoError(b, err)
	defer s.Close()
	for i := range n {
		p, err := s.Admit(context.Background(), Request[int]{Tenant: fmt.Sprint(i), Key: 1})
		require.NoError(b, err)
		p.Release()
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Admit(context.Background(), Request[int]{Tenant: "one more"}); err == nil {
			b.Fatal("it was admitted")
		}
	}
}
