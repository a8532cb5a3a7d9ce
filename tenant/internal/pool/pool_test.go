package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// thing is what the tests pool.
type thing struct {
	key    string
	nr     int
	closed atomic.Bool
}

// factory opens and closes things, and fails the test when two of one key are
// alive at a time or one is closed twice.
type factory struct {
	t     testing.TB
	mu    sync.Mutex
	alive map[string]*thing
	opens int
	fail  error
	slow  time.Duration // how long an open takes
	drag  time.Duration // how long a close takes
}

func newFactory(t testing.TB) *factory { return &factory{t: t, alive: map[string]*thing{}} }

func (f *factory) open(ctx context.Context, key string) (*thing, error) {
	f.mu.Lock()
	fail, slow := f.fail, f.slow
	f.opens++
	f.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.alive[key] != nil {
		f.t.Errorf("%s: a second instance starts while the first lives", key)
	}
	th := &thing{key: key, nr: f.opens}
	f.alive[key] = th
	return th, nil
}

func (f *factory) close(_ context.Context, key string, th *thing) {
	if f.drag > 0 {
		time.Sleep(f.drag)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if th.closed.Swap(true) {
		f.t.Errorf("%s: closed twice", key)
	}
	if f.alive[key] == th {
		delete(f.alive, key)
	}
}

func (f *factory) count() (opens, alive int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opens, len(f.alive)
}

func (f *factory) setFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func config(f *factory) Config[*thing] {
	return Config[*thing]{
		Open: f.open, Close: f.close,
		MaxOpen: 10, IdleTTL: time.Minute, OpenTimeout: 30 * time.Second,
		AcquireTimeout: 10 * time.Second, CloseTimeout: 30 * time.Second,
	}
}

var bg = context.Background()

func mustAcquire(t testing.TB, p *Pool[*thing], key string) Lease[*thing] {
	t.Helper()
	l, err := p.Acquire(bg, key)
	require.NoError(t, err)
	return l
}

func bubble(t *testing.T, test func(t *testing.T, f *factory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFactory(t)
		test(t, f)
		_, alive := f.count()
		assert.Zero(t, alive, "something was left open")
	})
}

func TestOpensOnceForAllWhoAsk(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		f.slow = time.Second
		p := New(config(f))
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { mustAcquire(t, p, "a").Release() })
		}
		wg.Wait()
		opens, _ := f.count()
		assert.Equal(t, 1, opens)
		require.NoError(t, p.Close(bg))
	})
}

func TestTheFirstCallersCancelledContextDoesNotFailTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		f.slow = 10 * time.Second
		p := New(config(f))
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := p.Acquire(ctx, "a")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() { mustAcquire(t, p, "a").Release() })
		}
		wg.Wait()
		opens, _ := f.count()
		assert.Equal(t, 1, opens)
		require.NoError(t, p.Close(bg))
	})
}

func TestAnOpenThatNobodyWaitsForIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		f.slow = 20 * time.Second
		p := New(config(f))
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		start := time.Now()
		_, err := p.Acquire(ctx, "a")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		f.mu.Lock()
		f.slow = 0
		f.mu.Unlock()
		mustAcquire(t, p, "a").Release() // not the error of the one given up
		assert.Equal(t, time.Second, time.Since(start))
		require.NoError(t, p.Close(bg))
	})
}

func TestAPanicOrGoexitInAnOpenReachesAllWhoWaitAndTheKeyIsUsableAgain(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic":  func() { panic("boom") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *factory) {
				bad := true
				cfg := config(f)
				cfg.Open = func(ctx context.Context, key string) (*thing, error) {
					if bad {
						time.Sleep(time.Second)
						misbehave()
					}
					return f.open(ctx, key)
				}
				p := New(cfg)
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						_, err := p.Acquire(bg, "a")
						var panicked *PanicError
						assert.True(t, errors.As(err, &panicked) || errors.Is(err, ErrGoexit), "%v", err)
					})
				}
				wg.Wait()
				bad = false
				mustAcquire(t, p, "a").Release()
				require.NoError(t, p.Close(bg))
			})
		})
	}
}

func TestAFailedOpenIsNotRetriedByEveryCallerAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		boom := errors.New("boom")
		f.setFail(boom)
		cfg := config(f)
		cfg.Cooldown = func(_ error, n int) time.Duration { return time.Duration(n) * time.Second }
		p := New(cfg)
		for range 50 {
			_, err := p.Acquire(bg, "a")
			assert.ErrorIs(t, err, boom)
		}
		opens, _ := f.count()
		assert.Equal(t, 1, opens)
		time.Sleep(time.Second)
		_, err := p.Acquire(bg, "a")
		assert.ErrorIs(t, err, boom)
		var cooling *Cooling
		_, err = p.Acquire(bg, "a")
		require.ErrorAs(t, err, &cooling)
		assert.Equal(t, 2*time.Second, cooling.Left, "the second failure in a row cools longer")
		f.setFail(nil)
		_, err = p.Acquire(bg, "a")
		assert.Error(t, err)
		p.Evict("a", false) // a change makes the past count for nothing
		mustAcquire(t, p, "a").Release()
		require.NoError(t, p.Close(bg))
	})
}

