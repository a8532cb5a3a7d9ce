package inboxtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

func (b *bench) dead(filter inbox.DeadFilter) []inbox.DeadLetter {
	b.t.Helper()
	letters, err := b.in.Dead(b.ctx, filter)
	require.NoError(b.t, err)
	return letters
}

func refs(letters []inbox.DeadLetter) []inbox.Ref {
	var all []inbox.Ref
	for _, l := range letters {
		all = append(all, l.Ref())
	}
	return all
}

// kill puts updates and buries them.
func (b *bench) kill(updates ...inbox.Update) {
	b.t.Helper()
	for _, u := range updates {
		b.put(u)
		b.settle(b.one(u.ID), inbox.Bury, 0)
	}
}

func bury(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "1", 2))
	l := b.one(1)
	b.settle(l, inbox.Retry, 0)
	l = b.one(1)
	before := time.Now()
	require.True(t, b.settled(inbox.Settlement{Lease: l, Verdict: inbox.Bury, Reason: "it's no use"}))
	b.one(2)
	b.depth("a", 0, 1, 1)
	letters := b.dead(inbox.DeadFilter{})
	require.Len(t, letters, 1)
	assert.Equal(t, "it's no use", letters[0].Reason)
	assert.Equal(t, 2, letters[0].Attempt)
	assert.Equal(t, string(l.Raw), string(letters[0].Raw))
	assert.Equal(t, "message", letters[0].Kind)
	assert.Equal(t, "1", letters[0].Chat)
	assert.WithinDuration(t, before, letters[0].DiedAt, time.Minute)
	assert.WithinDuration(t, l.ReceivedAt, letters[0].ReceivedAt, time.Millisecond)
}

func deadPages(t *testing.T, b *bench) {
	b.kill(update("b", "1", 7), update("a", "1", 3), update("a", "2", 20), update("a", "1", 100), update("B", "1", 5), update("c", "1", 1))
	all := []inbox.Ref{{Tenant: "B", ID: 5}, {Tenant: "a", ID: 3}, {Tenant: "a", ID: 20}, {Tenant: "a", ID: 100}, {Tenant: "b", ID: 7}, {Tenant: "c", ID: 1}}
	assert.Equal(t, all, refs(b.dead(inbox.DeadFilter{})))
	assert.Equal(t, all[1:4], refs(b.dead(inbox.DeadFilter{Tenant: "a"})))
	assert.Equal(t, all[2:4], refs(b.dead(inbox.DeadFilter{Tenant: "a", After: all[1]})))
	assert.Equal(t, all[3:5], refs(b.dead(inbox.DeadFilter{After: inbox.Ref{Tenant: "a", ID: 21}, Limit: 2})))
	assert.Empty(t, b.dead(inbox.DeadFilter{Tenant: "nobody"}))
	var walked []inbox.Ref
	filter := inbox.DeadFilter{Limit: 2}
	for {
		page := refs(b.dead(filter))
		if len(page) == 0 {
			break
		}
		require.LessOrEqual(t, len(page), 2)
		walked = append(walked, page...)
		filter.After = page[len(page)-1]
	}
	assert.Equal(t, all, walked)
}

func replay(t *testing.T, b *bench) {
	late := update("a", "1", 1)
	late.ExpiresAt = time.Now().Add(time.Minute)
	b.kill(late, update("a", "2", 2))
	b.put(update("a", "1", 5), update("a", "1", 6))
	l := b.one(5)
	b.advance(time.Hour)
	n, err := b.in.Replay(b.ctx, []inbox.Ref{late.Ref(), {Tenant: "a", ID: 999}, {Tenant: "nobody", ID: 1}, late.Ref()})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, []inbox.Ref{{Tenant: "a", ID: 2}}, refs(b.dead(inbox.DeadFilter{})))
	again := b.one(1) // the lease of 5 has lapsed too, but 1 comes before it
	assert.Equal(t, 1, again.Attempt)
	assert.True(t, again.ExpiresAt.IsZero())
	assert.False(t, b.settled(inbox.Settlement{Lease: l, Verdict: inbox.Done}))
	b.settle(again, inbox.Done, 0)
	b.settle(b.one(5), inbox.Done, 0)
	b.settle(b.one(6), inbox.Done, 0)

	// One that dies again is as dead as before.
	n, err = b.in.Replay(b.ctx, []inbox.Ref{{Tenant: "a", ID: 2}})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	b.depth("a", 1, 0, 0)
	b.settle(b.one(2), inbox.Bury, 0)
	b.depth("a", 0, 0, 1)
}

func dropped(t *testing.T, b *bench) {
	b.kill(update("a", "1", 1), update("a", "1", 2), update("b", "1", 1))
	n, err := b.in.Drop(b.ctx, []inbox.Ref{{Tenant: "a", ID: 1}, {Tenant: "a", ID: 1}, {Tenant: "x", ID: 1}})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	n, err = b.in.Replay(b.ctx, []inbox.Ref{{Tenant: "a", ID: 1}})
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, []inbox.Ref{{Tenant: "a", ID: 2}, {Tenant: "b", ID: 1}}, refs(b.dead(inbox.DeadFilter{})))

	// What is not dead is neither replayed nor dropped.
	b.put(update("c", "1", 1), update("c", "2", 2))
	b.lease(1, 2)
	b.put(update("c", "1", 3))
	for _, f := range []func() (int, error){
		func() (int, error) {
			return b.in.Drop(b.ctx, []inbox.Ref{{Tenant: "c", ID: 1}, {Tenant: "c", ID: 3}})
		},
		func() (int, error) {
			return b.in.Replay(b.ctx, []inbox.Ref{{Tenant: "c", ID: 1}, {Tenant: "c", ID: 3}})
		},
	} {
		n, err := f()
		require.NoError(t, err)
		assert.Zero(t, n)
	}
	b.depth("c", 1, 2, 0)
}

func deadBound(t *testing.T, b *bench) {
	for _, id := range []int64{4, 9, 1, 7} {
		b.kill(update("a", "1", id))
		b.advance(time.Second)
	}
	b.kill(update("b", "1", 1))
	assert.Equal(t, []inbox.Ref{{Tenant: "a", ID: 1}, {Tenant: "a", ID: 7}, {Tenant: "a", ID: 9}, {Tenant: "b", ID: 1}}, refs(b.dead(inbox.DeadFilter{})))
	b.depth("a", 0, 0, 3)
}

// Telegram begins its ids anew after a week without updates, so one that waits
// may have the id of a dead letter.
func replayInUse(t *testing.T, b *bench) {
	old, young := update("a", "1", 1), update("a", "1", 1)
	old.Raw, young.Raw = []byte(`"old"`), []byte(`"young"`)
	b.kill(old)
	b.advance(8 * 24 * time.Hour)
	b.put(young)
	var came []string
	for range 2 { // replayed at once or when the id is free
		_, err := b.in.Replay(b.ctx, []inbox.Ref{old.Ref()})
		require.NoError(t, err)
		for {
			leases, err := b.in.Lease(b.ctx, inbox.Want{Limit: 1, TTL: ttl})
			require.NoError(t, err)
			if len(leases) == 0 {
				break
			}
			came = append(came, string(leases[0].Raw))
			b.settle(leases[0], inbox.Done, 0)
		}
	}
	assert.ElementsMatch(t, []string{`"old"`, `"young"`}, came)
	b.depth("", 0, 0, 0)
}
