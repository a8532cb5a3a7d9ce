package ratelimit_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/tgfleet/tgfleet/ratelimit"
)

// Whatever two keys are, they share a bucket if they are equal and not if they
// are not.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{"", "NaN", "-1001", "@news", "@NEWS", "\x00", "\xff\xfe", "1e9", "null", "0"} {
		f.Add(key, "a")
		f.Add(key, key)
		f.Add(key, key+" ")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Burst: 1}}}})
		k := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Limit{Burst: 1}})
		for i, key := range []string{a, b, a, b} {
			want := i == 0 || i == 1 && a != b
			if got := k.Allow(key, 1).OK; got != want {
				t.Fatalf("%d: %q is let in: %v", i, key, got)
			}
			err := admit(s, request{Tenant: a, Key: key, MaxWait: 1})
			if got := err == nil; got != (want || key == "") {
				t.Fatalf("%d: %q: %v", i, key, err)
			}
		}
		s.Move(a, a, b)
		if a != "" && b != "" && a != b && admit(s, request{Tenant: a, Key: b, MaxWait: 1}) == nil {
			t.Fatalf("%q is let in after %q became it", b, a)
		}
		if stats := s.Stats(1); stats.Waiting != 0 || stats.InFlight != 0 || stats.Keys > 2 {
			t.Fatalf("%+v", stats)
		}
	})
}

// Whatever a limit is, a bucket never lets more pass than it says, never panics
// nor overflows, and says truly how long to wait.
func FuzzLimits(f *testing.F) {
	for _, rate := range []float64{0, 1, 30, 20.0 / 60, 1e-9, 1e-18, 1e-300, math.SmallestNonzeroFloat64, 1e9, 1e18, math.MaxFloat64, -1, math.Inf(1), math.Inf(-1), math.NaN()} {
		for _, burst := range []int{0, 1, -1, 7, math.MaxInt32, math.MaxInt, math.MinInt} {
			f.Add(rate, burst, int64(time.Second), 1, 3.0, 2)
		}
	}
	f.Add(1.0, 5, int64(math.MaxInt64), 5, 1e-9, 1)
	f.Add(1e-9, 2, int64(math.MinInt64), math.MaxInt, 1e9, 100)
	f.Fuzz(func(t *testing.T, rate float64, burst int, step int64, n int, rate2 float64, burst2 int) {
		limit, other := ratelimit.Limit{Rate: rate, Burst: burst}, ratelimit.Limit{Rate: rate2, Burst: burst2}
		_, _, _ = limit.String(), limit.Units(), limit.Window()
		b := ratelimit.NewBucket(limit)
		now := time.Now().Add(time.Second)
		// Until another limit comes, what passes at once is the burst.
		passed, most := 0, limit.Units()
		for range 5 {
			if b.Take(now, n, n) == 0 && n > 0 {
				if passed += n; !limit.IsUnlimited() && passed > most {
					t.Fatalf("%d of %v", passed, limit)
				}
			}
		}
		for i := range 8 {
			if i == 4 {
				b.SetLimit(now, other)
				limit = other
			}
			wait := b.Take(now, n, n)
			if wait < 0 || wait > 0 && limit.IsUnlimited() {
				t.Fatalf("%v: a wait of %v", limit, wait)
			}
			if n > 0 && !limit.IsUnlimited() && n > limit.Units() && wait != ratelimit.Forever {
				t.Fatalf("%d fit into %v", n, limit)
			}
			const year = 365 * 24 * time.Hour
			if wait > 0 && wait < year && time.Duration(step) < year { // buckets live less than 73
				if wait > 1 && b.Take(now.Add(wait-1), n, n) == 0 {
					t.Fatalf("%v: after %v there are %d already", limit, wait-1, n)
				}
				if now = now.Add(wait); b.Take(now, n, n) != 0 {
					t.Fatalf("%v: after %v there are not %d", limit, wait, n)
				}
			}
			if tokens := b.Tokens(now); !limit.IsUnlimited() && tokens > limit.Units() {
				t.Fatalf("%d tokens in %v", tokens, limit)
			}
			now = now.Add(time.Duration(step))
		}
		b.Take(now, n, 1)
		b.Give(now, n)
		if tokens := b.Tokens(now); !limit.IsUnlimited() && tokens > limit.Units() {
			t.Fatalf("%d tokens in %v", tokens, limit)
		}
		k := ratelimit.NewKeyed[int](ratelimit.KeyedConfig{Limit: limit, MaxKeys: burst % 100})
		for i := range 5 {
			if d := k.AllowAt(now.Add(time.Duration(i)*time.Duration(step%1e12)), i%2, n); d.Wait < 0 || d.Remaining < 0 || d.Reset < 0 || d.OK != (d.Wait == 0) {
				t.Fatalf("%v: %+v", limit, d)
			}
		}
		s, err := ratelimit.NewScheduler[int](ratelimit.Config{Total: limit, Tenant: ratelimit.Limits{Classes: []ratelimit.Limit{other}}})
		if bad := limit.Check() != nil || other.Check() != nil; bad != (err != nil) {
			t.Fatalf("%v, %v: %v", limit, other, err)
		} else if bad {
			return
		}
		defer s.Close()
		for range 3 {
			p, _ := s.Admit(context.Background(), ratelimit.Request[int]{Tenant: "a", Cost: n, MaxWait: 1, Debt: burst%2 == 0})
			p.Release()
		}
		if stats := s.Stats(0); stats.Waiting != 0 || stats.InFlight != 0 {
			t.Fatalf("%+v", stats)
		}
	})
}
