package inbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

var bg = context.Background()

func TestAnUpdateIsLentOnceAndSettled(t *testing.T) {
	m, err := inbox.NewMemory(inbox.MemoryConfig{})
	require.NoError(t, err)
	u, err := inbox.Parse("acme", []byte(`{"update_id":1,"message":{"chat":{"id":5}}}`), time.Now())
	require.NoError(t, err)
	outcomes, err := m.Put(bg, []inbox.Update{u, u})
	require.NoError(t, err)
	assert.Equal(t, []inbox.Outcome{{}, {Duplicate: true}}, outcomes)
	leases, err := m.Lease(bg, inbox.Want{Limit: 10, TTL: time.Minute})
	require.NoError(t, err)
	require.Len(t, leases, 1)
	again, err := m.Lease(bg, inbox.Want{Limit: 10, TTL: time.Minute})
	require.NoError(t, err)
	assert.Empty(t, again)
	held, err := m.Settle(bg, []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Done}})
	require.NoError(t, err)
	assert.Equal(t, []bool{true}, held)
	d, err := m.Depth(bg, "")
	require.NoError(t, err)
	assert.Zero(t, d)
}
