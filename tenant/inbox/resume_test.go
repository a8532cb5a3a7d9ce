package inbox

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
)

type noPool struct{}

func (noPool) Do(context.Context, string, func(context.Context, *tenant.Tenant) error) error {
	return nil
}

func TestWhatNobodyHearsIsNotKept(t *testing.T) {
	m, err := NewMemory(MemoryConfig{})
	require.NoError(t, err)
	w, err := NewWorkers(m, noPool{}, HandlerFunc(func(context.Context, *tenant.Tenant, Update) error { return nil }), WorkersConfig{})
	require.NoError(t, err)
	w.Resume("a")
	assert.Empty(t, w.resumed, "before the start")
	ctx, cancel := context.WithCancel(context.Background())
	require.NoError(t, w.Start(ctx))
	cancel()
	<-w.ended
	w.Resume("a")
	assert.Empty(t, w.resumed, "after the end")
}

// eager tells of all tenants when somebody begins to listen, since any may have
// changed before.
type eager struct{ noPool }

func (eager) Watch(changed func(id string)) (stop func()) {
	changed("")
	return func() {}
}

func TestAPoolMayTellOfTenantsAtOnce(t *testing.T) {
	m, err := NewMemory(MemoryConfig{})
	require.NoError(t, err)
	w, err := NewWorkers(m, eager{}, HandlerFunc(func(context.Context, *tenant.Tenant, Update) error { return nil }), WorkersConfig{})
	require.NoError(t, err)
	started := make(chan error, 1)
	go func() { started <- w.Start(context.Background()) }()
	select {
	case err := <-started:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for itself")
	}
	require.NoError(t, w.Stop(context.Background()))
}
