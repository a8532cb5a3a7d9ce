package pgstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// place is where a store is.
type place struct {
	db          *pgstore.DB
	url, schema string
}

type opened struct {
	mu     sync.Mutex
	places map[tenant.Store]place
}

func (o *opened) open(t *testing.T, url, direct, schema string, keys *seal.Ring) tenant.Store {
	db := open(t, url, schema, keys)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.places[db.Tenants()] = place{db, direct, schema}
	return db.Tenants()
}

func TestStore(t *testing.T) {
	url := address(t)
	o := &opened{places: map[tenant.Store]place{}}
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, keys *seal.Ring) tenant.Store {
			return o.open(t, url, url, newSchema(t, url), keys)
		},
		Again: func(t *testing.T, s tenant.Store, keys *seal.Ring) tenant.Store {
			p := o.places[s]
			return o.open(t, p.url, p.url, p.schema, keys)
		},
		Rows:   func(s tenant.Store) seal.Rows { return o.places[s].db },
		Health: func(s tenant.Store) health.Store { return o.places[s].db.Health() },
		Usage:  func(s tenant.Store) usage.Store { return o.places[s].db.Usage() },
		Dump:   func(t *testing.T, s tenant.Store) []byte { return dump(t, url, o.places[s].schema) },
		Faults: []storetest.Fault{
			{Name: "connections are cut in mid-transaction", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				p := newProxy(t, url)
				s := o.open(t, through(t, url, p), url, newSchema(t, url), keys)
				return s, func() func() {
					stop := make(chan struct{})
					var wg sync.WaitGroup
					wg.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
								p.cutAfter(rand.Int64N(5000), rand.N(2) == 0)
								p.cut()
							}
						}
					})
					return func() {
						close(stop)
						wg.Wait()
						p.cutAfter(-1, false)
					}
				}
			}},
			{Name: "no connection is made", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				p := newProxy(t, url)
				s := o.open(t, through(t, url, p), url, newSchema(t, url), keys)
				return s, func() func() {
					p.setRefuse(true)
					return func() { p.setRefuse(false) }
				}
			}},
			{Name: "the server ends the connections", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				schema := newSchema(t, url)
				s := o.open(t, withParam(url, "application_name="+schema), url, schema, keys)
				return s, func() func() {
					stop := make(chan struct{})
					var wg sync.WaitGroup
					wg.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
								execute(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", schema)
							}
						}
					})
					return func() { close(stop); wg.Wait() }
				}
			}},
			{Name: "the database is read only", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				schema := newSchema(t, url)
				role := schema + "_role"
				execute(t, url, "CREATE ROLE "+role+" LOGIN SUPERUSER")
				t.Cleanup(func() { execute(t, url, "DROP ROLE "+role) })
				t.Cleanup(func() { execute(t, url, "DROP SCHEMA "+schema+" CASCADE") }) // which the role owns
				cfg, err := pgxpool.ParseConfig(url)
				require.NoError(t, err)
				cfg.ConnConfig.User = role
				cfg.MaxConns = 5
				pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
				require.NoError(t, err)
				t.Cleanup(pool.Close)
				db, err := pgstore.New(t.Context(), pool, pgstore.Config{Keys: keys, Schema: schema})
				require.NoError(t, err)
				o.mu.Lock()
				o.places[db.Tenants()] = place{db, url, schema}
				o.mu.Unlock()
				return db.Tenants(), func() func() {
					execute(t, url, "ALTER ROLE "+role+" SET default_transaction_read_only = on")
					pool.Reset()
					return func() {
						execute(t, url, "ALTER ROLE "+role+" RESET default_transaction_read_only")
						pool.Reset()
					}
				}
			}},
			{Name: "the server restarts", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				srv := newServer(t)
				s := o.open(t, srv.url(), srv.url(), "tgfleet", keys)
				return s, func() func() {
					srv.run(t, "pg_ctl", "stop", "--pgdata="+srv.dir, "--mode=fast", "--wait")
					return func() { srv.start(t) }
				}
			}},
			{Name: "the server crashes", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				srv := newServer(t)
				s := o.open(t, srv.url(), srv.url(), "tgfleet", keys)
				return s, func() func() {
					srv.run(t, "pg_ctl", "stop", "--pgdata="+srv.dir, "--mode=immediate", "--wait")
					return func() { srv.start(t) }
				}
			}},
		},
	})
}

