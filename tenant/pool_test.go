package tenant_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestNewPoolReportsEveryBadField(t *testing.T) {
	_, err := tenant.NewPool(nil, nil, tenant.PoolConfig{
		MaxOpen: -1, IdleTTL: -1, OpenTimeout: -1, AcquireTimeout: -1, CloseTimeout: -1, OnOpen: []tenant.Hook{nil},
	})
	require.Error(t, err)
	for _, field := range []string{"session", "store", "MaxOpen", "IdleTTL", "OpenTimeout", "AcquireTimeout", "CloseTimeout", "OnOpen"} {
		assert.Contains(t, err.Error(), field)
	}
}

func TestATenantShowsNoToken(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	token := f.register(t, "shop").Token()
	secret := token[strings.Index(token, ":")+1:]
	require.NoError(t, f.pool.Do(bg, "shop", func(_ context.Context, tn *tenant.Tenant) error {
		var out bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&out, nil))
		for _, v := range []any{tn, tn.Bot, *tn.Bot, tn.Record, tn.Bot.BotClient, []*tenant.Tenant{tn}, struct{ T *tenant.Tenant }{tn}} {
			fmt.Fprintf(&out, "%v %+v %#v %s\n", v, v, v, v)
			log.Info("x", "v", v)
		}
		file := gotgbot.File{FilePath: "a.txt"}
		out.WriteString(file.URL(tn.Bot, nil))
		assert.NotContains(t, out.String(), secret)
		assert.Contains(t, out.String(), `tenant "shop"`)
		return nil
	}))
}

func TestHooksOpenInOrderAndEndInReverse(t *testing.T) {
	var order []string
	type key struct{}
	hook := func(name string, err error) tenant.Hook {
		return func(_ context.Context, tn *tenant.Tenant) (func(context.Context) error, error) {
			order = append(order, "open "+name)
			tn.SetValue(key{}, name)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context) error {
				_, has := ctx.Deadline()
				assert.True(t, has)
				_, err := tn.Bot.GetMeWithContext(ctx, nil)
				assert.NoError(t, err, "the bot is closed last")
				order = append(order, "end "+name)
				if name == "b" {
					panic("in the end of b")
				}
				return errors.New("end of " + name + " failed")
			}, nil
		}
	}
	var log bytes.Buffer
	nothing := func(context.Context, *tenant.Tenant) (func(context.Context) error, error) { return nil, nil }
	f := newFleet(t, tenant.PoolConfig{
		OnOpen: []tenant.Hook{hook("a", nil), nothing, hook("b", nil), hook("c", nil)},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}, tenant.ManagerConfig{})
	f.register(t, "shop")
	require.NoError(t, f.pool.Do(bg, "shop", func(_ context.Context, tn *tenant.Tenant) error {
		assert.Equal(t, "c", tn.Value(key{}))
		assert.Nil(t, tn.Value("other"))
		return nil
	}))
	require.NoError(t, f.pool.Close(bg))
	assert.Equal(t, []string{"open a", "open b", "open c", "end c", "end b", "end a"}, order)
	for _, text := range []string{"end of a failed", "end of c failed", "panic in a hook's end: in the end of b"} {
		assert.Contains(t, log.String(), text, "each error is kept")
	}
}

func TestAHookThatFailsFailsTheOpenAndEndsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		bad := errors.New("no database")
		opens := 0
		f := newFleet(t, tenant.PoolConfig{OnOpen: []tenant.Hook{
			func(context.Context, *tenant.Tenant) (func(context.Context) error, error) {
				opens++
				return func(context.Context) error { ended++; return nil }, nil
			},
			func(context.Context, *tenant.Tenant) (func(context.Context) error, error) { return nil, bad },
		}}, tenant.ManagerConfig{})
		f.register(t, "shop")
		assert.ErrorIs(t, f.getMe("shop"), bad)
		err := f.getMe("shop")
		assert.ErrorIs(t, err, bad)
		assert.Positive(t, errors.RetryAfter(err), "it says when it will be tried again")
		assert.Equal(t, 1, opens)
		assert.Equal(t, 1, ended)
		time.Sleep(errors.RetryAfter(err))
		assert.ErrorIs(t, f.getMe("shop"), bad)
		assert.Equal(t, 2, opens)
	})
}

func TestErrorsOfThePoolHaveKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := func(ctx context.Context, tn *tenant.Tenant) (func(context.Context) error, error) {
			switch tn.ID() {
			case "stuck":
				<-ctx.Done()
				return nil, ctx.Err()
			case "panics":
				panic(tn.Record.Token.Reveal())
			}
			return nil, nil
		}
		f := newFleet(t, tenant.PoolConfig{MaxOpen: 1, OnOpen: []tenant.Hook{stuck}}, tenant.ManagerConfig{})
		for _, id := range []string{"shop", "stuck", "panics"} {
			f.register(t, id)
		}
		assert.ErrorIs(t, f.getMe("nobody"), errors.NotFound)
		assert.ErrorIs(t, f.getMe("stuck"), errors.Timeout)
		err := f.getMe("panics")
		assert.ErrorIs(t, err, errors.Internal)
		assert.NotContains(t, fmt.Sprintf("%+v", err), "AA")
		r, _ := f.Get(bg, "panics")
		assert.NotContains(t, fmt.Sprintf("%+v", err), r.Token.Reveal())

		lease, err := f.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		assert.ErrorIs(t, f.getMe("stuck"), errors.Timeout, "cooling down")
		_, err = f.Suspend(bg, "panics", "")
		require.NoError(t, err)
		assert.ErrorIs(t, f.getMe("panics"), errors.PoolFull)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		_, err = f.pool.Acquire(ctx, "shop")
		assert.ErrorIs(t, err, errors.Canceled)
		lease.Release()
		assert.ErrorIs(t, f.getMe("panics"), errors.Suspended)
		require.NoError(t, f.pool.Close(bg))
		assert.ErrorIs(t, f.getMe("shop"), errors.Closed)
	})
}

func TestCloseEndsTheContextsOfThoseWhoDoNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.register(t, "shop")
		done := make(chan error)
		go func() {
			done <- f.pool.Do(bg, "shop", func(ctx context.Context, tn *tenant.Tenant) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				_, err := tn.Bot.GetMe(nil)
				return err
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(bg, 5*time.Second)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, f.pool.Close(ctx), errors.Timeout)
		assert.Equal(t, 5*time.Second, time.Since(start))
		assert.ErrorIs(t, <-done, errors.Closed)
	})
}

func TestALostLeaseIsLoggedWithWhereItWasTaken(t *testing.T) {
	out := &lockedBuffer{}
	f := newFleet(t, tenant.PoolConfig{TrackLeases: true, Logger: slog.New(slog.NewTextHandler(out, nil))}, tenant.ManagerConfig{})
	f.register(t, "shop")
	forgetALease(t, f.pool)
	for f.pool.Stats().Lost == 0 || !strings.Contains(out.String(), "never released") {
		runtime.GC()
		runtime.Gosched()
	}
	assert.Contains(t, out.String(), "forgetALease")
	assert.Equal(t, 0, f.pool.Stats().Leased)
}

//go:noinline
func forgetALease(t *testing.T, p *tenant.Pool) {
	_, err := p.Acquire(bg, "shop")
	require.NoError(t, err)
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A hundred thousand random uses, evictions and replacements leave nothing
// behind: no lease, no open bot, no connection, no goroutine.
func TestAHundredThousandCyclesLeaveNothing(t *testing.T) {
	const tenants, workers, cycles = 50, 8, 100_000
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits(), KeepCalls: -1, KeepMessages: 10})
	s, err := session.New(session.Config{Transport: srv.Transport()})
	require.NoError(t, err)
	p, err := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{MaxOpen: tenants / 2})
	require.NoError(t, err)
	m := tenant.NewManager(p, tenant.ManagerConfig{})
	ann := srv.NewUser("Ann")
	bots := make([]*bottest.Bot, tenants)
	var turn [tenants]sync.Mutex // one rotation of a bot at a time, as BotFather has it
	for i := range bots {
		bots[i] = srv.NewBot(fmt.Sprintf("b%d_bot", i))
		ann.Start(bots[i], "")
		_, err := m.Register(bg, fmt.Sprint(i), bots[i].Token())
		require.NoError(t, err)
	}
	allowed := func(err error) bool {
		return err == nil || errors.Is(err, errors.Unauthorized) || errors.Is(err, errors.Suspended) || errors.Is(err, errors.Closed)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 2))
			for range cycles / workers {
				i := rnd.IntN(tenants)
				id := fmt.Sprint(i)
				switch n := rnd.IntN(1000); {
				case n < 5: // replace
					turn[i].Lock()
					_, err := m.Rotate(bg, id, bots[i].RotateToken())
					turn[i].Unlock()
					assert.NoError(t, err)
				case n < 10:
					_, err := m.Suspend(bg, id, "")
					assert.NoError(t, err)
					_, err = m.Resume(bg, id)
					assert.True(t, allowed(err), "%v", err)
				case n < 200:
					p.Evict(id)
				case n < 250:
					err := p.Do(bg, id, func(ctx context.Context, tn *tenant.Tenant) error {
						_, err := tn.Bot.SendMessageWithContext(ctx, ann.ID, "hi", nil)
						return err
					})
					assert.True(t, allowed(err) || errors.Is(err, errors.Canceled), "%v", err)
				default:
					l, err := p.Acquire(bg, id)
					assert.True(t, allowed(err), "%v", err)
					l.Release()
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 0, p.Stats().Leased)
	require.NoError(t, p.Close(bg))
	stats := p.Stats()
	assert.Zero(t, stats.Open+stats.Opening+stats.Closing+stats.Leased)
	assert.Zero(t, stats.Lost)
	require.NoError(t, s.Close(bg))
	srv.Close()
	assert.Zero(t, srv.Connections().Open)
}
