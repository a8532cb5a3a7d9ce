// Package pgstore keeps a fleet in PostgreSQL, for services that run in several
// processes.
//
//	keys, err := seal.FromEnv("TGFLEET_KEYS")
//	db, err := pgstore.Open(ctx, "postgres://fleet@db/fleet", pgstore.Config{Keys: keys})
//	defer db.Close()
//	pool, err := tenant.NewPool(s, db.Tenants(), tenant.PoolConfig{})
//	monitor, err := health.New(health.Config{Store: db.Health()})
//	recorder, err := usage.New(usage.Config{Store: db.Usage()})
//
// [New] takes a pgxpool.Pool that the service has already. Everything is in a
// schema of its own, "tgfleet" or as [Config] says, which Open and New create
// and bring up to date. Ten processes that start at once migrate once; one
// that finds nothing to do needs no right to create anything. Where the service has
// a role of its own, ALTER DEFAULT PRIVILEGES gives it the tables that a newer
// version makes, and without them it could not register or remove tenants.
//
// # The decision to make
//
// Whether several machines run the fleet; for one, package sqlitestore needs no
// server. It is tested with PostgreSQL 15, and uses nothing newer than 11.
//
// # Received updates
//
// [DB.Inbox] keeps updates until they are handled, by the workers of any
// process. The lock of a chat's row keeps the chat's order among them.
//
//	workers, err := inbox.NewWorkers(db.Inbox(), pool, handler, inbox.WorkersConfig{})
//	receiver, err := webhook.NewReceiver(db.Inbox(), hookKeys, webhook.Config{})
//
// What no worker has settled when its lease has lapsed is lent again. A lapse is
// told by the server's clock.
//
// # Watching
//
// A change is told by NOTIFY, within milliseconds of its commit. A watch keeps
// one connection of the pool for itself, which must be one to the server or a
// pooler in session mode: PgBouncer's transaction mode has no LISTEN.
//
// # The log of changes
//
// Entries become visible in the order of their Seq. For that who adds some waits
// for those before to commit; commits that notify do so all the same. It grows
// until somebody prunes it, say once an hour:
//
//	for {
//		n, err := db.Tenants().PruneLog(ctx, time.Now().AddDate(-1, 0, 0), 1000)
//		if err != nil || n < 1000 {
//			break
//		}
//	}
//
// # What it does not do
//
// It does not repeat a change of a tenant whose connection broke: that may have
// been made, and the error's Delivery says so. Reads are repeated, and so are
// flushes of health and usage, which count once. It does not prune the log by
// itself. Usage is pruned by its recorder.
package pgstore
