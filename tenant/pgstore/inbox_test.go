package pgstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

func openInbox(t testing.TB, url, schema string, keys *seal.Ring, cfg inboxtest.Config) *pgstore.Inbox {
	t.Helper()
	db := openWithInbox(t, url, schema, keys, cfg)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db.Inbox()
}

func openWithInbox(t testing.TB, url, schema string, keys *seal.Ring, cfg inboxtest.Config) *pgstore.DB {
	t.Helper()
	db, err := pgstore.Open(context.Background(), withParam(url, "pool_max_conns=5"), pgstore.Config{
		Keys: keys, Schema: schema, Inbox: pgstore.InboxConfig{
			MaxUpdates: cfg.MaxUpdates, MaxPerTenant: cfg.MaxPerTenant, MaxDeadPerTenant: cfg.MaxDeadPerTenant,
		},
	})
	require.NoError(t, err)
	return db
}

// age moves all times of an inbox into the past.
func age(t testing.TB, url, schema string, d time.Duration) {
	s := pgx.Identifier{schema}.Sanitize()
	const timed = 1_000_000_000_000 // what is less is a place in the queue
	us := d.Microseconds()
	// Who changes something about a chat's updates holds its lock, and takes
	// those of several in this order.
	execute(t, url, strings.ReplaceAll(`WITH c AS MATERIALIZED (SELECT tenant, chat FROM s.inbox_chats ORDER BY tenant, chat FOR UPDATE),
		u AS (UPDATE s.inbox_updates AS u SET expires_at = expires_at - $1::bigint * interval '1 microsecond'
			FROM c WHERE u.tenant = c.tenant AND u.chat = c.chat AND u.expires_at IS NOT NULL)
		UPDATE s.inbox_chats AS q SET at = at - $1::bigint FROM c WHERE q.tenant = c.tenant AND q.chat = c.chat AND q.at > $2`, "s.", s+"."),
		us, int64(timed))
	execute(t, url, "UPDATE "+s+".inbox_dead SET expires_at = expires_at - $1::bigint * interval '1 microsecond', died_at = died_at - $1::bigint * interval '1 microsecond'", us)
	if hours := int64(d / time.Hour); hours > 0 {
		execute(t, url, "UPDATE "+s+".inbox_seen SET hour = hour - $1", hours)
	}
}

func TestInboxKeepsTheContract(t *testing.T) {
	url, ring := address(t), keys(t)
	schema := newSchema(t, url) // one for all, since it takes longer to make than most tests
	last := open(t, url, schema, ring)
	t.Cleanup(func() { require.NoError(t, last.Close()) })
	inboxtest.Run(t, inboxtest.Harness{
		New: func(t *testing.T, cfg inboxtest.Config) inbox.Inbox {
			execute(t, url, strings.ReplaceAll("TRUNCATE s.inbox_updates, s.inbox_chats, s.inbox_seen, s.inbox_dead", "s.", schema+"."))
			// The model asks for a hundred in one test, which the server has no
			// connections for.
			require.NoError(t, last.Close())
			last = openWithInbox(t, url, schema, ring, cfg)
			return last.Inbox()
		},
		Another: func(t *testing.T, _ inbox.Inbox, cfg inboxtest.Config) inbox.Inbox {
			return openInbox(t, url, schema, ring, cfg)
		},
		Advance: func(t *testing.T, _ inbox.Inbox, d time.Duration) { age(t, url, schema, d) },
	})
}

func message(tenant, chat string, id int64) inbox.Update {
	return inbox.Update{Tenant: tenant, ID: id, Kind: "message", Chat: chat, Raw: []byte("{}"), ReceivedAt: time.Now()}
}

