package webhook_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// Each kind of trouble is logged once every 10 s, however much there is of it and
// of the others.
func TestNoTroubleHidesAnotherInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		keys := newKeys(t)
		rc := newReceiver(t, putFunc(func(context.Context, []inbox.Update) ([]inbox.Outcome, error) {
			return nil, errors.New("disk on fire")
		}), keys, webhook.Config{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Tenants: storeFunc(func(_ context.Context, id string) (tenant.Record, error) {
				if id == "unknown" {
					return tenant.Record{}, errors.New("no connection")
				}
				return tenant.Record{ID: id, Status: tenant.Active}, nil
			}),
		})
		counts := func() [3]int {
			text := log.String()
			return [3]int{strings.Count(text, "wrong secret"), strings.Count(text, "status unknown"), strings.Count(text, "inbox failed")}
		}
		trouble := func() {
			for id := range int64(5) {
				wrong := request(keys, "a", body(1))
				wrong.Header.Set(secretHeader, "my-guess")
				assert.Equal(t, http.StatusUnauthorized, serve(rc, wrong).Code)
				assert.Equal(t, http.StatusServiceUnavailable, serve(rc, request(keys, "unknown", body(1))).Code)
				assert.Equal(t, http.StatusServiceUnavailable, serve(rc, request(keys, "a", body(id+1))).Code)
			}
		}
		trouble()
		assert.Equal(t, [3]int{1, 1, 1}, counts())
		time.Sleep(10*time.Second - time.Nanosecond)
		trouble()
		assert.Equal(t, [3]int{1, 1, 1}, counts())
		time.Sleep(time.Nanosecond)
		trouble()
		assert.Equal(t, [3]int{2, 2, 2}, counts())
		for _, secret := range []string{"my-guess", keys.Secret("a"), keys.Path("a"), "hello", "fire"} {
			assert.NotContains(t, log.String(), secret)
		}
	})
}