// dump returns a schema as pg_dump writes it, or where there is none all rows
// of all tables.
func dump(t *testing.T, url, schema string) []byte {
	if program, err := exec.LookPath("pg_dump"); err == nil {
		out, err := exec.Command(program, "--schema="+schema, url).Output()
		require.NoError(t, err)
		// bytea is written in hexadecimal, which would hide anything.
		return append(out, unhex(out)...)
	}
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var all []byte
	for _, table := range []string{"tenants", "log", "migrations", "flushes", "health", "rollups"} {
		rows, err := conn.Query(ctx, "SELECT t::text FROM "+schema+"."+table+" t")
		require.NoError(t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		all = append(all, strings.Join(texts, "\n")...)
	}
	return append(all, unhex(all)...)
}

// unhex returns the bytes of all the hexadecimal strings in a dump.
func unhex(dump []byte) (all []byte) {
	for _, part := range strings.Split(string(dump), `\x`)[1:] {
		var b byte
		for i := 0; i+1 < len(part); i += 2 {
			if _, err := fmt.Sscanf(part[i:i+2], "%02x", &b); err != nil {
				break
			}
			all = append(all, b)
		}
	}
	return all
}

func TestNoSecretInPlansActivityOrTheServersLog(t *testing.T) {
	srv := newServer(t)
	url := srv.url()
	db := open(t, url, "tgfleet", keys(t))
	r, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	r.Reason = "changed"
	_, err = db.Tenants().Put(t.Context(), r)
	require.NoError(t, err)
	_, err = db.Tenants().Put(t.Context(), storetest.Record(t, "b", 1))
	require.ErrorIs(t, err, errors.TokenTaken)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var seen []string
	for _, sql := range []string{
		"EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM tgfleet.tenants WHERE token = (SELECT token FROM tgfleet.tenants WHERE id = 'a')",
		"SELECT query FROM pg_stat_activity WHERE query IS NOT NULL",
		"SELECT t::text FROM tgfleet.tenants t",
		"SELECT most_common_vals::text FROM pg_stats WHERE most_common_vals IS NOT NULL",
	} {
		rows, err := conn.Query(t.Context(), sql)
		require.NoError(t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		seen = append(seen, texts...)
	}
	log, err := os.ReadFile(srv.log())
	require.NoError(t, err)
	all := strings.Join(seen, "\n") + string(log)
	require.Contains(t, string(log), "INSERT INTO", "a log that holds nothing proves nothing")
	require.Contains(t, string(log), "changed")
	_, secret, _ := strings.Cut(r.Token.Reveal(), ":")
	all += string(unhex([]byte(all)))
	assert.NotContains(t, all, secret)
}

// Wherever a change's connection is cut, the change is whole or not there.
func TestAConnectionCutAtAnyByteLeavesAllOrNothing(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	ring := keys(t)
	direct := open(t, url, schema, ring).Tenants()
	p := newProxy(t, url)
	via := open(t, withParam(through(t, url, p), "pool_max_conns=1"), schema, ring).Tenants()
	entry := tenant.Entry{Action: "test"}
	r, err := direct.Put(t.Context(), storetest.Record(t, "a", 1), entry)
	require.NoError(t, err)
	change := func() error {
		var err error
		r, err = direct.Get(t.Context(), "a")
		require.NoError(t, err)
		r.Reason = fmt.Sprint(r.Version + 1)
		_, err = via.Put(t.Context(), r, entry)
		return err
	}
	for _, answers := range []bool{false, true} {
		require.NoError(t, change()) // connected and prepared
		p.cutAfter(-1, answers)
		require.NoError(t, change())
		length := p.bytes()
		require.Positive(t, length)
		made, lost := 0, 0 // in spite of the error, and with it
		for at := int64(0); at < length; at += 1 + length/60 {
			require.NoError(t, change())
			p.cutAfter(at, answers)
			before := r.Version
			err := change()
			got, getErr := direct.Get(t.Context(), "a")
			require.NoError(t, getErr)
			log, getErr := direct.Log(t.Context(), tenant.LogFilter{Limit: 1 << 20})
			require.NoError(t, getErr)
			require.Len(t, log, int(got.Version), "cut at byte %d", at)
			if got.Version > 1 {
				require.Equal(t, fmt.Sprint(got.Version), got.Reason)
			}
			if err != nil {
				require.ErrorIs(t, err, errors.StoreUnavailable)
			} else {
				require.Greater(t, got.Version, before+1, "confirmed and lost")
			}
			if got.Version == r.Version+1 {
				made++
			} else {
				lost++
			}
		}
		// A request that is cut is not carried out; an answer that is cut does
		// not undo what was.
		if answers {
			assert.Zero(t, lost)
		} else {
			assert.Zero(t, made)
		}
	}
}

func TestTenStartsAtOnceMigrateOnce(t *testing.T) {
	url := address(t)
	for range 3 {
		schema := newSchema(t, url)
		ring := keys(t)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				db, err := pgstore.Open(t.Context(), url, pgstore.Config{Keys: ring, Schema: schema})
				if !assert.NoError(t, err) {
					return
				}
				_, err = db.Tenants().Put(t.Context(), storetest.Record(t, fmt.Sprint("t", i), int64(i+1)))
				assert.NoError(t, err)
				assert.NoError(t, db.Close())
			})
		}
		wg.Wait()
		all, err := open(t, url, schema, ring).Tenants().List(t.Context(), tenant.Filter{})
		require.NoError(t, err)
		assert.Len(t, all, 10)
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	ring := keys(t)
	open(t, url, schema, ring)
	execute(t, url, "INSERT INTO "+schema+".migrations (version, name) VALUES (1000, 'future')")
	_, err := pgstore.Open(t.Context(), url, pgstore.Config{Keys: ring, Schema: schema})
	assert.ErrorIs(t, err, pgstore.ErrNewer)
	assert.ErrorContains(t, err, "1000")
}

