package inbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// sized is an update of a size, in a chat of its own.
func sized(tenant string, id int64, size int) inbox.Update {
	return inbox.Update{Tenant: tenant, ID: id, Kind: "message", Chat: fmt.Sprint(id), Raw: make([]byte, size), ReceivedAt: time.Now()}
}

// flood puts a tenant's updates until one is refused, and returns why.
func flood(t *testing.T, m *inbox.Memory, tenant string, size int) (taken int, err error) {
	t.Helper()
	for id := int64(1); id <= 10_000; id++ {
		outcomes, err := m.Put(bg, []inbox.Update{sized(tenant, id, size)})
		require.NoError(t, err)
		if outcomes[0].Err != nil {
			return taken, outcomes[0].Err
		}
		taken++
	}
	t.Fatal("nothing was refused")
	return
}

func scope(t *testing.T, err error) errors.Scope {
	t.Helper()
	require.ErrorIs(t, err, inbox.ErrFull)
	e, ok := errors.AsType[*errors.Error](err)
	require.True(t, ok)
	return e.Scope
}

func TestOneTenantsLargeUpdatesFillItsOwnPartOnly(t *testing.T) {
	m, err := inbox.NewMemory(inbox.MemoryConfig{MaxBytes: 8000})
	require.NoError(t, err)
	taken, full := flood(t, m, "flood", 100)
	assert.Equal(t, 10, taken)
	assert.Equal(t, errors.ScopeTenant, scope(t, full))
	put(t, m, sized("other", 1, 2000)) // larger than its part, but alone
	outcomes, err := m.Put(bg, []inbox.Update{sized("other", 2, 1)})
	require.NoError(t, err)
	assert.Equal(t, errors.ScopeTenant, scope(t, outcomes[0].Err))
	// What was settled takes no room.
	leases, err := m.Lease(bg, inbox.Want{Limit: 100, TTL: time.Minute})
	require.NoError(t, err)
	require.Len(t, leases, 11)
	for _, l := range leases {
		held, err := m.Settle(bg, []inbox.Settlement{{Lease: l, Verdict: inbox.Done}})
		require.NoError(t, err)
		require.Equal(t, []bool{true}, held)
	}
	for id := range int64(10) {
		put(t, m, sized("flood", 100+id, 100))
	}
}

func TestThoseOverTheirShareAreRefusedFirst(t *testing.T) {
	for name, cfg := range map[string]inbox.MemoryConfig{
		"by number": {MaxUpdates: 160, MaxPerTenant: 160},
		"by size":   {MaxBytes: 16_000, MaxBytesPerTenant: 16_000},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := inbox.NewMemory(cfg)
			require.NoError(t, err)
			put(t, m, sized("quiet", 1, 100))
			taken, full := flood(t, m, "flood", 100)
			assert.Equal(t, 149, taken)
			assert.Equal(t, errors.ScopeAll, scope(t, full))
			for id := range int64(5) {
				put(t, m, sized("quiet", 2+id, 100), sized(fmt.Sprint("new", id), 1, 100))
			}
			_, full = flood(t, m, "quiet2", 100)
			assert.Equal(t, errors.ScopeAll, scope(t, full), "in the end it is full")
			// A tenant that is forgotten counts no more.
			require.NoError(t, m.Forget(bg, "flood"))
			put(t, m, sized("quiet", 100, 100))
		})
	}
}
