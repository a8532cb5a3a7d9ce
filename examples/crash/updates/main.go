// Updates kills a service again and again while it receives updates, and counts
// which were lost, handled to the end twice, or handled out of their chat's
// order.
//
//	go run ./examples/crash/updates                        # SQLite, webhooks
//	go run ./examples/crash/updates -source polling
//	go run ./examples/crash/updates -db postgres://postgres@127.0.0.1:5432/postgres
//
// A PostgreSQL gets a schema of this run's own, which is dropped at its end,
// unless TGFLEET_SCHEMA names one, which must be empty.
//
// A fake Telegram in this program delivers them; the service is this program
// started anew, with -serve. The last line has the three counts, and the status
// is 1 if any is not 0.
//
// No store can make a handler's work and the end of its update one step. The
// service's handler does what one that must not do its work twice does: when an
// update comes again, it looks whether the work is done. How often that was so
// is told as well.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// options are the flags.
type options struct {
	db, keys, source     string
	tenants, chats, many int
	kills                int
	longest              time.Duration

	// Of the service.
	serve               bool
	api, listen, ledger string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("updates", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.db, "db", "", "database: a file or postgres://...; empty for a file that is removed at the end. Tenants and updates of earlier runs must not be in it")
	flags.StringVar(&o.keys, "keys", "", "file of the keys")
	flags.StringVar(&o.source, "source", "webhook", "webhook or polling")
	flags.IntVar(&o.tenants, "tenants", 20, "how many tenants")
	flags.IntVar(&o.chats, "chats", 200, "how many chats, of all tenants")
	flags.IntVar(&o.many, "updates", 50_000, "how many updates")
	flags.IntVar(&o.kills, "kills", 20, "how often to kill")
	flags.DurationVar(&o.longest, "longest", 1500*time.Millisecond, "the longest a service lives")
	flags.BoolVar(&o.serve, "serve", false, "be the service")
	flags.StringVar(&o.api, "api", "", "address of the Bot API")
	flags.StringVar(&o.listen, "listen", "", "address for webhooks")
	flags.StringVar(&o.ledger, "ledger", "", "file of what was handled")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.source != "webhook" && o.source != "polling" {
		return errors.New("-source is webhook or polling")
	}
	if o.serve {
		return serve(ctx, o, stderr)
	}
	return crash(ctx, o, stdout, stderr)
}

// crash is the test.
func crash(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "tgfleet-updates")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.ledger = filepath.Join(dir, "ledger")
	if o.db == "" {
		o.db = filepath.Join(dir, "fleet.db")
	}
	drop, err := database.OwnSchema(o.db, "tgfleet_updates_")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	if o.keys == "" {
		o.keys = filepath.Join(dir, "keys")
		if err := database.CreateKeys(o.keys); err != nil {
			return err
		}
	}
	if o.listen, err = freePort(); err != nil {
		return err
	}
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits(), KeepCalls: -1, KeepMessages: 4})
	defer srv.Close()
	if o.api, err = srv.Start(); err != nil {
		return err
	}
	w, err := newWorld(ctx, srv, o)
	if err != nil {
		return err
	}
	program, err := build(ctx, dir)
	if err != nil {
		return err
	}
	s := &service{program: program, o: o, stderr: stderr}
	w.write(o.many / 2) // so that it is never idle
	for n := range o.kills {
		w.write(o.many / 2 / (o.kills + 1))
		if err := s.live(ctx, rand.N(o.longest)); err != nil {
			return err
		}
		l, err := readLedger(o.ledger)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "kill %d: %d written, %d handled\n", n+1, w.written, l.lines)
	}
	w.write(o.many - w.written)
	if err := s.finish(ctx, func() (bool, error) {
		l, err := readLedger(o.ledger)
		return err == nil && len(l.seen) >= w.written, err
	}); err != nil {
		return err
	}
	l, err := readLedger(o.ledger)
	if err != nil {
		return err
	}
	left, err := w.left(ctx)
	if err != nil {
		return err
	}
	lost := w.written - len(l.seen)
	fmt.Fprintf(stdout, "updates: %d kills, %d written, %d handled, %d came again after their work was done, %d left in the inbox, lost %d, duplicate %d, out of order %d\n",
		o.kills, w.written, l.lines, l.again, left, lost, l.twice, l.disorder)
	if lost+l.twice+l.disorder+left > 0 || w.written == 0 {
		return errors.New("not all is as it should be")
	}
	return nil
}

// freePort returns an address for the service, the same in each of its lives,
// as an address that Telegram knows is.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
