package breaker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	bg      = context.Background()
	errBoom = errors.New("boom")
)

// waitError is a failure that says when to come again.
type waitError time.Duration

func (waitError) Error() string { return "come again later" }

func retryAfter(err error) time.Duration {
	var w waitError
	if errors.As(err, &w) {
		return time.Duration(w)
	}
	return 0
}

// errIgnored is what classify ignores.
var errIgnored = errors.New("says nothing")

func classify(_ context.Context, err error) breaker.Verdict {
	switch {
	case err == nil:
		return breaker.Success
	case errors.Is(err, errIgnored):
		return breaker.Ignore
	}
	return breaker.Failure
}

func newBreaker(t testing.TB, cfg breaker.Config) *breaker.Breaker {
	t.Helper()
	b, err := breaker.New(cfg)
	require.NoError(t, err)
	return b
}

func allow(t testing.TB, b *breaker.Breaker) breaker.Permit {
	t.Helper()
	p, err := b.Allow()
	require.NoError(t, err)
	return p
}

func refused(t testing.TB, b *breaker.Breaker) *breaker.OpenError {
	t.Helper()
	_, err := b.Allow()
	require.ErrorIs(t, err, breaker.ErrOpen)
	var refusal *breaker.OpenError
	require.ErrorAs(t, err, &refusal)
	return refusal
}

// calls makes n calls that end with err.
func calls(t testing.TB, b *breaker.Breaker, n int, err error) {
	t.Helper()
	for range n {
		allow(t, b).Done(bg, err)
	}
}

// log collects changes.
type log struct {
	mu      sync.Mutex
	changes []breaker.Change
}

func (l *log) add(c breaker.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
}

func (l *log) take() []breaker.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.changes
	l.changes = nil
	return c
}
