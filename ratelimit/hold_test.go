package ratelimit_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// queue is a key's queue: what has gone through it, in order.
type queue struct {
	t   *testing.T
	s   *ratelimit.Scheduler[int]
	all sync.WaitGroup

	mu   sync.Mutex
	gone []string
}

func newQueue(t *testing.T, lanes int) *queue {
	q := &queue{t: t, s: newScheduler[int](t, ratelimit.Config{Lanes: lanes, Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 10, Burst: 10}}}})}
	t.Cleanup(func() {
		q.all.Wait()
		assert.Zero(t, q.s.Stats(0).Waiting)
	})
	return q
}

// admit admits a request for key 1, and returns its ticket.
func (q *queue) admit(name string, r ratelimit.Request[int]) uint64 {
	r.Tenant, r.Key = "t", 1
	p, err := q.s.Admit(q.t.Context(), r)
	if err != nil {
		assert.ErrorIs(q.t, err, context.Canceled)
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gone = append(q.gone, name)
	p.Release()
	return p.Ticket()
}

func (q *queue) later(name string, r ratelimit.Request[int]) {
	q.all.Go(func() { q.admit(name, r) })
	synctest.Wait()
}

func (q *queue) order() []string {
	synctest.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.gone
}

func TestWhatComesLaterWaitsForARequestThatIsMadeAgain(t *testing.T) {
	for lanes := 1; lanes <= 2; lanes++ {
		t.Run(fmt.Sprintf("%d lanes", lanes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, lanes)
				slow := ratelimit.Request[int]{Lane: lanes - 1}
				ticket := q.admit("1", slow)
				q.s.Hold("t", 1, ticket, time.Now().Add(5*time.Second))
				q.later("2", ratelimit.Request[int]{}) // more urgent, if there are lanes
				q.later("free", ratelimit.Request[int]{Free: true})
				assert.Equal(t, []string{"1", "free"}, q.order())
				begin := time.Now()
				slow.Ticket = ticket
				assert.Equal(t, ticket, q.admit("1 again", slow))
				assert.Equal(t, 5*time.Second, time.Since(begin))
				time.Sleep(time.Minute)
				assert.Equal(t, []string{"1", "free", "1 again"}, q.order(), "still held: it has not ended")
				q.s.Unhold(ticket)
				assert.Equal(t, []string{"1", "free", "1 again", "2"}, q.order())
				q.s.Unhold(ticket) // nothing
			})
		})
	}
}

func TestOfTwoHoldsTheOlderRequestGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		one, two := q.admit("1", ratelimit.Request[int]{}), q.admit("2", ratelimit.Request[int]{})
		q.s.Hold("t", 1, two, time.Now())
		q.s.Hold("t", 1, one, time.Now().Add(time.Second))
		q.later("3", ratelimit.Request[int]{})
		q.later("2 again", ratelimit.Request[int]{Ticket: two})
		q.later("1 again", ratelimit.Request[int]{Ticket: one})
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"1", "2", "1 again"}, q.order())
		q.s.Unhold(one)
		assert.Equal(t, []string{"1", "2", "1 again", "2 again"}, q.order())
		q.s.Unhold(two)
		assert.Equal(t, []string{"1", "2", "1 again", "2 again", "3"}, q.order())
	})
}

func TestAHoldThatIsGivenUpKeepsNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		ticket := q.admit("1", ratelimit.Request[int]{})
		q.s.Hold("t", 1, ticket, time.Now().Add(time.Hour))
		q.later("2", ratelimit.Request[int]{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := q.s.Admit(ctx, ratelimit.Request[int]{Tenant: "t", Key: 1, Ticket: ticket})
		assert.ErrorIs(t, err, ratelimit.ErrTooLate, "which says so at once")
		q.s.Unhold(ticket)
		assert.Equal(t, []string{"1", "2"}, q.order())
	})
}

func TestAHoldMovesWithItsKey(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("the other key is known: %v", known), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, 1)
				if known {
					p, err := q.s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t", Key: 2})
					require.NoError(t, err)
					p.Release()
				}
				ticket := q.admit("1", ratelimit.Request[int]{})
				q.s.Hold("t", 1, ticket, time.Now())
				q.later("2", ratelimit.Request[int]{})
				q.s.Move("t", 1, 2)
				time.Sleep(time.Minute)
				assert.Equal(t, []string{"1"}, q.order())
				p, err := q.s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "t", Key: 2, Ticket: ticket})
				require.NoError(t, err)
				p.Release()
				q.s.Unhold(ticket)
				assert.Equal(t, []string{"1", "2"}, q.order())
			})
		})
	}
}

func TestAKeyThatIsHeldIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[int](t, ratelimit.Config{MaxKeys: 2, Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 10}}}})
		s.Hold("t", 1, 1, time.Now())
		for key := range 100 {
			time.Sleep(time.Minute)
			p, err := s.Admit(t.Context(), ratelimit.Request[int]{Tenant: "u", Key: 10 + key})
			require.NoError(t, err)
			p.Release()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := s.Admit(ctx, ratelimit.Request[int]{Tenant: "t", Key: 1})
		assert.Error(t, err)
		s.Unhold(1)
	})
}
