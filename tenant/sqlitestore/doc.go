// Package sqlitestore keeps a fleet in one SQLite file: the default, which
// needs no server.
//
//	keys, err := seal.FromFile("fleet.keys")
//	db, err := sqlitestore.Open(ctx, "fleet.db", sqlitestore.Config{Keys: keys})
//	defer db.Close()
//	pool, err := tenant.NewPool(s, db.Tenants(), tenant.PoolConfig{})
//	monitor, err := health.New(health.Config{Store: db.Health()})
//	recorder, err := usage.New(usage.Config{Store: db.Usage()})
//
// [Open] creates the file, which only its owner may read, and brings its
// tables up to date. Several processes of one machine may use it at the same
// time and hear of each other's changes.
//
// Every change is on disk when a method returns (WAL with synchronous=FULL), so
// it outlives a power cut. It takes one fsync, which bounds how many changes a
// second a disk takes.
//
// # Received updates
//
// [DB.Inbox] keeps updates until they are handled. Each is on disk before it is
// confirmed to Telegram, and calls that come at the same time share an fsync:
//
//	workers, err := inbox.NewWorkers(db.Inbox(), pool, handler, inbox.WorkersConfig{})
//	receiver, err := webhook.NewReceiver(db.Inbox(), hookKeys, webhook.Config{})
//
// # The decision to make
//
// Whether one machine is enough. SQLite has one writer at a time, and its file
// must not lie on a network file system. For replicas on several machines take
// package pgstore; [tenant.Export] and [tenant.Import] move there.
//
// # Backups
//
// [DB.Backup] copies a database that is in use, and so does
// "sqlite3 fleet.db '.backup copy.db'"; cp does not. Keep the keys elsewhere:
// tokens are sealed, and a backup with its keys is as good as the tokens. All
// else is in the clear.
//
// "sqlite3 fleet.db '.restore copy.db'" puts a copy in the place of what is
// there, and who watches hears that any record may have changed. Before the file
// itself is replaced, end all processes that use it: they would go on with the
// old one.
//
// Let nothing in the process open and close the file itself while it is in use:
// by the rules of POSIX that takes away the locks by which other processes know
// that it is.
//
// # What it does not do
//
// It does not prune the log of changes by itself: call [Tenants.PruneLog] every
// now and then. Usage is pruned by its recorder.
package sqlitestore