func TestAnotherProcessesWorkersAreWoken(t *testing.T) {
	url, ring := address(t), keys(t)
	schema := newSchema(t, url)
	a, b := openInbox(t, url, schema, ring, inboxtest.Config{}), openInbox(t, url, schema, ring, inboxtest.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for id := int64(1); ; id++ { // the first may come before anybody listens
		woken := b.Wake()
		_, err := a.Put(ctx, []inbox.Update{message("a", "1", id)})
		require.NoError(t, err)
		select {
		case <-woken:
		case <-time.After(100 * time.Millisecond):
			continue
		case <-ctx.Done():
			t.Fatal("never woken")
		}
		if id > 20 {
			return
		}
	}
}

func TestWhatPostgreSQLCantStoreIsRefusedAlone(t *testing.T) {
	url := address(t)
	in := openInbox(t, url, newSchema(t, url), keys(t), inboxtest.Config{})
	outcomes, err := in.Put(t.Context(), []inbox.Update{message("a", "1", 1), message("a", "\x00", 2), message("\xff", "1", 3)})
	require.NoError(t, err)
	require.NoError(t, outcomes[0].Err)
	require.ErrorIs(t, outcomes[1].Err, errors.BadRequest)
	require.ErrorIs(t, outcomes[2].Err, errors.BadRequest)
	leases, err := in.Lease(t.Context(), inbox.Want{Limit: 9, TTL: time.Hour, PerTenant: 3, Held: map[string]int{"\xff": 1, "\x00": 2}})
	require.NoError(t, err)
	require.Len(t, leases, 1)
	held, err := in.Settle(t.Context(), []inbox.Settlement{
		{Lease: inbox.Lease{Update: message("\x00", "1", 1), Token: 1}, Verdict: inbox.Done},
		{Lease: leases[0], Verdict: inbox.Bury, Reason: "nul \x00 and \xff"},
	})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, held)
	dead, err := in.Dead(t.Context(), inbox.DeadFilter{})
	require.NoError(t, err)
	require.Equal(t, "nul ? and ?", dead[0].Reason)
	require.NoError(t, in.Forget(t.Context(), "\x00"))
}

// Two processes put the same updates of many tenants at the same time, each in
// an order of its own: every id is new once, and nobody waits for ever.
func TestTheSameUpdatesFromTwoProcessesAreStoredOnce(t *testing.T) {
	url, ring := address(t), keys(t)
	schema := newSchema(t, url)
	inboxes := []inbox.Inbox{openInbox(t, url, schema, ring, inboxtest.Config{}), openInbox(t, url, schema, ring, inboxtest.Config{})}
	const rounds, many = 20, 60
	var stored atomic.Int64
	var wg sync.WaitGroup
	for n, in := range inboxes {
		for g := range 3 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(n), uint64(g)))
				for round := range rounds {
					var batch []inbox.Update
					for _, i := range r.Perm(many) {
						batch = append(batch, message(fmt.Sprint("tenant", i%7), fmt.Sprint(i%11), int64(round*many+i+1)))
					}
					outcomes, err := in.Put(t.Context(), batch)
					if !assert.NoError(t, err) {
						return
					}
					for _, o := range outcomes {
						assert.NoError(t, o.Err)
						if !o.Duplicate {
							stored.Add(1)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	assert.EqualValues(t, rounds*many, stored.Load())
	d, err := inboxes[0].Depth(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, rounds*many, d.Waiting)
}

func TestPagesOfDeadLettersAreBoundedInBytes(t *testing.T) {
	url := address(t)
	in := openInbox(t, url, newSchema(t, url), keys(t), inboxtest.Config{})
	const n = 10
	for id := range int64(n) {
		u := message("a", fmt.Sprint(id), id+1)
		u.Raw = []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
		_, err := in.Put(t.Context(), []inbox.Update{u})
		require.NoError(t, err)
	}
	leases, err := in.Lease(t.Context(), inbox.Want{Limit: n, TTL: time.Hour})
	require.NoError(t, err)
	var buried []inbox.Settlement
	for _, l := range leases {
		buried = append(buried, inbox.Settlement{Lease: l, Verdict: inbox.Bury})
	}
	_, err = in.Settle(t.Context(), buried)
	require.NoError(t, err)
	var pages []int
	var f inbox.DeadFilter
	for {
		page, err := in.Dead(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		pages = append(pages, len(page))
		f.After = page[len(page)-1].Ref()
	}
	assert.Equal(t, []int{8, 2}, pages)
}
