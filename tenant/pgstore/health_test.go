package pgstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
)

func BenchmarkHealth(b *testing.B) {
	url := address(b)
	healthtest.BenchmarkStore(b, func(t testing.TB) health.Store { return open(t, url, newSchema(t, url), keys(t)).Health() })
}

func requestsOf(t *testing.T, s health.Store) map[string]uint64 {
	t.Helper()
	page, err := s.Load(t.Context(), "", 0)
	require.NoError(t, err)
	all := make(map[string]uint64)
	for _, snap := range page {
		all[snap.Tenant] = snap.Requests
	}
	return all
}

// Wherever a flush's connection is cut, it is there whole or not at all; and
// repeated, once. That includes the answer to its commit.
func TestAFlushThatIsCutAtAnyByteAndRepeatedCountsOnce(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	ring := keys(t)
	direct := open(t, url, schema, ring).Health()
	p := newProxy(t, url)
	via := open(t, withParam(through(t, url, p), "pool_max_conns=1"), schema, ring).Health()
	seq := uint64(0)
	flush := func() {
		for {
			err := via.Merge(t.Context(), health.Flush{Writer: "w", Seq: seq + 1}, []health.Snapshot{
				{Tenant: "b", Requests: 1}, {Tenant: "a", Requests: 1}, {Tenant: fmt.Sprint("new ", seq%7), Requests: 1},
			})
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errors.StoreUnavailable)
			got := requestsOf(t, direct)
			require.Equal(t, got["a"], got["b"])
		}
		seq++
		got := requestsOf(t, direct)
		require.Equal(t, seq, got["a"])
		require.Equal(t, seq, got["b"])
		require.Equal(t, 1+(seq-1)/7, got[fmt.Sprint("new ", (seq-1)%7)])
	}
	for _, answers := range []bool{false, true} {
		flush() // connected and prepared
		p.cutAfter(-1, answers)
		flush()
		length := p.bytes()
		require.Positive(t, length)
		for at := int64(0); at < length; at += 1 + length/60 {
			if at%3 == 0 {
				require.NoError(t, direct.Delete(t.Context(), fmt.Sprint("new ", seq%7), time.Time{}))
				require.NoError(t, direct.Merge(t.Context(), health.Flush{Writer: fmt.Sprint(answers, at), Seq: 1},
					[]health.Snapshot{{Tenant: fmt.Sprint("new ", seq%7), Requests: seq / 7}}))
			}
			p.cutAfter(at, answers)
			flush()
		}
	}
}

// A replica that vanishes without a word in mid-transaction, as one whose
// network is gone, does not keep the others from its rows.
func TestATransactionThatIsLeftAloneIsEnded(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	ring := keys(t)
	direct := open(t, url, schema, ring).Health()
	p := newProxy(t, url)
	db := open(t, withParam(through(t, url, p), "pool_max_conns=1"), schema, ring)
	db.SetIdleLimit(100 * time.Millisecond)
	snaps := []health.Snapshot{{Tenant: "a", Requests: 1}}
	merge := func(ctx context.Context, s *pgstore.Health, seq uint64) error {
		return s.Merge(ctx, health.Flush{Writer: "w", Seq: seq}, snaps)
	}
	require.NoError(t, merge(t.Context(), db.Health(), 1))
	require.NoError(t, merge(t.Context(), db.Health(), 2)) // all is prepared now
	p.cutAfter(-1, false)
	require.NoError(t, merge(t.Context(), db.Health(), 3))
	const commit = int64(len("Q\x00\x00\x00\x0bcommit\x00"))
	p.freezeAfter(p.bytes() - commit) // when the rows are locked and written
	done := make(chan error, 1)
	go func() { done <- merge(t.Context(), db.Health(), 4) }()
	p.waitFrozen(t)
	assert.NoError(t, merge(t.Context(), direct, 4))
	assert.EqualValues(t, 4, requestsOf(t, direct)["a"])
	p.cut()
	assert.NoError(t, <-done, "repeated: it was applied")
	assert.EqualValues(t, 4, requestsOf(t, direct)["a"])
}