func TestEvictionWhileInUseClosesOnlyAfterTheLastUserAndNoSecondInstanceStarts(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		f.drag = 5 * time.Second
		p := New(config(f))
		one, two := mustAcquire(t, p, "a"), mustAcquire(t, p, "a")
		p.Evict("a", false)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			l := mustAcquire(t, p, "a")
			assert.Equal(t, 7*time.Second, time.Since(start), "after the last lease and the close")
			assert.NotEqual(t, one.Value().nr, l.Value().nr)
			l.Release()
		})
		time.Sleep(time.Second)
		one.Release()
		assert.False(t, two.Value().closed.Load())
		time.Sleep(time.Second)
		two.Release()
		wg.Wait()
		assert.True(t, two.Value().closed.Load())
		require.NoError(t, p.Close(bg))
	})
}

func TestAnEvictionDuringAnOpenMakesItCountForNothing(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		f.slow = 2 * time.Second
		p := New(config(f))
		var wg sync.WaitGroup
		wg.Go(func() {
			l := mustAcquire(t, p, "a")
			assert.Equal(t, 2, l.Value().nr, "the instance from before the eviction is nobody's")
			l.Release()
		})
		time.Sleep(time.Second)
		p.Evict("a", false)
		wg.Wait()
		require.NoError(t, p.Close(bg))
	})
}

func TestAtMostMaxOpenAreOpenAndTheOldestUnusedGoes(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		cfg := config(f)
		cfg.MaxOpen = 3
		p := New(cfg)
		pinned := mustAcquire(t, p, "pinned")
		for i := range 20 {
			mustAcquire(t, p, fmt.Sprint(i)).Release()
			_, alive := f.count()
			assert.LessOrEqual(t, alive, 3)
		}
		assert.False(t, pinned.Value().closed.Load(), "what is in use stays")
		hold := []Lease[*thing]{mustAcquire(t, p, "x"), mustAcquire(t, p, "y")}
		start := time.Now()
		_, err := p.Acquire(bg, "z")
		assert.ErrorIs(t, err, ErrFull)
		assert.Equal(t, 10*time.Second, time.Since(start))
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		_, err = p.Acquire(ctx, "z")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.AfterFunc(3*time.Second, hold[0].Release)
		start = time.Now()
		mustAcquire(t, p, "z").Release()
		assert.Equal(t, 3*time.Second, time.Since(start), "a place that comes free is taken at once")
		hold[1].Release()
		pinned.Release()
		require.NoError(t, p.Close(bg))
	})
}

func TestIdleOnesCloseAfterTheirTime(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		p := New(config(f))
		held := mustAcquire(t, p, "held")
		mustAcquire(t, p, "idle").Release()
		for range 10 {
			mustAcquire(t, p, "busy").Release()
			time.Sleep(20 * time.Second)
		}
		s := p.Stats()
		assert.Equal(t, 2, s.Open)
		assert.Equal(t, 1, s.Leased)
		assert.Equal(t, uint64(1), s.Evictions)
		time.Sleep(2 * time.Minute)
		assert.Equal(t, 1, p.Stats().Open)
		held.Release()
		time.Sleep(2 * time.Minute)
		assert.Equal(t, 0, p.Stats().Open)
		require.NoError(t, p.Close(bg))
	})
}

func TestCloseWaitsForLeasesAndThenGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		p := New(config(f))
		l := mustAcquire(t, p, "a")
		time.AfterFunc(5*time.Second, l.Release)
		start := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { assert.NoError(t, p.Close(bg)) })
		}
		synctest.Wait()
		_, err := p.Acquire(bg, "a")
		assert.ErrorIs(t, err, ErrClosed)
		wg.Wait()
		assert.Equal(t, 5*time.Second, time.Since(start))
	})
	bubble(t, func(t *testing.T, f *factory) {
		p := New(config(f))
		l := mustAcquire(t, p, "a")
		ctx, cancel := context.WithTimeout(bg, 3*time.Second)
		defer cancel()
		assert.ErrorIs(t, p.Close(ctx), context.DeadlineExceeded)
		assert.ErrorIs(t, context.Cause(l.Context()), ErrEnded)
		l.Release()
		l.Release()
		require.NoError(t, p.Close(bg))
	})
	bubble(t, func(t *testing.T, f *factory) { // while it opens
		f.slow = time.Hour
		p := New(config(f))
		go func() {
			_, err := p.Acquire(bg, "a")
			assert.ErrorIs(t, err, ErrClosed)
		}()
		synctest.Wait()
		require.NoError(t, p.Close(bg))
	})
	bubble(t, func(t *testing.T, f *factory) { // empty
		require.NoError(t, New(config(f)).Close(bg))
	})
}

