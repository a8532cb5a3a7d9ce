package tenant_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestRegister(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	bot := f.srv.NewBot("shop_bot")
	r, err := f.Register(bg, "shop", bot.Token(), tenant.WithMetadata(map[string]string{"plan": "gold"}))
	require.NoError(t, err)
	assert.Equal(t, bot.ID(), r.BotID)
	assert.Equal(t, "shop_bot", r.Username)
	assert.Equal(t, "gold", r.Metadata["plan"])
	assert.Equal(t, tenant.Active, r.Status)
	assert.Equal(t, int64(1), r.Version)
	assert.False(t, r.CreatedAt.IsZero())
	require.NoError(t, f.getMe("shop"))

	again, err := f.Register(bg, "shop", bot.Token())
	require.NoError(t, err, "the same once more changes nothing")
	assert.Equal(t, int64(1), again.Version)

	revoked := f.srv.NewBot("revoked_bot")
	revoked.Revoke()
	other := f.srv.NewBot("other_bot")
	for name, row := range map[string]struct {
		id, token string
		fault     *bottest.Action
		want      errors.Kind
	}{
		"an id that is empty":           {"", other.Token(), nil, errors.BadRequest},
		"an id that is too long":        {strings.Repeat("x", 129), other.Token(), nil, errors.BadRequest},
		"an id with a newline":          {"a\nb", other.Token(), nil, errors.BadRequest},
		"an id that is not UTF-8":       {"a\xff", other.Token(), nil, errors.BadRequest},
		"no token":                      {"x", "", nil, errors.InvalidToken},
		"a malformed token":             {"x", "not a token", nil, errors.InvalidToken},
		"a revoked token":               {"x", revoked.Token(), nil, errors.Unauthorized},
		"a bot of another tenant":       {"x", bot.Token(), nil, errors.TokenTaken},
		"a tenant with another token":   {"shop", other.Token(), nil, errors.Exists},
		"Telegram restarts":             {"x", other.Token(), new(bottest.Restart500()), errors.Unavailable},
		"Telegram's edge fails":         {"x", other.Token(), new(bottest.HTML502()), errors.Unavailable},
		"Telegram limits":               {"x", other.Token(), new(bottest.TooManyRequests(time.Minute)), errors.RateLimited},
		"the connection breaks":         {"x", other.Token(), new(bottest.ResetBefore()), errors.ConnectionFailed},
		"the connection breaks after":   {"x", other.Token(), new(bottest.ResetAfter()), errors.ConnectionFailed},
		"the answer is cut":             {"x", other.Token(), new(bottest.CutJSON()), errors.ConnectionFailed},
		"the answer is empty":           {"x", other.Token(), new(bottest.EmptyBody()), errors.BadReply},
		"the answer is something else":  {"x", other.Token(), new(bottest.NoOK()), errors.BadReply},
		"the answer is another's getMe": {"x", other.Token(), new(bottest.Respond(200, "application/json", `{"ok":true,"result":{"id":1,"is_bot":true}}`)), errors.BadReply},
	} {
		t.Run(name, func(t *testing.T) {
			if row.fault != nil {
				defer f.srv.Fail(bottest.Fault{Method: "getMe", Do: *row.fault})()
			}
			_, err := f.Register(bg, row.id, row.token)
			assert.Equal(t, row.want.String(), errors.KindOf(err).String(), "%v", err)
			if row.token != "" {
				assert.NotContains(t, fmt.Sprintf("%+v", err), row.token)
			}
		})
	}
	t.Run("Telegram can't be reached", func(t *testing.T) {
		require.NoError(t, f.srv.Refuse(true))
		defer func() { require.NoError(t, f.srv.Refuse(false)) }()
		_, err := f.Register(bg, "x", other.Token())
		assert.ErrorIs(t, err, errors.ConnectionFailed)
	})
	_, err = f.Get(bg, "x")
	assert.ErrorIs(t, err, errors.NotFound, "nothing half-made is left")
}

func TestRegisterTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		defer f.srv.Fail(bottest.Fault{Method: "getMe", Do: bottest.Hang()})()
		start := time.Now()
		_, err := f.Register(bg, "shop", f.srv.NewBot("shop_bot").Token())
		assert.ErrorIs(t, err, errors.Timeout)
		assert.Equal(t, 20*time.Second, time.Since(start))
	})
}

