package sqlinbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func never(error) bool { return false }

func TestWhatComesDuringATransactionSharesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches [][]int
		q := NewQueue(3, func(b []int) error {
			time.Sleep(time.Second)
			batches = append(batches, b)
			return nil
		}, never)
		for i := range 6 {
			go func() { assert.NoError(t, q.Do(t.Context(), i)) }()
			synctest.Wait()
		}
		q.Wait()
		assert.Equal(t, [][]int{{0}, {1, 2, 3}, {4, 5}}, batches)
	})
}

func TestWhoGoesAwayWhileWaitingIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done []int
		q := NewQueue(3, func(b []int) error {
			time.Sleep(time.Second)
			done = append(done, b...)
			return nil
		}, never)
		go func() { assert.NoError(t, q.Do(t.Context(), 1)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, q.Do(ctx, 2), context.DeadlineExceeded)
		assert.Error(t, q.Do(ctx, 3), "one that has ended before")
		q.Wait()
		assert.Equal(t, []int{1}, done)
	})
}

func TestWhoGoesAwayWhileServedDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done []int
		q := NewQueue(3, func(b []int) error {
			time.Sleep(time.Second)
			done = append(done, b...)
			return nil
		}, never)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, q.Do(ctx, 1), context.DeadlineExceeded)
		assert.NoError(t, q.Do(t.Context(), 2))
		assert.Equal(t, []int{1, 2}, done)
		q.Wait()
	})
}

func TestOneThatSpoilsABatchFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad")
		q := NewQueue(10, func(b []int) error {
			time.Sleep(time.Second)
			for _, n := range b {
				if n < 0 {
					return bad
				}
				if n == 99 {
					panic("a user's text")
				}
			}
			return nil
		}, func(error) bool { return true })
		var mu sync.Mutex
		got := map[int]error{}
		for _, n := range []int{0, 1, -1, 2, 99, 3} {
			go func() {
				err := q.Do(t.Context(), n)
				mu.Lock()
				defer mu.Unlock()
				got[n] = err
			}()
			synctest.Wait()
		}
		q.Wait()
		synctest.Wait()
		assert.ErrorIs(t, got[-1], bad)
		assert.ErrorContains(t, got[99], "panic of type string")
		assert.NotContains(t, got[99].Error(), "user")
		for _, n := range []int{0, 1, 2, 3} {
			assert.NoError(t, got[n], n)
		}
	})
}
