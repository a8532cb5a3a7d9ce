package inbox

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAChatOfWhichAllHasExpiredIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		m, err := NewMemory(MemoryConfig{})
		require.NoError(t, err)
		u, err := Parse("a", []byte(`{"update_id":1,"inline_query":{"from":{"id":7}}}`), time.Now())
		require.NoError(t, err)
		_, err = m.Put(ctx, []Update{u})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		leases, err := m.Lease(ctx, Want{Limit: 1, TTL: time.Minute})
		require.NoError(t, err)
		assert.Empty(t, leases)
		assert.Empty(t, m.boxes["a"].chats)
	})
}
