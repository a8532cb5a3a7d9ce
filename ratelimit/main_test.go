package ratelimit_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newScheduler[K comparable](t testing.TB, cfg ratelimit.Config) *ratelimit.Scheduler[K] {
	s, err := ratelimit.NewScheduler[K](cfg)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}
