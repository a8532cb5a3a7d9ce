package inbox_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	inboxtest.Run(t, inboxtest.Harness{
		New: func(t *testing.T, cfg inboxtest.Config) inbox.Inbox {
			m, err := inbox.NewMemory(inbox.MemoryConfig{
				MaxUpdates: cfg.MaxUpdates, MaxPerTenant: cfg.MaxPerTenant, MaxDeadPerTenant: cfg.MaxDeadPerTenant,
			})
			require.NoError(t, err)
			return m
		},
		Advance: func(_ *testing.T, _ inbox.Inbox, d time.Duration) { time.Sleep(d) },
		Bubble:  synctest.Test,
	})
}
