package pgstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// What happens between two transactions that are under way at the same time.

func TestWhoReadsTheLogOnMissesNothingThatIsCommittedLater(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Tenants()
	changes := make(chan tenant.Change, 10)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- s.Watch(ctx, func(c tenant.Change) { changes <- c }) }()
	defer func() { cancel(); <-watched }()
	<-changes

	slow := begin(t, url, fmt.Sprintf(`WITH r AS (INSERT INTO %[1]s.tenants (id, bot_id, username, name, token, token_key, status, reason, metadata, version)
			VALUES ('slow', 1, '', '', '', '', 'active', '', '{}', 1) RETURNING id)
		INSERT INTO %[1]s.log (tenant, bot_id, version, actor, action, detail) SELECT id, 1, 1, '', 'test', 'slow' FROM r`, schema))
	done := make(chan error, 1)
	go func() {
		_, err := s.Put(t.Context(), storetest.Record(t, "quick", 2), tenant.Entry{Action: "test", Detail: "quick"})
		done <- err
	}()
	waits := waitBlocked(t, url, slow, done)
	var seen []string
	var f tenant.LogFilter
	readOn := func() {
		page, err := s.Log(t.Context(), f)
		require.NoError(t, err)
		for _, e := range page {
			seen, f.After = append(seen, e.Detail), e.Seq
		}
	}
	readOn()
	require.NoError(t, slow.Commit(t.Context()))
	if waits {
		require.NoError(t, <-done)
	}
	readOn()
	assert.Equal(t, []string{"slow", "quick"}, seen)

	// And who hears of a change finds its entry, and that of every one before.
	assert.Equal(t, "slow", (<-changes).ID)
	assert.Equal(t, "quick", (<-changes).ID)
}

// A record that is created while another of its id is being removed is not taken
// for that one, though the removal left no entry.
func TestVersionsOfARecordThatIsBeingRemovedAreNotUsedAgain(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Tenants()
	_, err := s.Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	execute(t, url, "UPDATE "+schema+".tenants SET version = 7")
	removal := begin(t, url, "DELETE FROM "+schema+".tenants WHERE id = 'a'")
	done := make(chan error, 1)
	var r tenant.Record
	go func() {
		var err error
		r, err = s.Put(t.Context(), storetest.Record(t, "a", 1))
		done <- err
	}()
	require.True(t, waitBlocked(t, url, removal, done))
	require.NoError(t, removal.Commit(t.Context()))
	require.NoError(t, <-done)
	assert.Equal(t, int64(8), r.Version)

	removal = begin(t, url, "DELETE FROM "+schema+".tenants WHERE id = 'a'")
	require.NoError(t, removal.Rollback(t.Context()))
	_, err = s.Put(t.Context(), storetest.Record(t, "a", 1))
	assert.ErrorIs(t, err, errors.Exists)
}

// Schemas of before may have a log that says what was removed.
func TestVersionsOfWhatWasRemovedLongAgoAreNotUsedAgain(t *testing.T) {
	url := address(t)
	schema, ring := newSchema(t, url), keys(t)
	s := open(t, url, schema, ring).Tenants()
	r, err := s.Put(t.Context(), storetest.Record(t, "a", 1), tenant.Entry{Action: "test"})
	require.NoError(t, err)
	r, err = s.Put(t.Context(), r, tenant.Entry{Action: "test"})
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), "a", r.Version))
	toVersion7(t, url, schema)
	anew, err := open(t, url, schema, ring).Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	assert.Equal(t, r.Version+1, anew.Version)
}