func TestOneBotBelongsToOneTenantWhoeverIsQuicker(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	bot := f.srv.NewBot("shop_bot")
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			_, err := f.Register(bg, fmt.Sprint(i%10), bot.Token())
			if err == nil {
				won.Add(1)
			} else {
				assert.ErrorIs(t, err, errors.TokenTaken)
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, won.Load(), int64(2), "one tenant, who may have asked twice")
	n := 0
	for _, err := range f.List(bg, tenant.Filter{Limit: 3}) {
		require.NoError(t, err)
		n++
	}
	assert.Equal(t, 1, n)
}

func TestRotate(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	bot := f.register(t, "shop")
	lease, err := f.pool.Acquire(bg, "shop")
	require.NoError(t, err)

	_, err = f.Rotate(bg, "shop", f.srv.NewBot("other_bot").Token())
	assert.ErrorIs(t, err, errors.WrongBot)
	_, err = f.Rotate(bg, "nobody", bot.Token())
	assert.ErrorIs(t, err, errors.NotFound)
	_, err = f.Rotate(bg, "shop", "rubbish")
	assert.ErrorIs(t, err, errors.InvalidToken)
	_, err = f.Rotate(bg, "shop", fmt.Sprintf("%d:neverissued", bot.ID()))
	assert.ErrorIs(t, err, errors.Unauthorized)

	r, err := f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	assert.Equal(t, int64(2), r.Version)

	// The old lease has the old token, and its 401 does not quarantine the
	// tenant, who has a new one.
	_, err = lease.Tenant().Bot.GetMe(nil)
	assert.ErrorIs(t, err, errors.Unauthorized)
	lease.Release()
	r, err = f.Get(bg, "shop")
	require.NoError(t, err)
	assert.Equal(t, tenant.Active, r.Status)
	require.NoError(t, f.getMe("shop"))
	_, err = lease.Tenant().Bot.GetMe(nil)
	assert.ErrorIs(t, err, errors.Closed, "a bot that was kept too long says so")
}

func TestA401Quarantines(t *testing.T) {
	var heard atomic.Int64
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{OnQuarantine: func(_ context.Context, r tenant.Record, err error) {
		assert.Equal(t, "shop", r.ID)
		assert.Equal(t, tenant.Quarantined, r.Status)
		assert.ErrorIs(t, err, errors.Unauthorized)
		heard.Add(1)
		panic("a hook that panics harms nobody")
	}})
	bot := f.register(t, "shop")
	f.register(t, "calm")
	require.NoError(t, f.getMe("shop"))
	bot.Revoke()

	before := f.srv.CallCount("getMe")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			err := f.getMe("shop")
			assert.True(t, errors.Is(err, errors.Unauthorized) || errors.Is(err, errors.Suspended), "%v", err)
		})
	}
	wg.Wait()
	assert.Equal(t, int64(1), heard.Load(), "the hook hears of it once")
	assert.LessOrEqual(t, f.srv.CallCount("getMe")-before, 10)

	before = f.srv.CallCount("getMe")
	for range 100 {
		assert.ErrorIs(t, f.getMe("shop"), errors.Suspended)
	}
	assert.Equal(t, before, f.srv.CallCount("getMe"), "its calls no longer reach Telegram")
	require.NoError(t, f.getMe("calm"))

	_, err := f.Resume(bg, "shop")
	assert.ErrorIs(t, err, errors.Unauthorized, "the token is still not accepted")
	_, err = f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	require.NoError(t, f.getMe("shop"))
	bot.Revoke()
	assert.ErrorIs(t, f.getMe("shop"), errors.Unauthorized)
	assert.Equal(t, int64(2), heard.Load(), "and again the next time")
}

func TestWhoHoldsALeaseOfAQuarantinedTenantCallsInVain(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	bot := f.register(t, "shop")
	lease, err := f.pool.Acquire(bg, "shop")
	require.NoError(t, err)
	bot.Revoke()
	_, err = lease.Tenant().Bot.GetMe(nil)
	require.ErrorIs(t, err, errors.Unauthorized)
	before := len(f.srv.Calls())
	for range 100 {
		_, err := lease.Tenant().Bot.GetMe(nil)
		assert.ErrorIs(t, err, errors.Unauthorized)
	}
	assert.Equal(t, before, len(f.srv.Calls()), "Telegram hears nothing of it")
	lease.Release()
	_, err = f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	require.NoError(t, f.getMe("shop"))
}