// Each of these rows is made by one of the writers while the others have found
// it missing.
func TestWritersThatMakeTheSameRowsAtOnceLoseNothing(t *testing.T) {
	url := address(t)
	db := open(t, withParam(url, "pool_max_conns=8"), newSchema(t, url), keys(t))
	const writers, rounds, rows = 6, 10, 20
	for round := range rounds {
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				var snaps []health.Snapshot
				var rollups []usage.Rollup
				for i := range rows {
					id := fmt.Sprintf("%d %d", round, (i*7+w*3)%rows)
					snaps = append(snaps, health.Snapshot{Tenant: id, Requests: 1})
					rollups = append(rollups, usage.Rollup{Tenant: id, Start: time.Unix(0, 0).UTC(), Requests: 1, Daily: i%2 == 0})
				}
				flush := health.Flush{Writer: fmt.Sprint("h", w), Seq: uint64(round + 1)}
				assert.NoError(t, db.Health().Merge(t.Context(), flush, snaps))
				flush.Writer = fmt.Sprint("u", w)
				assert.NoError(t, db.Usage().Add(t.Context(), flush, rollups))
			})
			if w%2 == 0 {
				wg.Go(func() { assert.NoError(t, db.Health().Delete(t.Context(), fmt.Sprint("none ", w), time.Time{})) })
			}
		}
		wg.Wait()
	}
	got := requestsOf(t, db.Health())
	require.Len(t, got, rounds*rows)
	for id, n := range got {
		assert.EqualValues(t, writers, n, id)
		list, err := db.Usage().Range(t.Context(), id, time.Unix(0, 0), time.Unix(1, 0))
		require.NoError(t, err)
		n := uint64(0)
		for _, r := range list {
			n += r.Requests
		}
		assert.EqualValues(t, writers, n, id)
	}
}

// A tenant that is removed while others write to it is gone or begins anew, and
// nobody waits for ever.
func TestRowsThatAreRemovedMeanwhileAreMadeAgain(t *testing.T) {
	url := address(t)
	db := open(t, withParam(url, "pool_max_conns=8"), newSchema(t, url), keys(t))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for seq := range 60 {
				flush := health.Flush{Writer: fmt.Sprint("h", w), Seq: uint64(seq + 1)}
				assert.NoError(t, db.Health().Merge(t.Context(), flush, []health.Snapshot{{Tenant: "b"}, {Tenant: "a"}, {Tenant: "c"}}))
				flush.Writer = fmt.Sprint("u", w)
				var rollups []usage.Rollup
				for i := range 5 {
					rollups = append(rollups, usage.Rollup{Tenant: "a", Start: time.Unix(int64(w+i)%5*86400, 0).UTC(), Daily: i%2 == 0})
				}
				assert.NoError(t, db.Usage().Add(t.Context(), flush, rollups))
			}
		})
	}
	for range 60 {
		assert.NoError(t, db.Health().Delete(t.Context(), "a", time.Time{}))
		assert.NoError(t, db.Usage().Delete(t.Context(), "a", time.Time{}))
		_, err := db.Usage().Compact(t.Context(), time.Unix(1e9, 0), 3)
		assert.NoError(t, err)
		_, err = db.Usage().Prune(t.Context(), time.Unix(1e9, 0), 3)
		assert.NoError(t, err)
	}
	wg.Wait()
}