// Rows are locked in one order, or two would wait for each other: none that
// comes after the one that is waited for is locked.
func TestTwoWhoStoreHealthDoNotDeadlock(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Tenants()
	health := map[string]string{}
	for i := 40; i >= 0; i-- { // the other way round than they are to be locked
		id := fmt.Sprintf("t%02d", i)
		_, err := s.Put(t.Context(), storetest.Record(t, id, int64(i+1)))
		require.NoError(t, err)
		health[id] = "up"
	}
	other := begin(t, url, "SELECT FROM "+schema+".tenants WHERE id = 't20' FOR UPDATE")
	done := make(chan error, 1)
	go func() { done <- s.SetHealth(t.Context(), health) }()
	require.True(t, waitBlocked(t, url, other, done))
	rows, err := connect(t, url).Query(t.Context(), "SELECT id FROM "+schema+".tenants ORDER BY id FOR UPDATE SKIP LOCKED")
	require.NoError(t, err)
	free, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var want []string
	for i := 21; i <= 40; i++ {
		want = append(want, fmt.Sprintf("t%02d", i))
	}
	assert.Equal(t, want, free)
	require.NoError(t, other.Rollback(t.Context()))
	require.NoError(t, <-done)
}

func TestCloseEndsThoseWhoWatch(t *testing.T) {
	url := address(t)
	pool := newPool(t, url)
	db, err := pgstore.New(t.Context(), pool, pgstore.Config{Keys: keys(t), Schema: newSchema(t, url)})
	require.NoError(t, err)
	s := db.Tenants()
	const watchers = 3
	begun, done, release := make(chan struct{}, watchers), make(chan error, watchers), make(chan struct{})
	for range watchers {
		go func() {
			done <- s.Watch(context.WithoutCancel(t.Context()), func(tenant.Change) {
				begun <- struct{}{}
				<-release // one who watches has something to do yet
			})
		}()
	}
	for range watchers {
		<-begun
	}
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case <-closed:
		t.Fatal("Close has not waited")
	case <-time.After(50 * time.Millisecond): // more would only find more
	}
	close(release)
	require.NoError(t, <-closed)
	for range watchers {
		err := <-done
		assert.ErrorIs(t, err, errors.Closed)
		assert.ErrorContains(t, err, "the database was closed")
	}
	assert.ErrorIs(t, s.Watch(t.Context(), func(tenant.Change) { t.Error("called") }), errors.Closed)
	require.NoError(t, pool.Ping(t.Context()), "a pool of the caller's stays open")
}

func TestPagesAreBoundedInBytes(t *testing.T) {
	url := address(t)
	s := open(t, url, newSchema(t, url), keys(t)).Tenants()
	const n = 14
	for i := range n {
		r := storetest.Record(t, fmt.Sprintf("t%02d", i), int64(i+1))
		r.Metadata = map[string]string{"": strings.Repeat("x", tenant.MaxMetadata)}
		if i == 12 {
			r.Reason = strings.Repeat("y", 20<<20) // larger than a page
		}
		_, err := s.Put(t.Context(), r)
		require.NoError(t, err)
	}
	var pages []int
	var f tenant.Filter
	for {
		page, err := s.List(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		pages = append(pages, len(page))
		f.After = page[len(page)-1].ID
	}
	assert.Equal(t, []int{8, 5, 1}, pages)
	f = tenant.Filter{After: "t11", Limit: 1}
	page, err := s.List(t.Context(), f)
	require.NoError(t, err)
	assert.Len(t, page, 1)
}

func TestPagesOfTheLogAreBounded(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Tenants()
	execute(t, url, "INSERT INTO "+schema+".log (tenant, bot_id, version, actor, action, detail) SELECT 'a', 1, 1, '', 'test', '' FROM generate_series(1, 5000)")
	f := tenant.LogFilter{Tenant: "a", Limit: 1 << 40}
	var pages []int
	for {
		page, err := s.Log(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		pages = append(pages, len(page))
		f.After = page[len(page)-1].Seq
	}
	assert.Equal(t, []int{4096, 904}, pages)
	n, err := s.PruneLog(t.Context(), time.Now(), 1000)
	require.NoError(t, err)
	assert.Equal(t, 1000, n)
}
