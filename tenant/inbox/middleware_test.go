package inbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

func TestATimeoutIsOfItsKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(bg, 30*time.Second)
		defer cancel()
		left := func(m inbox.Middleware, u inbox.Update) (d time.Duration) {
			h := m(inbox.HandlerFunc(func(ctx context.Context, _ *tenant.Tenant, _ inbox.Update) error {
				at, _ := ctx.Deadline()
				d = time.Until(at)
				return nil
			}))
			require.NoError(t, h.HandleUpdate(ctx, nil, u))
			return d
		}
		u := message("a", 1, 1)
		assert.Equal(t, 5*time.Second, left(inbox.Timeout(5*time.Second), u))
		assert.Equal(t, 5*time.Second, left(inbox.Timeout(5*time.Second, "poll", "message"), u))
		assert.Equal(t, 30*time.Second, left(inbox.Timeout(5*time.Second, "poll"), u))
		assert.Equal(t, 30*time.Second, left(inbox.Timeout(time.Minute), u), "the workers' bound holds")
		assert.Equal(t, 30*time.Second, left(inbox.Timeout(0), u))
		slow := inbox.Timeout(time.Second)(inbox.HandlerFunc(func(ctx context.Context, _ *tenant.Tenant, _ inbox.Update) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		assert.Equal(t, errors.Timeout, errors.KindOf(slow.HandleUpdate(ctx, nil, u)))
	})
}

func TestLogTellsHowUpdatesWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := inbox.Log(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		m := newMemory(t)
		h := log(inbox.HandlerFunc(func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			time.Sleep(2 * time.Second)
			switch u.ID {
			case 2:
				return &errors.Error{Kind: errors.Blocked, Err: errors.New("secret")}
			case 3:
				panic("secret")
			case 4:
				runtime.Goexit()
			}
			return nil
		}))
		work(t, m, poolFunc(nil), inbox.WorkersConfig{MaxAttempts: 1}, h.HandleUpdate)
		for id, want := range []string{
			`level=DEBUG msg="update handled" update.tenant=a update.id=1 update.kind=message attempt=1 took=2s result=ok`,
			`level=ERROR msg="update not handled" update.tenant=a update.id=2 update.kind=message attempt=1 took=2s result=` + errors.Blocked.String(),
			`level=ERROR msg="update not handled" update.tenant=a update.id=3 update.kind=message attempt=1 took=2s result=panic`,
			`level=ERROR msg="update not handled" update.tenant=a update.id=4 update.kind=message attempt=1 took=2s result=panic`,
		} {
			out.Reset()
			put(t, m, message("a", 1, int64(id+1)))
			pass(3 * time.Second)
			assert.Contains(t, out.String(), want)
			assert.NotContains(t, out.String(), "secret")
		}
		assert.NoError(t, inbox.Log(nil)(inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })).HandleUpdate(bg, nil, message("a", 1, 9)))
	})
}

func TestRecoverMakesAPanicAnErrorOfWhatIsInside(t *testing.T) {
	h := inbox.Recover()(inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error { panic("secret") }))
	err := h.HandleUpdate(bg, nil, message("a", 1, 1))
	p, ok := errors.AsType[*inbox.PanicError](err)
	require.True(t, ok)
	assert.Equal(t, "secret", p.Value)
	assert.Contains(t, string(p.Stack), "middleware_test.go")
	assert.EqualError(t, err, "panic of type string")
	for _, v := range []any{p, *p, []any{*p}} {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", v, v, v, text), "secret")
	}
	for _, m := range []inbox.Middleware{inbox.Recover(), inbox.Log(nil), inbox.Timeout(time.Second)} {
		var mux inbox.Mux
		mux.HandleFunc("poll", h.HandleUpdate)
		assert.Equal(t, []string{"poll"}, inbox.KindsOf(m(&mux)), "kinds show through")
	}
	assert.NoError(t, inbox.Recover()(inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })).HandleUpdate(bg, nil, message("a", 1, 1)))
}
