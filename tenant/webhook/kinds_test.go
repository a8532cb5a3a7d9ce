package webhook_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// The kinds of a handler are asked of what the workers get, with all that is
// around it.
func TestAHandlersKindsShowThroughReplies(t *testing.T) {
	rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{}), newKeys(t), webhook.Config{})
	var mux inbox.Mux
	called := false
	mux.HandleFunc("poll", func(context.Context, *tenant.Tenant, inbox.Update) error { called = true; return nil })
	h := rc.Replies()(&mux)
	assert.Equal(t, []string{"poll"}, inbox.KindsOf(h))
	assert.NoError(t, h.HandleUpdate(bg, nil, inbox.Update{Kind: "poll"}))
	assert.True(t, called)
	assert.Equal(t, []string{"poll"}, inbox.KindsOf(inbox.Chain(&mux, rc.Replies())))
	plain := inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
	assert.Nil(t, inbox.KindsOf(rc.Replies()(plain)), "and where nobody knows them nobody claims to")
}