func TestWritersAreForgottenAfterAWhile(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Health()
	for _, w := range []string{"old", "young"} {
		require.NoError(t, s.Merge(t.Context(), health.Flush{Writer: w, Seq: 5}, nil))
	}
	execute(t, url, "UPDATE "+schema+".flushes SET at = now() - $1::interval WHERE writer = 'old'", health.FlushMemory+time.Minute)
	execute(t, url, "UPDATE "+schema+".flushes SET at = now() - $1::interval WHERE writer = 'young'", health.FlushMemory-time.Minute)
	require.NoError(t, s.Merge(t.Context(), health.Flush{Writer: "new", Seq: 1}, nil))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT writer FROM "+schema+".flushes ORDER BY writer")
	require.NoError(t, err)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	assert.Equal(t, []string{"new", "young"}, left)
}

// What an operator or a newer version has written and this one does not
// understand is an error that names the tenant, and it stays as it is.
func TestARowThatIsNotUnderstoodIsKept(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	db := open(t, url, schema, keys(t))
	require.NoError(t, db.Health().Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{{Tenant: "a"}}))
	execute(t, url, "UPDATE "+schema+`.health SET data = '{"requests": "many"}' WHERE tenant = 'a'`)
	_, err := db.Health().Load(t.Context(), "", 0)
	e, ok := errors.AsType[*errors.Error](err)
	require.True(t, ok)
	assert.Equal(t, errors.Internal, e.Kind)
	assert.Equal(t, "a", e.Key)
	flush := health.Flush{Writer: "w", Seq: 2}
	assert.ErrorIs(t, db.Health().Merge(t.Context(), flush, []health.Snapshot{{Tenant: "b"}, {Tenant: "a"}}), errors.Internal)
	execute(t, url, "UPDATE "+schema+`.health SET data = '{"requests": 7}' WHERE tenant = 'a'`)
	require.NoError(t, db.Health().Merge(t.Context(), flush, []health.Snapshot{{Tenant: "b"}, {Tenant: "a", Requests: 1}}))
	assert.Equal(t, map[string]uint64{"a": 8, "b": 0}, requestsOf(t, db.Health()))
}

// At a fleet's size no statement that is run often may read a whole table.
func TestStatementsUseTheIndexes(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	db := open(t, url, schema, keys(t))
	for seq := range 10 {
		var snaps []health.Snapshot
		var rollups []usage.Rollup
		for i := range 500 {
			id := fmt.Sprint("tenant ", seq*500+i)
			snaps = append(snaps, health.Snapshot{Tenant: id, Suspension: &health.Suspension{Reason: strings.Repeat("x", 500)}})
			rollups = append(rollups, usage.Rollup{Tenant: id, Start: time.Unix(int64(i)*3600, 0).UTC(), Methods: []usage.MethodCount{{Method: strings.Repeat("x", 64)}}})
		}
		flush := health.Flush{Writer: "w", Seq: uint64(seq + 1)}
		require.NoError(t, db.Health().Merge(t.Context(), flush, snaps))
		flush.Writer = "v"
		require.NoError(t, db.Usage().Add(t.Context(), flush, rollups))
	}
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), fmt.Sprintf("ANALYZE %[1]s.health; ANALYZE %[1]s.rollups", schema))
	require.NoError(t, err)
	for i, sql := range db.Statements() {
		name := fmt.Sprint("p", i)
		_, err = conn.Exec(t.Context(), "SET plan_cache_mode = force_generic_plan; PREPARE "+name+" AS "+sql)
		require.NoError(t, err, sql)
		nulls := strings.TrimSuffix(strings.Repeat("NULL, ", strings.Count(strings.Join(parameters(sql), ""), "$")), ", ")
		rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE "+name+"("+nulls+")")
		require.NoError(t, err, sql)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, sql)
		for _, line := range plan {
			assert.False(t, strings.Contains(line, "Seq Scan on "), "%s\n%s", sql, strings.Join(plan, "\n"))
		}
	}
}

// parameters returns the parameters of a statement, each once.
func parameters(sql string) (all []string) {
	for i := 1; ; i++ {
		p := fmt.Sprint("$", i)
		if !strings.Contains(sql, p) {
			return all
		}
		all = append(all, p)
	}
}
