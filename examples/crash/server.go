package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
)

// server starts the example server, and ends it.
type server struct {
	program, db, keys string
	bots              string // the fake Telegram's memory
	stderr            io.Writer
}

// patience is how long a server may take to open its tenants.
const patience = 60 * time.Second

func (s *server) command(ctx context.Context, length string) *exec.Cmd {
	args := []string{"-demo", "-churn", "-tenants", "10", "-listen", "", "-db", s.db, "-bots", s.bots, "-for", length}
	if s.keys != "" {
		args = append(args, "-keys", s.keys)
	}
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Env = append(os.Environ(), "PGAPPNAME="+appName())
	return cmd
}

// appName is what PostgreSQL knows the connections of this program's servers
// by.
func appName() string { return fmt.Sprintf("tgfleet-crash-%d", os.Getpid()) }

// settled waits until PostgreSQL has ended what a server that was killed had
// begun: the statements that it had sent are still carried out.
func (s *server) settled(ctx context.Context) error {
	if !database.IsPostgres(s.db) {
		return nil
	}
	conn, err := pgx.Connect(ctx, s.db)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(5 * time.Millisecond) {
		var n int
		err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", appName()).Scan(&n)
		if err != nil || n == 0 {
			return err
		}
	}
	return errors.New("connections of a server that was killed do not end")
}

// live lets a server live that long and kills it: counted from its start where
// it is to die early, else from when it has opened its tenants.
func (s *server) live(ctx context.Context, l *ledger, early bool, life time.Duration) error {
	cmd := s.command(ctx, "5m")
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	opened, drained := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drained)
		l.read(out, opened)
	}()
	if !early {
		select {
		case <-opened:
		case <-drained: // it has ended by itself
		case <-time.After(patience):
		case <-ctx.Done():
		}
	}
	select {
	case <-time.After(life):
	case <-ctx.Done():
	}
	_ = cmd.Process.Kill() // SIGKILL
	<-drained              // all that it has said, and then
	_ = cmd.Wait()
	select {
	case <-opened:
	default:
		if !early {
			return fmt.Errorf("the server did not open its tenants: %s", tail(log.String()))
		}
	}
	if text := log.String(); hasErrors(text) {
		return fmt.Errorf("the server had errors: %s", tail(text))
	}
	return s.settled(ctx)
}

// finish lets a server end by itself.
func (s *server) finish(ctx context.Context, l *ledger) error {
	cmd := s.command(ctx, "3s")
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.read(out, make(chan struct{}))
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the last server: %w: %s", err, tail(log.String()))
	}
	return nil
}

// hasErrors reports whether a server's log has errors. Servers die before Telegram
// was asked again about the tokens that it refuses, so that these become more than
// a server takes for their owners' doing. The ledger knows which may be refused.
func hasErrors(log string) bool {
	for line := range strings.Lines(log) {
		held := strings.Contains(line, ` msg="Telegram refuses many tokens at once; `) ||
			strings.Contains(line, ` msg="is Telegram down, `)
		if strings.Contains(line, "level=ERROR") && !held {
			return true
		}
	}
	return false
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

// read notes what a server says, up to its end. Half a line counts for nothing.
func (l *ledger) read(out io.Reader, opened chan<- struct{}) {
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if l.note(strings.Fields(line)) && opened != nil {
			close(opened)
			opened = nil
		}
	}
}
