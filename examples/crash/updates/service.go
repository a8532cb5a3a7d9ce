package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// leaseTime is short, so that what a service that was killed was at comes again
// soon.
const leaseTime = time.Second

// serve is the service: it receives updates and handles them until ctx ends.
func serve(ctx context.Context, o options, stderr io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	db, err := database.Open(ctx, o.db, o.keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s, err := session.New(session.Config{APIURL: o.api})
	if err != nil {
		return err
	}
	end := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, s.Close(end)) }()
	pool, err := tenant.NewPool(s, db.Tenants, tenant.PoolConfig{Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close(end)) }()
	h, err := newHandler(o.ledger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.file.Close()) }()
	workers, err := inbox.NewWorkers(db.Inbox, pool, h, inbox.WorkersConfig{
		LeaseTTL: leaseTime, MaxAttempts: 1000, PollEvery: 200 * time.Millisecond, Logger: log,
	})
	if err != nil {
		return err
	}
	if err := workers.Start(end); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, workers.Stop(end)) }()
	if o.source == "polling" {
		err = poll(ctx, o, s, db)
	} else {
		err = listen(ctx, o, db.Inbox)
	}
	return err
}

// poll receives by long polls until ctx ends.
func poll(ctx context.Context, o options, s *session.Session, db database.DB) error {
	p, err := polling.New(s, db.Tenants, db.Inbox, polling.Config{Leases: db.Leases, LeaseTTL: leaseTime})
	if err != nil {
		return err
	}
	for i := range o.tenants {
		p.Add(tenantID(i))
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return p.Stop(context.WithoutCancel(ctx))
}

// listen receives by webhook until ctx ends.
func listen(ctx context.Context, o options, in inbox.Inbox) error {
	keys, err := hookKeys()
	if err != nil {
		return err
	}
	receiver, err := webhook.NewReceiver(in, keys, webhook.Config{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: receiver, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case <-ctx.Done():
		return server.Shutdown(context.WithoutCancel(ctx))
	case err := <-failed:
		return err
	}
}

// handler writes a line for each update, which is its work, and does none
// twice.
type handler struct {
	file *os.File

	mu   sync.Mutex
	seen map[string]bool // also what services before have done
}

func newHandler(path string) (*handler, error) {
	l, err := readLedger(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return &handler{file: f, seen: l.seen}, err
}

// HandleUpdate implements [inbox.Handler].
func (h *handler) HandleUpdate(_ context.Context, t *tenant.Tenant, u inbox.Update) error {
	d, err := u.Decode()
	if err != nil {
		return inbox.Permanent(err)
	}
	work := entry{t.ID(), u.Chat, d.Message.Text}
	time.Sleep(rand.N(time.Millisecond))
	if err := h.do(work.key()); err != nil {
		return err
	}
	time.Sleep(rand.N(time.Millisecond))
	return nil
}

func (h *handler) do(work string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	what := "done "
	if h.seen[work] {
		what = "again "
	}
	h.seen[work] = true
	// One write, so that it is there whole or not at all when we are killed.
	_, err := h.file.WriteString(what + work + "\n")
	return err
}

// service starts the service, and ends it.
type service struct {
	program string
	o       options
	stderr  io.Writer
}

func build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "updates")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/tgfleet/tgfleet/examples/crash/updates")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the service: %w: %s", err, out)
	}
	return program, nil
}

func (s *service) start(ctx context.Context) (*exec.Cmd, error) {
	o := s.o
	cmd := exec.CommandContext(ctx, s.program, "-serve", "-db", o.db, "-keys", o.keys, "-source", o.source,
		"-tenants", strconv.Itoa(o.tenants), "-api", o.api, "-listen", o.listen, "-ledger", o.ledger)
	cmd.Stderr = s.stderr
	return cmd, cmd.Start()
}

// live lets a service live that long after it has handled something, and kills
// it.
func (s *service) live(ctx context.Context, life time.Duration) error {
	before := size(s.o.ledger)
	cmd, err := s.start(ctx)
	if err != nil {
		return err
	}
	for begin := time.Now(); size(s.o.ledger) == before && time.Since(begin) < 10*time.Second && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-time.After(life):
	case <-ctx.Done():
	}
	_ = cmd.Process.Kill() // SIGKILL
	err = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && !status.Signaled() {
		return fmt.Errorf("the service ended by itself: %w", err)
	}
	return ctx.Err()
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// finish lets a service live until all is done, and ends it in peace. It gives
// up when nothing is handled for long.
func (s *service) finish(ctx context.Context, done func() (bool, error)) error {
	const patience = 150 * time.Second // Telegram waits for up to two minutes before it tries again
	cmd, err := s.start(ctx)
	if err != nil {
		return err
	}
	last, at := size(s.o.ledger), time.Now()
	for ctx.Err() == nil {
		ok, err := done()
		if err != nil || ok {
			break
		}
		if n := size(s.o.ledger); n != last {
			last, at = n, time.Now()
		}
		if time.Since(at) > patience {
			break // what is missing is counted as lost
		}
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(2 * leaseTime) // what comes twice comes now
	_ = cmd.Process.Signal(os.Interrupt)
	return cmd.Wait()
}
