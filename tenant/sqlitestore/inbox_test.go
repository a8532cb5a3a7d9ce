package sqlitestore_test

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
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
		"in a file": readyFile,
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
				Checks:  40,
			}
			if name == "in memory" {
				h.Checks = 20 // of the same statements
			} else {
				h.Another = func(t *testing.T, in inbox.Inbox, cfg inboxtest.Config) inbox.Inbox {
					return openInbox(t, paths[in], ring, cfg)
				}
			}
			inboxtest.Run(t, h)
		})
	}
}

func message(tenant, chat string, id int64) inbox.Update {
	return inbox.Update{Tenant: tenant, ID: id, Kind: "message", Chat: chat, Raw: []byte("{}"), ReceivedAt: time.Now()}
}

// Leases are committed without an fsync, on the connection that all changes
// share.
func TestChangesAreDurableAfterALease(t *testing.T) {
	db := open(t, readyFile(t), keys(t))
	in := db.Inbox()
	_, err := in.Put(t.Context(), []inbox.Update{message("a", "1", 1)})
	require.NoError(t, err)
	leases, err := in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Minute})
	require.NoError(t, err)
	require.Len(t, leases, 1)
	n, err := db.Synchronous()
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

func TestAnInboxIsThereAfterARestart(t *testing.T) {
	path, ring := readyFile(t), keys(t)
	db, err := sqlitestore.Open(t.Context(), path, sqlitestore.Config{Keys: ring})
	require.NoError(t, err)
	_, err = db.Inbox().Put(t.Context(), []inbox.Update{message("a", "1", 1), message("a", "1", 2)})
	require.NoError(t, err)
	first, err := db.Inbox().Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
	require.NoError(t, err)
	require.NoError(t, db.Close())

	in := open(t, path, ring).Inbox()
	outcomes, err := in.Put(t.Context(), []inbox.Update{message("a", "1", 2)})
	require.NoError(t, err)
	require.True(t, outcomes[0].Duplicate)
	again, err := in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
	require.NoError(t, err)
	require.Empty(t, again, "it is leased still")
	held, err := in.Settle(t.Context(), []inbox.Settlement{{Lease: first[0], Verdict: inbox.Done}})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, held)
	again, err = in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
	require.NoError(t, err)
	require.EqualValues(t, 2, again[0].ID)
	require.Greater(t, again[0].Token, first[0].Token)
}

func TestAClosedInboxSaysSo(t *testing.T) {
	db, err := sqlitestore.Open(t.Context(), readyFile(t), sqlitestore.Config{Keys: keys(t)})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = db.Inbox().Put(t.Context(), []inbox.Update{message("a", "1", 1)})
	require.ErrorIs(t, err, errors.Closed)
	_, err = db.Inbox().Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
	require.ErrorIs(t, err, errors.Closed)
}

func TestABadInboxConfigIsRefused(t *testing.T) {
	_, err := sqlitestore.Open(t.Context(), readyFile(t), sqlitestore.Config{Inbox: sqlitestore.InboxConfig{MaxUpdates: -1, Remember: -1}})
	require.ErrorContains(t, err, "Keys is nil")
	require.ErrorContains(t, err, "Inbox.MaxUpdates is negative")
	require.ErrorContains(t, err, "Inbox.Remember is negative")
}

// Chats whose time comes at once are lent in the order of their times, however
// many they are.
func TestChatsThatWakeAtOnceAreAllLent(t *testing.T) {
	const most, n = 100, 103 // a few more than are woken at a time
	db, err := sqlitestore.Open(t.Context(), readyFile(t), sqlitestore.Config{Keys: keys(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	in := db.Inbox()
	in.SetWakeMost(most)
	var all []inbox.Update
	for i := range int64(n) {
		all = append(all, message("a", strconv.FormatInt(i, 10), i+1))
	}
	_, err = in.Put(t.Context(), all)
	require.NoError(t, err)
	// As after a back-off that has ended, the last first.
	require.NoError(t, db.Exec("UPDATE inbox_chats SET at = 1000000100000 - CAST(chat AS INTEGER)"))
	next := int64(n)
	for _, want := range []int{most, n - most, 0} {
		leases, err := in.Lease(t.Context(), inbox.Want{Limit: 2 * n, TTL: time.Hour})
		require.NoError(t, err)
		require.Len(t, leases, want)
		for _, l := range leases {
			require.Equal(t, next, l.ID)
			next--
		}
	}
}

// Telegram begins its ids anew after a week without updates, so one that waits
// may have the id of a dead letter. Neither takes the other's place.
func TestADeadLetterWhoseIDIsInUseStaysDead(t *testing.T) {
	db := open(t, readyFile(t), keys(t))
	in := db.Inbox()
	old, young := message("a", "1", 1), message("a", "1", 1)
	old.Raw, young.Raw = []byte(`"old"`), []byte(`"young"`)
	lease := func() inbox.Lease {
		leases, err := in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
		require.NoError(t, err)
		require.Len(t, leases, 1)
		return leases[0]
	}
	settle := func(l inbox.Lease, v inbox.Verdict) {
		held, err := in.Settle(t.Context(), []inbox.Settlement{{Lease: l, Verdict: v}})
		require.NoError(t, err)
		require.Equal(t, []bool{true}, held)
	}
	replay := func() int {
		n, err := in.Replay(t.Context(), []inbox.Ref{{Tenant: "a", ID: 1}})
		require.NoError(t, err)
		return n
	}
	_, err := in.Put(t.Context(), []inbox.Update{old})
	require.NoError(t, err)
	settle(lease(), inbox.Bury)
	require.NoError(t, db.Exec("DELETE FROM inbox_seen")) // as after a day
	outcomes, err := in.Put(t.Context(), []inbox.Update{young})
	require.NoError(t, err)
	require.Equal(t, []inbox.Outcome{{}}, outcomes)

	require.Zero(t, replay())
	l := lease()
	require.Equal(t, `"young"`, string(l.Raw))
	settle(l, inbox.Done)
	require.Equal(t, 1, replay(), "it was there still")
	require.Equal(t, `"old"`, string(lease().Raw))
}
