// Move copies all tenants from one database to another, such as from the
// SQLite file that a service began with to a PostgreSQL, with what is known of
// their bots: how they do, what they have done and who has proved to own them.
//
//	go run ./examples/move -from fleet.db -to postgres://fleet@db/fleet
//
// The two may have different keys; see -from-keys and -to-keys. It can be run
// again: what is there already is left alone, also where an earlier run was cut.
// Stop the service meanwhile, or run it once more afterwards for tenants that
// have been added.
//
// It does not move updates that wait to be handled, and refuses to begin while
// there are some. To empty the inbox let the service run where nothing comes in,
// such as without the address that Telegram knows, until all is handled: Telegram
// keeps for a day what it can't deliver. With -leave-updates they stay behind.
// Dead letters stay in any case, and how many is said: replay or drop them before.
//
// Nor does it move which updates were received within a day, so that one which
// Telegram sends again is handled again; challenges that were not answered yet,
// which owners are given anew; nor the log of changes, which begins with an entry
// of the import.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("move", flag.ContinueOnError)
	flags.SetOutput(stderr)
	from := flags.String("from", "", "the database to read: a file or postgres://...")
	to := flags.String("to", "", "the database to write")
	fromKeys := flags.String("from-keys", "", "key file of -from; default "+database.KeysVariable+", else beside it")
	toKeys := flags.String("to-keys", "", "key file of -to")
	leave := flags.Bool("leave-updates", false, "go on where updates wait to be handled, and leave them behind")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *from == "" || *to == "" {
		return errors.New("-from and -to are needed")
	}
	if _, err := os.Stat(*from); err != nil && !database.IsPostgres(*from) {
		return err // or it would be created
	}
	source, err := database.Open(ctx, *from, *fromKeys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if err := checkInbox(ctx, source.Inbox, *leave, stderr); err != nil {
		return err
	}
	target, err := database.Open(ctx, *to, *toKeys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	report, err := move(ctx, source.Tenants, target.Tenants)
	fmt.Fprintf(stdout, "%d tenants moved, %d were there, %d could not be stored\n", report.Imported, report.Same, report.Failed)
	if report.Next > 0 {
		return err
	}
	snapshots, healthErr := moveHealth(ctx, source, target)
	rollups, usageErr := moveUsage(ctx, source, target)
	fmt.Fprintf(stdout, "health of %d tenants and %d hours and days of usage moved\n", snapshots, rollups)
	proofs, proofErr := moveProofs(ctx, source, target)
	fmt.Fprintf(stdout, "%d proofs of ownership moved\n", proofs)
	return errors.Join(err, healthErr, usageErr, proofErr)
}

// move exports into a pipe and imports from it, with a key that lives as long.
func move(ctx context.Context, from, to tenant.Store) (tenant.ImportReport, error) {
	key, err := seal.GenerateKey("move")
	if err != nil {
		return tenant.ImportReport{}, err
	}
	ring, err := seal.New(key)
	if err != nil {
		return tenant.ImportReport{}, err
	}
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		_, err := tenant.Export(ctx, from, ring, w)
		_ = w.Close() // the foot says whether it is whole
		exported <- err
	}()
	report, err := tenant.Import(tenant.WithActor(ctx, "move"), to, ring, r)
	_ = r.Close()
	return report, errors.Join(<-exported, err)
}