func TestCallbacksMayCallThePoolAndMayPanic(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		var p *Pool[*thing]
		cfg := config(f)
		cfg.Open = func(ctx context.Context, key string) (*thing, error) {
			p.Stats()
			if key == "outer" {
				l, err := p.Acquire(ctx, "inner")
				if err != nil {
					return nil, err
				}
				l.Release()
			}
			return f.open(ctx, key)
		}
		cfg.Close = func(ctx context.Context, key string, th *thing) {
			p.Evict("another", true)
			p.Stats()
			f.close(ctx, key, th)
			panic("in close")
		}
		cfg.Cooldown = func(error, int) time.Duration { p.Stats(); panic("in cooldown") }
		p = New(cfg)
		mustAcquire(t, p, "outer").Release()
		p.Evict("outer", false)
		mustAcquire(t, p, "outer").Release()
		f.setFail(errors.New("x"))
		_, err := p.Acquire(bg, "fails")
		assert.Error(t, err)
		require.NoError(t, p.Close(bg))
	})
}

func TestTheInstancesContextEndsWhenItIsAborted(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		p := New(config(f))
		l, m := mustAcquire(t, p, "a"), mustAcquire(t, p, "a")
		ctx := l.Context()
		p.Evict("a", false)
		assert.NoError(t, ctx.Err())
		p.Evict("a", true)
		assert.ErrorIs(t, context.Cause(ctx), ErrEnded)
		assert.Error(t, m.Context().Err(), "also one that is asked for later")
		l.Release()
		assert.Error(t, l.Context().Err())
		m.Release()
		var zero Lease[*thing]
		zero.Release()
		assert.Error(t, zero.Context().Err())
		require.NoError(t, p.Close(bg))
	})
}

func TestAnOldLeasesReleaseDoesNotEndANewOne(t *testing.T) {
	bubble(t, func(t *testing.T, f *factory) {
		p := New(config(f))
		for range 100 { // handles are used again
			old := mustAcquire(t, p, "a")
			again := old
			old.Release()
			current := mustAcquire(t, p, "a")
			old.Release()
			again.Release()
			assert.Equal(t, 1, p.Stats().Leased)
			current.Release()
			assert.Equal(t, 0, p.Stats().Leased)
		}
		require.NoError(t, p.Close(bg))
	})
}

func TestALostLeaseIsReportedAndReleased(t *testing.T) {
	f := newFactory(t)
	cfg := config(f)
	type report struct {
		key  string
		site uintptr
	}
	lost := make(chan report, 1)
	cfg.Lost = func(key string, site uintptr) { lost <- report{key, site} }
	cfg.TrackSites = true
	p := New(cfg)
	func() { loseOne(t, p) }()
	var r report
	for r.key == "" {
		runtime.GC()
		select {
		case r = <-lost:
		case <-time.After(10 * time.Millisecond):
		}
	}
	assert.Equal(t, "a", r.key)
	assert.NotZero(t, r.site)
	assert.Equal(t, uint64(1), p.Stats().Lost)
	require.NoError(t, p.Close(bg), "nothing is out")
}

//go:noinline
func loseOne(t testing.TB, p *Pool[*thing]) { mustAcquire(t, p, "a") }

func TestAnEvictedValueIsNotKeptReachable(t *testing.T) {
	f := newFactory(t)
	p := New(config(f))
	collected := make(chan struct{})
	func() {
		l := mustAcquire(t, p, "a")
		runtime.AddCleanup(l.Value(), func(struct{}) { close(collected) }, struct{}{})
		l.Release()
	}()
	p.Evict("a", false)
	for done := false; !done; {
		runtime.GC()
		select {
		case <-collected:
			done = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	require.NoError(t, p.Close(bg))
}

// Many callers do everything at once; the factory watches that no rule is
// broken, and the race detector that no memory is.
func TestEverythingAtOnce(t *testing.T) {
	f := newFactory(t)
	cfg := config(f)
	cfg.MaxOpen = 20
	cfg.IdleTTL = 5 * time.Millisecond
	p := New(cfg)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for range 3000 {
				key := fmt.Sprint(rnd.IntN(40))
				switch rnd.IntN(10) {
				case 0:
					p.Evict(key, rnd.IntN(2) == 0)
				case 1:
					ctx, cancel := context.WithTimeout(bg, time.Duration(rnd.IntN(100))*time.Microsecond)
					if l, err := p.Acquire(ctx, key); err == nil {
						l.Release()
					}
					cancel()
				default:
					l, err := p.Acquire(bg, key)
					if !assert.NoError(t, err) {
						return
					}
					if l.Value().closed.Load() {
						t.Error("a closed value was lent")
					}
					if l.Value().key != key {
						t.Error("another key's value was lent")
					}
					runtime.Gosched()
					if l.Value().closed.Load() {
						t.Error("a value was closed while lent")
					}
					l.Release()
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 0, p.Stats().Leased)
	require.NoError(t, p.Close(bg))
	_, alive := f.count()
	assert.Zero(t, alive)
	s := p.Stats()
	assert.Zero(t, s.Open+s.Opening+s.Closing)
}
