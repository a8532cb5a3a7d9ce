package inboxtest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

func roundTrip(t *testing.T, b *bench) {
	raw := json.RawMessage("{\"update_id\":77, \"message\":{\"text\":\"caf\u00e9 \xff \\u0000 '\\\" \U0001F600\"}} \n")
	u := inbox.Update{
		Tenant: "Kunde ü/'\"%_", ID: 1<<54 + 1, Kind: strings.Repeat("k", 64), Chat: "poll:" + strings.Repeat("x", 90),
		Raw: raw, ReceivedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour), Attempt: 9,
	}
	big := update("big", "1", 5)
	big.Raw = json.RawMessage(`{"update_id":5,"message":{"text":"` + strings.Repeat("x", 1<<20) + `"}}`)
	b.put(u, big)
	leases := b.lease(u.ID, big.ID)
	for _, l := range leases {
		want := u
		if l.Tenant == "big" {
			want = big
		}
		assert.Equal(t, want.Tenant, l.Tenant)
		assert.Equal(t, want.Kind, l.Kind)
		assert.Equal(t, want.Chat, l.Chat)
		assert.Equal(t, string(want.Raw), string(l.Raw))
		assert.WithinDuration(t, want.ReceivedAt, l.ReceivedAt, time.Millisecond)
		assert.Equal(t, want.ExpiresAt.IsZero(), l.ExpiresAt.IsZero())
		assert.WithinDuration(t, want.ExpiresAt, l.ExpiresAt, time.Millisecond)
		assert.Equal(t, 1, l.Attempt, "attempts are the inbox's to count")
		assert.NotZero(t, l.Token)
		assert.False(t, l.Until.IsZero())
	}
}

func nothing(t *testing.T, b *bench) {
	b.lease()
	assert.Empty(t, b.outcomes())
	b.depth("", 0, 0, 0)
	b.depth("nobody", 0, 0, 0)
	require.NoError(t, b.in.Forget(b.ctx, "nobody"))
	held, err := b.in.Settle(b.ctx, nil)
	require.NoError(t, err)
	assert.Empty(t, held)
	held, err = b.in.Extend(b.ctx, nil, ttl)
	require.NoError(t, err)
	assert.Empty(t, held)
	b.put(update("a", "1", 1))
	leases, err := b.in.Lease(b.ctx, inbox.Want{TTL: ttl})
	require.NoError(t, err)
	assert.Empty(t, leases, "a Limit of 0 lends nothing")
}

func duplicates(t *testing.T, b *bench) {
	known := []inbox.Outcome{{Duplicate: true}}
	u := update("a", "1", 1)
	assert.Equal(t, []inbox.Outcome{{}, {Duplicate: true}}, b.outcomes(u, u), "within a batch")
	assert.Equal(t, known, b.outcomes(u), "while it waits")
	b.put(update("b", "1", 1)) // another tenant's
	moved := update("a", "2", 1)
	assert.Equal(t, known, b.outcomes(moved), "whatever else has changed")
	for _, l := range b.lease(1, 1) {
		if l.Tenant == "a" {
			assert.Equal(t, known, b.outcomes(u), "while it is leased")
			b.settle(l, inbox.Done, 0)
		}
	}
	assert.Equal(t, known, b.outcomes(u), "when it is done")
	b.lease()

	dead := update("a", "3", 7)
	b.put(dead)
	b.settle(b.one(7), inbox.Bury, 0)
	assert.Equal(t, known, b.outcomes(dead), "when it is dead")
	n, err := b.in.Drop(b.ctx, []inbox.Ref{dead.Ref()})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, known, b.outcomes(dead), "when it is dropped")

	// Ids that come in any order, with gaps.
	for _, id := range []int64{100, 50, 102, 101, 49, 52, 51, 1 << 50, 2} {
		b.put(update("c", "1", id))
	}
	for _, id := range []int64{2, 49, 50, 51, 52, 100, 101, 102, 1 << 50} {
		assert.Equal(t, known, b.outcomes(update("c", "9", id)), "%d", id)
	}
	for _, id := range []int64{1, 3, 48, 53, 99, 103, 1<<50 - 1, 1<<50 + 1} {
		b.put(update("c", "1", id))
	}
}

func remembered(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "1", 2))
	b.settle(b.one(1), inbox.Done, 0)
	b.settle(b.one(2), inbox.Done, 0)
	b.advance(24*time.Hour - time.Minute)
	assert.Equal(t, []inbox.Outcome{{Duplicate: true}, {Duplicate: true}}, b.outcomes(update("a", "1", 1), update("a", "1", 2)))
	// Telegram starts ids anew after a week of silence.
	b.advance(7 * 24 * time.Hour)
	b.put(update("other", "1", 1)) // whatever cleans up has had its chance
	b.put(update("a", "1", 2), update("a", "1", 1))
}

func invalid(t *testing.T, b *bench) {
	good := update("a", "1", 1)
	bad := good
	bad.ID = 0
	later := update("a", "1", 2)
	outcomes := b.outcomes(bad, good, inbox.Update{}, later)
	require.ErrorIs(t, outcomes[0].Err, errors.BadRequest)
	require.ErrorIs(t, outcomes[2].Err, errors.BadRequest)
	assert.Equal(t, inbox.Outcome{}, outcomes[1])
	assert.Equal(t, inbox.Outcome{}, outcomes[3])
	b.depth("", 2, 0, 0)
	_, err := b.in.Lease(b.ctx, inbox.Want{Limit: 1})
	require.ErrorIs(t, err, errors.BadRequest, "a lease without an end")
}

func endedContext(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "2", 2))
	l := b.lease(1, 2)
	b.settle(l[0], inbox.Return, 0)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	for name, f := range map[string]func() error{
		"Put":    func() error { _, err := b.in.Put(ctx, []inbox.Update{update("b", "1", 1)}); return err },
		"Lease":  func() error { _, err := b.in.Lease(ctx, inbox.Want{Limit: 1, TTL: ttl}); return err },
		"Extend": func() error { _, err := b.in.Extend(ctx, l, ttl); return err },
		"Settle": func() error {
			_, err := b.in.Settle(ctx, []inbox.Settlement{{Lease: l[1], Verdict: inbox.Done}})
			return err
		},
		"Dead":   func() error { _, err := b.in.Dead(ctx, inbox.DeadFilter{}); return err },
		"Replay": func() error { _, err := b.in.Replay(ctx, []inbox.Ref{{Tenant: "a", ID: 1}}); return err },
		"Drop":   func() error { _, err := b.in.Drop(ctx, []inbox.Ref{{Tenant: "a", ID: 1}}); return err },
		"Depth":  func() error { _, err := b.in.Depth(ctx, ""); return err },
		"Forget": func() error { return b.in.Forget(ctx, "a") },
	} {
		assert.ErrorIs(t, f(), errors.Canceled, name)
	}
	b.depth("", 1, 1, 0)
}
