package ratelimit_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

func TestEveryTenantGetsItsShareWhateverTheOthersAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := ratelimit.NewScheduler[int](ratelimit.Config{
			Total: ratelimit.Limit{Rate: 25, Burst: 25},
			Tenant: ratelimit.Limits{
				Classes: []ratelimit.Limit{ratelimit.Per(30, time.Second)},
				Keys:    []ratelimit.Limit{{Rate: 1, Burst: 3}},
			},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		const tenants = 20
		for i := range tenants {
			n := 40
			if i == 0 {
				n = 4000
			}
			require.NoError(t, s.SetTenant(fmt.Sprint(i), ratelimit.Limits{Weight: 1 + i%2}))
			for j := range n {
				go func() {
					for ctx.Err() == nil {
						p, err := s.Admit(ctx, ratelimit.Request[int]{Tenant: fmt.Sprint(i), Key: 1 + j})
						if err == nil {
							p.Release()
						}
					}
				}()
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		stats := s.Stats(3)
		assert.InDelta(t, 25*3600, int(stats.Admitted), 30)
		for i := range tenants {
			want := 25.0 * 3600 / 30 * float64(1+i%2)
			assert.InEpsilon(t, want, s.TenantStats(fmt.Sprint(i)).Admitted, 0.01)
		}
		cancel()
		synctest.Wait()
		assert.Zero(t, s.Stats(0).Waiting)
		assert.Zero(t, s.Stats(0).InFlight)
		s.Close()
	})
}
