// Server runs many customers' bots in one process. Each of them answers what
// it is sent with the same text.
//
//	go run ./examples/server -demo
//
// starts a fake Telegram with a hundred tenants and lets their users write.
// Without -demo it talks to Telegram, with the tokens of a file (-tokens; a
// line is an id and a token, or a token alone) or of the environment variable
// BOT_TOKENS (the same, separated by commas).
//
// Updates come by webhook where -public-url says at which URL Telegram reaches
// -listen, such as through a proxy that terminates TLS and passes on /webhook/
// and nothing else. Otherwise they come by long polls, which need no address. In
// the demo the fake Telegram delivers to this process; -polling has it polled.
//
// Tenants are kept in the database that -db names: a file, which is an SQLite,
// or postgres://... Those of an earlier run go on. Tokens are sealed with the
// keys in the environment variable TGFLEET_KEYS or the file -keys; without
// either, a file beside the database is made, which is for trying things out.
// How far a run over all webhooks is, is there too: it takes hours for thousands of
// bots, and goes on after a restart.
// The text in TGFLEET_SECRET, or else in a file beside the keys, is what the
// secrets of webhooks and the hashes of owners' codes are derived from.
//
// POST /api/bots on -listen registers a bot, and POST /api/bots/{id}/verify
// returns the link by which its owner proves to be it, each five times a minute
// for a client at most. With -require-verified a bot sends nothing before that,
// but the answer to who follows the link. The rest tells how the service, the fleet and each bot
// are:
//
//	curl -d '{"id":"customer-7","token":"123456:..."}' http://127.0.0.1:8080/api/bots
//	curl -X POST http://127.0.0.1:8080/api/bots/customer-7/verify
//	curl http://127.0.0.1:8080/api/bots/customer-7/verify
//	curl http://127.0.0.1:8080/status
//	curl http://127.0.0.1:8080/healthz
//	curl http://127.0.0.1:8080/readyz
//	curl http://127.0.0.1:8080/api/health
//	curl http://127.0.0.1:8080/api/bots/tenant-0001/health
//	curl 'http://127.0.0.1:8080/api/bots/tenant-0001/analytics?days=7'
//	curl -H 'Accept: text/csv' 'http://127.0.0.1:8080/api/bots/tenant-0001/analytics?days=7'
//
// What goes wrong is answered with a problem document (RFC 9457), whose detail is
// for people. In the demo, -bots FILE writes the tokens of the fake Telegram's
// bots to a file; of these spare_bot is one to register.
//
// An interrupt or SIGTERM ends it in order: first nothing more comes in, then
// what was begun is finished, within ten seconds.
//
// Bots that get worse or better are in the log, as alerts.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tgfleet/tgfleet/session"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line's.
type options struct {
	demo      bool
	tenants   int
	length    time.Duration
	listen    string
	publicURL string
	polling   bool
	tokens    string
	api       string
	db        string
	keys      string
	verified  bool
	churn     bool
	bots      string
	verbose   bool
}

// webhooks reports whether updates come by webhook, and not by polling.
func (o options) webhooks() bool { return !o.polling && (o.demo || o.publicURL != "") }

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.demo, "demo", false, "run against a fake Telegram inside this process")
	flags.IntVar(&o.tenants, "tenants", 100, "with -demo: how many tenants")
	flags.DurationVar(&o.length, "for", 0, "end after this long, such as 10s; 0 runs until interrupted")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the web pages; empty for none")
	flags.StringVar(&o.publicURL, "public-url", "", "receive by webhook: the https URL at which Telegram reaches -listen")
	flags.BoolVar(&o.polling, "polling", false, "receive by long polls, and delete webhooks that are in the way; without it and -public-url they are left")
	flags.StringVar(&o.tokens, "tokens", "", "file of tokens, a line each")
	flags.StringVar(&o.api, "api", "", "URL of a self-hosted Bot API server")
	flags.StringVar(&o.db, "db", "", "database of the tenants: a file or postgres://...; empty for a file that is removed at the end")
	flags.StringVar(&o.keys, "keys", "", "file of the keys that seal tokens")
	flags.BoolVar(&o.verified, "require-verified", false, "let no bot send before somebody has proved to own it")
	flags.BoolVar(&o.churn, "churn", false, "with -demo: let tenants come, change and go all the while, and write down what is done")
	flags.StringVar(&o.bots, "bots", "", "with -demo: file in which the fake Telegram keeps its bots and their tokens, one of which is a spare")
	flags.BoolVar(&o.verbose, "v", false, "log every call")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.tenants < 1:
		return o, fmt.Errorf("-tenants must be at least 1")
	case o.length < 0:
		return o, fmt.Errorf("-for must not be negative")
	case o.publicURL != "" && (o.demo || o.polling):
		return o, fmt.Errorf("-public-url goes neither with -demo nor with -polling")
	case o.verified && o.demo:
		return o, fmt.Errorf("-require-verified does not go with -demo, whose bots nobody owns")
	case o.publicURL != "" && o.listen == "":
		return o, fmt.Errorf("-public-url needs -listen")
	}
	return o, nil
}

// run is the program. Its result is the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == flag.ErrHelp {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if o.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.length)
		defer cancel()
	}
	if o.demo {
		return demo(ctx, o, log, stdout)
	}
	if err := serve(ctx, o, log); err != nil {
		log.Error("stopped", "err", err)
		return 1
	}
	return 0
}

// serve runs the bots of the given tokens against the real API.
func serve(ctx context.Context, o options, log *slog.Logger) error {
	accounts, err := readAccounts(o.tokens, os.Getenv("BOT_TOKENS"))
	if err != nil && (o.db == "" || o.tokens != "") {
		return err
	}
	f, err := newFleet(ctx, o, session.Config{APIURL: o.api}, session.LimitConfig{}, log)
	if err != nil {
		return err
	}
	defer f.close(ctx)
	if err := f.startSource(ctx, o); err != nil {
		return err
	}
	if err := f.serveWeb(ctx, o.listen); err != nil {
		return err
	}
	for _, a := range accounts {
		if ctx.Err() != nil {
			break
		}
		// One token that is wrong must not keep the others from running.
		if _, err := f.manager.Register(ctx, a.id, a.token); err != nil {
			log.Error("not registered", "tenant", a.id, "err", err)
		}
	}
	n, err := f.countStored(ctx)
	if ctx.Err() != nil {
		return nil // stopped while it was starting
	}
	if err != nil {
		return err
	}
	switch {
	case n > 0:
	case len(accounts) > 0:
		return fmt.Errorf("none of %d bots could be registered", len(accounts))
	case o.listen == "":
		return fmt.Errorf("no bots, and no -listen at which one could be registered")
	default:
		log.Info("no bots yet; register one by POST /api/bots")
	}
	log.Info("running", "bots", n)
	<-ctx.Done()
	return nil
}
