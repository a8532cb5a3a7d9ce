package tenant_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestGoneAreThoseWithoutARecord(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	f.register(t, "shop")
	f.register(t, "unpaid")
	_, err := f.Suspend(bg, "unpaid", "")
	require.NoError(t, err)
	gone, err := tenant.Gone(f.store)(bg, []string{"a", "shop", "no id ", "unpaid"})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "no id "}, gone)
	done, cancel := context.WithCancel(bg)
	cancel()
	gone, err = tenant.Gone(f.store)(done, []string{"a"})
	assert.ErrorIs(t, err, errors.Canceled)
	assert.Empty(t, gone)
}
