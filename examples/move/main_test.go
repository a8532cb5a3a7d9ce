package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/examples/internal/database/databasetest"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tenants is how many move in the test: more than a page. A fleet of 10,000 takes
// many times as long and shows no more.
var tenants = flag.Int("tenants", 600, "how many tenants are moved, at least 550")

func TestTenantsMoveFromSQLiteToPostgreSQL(t *testing.T) {
	n := *tenants
	url := databasetest.Schema(t, "tgfleet_move_")
	t.Setenv(database.KeysVariable, "")
	dir := t.TempDir()
	file := filepath.Join(dir, "fleet.db")
	t.Chdir(dir) // where the keys of the PostgreSQL come to be
	source, err := database.Open(t.Context(), file, "")
	require.NoError(t, err)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				r := storetest.Record(t, fmt.Sprintf("tenant-%d", i), i)
				r.Status = tenant.Status(i % 3)
				r.Metadata = map[string]string{"n": fmt.Sprint(i)}
				_, err := source.Tenants.Put(context.Background(), r)
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	hour := time.Now().UTC().Truncate(time.Hour)
	var snapshots []health.Snapshot
	var rollups []usage.Rollup
	for i := range 550 {
		id := fmt.Sprintf("tenant-%d", i+1)
		snapshots = append(snapshots, health.Snapshot{Tenant: id, Requests: uint64(i + 1), LastSuccess: hour})
		rollups = append(rollups, usage.Rollup{Tenant: id, Start: hour, Requests: uint64(i + 1)},
			usage.Rollup{Tenant: id, Start: hour.Add(-90 * 24 * time.Hour).Truncate(24 * time.Hour), Daily: true, Requests: 7})
	}
	require.NoError(t, source.Health.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, snapshots))
	require.NoError(t, source.Usage.Add(t.Context(), health.Flush{Writer: "u", Seq: 1}, rollups))
	for i := 0; i < 520; i += 26 {
		r := storetest.Record(t, "", int64(i+1))
		proof := ownership.Proof{Tenant: fmt.Sprintf("tenant-%d", i+1), BotID: r.BotID, User: int64(5000 + i), Method: ownership.ByChallenge, At: hour, Hash: []byte("hash")}
		require.NoError(t, source.Owners.Prove(t.Context(), proof))
	}
	require.NoError(t, source.Close())

	var out bytes.Buffer
	start := time.Now()
	require.NoError(t, run(t.Context(), []string{"-from", file, "-to", url}, &out, os.Stderr))
	t.Logf("moved in %v", time.Since(start).Round(time.Millisecond))
	assert.Equal(t, fmt.Sprintf("%d tenants moved, 0 were there, 0 could not be stored\nhealth of 550 tenants and 1100 hours and days of usage moved\n20 proofs of ownership moved\n", n), out.String())
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"-from", file, "-to", url}, &out, os.Stderr))
	assert.Equal(t, fmt.Sprintf("0 tenants moved, %d were there, 0 could not be stored\nhealth of 0 tenants and 0 hours and days of usage moved\n0 proofs of ownership moved\n", n), out.String())

	target, err := database.Open(t.Context(), url, "")
	require.NoError(t, err)
	all, err := target.Tenants.List(t.Context(), tenant.Filter{Limit: 2 * n})
	require.NoError(t, err)
	known, err := target.Health.Load(t.Context(), "", 2*n)
	require.NoError(t, err)
	require.Len(t, known, 550)
	for _, s := range known {
		assert.Equal(t, "tenant-"+fmt.Sprint(s.Requests), s.Tenant)
		assert.Equal(t, hour, s.LastSuccess.UTC())
	}
	done, err := target.Usage.Range(t.Context(), "tenant-42", hour.AddDate(-1, 0, 0), hour.Add(time.Hour))
	require.NoError(t, err)
	require.Len(t, done, 2)
	assert.Equal(t, []uint64{7, 42}, []uint64{done[0].Requests, done[1].Requests})
	for i := 0; i < 520; i += 26 {
		p, err := target.Owners.Proof(t.Context(), fmt.Sprintf("tenant-%d", i+1))
		require.NoError(t, err)
		p.At = p.At.UTC()
		require.Equal(t, ownership.Proof{Tenant: fmt.Sprintf("tenant-%d", i+1), BotID: int64(i + 1), User: int64(5000 + i), Method: ownership.ByChallenge, At: hour, Hash: []byte("hash")}, p)
	}
	require.NoError(t, target.Close())
	require.Len(t, all, n)
	seen := map[int64]bool{}
	for _, r := range all {
		require.NoError(t, r.TokenErr)
		want := storetest.Record(t, r.ID, r.BotID)
		require.True(t, want.Token.Equal(r.Token))
		require.Equal(t, fmt.Sprint(r.BotID), r.Metadata["n"])
		require.Equal(t, tenant.Status(r.BotID%3), r.Status)
		require.Equal(t, want.CreatedAt, r.CreatedAt)
		seen[r.BotID] = true
	}
	assert.Len(t, seen, n)
}

