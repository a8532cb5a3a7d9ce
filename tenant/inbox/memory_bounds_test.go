package inbox_test

import (
	"fmt"
	"testing"
	"testing/synctest"
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

// die makes a dead letter of a tenant.
func die(t *testing.T, m *inbox.Memory, tenant string, id int64, size int) {
	t.Helper()
	put(t, m, sized(tenant, id, size))
	leases, err := m.Lease(bg, inbox.Want{Limit: 1, TTL: time.Minute})
	require.NoError(t, err)
	require.Len(t, leases, 1)
	held, err := m.Settle(bg, []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Bury}})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, held)
}

// letters are the dead letters' ids of a tenant, and their size.
func letters(t *testing.T, m *inbox.Memory, tenant string) (ids []int64, size int) {
	t.Helper()
	page, err := m.Dead(bg, inbox.DeadFilter{Tenant: tenant, Limit: 100_000})
	require.NoError(t, err)
	for _, d := range page {
		ids = append(ids, d.ID)
		size += len(d.Raw)
	}
	return ids, size
}

func TestDeadLettersAreBoundedInSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := inbox.NewMemory(inbox.MemoryConfig{MaxDeadBytes: 10_000})
		require.NoError(t, err)
		die(t, m, "small", 1, 100)
		for id := range int64(50) {
			time.Sleep(time.Second)
			die(t, m, "large", id+1, 1000)
		}
		ids, _ := letters(t, m, "large")
		assert.Equal(t, []int64{42, 43, 44, 45, 46, 47, 48, 49, 50}, ids, "its oldest made room")
		_, size := letters(t, m, "")
		assert.Equal(t, 9100, size)
		assert.Equal(t, uint64(41), m.Stats().DeadDropped)
		// Those that are replayed, dropped or forgotten take no room.
		_, err = m.Drop(bg, []inbox.Ref{{Tenant: "large", ID: 42}, {Tenant: "large", ID: 43}})
		require.NoError(t, err)
		die(t, m, "small", 2, 2000)
		require.NoError(t, m.Forget(bg, "large"))
		die(t, m, "small", 3, 7000)
		ids, _ = letters(t, m, "")
		assert.Equal(t, []int64{1, 2, 3}, ids)
		assert.Equal(t, uint64(41), m.Stats().DeadDropped)
	})
}

func TestTheTenantWithMostDeadLettersMakesRoomAndNeverTheNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := inbox.NewMemory(inbox.MemoryConfig{MaxDead: 6})
		require.NoError(t, err)
		for id := range int64(6) {
			die(t, m, "bad", id+1, 10)
			time.Sleep(time.Second)
		}
		for id := range int64(3) {
			die(t, m, "good", id+1, 10)
			time.Sleep(time.Second)
		}
		bad, _ := letters(t, m, "bad")
		good, _ := letters(t, m, "good")
		assert.Equal(t, []int64{4, 5, 6}, bad)
		assert.Equal(t, []int64{1, 2, 3}, good)
		require.NoError(t, m.Forget(bg, "bad"))
		die(t, m, "new", 1, 10)
		die(t, m, "new", 2, 10)
		die(t, m, "new", 3, 10)
		good, _ = letters(t, m, "good")
		assert.Len(t, good, 3, "there was room again")
	})
}
