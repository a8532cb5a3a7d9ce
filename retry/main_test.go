package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/retry"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

// limited is a refusal that says when to come again.
type limited struct{ after time.Duration }

func (l *limited) Error() string             { return "rate limited" }
func (l *limited) RetryAfter() time.Duration { return l.after }

func newPolicy(t testing.TB, cfg retry.Config) retry.Policy {
	p, err := retry.New(cfg)
	require.NoError(t, err)
	return p
}

func newBudget(t testing.TB, cfg retry.BudgetConfig) *retry.Budget {
	b, err := retry.NewBudget(cfg)
	require.NoError(t, err)
	return b
}

// failing returns a function that fails with each error in turn, and then
// with the last of them for ever; nil succeeds.
func failing(calls *int, errs ...error) func(context.Context) error {
	return func(context.Context) error {
		err := errs[min(*calls, len(errs)-1)]
		*calls++
		return err
	}
}
