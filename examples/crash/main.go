// Crash kills the example server again and again while tenants come, change and
// go, and compares what it had confirmed with what its database holds.
//
//	go run ./examples/crash                             # SQLite in a temporary folder
//	go run ./examples/crash -db postgres://postgres@127.0.0.1:5432/postgres
//
// A PostgreSQL gets a schema of this run's own, which is dropped at its end,
// unless TGFLEET_SCHEMA names one, which must be empty.
//
// Telegram's memory of which token is whose outlives the server, in a file that
// the fleet knows nothing of. After each restart every bot asks it who it is, and
// this program compares the tokens in the database with that file's.
//
// The last line says how many changes were confirmed, and how many of them were
// lost or made by half, and how many tenants did not open after a restart or had
// another's or an old token. The status is 1 if any was.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.SetOutput(stderr)
	db := flags.String("db", "", "database: a file or postgres://...; empty for a file that is removed at the end")
	times := flags.Int("times", 20, "how often to kill")
	longest := flags.Duration("longest", 1500*time.Millisecond, "the longest a server lives")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tgfleet-crash")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *db == "" {
		*db = filepath.Join(dir, "fleet.db")
	}
	drop, err := database.OwnSchema(*db, "tgfleet_crash_")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	s := &server{program: filepath.Join(dir, "server"), db: *db, bots: filepath.Join(dir, "bots"), stderr: stderr}
	if os.Getenv(database.KeysVariable) == "" {
		s.keys = database.KeysFile(filepath.Join(dir, "crash"))
	}
	if s.keys != "" {
		if err := database.CreateKeys(s.keys); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.program, "github.com/tgfleet/tgfleet/examples/server")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w: %s", err, out)
	}
	ledger := newLedger(s.bots)
	var total verdict
	for n := 1; n <= *times; n++ {
		// One in four dies before it has opened what the one before left.
		early := rand.N(4) == 0
		if err := s.live(ctx, ledger, early, rand.N(*longest)); err != nil {
			return err
		}
		v, err := ledger.check(ctx, *db, s.keys)
		if err != nil {
			return err
		}
		total.add(v)
		fmt.Fprintf(stdout, "kill %d: %v\n", n, v)
	}
	// The last one ends by itself: everything opens, and nothing is left over.
	if err := s.finish(ctx, ledger); err != nil {
		return err
	}
	v, err := ledger.check(ctx, *db, s.keys)
	if err != nil {
		return err
	}
	total.add(v)
	fmt.Fprintf(stdout, "crash: %d kills, %d changes confirmed, %d tenants stored, %d lost, %d half-made, %d not opened, %d asked who they are, %d wrong\n",
		*times, ledger.confirmed, v.stored, total.lost, total.half, ledger.notOpened, ledger.asked, total.wrong+ledger.wrong)
	if total.lost+total.half+total.wrong+ledger.notOpened+ledger.wrong > 0 || ledger.confirmed == 0 || ledger.opened == 0 || ledger.asked == 0 {
		return errors.New("not all is as it should be")
	}
	return nil
}