func TestNothingIsCreatedWhereThereIsNothingToMove(t *testing.T) {
	dir := t.TempDir()
	err := run(t.Context(), []string{"-from", filepath.Join(dir, "none.db"), "-to", filepath.Join(dir, "new.db")}, os.Stdout, os.Stderr)
	assert.ErrorIs(t, err, os.ErrNotExist)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Error(t, run(t.Context(), nil, os.Stdout, os.Stderr))
}

// A tenant of the target that only has the name of one of the source's does not
// get what that one's bot has done.
func TestAnotherTenantOfTheSameNameGetsNothing(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")}
	hour := time.Now().UTC().Truncate(time.Hour)
	for i, file := range files {
		db, err := database.Open(t.Context(), file, "")
		require.NoError(t, err)
		_, err = db.Tenants.Put(t.Context(), storetest.Record(t, "shop", int64(i+1)))
		require.NoError(t, err)
		if i == 0 {
			_, err = db.Tenants.Put(t.Context(), storetest.Record(t, "other", 3))
			require.NoError(t, err)
			for n, id := range []string{"shop", "other", "gone"} {
				seq := uint64(n + 1)
				require.NoError(t, db.Health.Merge(t.Context(), health.Flush{Writer: "w", Seq: seq}, []health.Snapshot{{Tenant: id, Requests: 5}}))
				require.NoError(t, db.Usage.Add(t.Context(), health.Flush{Writer: "u", Seq: seq}, []usage.Rollup{{Tenant: id, Start: hour, Requests: 5}}))
				require.NoError(t, db.Owners.Prove(t.Context(), ownership.Proof{Tenant: id, BotID: 1, User: 5, Method: ownership.ByManager, At: hour}))
			}
		}
		require.NoError(t, db.Close())
	}
	var out bytes.Buffer
	err := run(t.Context(), []string{"-from", files[0], "-to", files[1]}, &out, os.Stderr)
	assert.Error(t, err, "one could not be stored")
	assert.Equal(t, "1 tenants moved, 0 were there, 1 could not be stored\nhealth of 1 tenants and 1 hours and days of usage moved\n1 proofs of ownership moved\n", out.String())
	db, err := database.Open(t.Context(), files[1], "")
	require.NoError(t, err)
	known, err := db.Health.Load(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, known, 1)
	assert.Equal(t, "other", known[0].Tenant)
	done, err := db.Usage.Range(t.Context(), "shop", hour, hour.Add(time.Hour))
	require.NoError(t, err)
	assert.Empty(t, done)
	require.NoError(t, db.Close())
}

// A proof that the target has is not replaced.
func TestAProofThatIsThereStays(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")}
	for i, file := range files {
		db, err := database.Open(t.Context(), file, "")
		require.NoError(t, err)
		_, err = db.Tenants.Put(t.Context(), storetest.Record(t, "shop", 1))
		require.NoError(t, err)
		require.NoError(t, db.Owners.Prove(t.Context(), ownership.Proof{Tenant: "shop", BotID: 1, User: int64(i + 1), Method: ownership.ByManager, At: time.Now()}))
		require.NoError(t, db.Close())
	}
	require.NoError(t, run(t.Context(), []string{"-from", files[0], "-to", files[1]}, io.Discard, os.Stderr))
	db, err := database.Open(t.Context(), files[1], "")
	require.NoError(t, err)
	p, err := db.Owners.Proof(t.Context(), "shop")
	require.NoError(t, err)
	assert.Equal(t, int64(2), p.User)
	require.NoError(t, db.Close())
}

func TestUpdatesThatWaitAreNotLeftBehindUnasked(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	source := func(f func(in inbox.Inbox)) {
		db, err := database.Open(t.Context(), from, "")
		require.NoError(t, err)
		f(db.Inbox)
		require.NoError(t, db.Close())
	}
	move := func(args ...string) (stderr string, err error) {
		var said bytes.Buffer
		err = run(t.Context(), append([]string{"-from", from, "-to", to}, args...), io.Discard, &said)
		return said.String(), err
	}
	source(func(in inbox.Inbox) {
		var all []inbox.Update
		for id := range int64(3) {
			all = append(all, inbox.Update{Tenant: "shop", ID: id + 1, Kind: "message", Chat: fmt.Sprint(id), Raw: []byte("{}"), ReceivedAt: time.Now()})
		}
		_, err := in.Put(t.Context(), all)
		require.NoError(t, err)
		_, err = in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour}) // which one that was killed had
		require.NoError(t, err)
	})
	_, err := move()
	assert.ErrorContains(t, err, "3 updates wait")
	assert.NoFileExists(t, to, "nothing was begun")
	said, err := move("-leave-updates")
	require.NoError(t, err)
	assert.Equal(t, "3 updates that wait to be handled are left behind\n", said)

	source(func(in inbox.Inbox) {
		require.NoError(t, in.Forget(t.Context(), "shop"))
		_, err := in.Put(t.Context(), []inbox.Update{{Tenant: "shop", ID: 9, Kind: "message", Chat: "1", Raw: []byte("{}"), ReceivedAt: time.Now()}})
		require.NoError(t, err)
		leases, err := in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
		require.NoError(t, err)
		_, err = in.Settle(t.Context(), []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Bury}})
		require.NoError(t, err)
	})
	said, err = move()
	require.NoError(t, err)
	assert.Equal(t, "1 dead letters are left behind\n", said)
}
