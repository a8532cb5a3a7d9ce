package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestModel drives a pool with random steps and holds it against a plain model
// of what should be open, lent and in what instance.
func TestModel(t *testing.T) {
	const places = 3
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFactory(t)
			cfg := config(f)
			cfg.MaxOpen = places
			boom := errors.New("boom")
			p := New(cfg)

			type lent struct {
				lease Lease[*thing]
				key   string
			}
			var leases []lent
			retired := map[string]bool{} // evicted in use, its last lease is out
			inUse := func(key string) (n int) {
				for _, l := range leases {
					if l.key == key {
						n++
					}
				}
				return n
			}
			keysInUse := func() int {
				seen := map[string]bool{}
				for _, l := range leases {
					seen[l.key] = true
				}
				return len(seen)
			}
			steps := rapid.IntRange(1, 60).Draw(rt, "steps")
			for range steps {
				key := fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "key"))
				switch rapid.SampledFrom([]string{"acquire", "acquire", "acquire", "release", "release", "evict", "abort", "fail", "idle", "twice"}).Draw(rt, "step") {
				case "acquire":
					ctx, cancel := context.WithTimeout(bg, time.Second)
					l, err := p.Acquire(ctx, key)
					cancel()
					blocked := retired[key] || (inUse(key) == 0 && keysInUse() >= places)
					if blocked {
						require.ErrorIs(rt, err, context.DeadlineExceeded)
						break
					}
					require.NoError(rt, err)
					require.Equal(rt, key, l.Value().key)
					require.False(rt, l.Value().closed.Load())
					for _, o := range leases {
						if o.key == key {
							require.Same(rt, o.lease.Value(), l.Value(), "one instance for all")
						}
					}
					leases = append(leases, lent{l, key})
				case "release":
					if len(leases) == 0 {
						break
					}
					i := rapid.IntRange(0, len(leases)-1).Draw(rt, "lease")
					l := leases[i]
					leases = append(leases[:i], leases[i+1:]...)
					l.lease.Release()
					if retired[l.key] && inUse(l.key) == 0 {
						synctest.Wait()
						require.True(rt, l.lease.Value().closed.Load(), "the last lease closes what was evicted")
						delete(retired, l.key)
					}
				case "twice":
					if len(leases) > 0 {
						l := leases[len(leases)-1]
						leases = leases[:len(leases)-1]
						l.lease.Release()
						l.lease.Release()
						if inUse(l.key) == 0 {
							delete(retired, l.key)
						}
					}
				case "evict", "abort":
					p.Evict(key, false)
					if inUse(key) > 0 {
						retired[key] = true
					}
				case "fail":
					if inUse(key) > 0 || keysInUse() >= places {
						break
					}
					p.Evict(key, false)
					synctest.Wait()
					f.setFail(boom)
					_, err := p.Acquire(bg, key)
					f.setFail(nil)
					require.ErrorIs(rt, err, boom)
				case "idle":
					time.Sleep(2 * cfg.IdleTTL)
					require.LessOrEqual(rt, p.Stats().Open, keysInUse())
				}
				synctest.Wait()
				for _, l := range leases {
					require.False(rt, l.lease.Value().closed.Load(), "closed in use")
				}
				s := p.Stats()
				require.Equal(rt, len(leases), s.Leased)
				require.LessOrEqual(rt, s.Open+s.Opening+s.Closing, places)
				p.mu.Lock()
				idle := 0
				for _, e := range p.entries {
					if e.state == open && e.refs == 0 {
						idle++
					}
				}
				require.Equal(rt, idle, p.idle)
				require.Zero(rt, p.waiting)
				p.mu.Unlock()
			}
			for _, l := range leases {
				l.lease.Release()
			}
			require.NoError(rt, p.Close(bg))
			_, alive := f.count()
			require.Zero(rt, alive)
		})
	})
}
