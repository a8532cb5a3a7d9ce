package inboxtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

func order(t *testing.T, b *bench) {
	for id := int64(1); id <= 5; id++ {
		b.put(update("a", "1", id))
	}
	var last int64
	for id := int64(1); id <= 5; id++ {
		l := b.one(id)
		b.lease() // nothing else of the chat meanwhile
		assert.Greater(t, l.Token, last)
		last = l.Token
		b.settle(l, inbox.Done, 0)
	}
	b.lease()
}

func parallel(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "2", 2), update("a", "1", 3), update("b", "1", 4), update("b", "1", 5))
	for _, l := range b.lease(1, 2, 4) {
		if l.ID == 1 {
			b.settle(l, inbox.Done, 0)
		}
	}
	b.lease(3)
}

func overtaken(t *testing.T, b *bench) {
	b.put(update("a", "1", 9), update("a", "1", 5), update("a", "1", 7))
	b.settle(b.one(5), inbox.Done, 0)
	l := b.one(7)
	b.put(update("a", "1", 6)) // too late to come before 7, but in time for 9
	b.lease()
	b.settle(l, inbox.Done, 0)
	b.settle(b.one(6), inbox.Done, 0)
	b.settle(b.one(9), inbox.Done, 0)
}

func lapse(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "1", 2))
	first := b.one(1)
	b.advance(ttl - time.Second)
	b.lease()
	b.advance(2 * time.Second)
	again := b.one(1)
	assert.Equal(t, 2, again.Attempt)
	assert.Greater(t, again.Token, first.Token)

	// Who lost it can't do anything about it.
	held, err := b.in.Extend(b.ctx, []inbox.Lease{first, again}, ttl)
	require.NoError(t, err)
	assert.Equal(t, []bool{false, true}, held)
	for _, v := range []inbox.Verdict{inbox.Done, inbox.Retry, inbox.Return, inbox.Bury} {
		assert.False(t, b.settled(inbox.Settlement{Lease: first, Verdict: v}), v)
	}
	b.lease()
	b.depth("a", 1, 1, 0)
	b.settle(again, inbox.Done, 0)
	b.one(2)
}

func extend(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "2", 2))
	leases := b.lease(1, 2)
	kept, lost := leases[0], leases[1]
	for range 3 {
		b.advance(ttl - time.Second)
		held, err := b.in.Extend(b.ctx, []inbox.Lease{kept}, ttl)
		require.NoError(t, err)
		assert.Equal(t, []bool{true}, held)
		kept.Until = time.Time{} // the lease is known by its token
	}
	l := b.one(lost.ID)
	assert.Equal(t, 2, l.Attempt)
	b.settle(kept, inbox.Done, 0)
}

func retry(t *testing.T, b *bench) {
	b.put(update("a", "1", 1), update("a", "1", 2), update("a", "2", 3))
	for _, l := range b.lease(1, 3) {
		if l.ID == 1 {
			b.settle(l, inbox.Retry, time.Minute)
		} else {
			b.settle(l, inbox.Done, 0)
		}
	}
	b.lease()
	b.put(update("a", "1", 4))
	b.lease()
	b.depth("a", 3, 0, 0)
	b.advance(time.Minute - time.Second)
	b.lease()
	b.advance(2 * time.Second)
	l := b.one(1)
	assert.Equal(t, 2, l.Attempt)
	b.settle(l, inbox.Retry, 0)
	l = b.one(1)
	assert.Equal(t, 3, l.Attempt)
	b.settle(l, inbox.Done, 0)
	b.one(2)
}

func returned(t *testing.T, b *bench) {
	b.put(update("a", "1", 1))
	l := b.one(1)
	b.settle(l, inbox.Return, 0)
	again := b.one(1)
	assert.Equal(t, 1, again.Attempt)
	assert.Greater(t, again.Token, l.Token)
	assert.False(t, b.settled(inbox.Settlement{Lease: l, Verdict: inbox.Done}))
	b.settle(again, inbox.Return, time.Hour)
	b.lease()
	b.advance(time.Hour + time.Second)
	assert.Equal(t, 1, b.one(1).Attempt)
}

func settleTwice(t *testing.T, b *bench) {
	for i, v := range []inbox.Verdict{inbox.Done, inbox.Retry, inbox.Return, inbox.Bury} {
		id := int64(i + 1)
		b.put(update("a", v.String(), id))
		l := b.one(id)
		b.settle(l, v, time.Hour)
		assert.False(t, b.settled(inbox.Settlement{Lease: l, Verdict: inbox.Bury}), v)
		held, err := b.in.Extend(b.ctx, []inbox.Lease{l}, ttl)
		require.NoError(t, err)
		assert.Equal(t, []bool{false}, held, v)
	}
	b.depth("a", 2, 0, 1)
	// Twice in one batch.
	b.put(update("b", "1", 1))
	l := b.one(1)
	held, err := b.in.Settle(b.ctx, []inbox.Settlement{{Lease: l, Verdict: inbox.Return, After: time.Hour}, {Lease: l, Verdict: inbox.Done}})
	require.NoError(t, err)
	assert.Equal(t, []bool{true, false}, held)
	b.depth("b", 1, 0, 0)
}

func expired(t *testing.T, b *bench) {
	soon := update("a", "1", 1)
	soon.ExpiresAt = time.Now().Add(30 * time.Second)
	b.put(soon, update("a", "1", 2))
	b.advance(31 * time.Second)
	l := b.one(2)
	b.depth("a", 0, 1, 0)
	assert.Equal(t, []inbox.Outcome{{Duplicate: true}}, b.outcomes(soon))
	b.settle(l, inbox.Done, 0)

	// One that is leased is not taken away, but not tried again.
	leased := update("a", "2", 3)
	leased.ExpiresAt = time.Now().Add(30 * time.Second)
	b.put(leased)
	l = b.one(3)
	b.advance(31 * time.Second)
	b.settle(l, inbox.Retry, 0)
	b.lease()
	b.depth("a", 0, 0, 0)

	// It had expired already when it came.
	late := update("a", "3", 4)
	late.ExpiresAt = time.Now().Add(-time.Second)
	b.put(late)
	b.lease()
	b.depth("a", 0, 0, 0)
}

// callbacks come in the order of the chat that their button is in, and those of
// inline messages, whose chat is not known, in their user's.
func callbacks(t *testing.T, b *bench) {
	for i, body := range []string{
		`"message":{"chat":{"id":-5},"from":{"id":7}}`,
		`"callback_query":{"id":"1","from":{"id":7},"message":{"chat":{"id":-5}}}`,
		`"callback_query":{"id":"2","from":{"id":7},"inline_message_id":"x"}`,
		`"message":{"chat":{"id":-5},"from":{"id":8}}`,
		`"message":{"chat":{"id":7},"from":{"id":7}}`,
	} {
		u, err := inbox.Parse("a", fmt.Appendf(nil, `{"update_id":%d,%s}`, i+1, body), time.Now())
		require.NoError(t, err)
		b.put(u)
	}
	for _, l := range b.lease(1, 3) {
		b.settle(l, inbox.Done, 0)
	}
	for _, l := range b.lease(2, 5) {
		b.settle(l, inbox.Done, 0)
	}
	b.one(4)
}
