package webhook_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// What gotgbot's ext.Updater does, one test each that we do not.

type source struct{ name, text string }

// sources are the package's files that are not tests.
func sources(t *testing.T) (all []source) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		all = append(all, source{name, string(text)})
	}
	require.NotEmpty(t, all)
	return all
}

// A bot that is polled is registered there under path "", without a secret.
func TestNobodyInjectsUpdatesByTheRoot(t *testing.T) {
	keys := newKeys(t)
	m := newMemory(t, inbox.MemoryConfig{})
	rc := newReceiver(t, m, keys, webhook.Config{})
	for _, path := range []string{"", "/", "//", "/webhook/", "/webhook", "/1.", "/."} {
		for _, secret := range []string{"", keys.Secret(""), keys.Secret("a")} {
			r := request(keys, "a", body(1))
			r.URL.Path = path
			r.Header.Set(secretHeader, secret)
			assert.Equal(t, http.StatusNotFound, serve(rc, r).Code, path)
		}
	}
	assert.Equal(t, http.StatusNotFound, serve(rc, request(keys, "", body(1))).Code, "and there is no tenant without a name")
	assert.Zero(t, depth(t, m))
}

// One dispatcher of 50 places is shared there by all bots.
func TestOneBotsSlowHandlersStallNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, bottest.NoLimits())
		f.add(t, "slow")
		f.add(t, "quick")
		m := newMemory(t, inbox.MemoryConfig{})
		rc := newReceiver(t, m, f.keys, webhook.Config{})
		var mu sync.Mutex
		var quick time.Duration
		f.work(t, m, inbox.HandlerFunc(func(ctx context.Context, tn *tenant.Tenant, u inbox.Update) error {
			if tn.ID() == "slow" {
				time.Sleep(25 * time.Second)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			quick = time.Since(u.ReceivedAt)
			return nil
		}))
		start := time.Now()
		for id := range int64(200) {
			b := strings.ReplaceAll(body(id+1), `"id":5`, `"id":`+string(rune('1'+id%9))+string(rune('0'+id/9%10))+"1")
			require.Equal(t, http.StatusOK, serve(rc, request(f.keys, "slow", b)).Code)
		}
		require.Equal(t, http.StatusOK, serve(rc, request(f.keys, "quick", body(1))).Code)
		pass(time.Second)
		assert.LessOrEqual(t, float64(quick), opening, "it did not wait for anything")
		assert.Equal(t, time.Second, time.Since(start), "and no delivery did")
		// Nor does the end of one bot wait for another's handlers.
		_, err := f.Suspend(bg, "quick", "test")
		require.NoError(t, err)
		assert.Equal(t, time.Second, time.Since(start))
	})
}

// 200 is answered there before anybody has the update.
func TestAnUpdateIsConfirmedOnlyOnceItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		stored := false
		rc := newReceiver(t, putFunc(func(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			time.Sleep(3 * time.Second)
			stored = true
			return make([]inbox.Outcome, len(batch)), nil
		}), keys, webhook.Config{})
		c := start(t, rc).dial()
		defer c.Close()
		b := body(1)
		begun := time.Now()
		go func() {
			_, _ = io.WriteString(c, head("/webhook/"+keys.Path("a"), keys.Secret("a"), len(b))+b)
		}()
		assert.Equal(t, http.StatusOK, answer(c))
		assert.Equal(t, 3*time.Second, time.Since(begun))
		assert.True(t, stored)
	})
}

// endless is a body that never ends, and counts what was read of it.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.n += int64(len(p))
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func (e *endless) Close() error { return nil }

// The body is read there without a bound.
func TestABodyIsReadUpToItsBound(t *testing.T) {
	keys := newKeys(t)
	rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{}), keys, webhook.Config{MaxBody: 10_000})
	e := &endless{}
	r := request(keys, "a", "")
	r.Body, r.ContentLength = e, -1
	assert.Equal(t, http.StatusRequestEntityTooLarge, serve(rc, r).Code)
	assert.Less(t, e.n, int64(20_000))
	for name, change := range map[string]func(*http.Request){
		"whose length is told":   func(r *http.Request) { r.ContentLength = 1 << 40 },
		"with the wrong secret":  func(r *http.Request) { r.Header.Set(secretHeader, "x") },
		"with the wrong path":    func(r *http.Request) { r.URL.Path = "/x" },
		"of the wrong kind":      func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"with the wrong method":  func(r *http.Request) { r.Method = http.MethodPut },
		"that is said encrypted": func(r *http.Request) { r.Header.Set("Content-Encoding", "br") },
	} {
		e.n = 0
		r := request(keys, "a", "")
		r.Body, r.ContentLength = e, -1
		change(r)
		assert.NotEqual(t, http.StatusOK, serve(rc, r).Code)
		assert.Zero(t, e.n, "a body %s is not read at all", name)
	}
}

// A server that can't listen any more panics there, on a goroutine of its own.
func TestTheServerIsItsOwners(t *testing.T) {
	for _, file := range sources(t) {
		for _, text := range []string{"http.Server{", "ListenAndServe", ".Serve(", "net.Listen"} {
			assert.NotContains(t, file.text, text, file.name)
		}
	}
}

// The secret is compared there with !=, which ends at the first difference.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	constant := 0
	for _, file := range sources(t) {
		tree, err := parser.ParseFile(token.NewFileSet(), file.name, file.text, 0)
		require.NoError(t, err)
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if n.Op == token.EQL || n.Op == token.NEQ {
					for _, side := range []ast.Expr{n.X, n.Y} {
						if id, ok := side.(*ast.Ident); ok {
							name := strings.ToLower(id.Name)
							assert.False(t, strings.Contains(name, "secret") || strings.Contains(name, "tag") || name == "sum" || name == "want", "%s compares %s", file.name, id.Name)
						}
					}
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "ConstantTimeCompare" {
					constant++
				}
			}
			return true
		})
	}
	assert.Equal(t, 2, constant, "a path's tag and a secret")
}
