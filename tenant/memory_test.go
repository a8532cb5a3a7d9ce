package tenant_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func TestMemoryStore(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(*testing.T, *seal.Ring) tenant.Store { return tenant.NewMemoryStore() },
	})
}

func TestAMemoryStoresLogIsBounded(t *testing.T) {
	s := tenant.NewMemoryStore()
	r, err := s.Put(bg, record(t, "a", 1))
	require.NoError(t, err)
	entries := make([]tenant.Entry, 1000)
	for i := range entries {
		entries[i].Action = "test"
	}
	const changes = 120
	for range changes {
		r, err = s.Put(bg, r, entries...)
		require.NoError(t, err)
	}
	all, err := s.Log(bg, tenant.LogFilter{Limit: 1 << 30})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(all), 50_000)
	assert.Less(t, len(all), 100_000)
	assert.Equal(t, int64(1000*changes), all[len(all)-1].Seq, "the latest are kept")
}

func TestARecordPrintsWithoutItsSecret(t *testing.T) {
	r := record(t, "a", 123456)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	out := fmt.Sprintf("%v %+v %#v %s", r, r, r, text)
	assert.Contains(t, out, "123456:***")
	assert.NotContains(t, out, r.Token.Reveal())
}

func TestStatusText(t *testing.T) {
	for _, s := range []tenant.Status{tenant.Active, tenant.Suspended, tenant.Quarantined} {
		text, err := s.MarshalText()
		require.NoError(t, err)
		var back tenant.Status
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, s, back)
	}
	var s tenant.Status
	assert.Error(t, s.UnmarshalText([]byte("fine")))
	assert.Equal(t, "Status(9)", tenant.Status(9).String())
}