// A service whose role may not create anything starts on a schema that is up
// to date.
func TestAnUpToDateSchemaNeedsNoRightToCreate(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	ring := keys(t)
	open(t, url, schema, ring)
	role := schema + "_role"
	execute(t, url, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { execute(t, url, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	execute(t, url, "GRANT USAGE ON SCHEMA "+schema+" TO "+role+"; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "+schema+" TO "+role)
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	cfg.ConnConfig.User = role
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	db, err := pgstore.New(t.Context(), pool, pgstore.Config{Keys: ring, Schema: schema})
	require.NoError(t, err)
	_, err = db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1), tenant.Entry{Action: "test"})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.NoError(t, pool.Ping(t.Context()), "a pool of the caller's is not closed")
}

func TestOpenReportsAllThatIsWrongAndNoPassword(t *testing.T) {
	_, err := pgstore.New(t.Context(), nil, pgstore.Config{Schema: `x"; DROP`})
	for _, part := range []string{"pool is nil", "Keys is nil", "Schema"} {
		assert.ErrorContains(t, err, part)
	}
	for _, url := range []string{
		"postgres://user:canarypassword@127.0.0.1:1/x",
		"postgres://user:canarypassword@127.0.0.1:port/x",
		"postgres://user:canarypassword@127.0.0.1:1/x?sslmode=rubbish",
		"host=127.0.0.1 port=1 user=user password=canarypassword sslmode=disable",
		"host=127.0.0.1 port=1 user=user password='canarypassword",
		"host=h password = canarypassword port=x",
		`host=h port=1 password="x canarypassword"`,
		`password=x\ canarypassword host`,
		"canarypassword",
		"postgres://u:can@canarypassword@h:x/db",
		"postgres://user:p%zzcanarypassword@127.0.0.1/db",
		"postgres://u@127.0.0.1:1/db?password=canarypassword&pool_max_conns=x",
	} {
		_, err := pgstore.Open(t.Context(), url, pgstore.Config{Keys: keys(t)})
		require.Error(t, err)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "canarypassword")
		parse, ok := errors.AsType[*pgconn.ParseConfigError](err)
		assert.False(t, ok, "which has the password: %v", parse)
	}
	_, err = pgstore.Open(t.Context(), "postgres://user@h:x/db", pgstore.Config{Keys: keys(t)})
	assert.EqualError(t, err, "open database: internal error: connection string is not understood: invalid port")
	_, err = pgstore.Open(t.Context(), "postgres://user@127.0.0.1:1/x", pgstore.Config{Keys: keys(t)})
	assert.ErrorIs(t, err, errors.StoreUnavailable)
}

