package pgstore_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// server is a PostgreSQL of a test's own, which can be restarted.
type server struct {
	bin, dir string
	port     int
	as       *syscall.Credential
}

// newServer starts a server. PostgreSQL's programs are not on every machine
// that has a server to test against.
func newServer(t *testing.T) *server {
	s := &server{bin: binaries(), dir: filepath.Join(t.TempDir(), "data")}
	if s.bin == "" {
		skip(t, "PostgreSQL's initdb and pg_ctl are not on this machine")
	}
	if os.Getuid() == 0 { // as whom PostgreSQL refuses to run
		u, err := user.Lookup("postgres")
		if err != nil {
			skip(t, "no user to run PostgreSQL as: %v", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		// t.TempDir is root's alone.
		dir, err := os.MkdirTemp("", "pgstore")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		require.NoError(t, os.Chown(dir, uid, gid))
		s.dir = filepath.Join(dir, "data")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.port = l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	s.run(t, "initdb", "--auth=trust", "--username=postgres", "--no-sync", "--pgdata="+s.dir)
	s.start(t)
	t.Cleanup(func() { s.run(t, "pg_ctl", "stop", "--pgdata="+s.dir, "--mode=immediate", "--wait") })
	return s
}

func binaries() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

func (s *server) start(t *testing.T) {
	options := fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c log_statement=all -c log_min_duration_statement=0", s.port)
	s.run(t, "pg_ctl", "start", "--pgdata="+s.dir, "--wait", "--log="+s.log(), "--options="+options)
}

// log is what the server logs: every statement and its parameters.
func (s *server) log() string { return filepath.Join(filepath.Dir(s.dir), "log") }

func (s *server) url() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.port)
}

func (s *server) run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	out, err := os.CreateTemp(t.TempDir(), "out") // a pipe would stay open with the server
	require.NoError(t, err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		require.NoError(t, err, "%s: %s", name, text)
	}
}
