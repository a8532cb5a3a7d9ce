package inbox

import (
	"context"
	"testing"

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
