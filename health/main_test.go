package health_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/health"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newMonitor(t testing.TB, cfg health.Config) *health.Monitor {
	t.Helper()
	m, err := health.New(cfg)
	require.NoError(t, err)
	return m
}