func TestAClosedDatabaseSaysSo(t *testing.T) {
	url := address(t)
	db, err := pgstore.Open(t.Context(), url, pgstore.Config{Keys: keys(t), Schema: newSchema(t, url)})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.NoError(t, db.Close())
	_, err = db.Tenants().Get(t.Context(), "a")
	assert.ErrorIs(t, err, errors.Closed)
	_, err = db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	assert.ErrorIs(t, err, errors.Closed)
	assert.ErrorIs(t, db.Tenants().Watch(t.Context(), func(tenant.Change) {}), errors.Closed)
}

func TestAWatchWhoseConnectionBreaksEnds(t *testing.T) {
	url := address(t)
	p := newProxy(t, url)
	s := open(t, through(t, url, p), newSchema(t, url), keys(t)).Tenants()
	begun, done := make(chan struct{}, 1), make(chan error)
	go func() {
		done <- s.Watch(context.WithoutCancel(t.Context()), func(tenant.Change) { begun <- struct{}{} })
	}()
	<-begun
	p.cut()
	assert.ErrorIs(t, <-done, errors.StoreUnavailable)
}

// An operator with a shell is heard like a replica is.
func TestAChangeByHandIsSeen(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Tenants()
	_, err := s.Put(t.Context(), storetest.Record(t, "a b", 1))
	require.NoError(t, err)
	changes := make(chan tenant.Change, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Watch(ctx, func(c tenant.Change) { changes <- c }) }()
	assert.Equal(t, tenant.Change{}, <-changes)
	execute(t, url, "UPDATE "+schema+".tenants SET status = 'suspended', version = version + 1")
	assert.Equal(t, tenant.Change{ID: "a b", Version: 2, Status: tenant.Suspended}, <-changes)
	cancel()
	assert.ErrorIs(t, <-done, errors.Canceled)
	execute(t, url, "UPDATE "+schema+".tenants SET status = 'fine'")
	r, err := s.Get(t.Context(), "a b")
	require.NoError(t, err)
	assert.Equal(t, tenant.Suspended, r.Status, "what is not understood is not taken for active")
}

func TestARowOfAnotherTenantDoesNotOpen(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Tenants()
	for i, id := range []string{"a", "b"} {
		_, err := s.Put(t.Context(), storetest.Record(t, id, int64(i+1)))
		require.NoError(t, err)
	}
	execute(t, url, fmt.Sprintf("UPDATE %[1]s.tenants SET token = (SELECT token FROM %[1]s.tenants WHERE id = 'a') WHERE id = 'b'", schema))
	r, err := s.Get(t.Context(), "b")
	require.NoError(t, err)
	assert.ErrorIs(t, r.TokenErr, seal.ErrAltered)
}

// Poolers in transaction mode want pgx without prepared statements.
func TestStoreWithoutPreparedStatements(t *testing.T) {
	url := address(t)
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, keys *seal.Ring) tenant.Store {
			return open(t, withParam(url, "default_query_exec_mode=simple_protocol"), newSchema(t, url), keys).Tenants()
		},
	})
}

// A newer version of the code may know more than this one.
func TestARowThatIsNotUnderstoodHidesNoOther(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	storetest.NotUnderstood(t, open(t, url, schema, keys(t)).Tenants(), func(set string) {
		execute(t, url, "UPDATE "+schema+".tenants SET "+set)
	})
}

func TestAnyDefaultIsolationWillDo(t *testing.T) {
	url := address(t)
	for _, level := range []string{"repeatable%20read", "serializable"} {
		url, ring, schema := withParam(url, "default_transaction_isolation="+level), keys(t), newSchema(t, url)
		dbs := make([]*pgstore.DB, 6)
		var wg sync.WaitGroup
		for i := range dbs {
			wg.Go(func() {
				var err error
				dbs[i], err = pgstore.Open(t.Context(), withParam(url, "pool_max_conns=2"), pgstore.Config{Keys: ring, Schema: schema})
				assert.NoError(t, err, level)
			})
		}
		wg.Wait()
		for _, db := range dbs {
			require.NotNil(t, db)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
		}
		r, err := dbs[0].Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
		require.NoError(t, err)
		var stored atomic.Int64
		for _, db := range dbs {
			wg.Go(func() {
				if _, err := db.Tenants().Put(t.Context(), r, tenant.Entry{Action: "x"}); err == nil {
					stored.Add(1)
				} else {
					assert.ErrorIs(t, err, errors.Stale, level)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, int64(1), stored.Load(), level)
	}
}
