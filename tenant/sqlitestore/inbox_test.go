package sqlitestore_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

func openInbox(t testing.TB, path string, keys *seal.Ring, cfg inboxtest.Config) *sqlitestore.Inbox {
	t.Helper()
	db, err := sqlitestore.Open(t.Context(), path, sqlitestore.Config{Keys: keys, Inbox: sqlitestore.InboxConfig{
		MaxUpdates: cfg.MaxUpdates, MaxPerTenant: cfg.MaxPerTenant, MaxDeadPerTenant: cfg.MaxDeadPerTenant,
	}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db.Inbox()
}

func TestInboxKeepsTheContract(t *testing.T) {
	ring := keys(t)
	for name, place := range map[string]func(t *testing.T) string{
		"in a file": newFile,
		"in memory": func(*testing.T) string { return sqlitestore.Memory },
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			paths := map[inbox.Inbox]string{}
			h := inboxtest.Harness{
				New: func(t *testing.T, cfg inboxtest.Config) inbox.Inbox {
					path := place(t)
					in := openInbox(t, path, ring, cfg)
					mu.Lock()
					defer mu.Unlock()
					paths[in] = path
					return in
				},
				Advance: func(_ *testing.T, _ inbox.Inbox, d time.Duration) { time.Sleep(d) },
				Bubble:  synctest.Test,
			}
			if name == "in a file" {
				h.Another = func(t *testing.T, in inbox.Inbox) inbox.Inbox {
					return openInbox(t, paths[in], ring, inboxtest.Config{})
				}
			}
			inboxtest.Run(t, h)
		})
	}
}