func TestSuspendResumeRemove(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	bot := f.register(t, "shop")
	lease, err := f.pool.Acquire(bg, "shop")
	require.NoError(t, err)
	started, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- f.pool.Do(bg, "shop", func(ctx context.Context, _ *tenant.Tenant) error {
			close(started)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-started
	r, err := f.Suspend(bg, "shop", "unpaid")
	require.NoError(t, err)
	assert.Equal(t, "unpaid", r.Reason)
	assert.Error(t, <-ended, "who uses the bot is told to stop")
	assert.Error(t, lease.Context().Err())
	lease.Release()
	assert.ErrorIs(t, f.getMe("shop"), errors.Suspended)
	_, err = f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	assert.ErrorIs(t, f.getMe("shop"), errors.Suspended, "a new token does not lift a suspension")
	_, err = f.Resume(bg, "shop")
	require.NoError(t, err)
	require.NoError(t, f.getMe("shop"))
	_, err = f.Resume(bg, "shop")
	require.NoError(t, err)

	require.NoError(t, f.Remove(bg, "shop"))
	assert.ErrorIs(t, f.Remove(bg, "shop"), errors.NotFound)
	assert.ErrorIs(t, f.getMe("shop"), errors.NotFound)
	_, err = f.Register(bg, "shop-2", bot.Token())
	require.NoError(t, err, "the bot is free for another tenant")
}

// slowStore delays Get, after it read.
type slowStore struct {
	tenant.Store
	read, go_ chan struct{}
}

func (s *slowStore) Get(ctx context.Context, id string) (tenant.Record, error) {
	r, err := s.Store.Get(ctx, id)
	if s.read != nil {
		s.read <- struct{}{}
		<-s.go_
	}
	return r, err
}

// An open reads the record, then the token is rotated, then the open ends:
// what it opened is not what anybody gets.
func TestAnOpenThatReadAnOldRecordIsNobodys(t *testing.T) {
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
	defer srv.Close()
	s, err := session.New(session.Config{Transport: srv.Transport()})
	require.NoError(t, err)
	defer s.Close(bg)
	memory := tenant.NewMemoryStore()
	store := &slowStore{Store: memory}
	p, err := tenant.NewPool(s, store, tenant.PoolConfig{})
	require.NoError(t, err)
	defer p.Close(bg)
	m := tenant.NewManager(p, tenant.ManagerConfig{})
	bot := srv.NewBot("shop_bot")
	_, err = m.Register(bg, "shop", bot.Token())
	require.NoError(t, err)

	store.read, store.go_ = make(chan struct{}), make(chan struct{})
	got := make(chan string)
	go func() {
		l, err := p.Acquire(bg, "shop")
		assert.NoError(t, err)
		defer l.Release()
		got <- l.Tenant().Record.Token.Reveal()
	}()
	<-store.read // the open has read the old record
	// What Rotate does, without its own slow reads.
	newToken := bot.RotateToken()
	r, err := memory.Get(bg, "shop")
	require.NoError(t, err)
	r.Token, err = session.ParseToken(newToken)
	require.NoError(t, err)
	_, err = memory.Put(bg, r)
	require.NoError(t, err)
	p.Evict("shop")
	store.go_ <- struct{}{}
	<-store.read // and is made to read again
	store.go_ <- struct{}{}
	assert.Equal(t, newToken, <-got)
}

func TestATenantsOwnLimitsBind(t *testing.T) {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	guard, err := session.NewGuard(session.GuardConfig{})
	require.NoError(t, err)
	defer guard.Close()
	s, err := session.New(session.Config{Transport: srv.Transport(), Guard: guard})
	require.NoError(t, err)
	ctx := context.Background()
	defer s.Close(ctx)
	p, err := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{Limiter: guard})
	require.NoError(t, err)
	defer p.Close(ctx)
	m := tenant.NewManager(p, tenant.ManagerConfig{})
	fake, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Start(fake, "")
	none := session.Limits{Private: ratelimit.Limit{Burst: 1}} // one message, ever
	_, err = m.Register(ctx, "shop", fake.Token(), tenant.WithLimits(none))
	require.NoError(t, err)
	send := func() error {
		return p.Do(ctx, "shop", func(ctx context.Context, tt *tenant.Tenant) error {
			_, err := tt.Bot.SendMessageWithContext(ctx, ann.ID, "hello", nil)
			return err
		})
	}
	require.NoError(t, send())
	require.ErrorIs(t, send(), errors.Throttled)
	poller, err := p.Acquire(ctx, "shop")
	require.NoError(t, err)
	defer poller.Release() // who holds it for long does not keep the others out
	_, err = m.SetLimits(ctx, "shop", session.Limits{Private: ratelimit.Limit{Rate: -1}})
	require.NoError(t, err)
	require.NoError(t, send())
	_, err = m.SetLimits(ctx, "shop", session.Limits{Weight: -1})
	require.ErrorIs(t, err, errors.BadRequest)
}
