package pgstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
)

// cutInbox is an inbox by way of a proxy, and one over the same data that is not
// disturbed.
type cutInbox struct {
	*proxy
	via, direct *pgstore.Inbox
	age         func(time.Duration)
}

func newCutInbox(t *testing.T, conns int) cutInbox {
	url, ring := address(t), keys(t)
	schema := newSchema(t, url)
	direct := openInbox(t, url, schema, ring, inboxtest.Config{})
	p := newProxy(t, url)
	db, err := pgstore.Open(t.Context(), withParam(through(t, url, p), fmt.Sprint("pool_max_conns=", conns)),
		pgstore.Config{Keys: ring, Schema: schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return cutInbox{p, db.Inbox(), direct, func(d time.Duration) { age(t, url, schema, d) }}
}

// eachCut runs op, cut at bytes all over it and its answer. prepare comes before
// each, and after each check, which says whether op was carried out.
func (c cutInbox) eachCut(t *testing.T, prepare func(), op func() error, check func(err error) (made bool)) {
	whole := func(answers bool) (length int64) {
		for {
			prepare()
			c.cutAfter(-1, answers)
			err := op()
			length := c.bytes()
			made := check(err)
			if err == nil {
				require.True(t, made)
				return length
			}
		}
	}
	for _, answers := range []bool{false, true} {
		whole(answers)
		length := whole(answers) // connected and prepared
		require.Positive(t, length)
		made, failed := 0, 0
		for at := int64(0); at < length; at += 1 + length/25 {
			whole(answers)
			prepare()
			c.cutAfter(at, answers)
			err := op()
			c.cutAfter(-1, answers)
			done := check(err)
			if err == nil {
				require.True(t, done)
				continue
			}
			failed++
			require.ErrorIs(t, err, errors.StoreUnavailable)
			if done {
				made++
				require.Equal(t, errors.MaybeDelivered, deliveryOf(t, err), "cut at byte %d, answers=%v", at, answers)
			}
		}
		require.Positive(t, failed)
		if answers { // a request that is cut after its COMMIT is carried out, too
			assert.Positive(t, made, "no cut came after a commit")
		}
	}
}

func TestAPutThatIsCutStoresAllOrNothingAndIsSafeToMakeAgain(t *testing.T) {
	c := newCutInbox(t, 1)
	var batch []inbox.Update
	id, waiting := int64(0), 0
	put := func() error {
		_, err := c.via.Put(t.Context(), batch)
		return err
	}
	c.eachCut(t, func() {
		id++
		batch = []inbox.Update{message("a", "1", id), message("a", "2", 1<<32+id), message("b", "1", id)}
	}, put, func(err error) bool {
		d, depthErr := c.direct.Depth(t.Context(), "")
		require.NoError(t, depthErr)
		stored := d.Waiting - waiting
		require.Contains(t, []int{0, len(batch)}, stored, "half a batch")
		for err != nil { // its source tries again
			err = put()
		}
		outcomes, putErr := c.direct.Put(t.Context(), batch)
		require.NoError(t, putErr)
		for _, o := range outcomes {
			require.Equal(t, inbox.Outcome{Duplicate: true}, o)
		}
		waiting += len(batch)
		return stored > 0
	})
	lent := 0
	last := make(map[[2]string]int64)
	for {
		leases, err := c.direct.Lease(t.Context(), inbox.Want{Limit: 1000, TTL: time.Hour})
		require.NoError(t, err)
		if len(leases) == 0 {
			break
		}
		var done []inbox.Settlement
		for _, l := range leases {
			chat := [2]string{l.Tenant, l.Chat}
			require.Greater(t, l.ID, last[chat], "out of order, or twice")
			last[chat] = l.ID
			done = append(done, inbox.Settlement{Lease: l, Verdict: inbox.Done})
		}
		lent += len(done)
		_, err = c.direct.Settle(t.Context(), done)
		require.NoError(t, err)
	}
	assert.Equal(t, waiting, lent)
}

func TestALeaseThatIsCutLapsesAtWorst(t *testing.T) {
	c := newCutInbox(t, 1)
	want := inbox.Want{Limit: 9, TTL: 30 * time.Minute} // the ids of an hour stay those of an hour
	id := int64(0)
	var leases []inbox.Lease
	c.eachCut(t, func() {
		id++
		_, err := c.direct.Put(t.Context(), []inbox.Update{message("a", "1", id), message("b", "1", id)})
		require.NoError(t, err)
	}, func() (err error) {
		leases, err = c.via.Lease(t.Context(), want)
		return err
	}, func(err error) bool {
		d, depthErr := c.direct.Depth(t.Context(), "")
		require.NoError(t, depthErr)
		require.Contains(t, []int{0, 2}, d.Leased, "half of what was to be lent")
		if err != nil {
			require.Empty(t, leases)
			c.age(want.TTL)
			leases, err = c.direct.Lease(t.Context(), want)
			require.NoError(t, err)
		}
		require.Len(t, leases, 2)
		var done []inbox.Settlement
		for _, l := range leases {
			require.Equal(t, id, l.ID)
			done = append(done, inbox.Settlement{Lease: l, Verdict: inbox.Done})
		}
		held, err := c.direct.Settle(t.Context(), done)
		require.NoError(t, err)
		require.Equal(t, []bool{true, true}, held)
		return d.Leased > 0
	})
}

func TestASettlementThatIsCutSettlesAllOrNothingAndIsSafeToMakeAgain(t *testing.T) {
	c := newCutInbox(t, 1)
	want := inbox.Want{Limit: 9, TTL: time.Hour}
	id, dead := int64(0), 0
	var settlements []inbox.Settlement
	lease := func() (ids []int64) {
		leases, err := c.direct.Lease(t.Context(), want)
		require.NoError(t, err)
		settlements = nil
		for i, l := range leases {
			ids = append(ids, l.ID)
			settlements = append(settlements, inbox.Settlement{Lease: l, Verdict: []inbox.Verdict{inbox.Done, inbox.Bury}[i%2], Reason: "x"})
		}
		return ids
	}
	c.eachCut(t, func() {
		id += 2
		_, err := c.direct.Put(t.Context(), []inbox.Update{message("a", "1", id), message("b", "1", id), message("a", "1", id+1)})
		require.NoError(t, err)
		require.Equal(t, []int64{id, id}, lease())
	}, func() error {
		_, err := c.via.Settle(t.Context(), settlements)
		return err
	}, func(err error) bool {
		d, depthErr := c.direct.Depth(t.Context(), "")
		require.NoError(t, depthErr)
		made := d.Leased == 0
		if made {
			dead++
		}
		require.Equal(t, inbox.Depth{Waiting: 1, Leased: 2 - len(settlements)*toInt(made), Dead: dead, Oldest: d.Oldest}, d, "half of it")
		held, settleErr := c.via.Settle(t.Context(), settlements)
		for settleErr != nil {
			held, settleErr = c.via.Settle(t.Context(), settlements)
		}
		if made {
			require.Equal(t, []bool{false, false}, held, "settled twice")
		} else {
			require.Equal(t, []bool{true, true}, held)
			dead++
		}
		require.Equal(t, []int64{id + 1}, lease(), "the next of the chat, and nothing twice")
		_, settleErr = c.direct.Settle(t.Context(), settlements)
		require.NoError(t, settleErr)
		return made
	})
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// soak puts updates of some chats and handles them, both again after errors, and
// calls disturb before each step of the worker. Nothing may be lost, stored twice
// or out of its chat's order, and what was settled is not lent again.
func soak(t *testing.T, in inbox.Inbox, disturb func(step int)) {
	const chats, each = 6, 40
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for chat := range chats {
		wg.Go(func() {
			for id := int64(1); id <= each && ctx.Err() == nil; id += 2 {
				batch := []inbox.Update{message(fmt.Sprint("t", chat%3), fmt.Sprint(chat), id), message(fmt.Sprint("t", chat%3), fmt.Sprint(chat), id+1)}
				for i := range batch {
					batch[i].ID = id + int64(i) + int64(chat)<<32 // a tenant's ids are its own
				}
				for ctx.Err() == nil {
					outcomes, err := in.Put(ctx, batch)
					if err == nil {
						assert.NoError(t, outcomes[0].Err)
						assert.NoError(t, outcomes[1].Err)
						break
					}
					checkCut(t, ctx, err)
				}
			}
		})
	}
	var done, maybe [chats]int64 // the last id that was settled, and that may have been
	settled := func() bool {
		for _, id := range done {
			if id < each {
				return false
			}
		}
		return true
	}
	for step := 0; !settled(); step++ {
		disturb(step)
		leases, err := in.Lease(ctx, inbox.Want{Limit: 4, TTL: 500 * time.Millisecond})
		require.NoError(t, ctx.Err(), "lost, or stuck: %v of %d", done, each)
		if err != nil {
			checkCut(t, ctx, err)
			continue
		}
		var settlements []inbox.Settlement
		for _, l := range leases {
			var chat int
			_, err := fmt.Sscan(l.Chat, &chat)
			require.NoError(t, err)
			id := l.ID - int64(chat)<<32
			switch {
			case id == done[chat]+1:
			case id == done[chat]+2 && maybe[chat] == done[chat]+1:
				done[chat]++ // it was settled in spite of the error
			default:
				t.Fatalf("chat %d: %d was lent after %d (%d may be)", chat, id, done[chat], maybe[chat])
			}
			settlements = append(settlements, inbox.Settlement{Lease: l, Verdict: inbox.Done})
			maybe[chat] = id
		}
		if len(settlements) == 0 {
			if d, err := in.Depth(ctx, ""); err == nil && d.Waiting+d.Leased == 0 {
				for chat := range done {
					done[chat] = max(done[chat], maybe[chat])
				}
			}
			continue
		}
		held, err := in.Settle(ctx, settlements)
		if err != nil {
			checkCut(t, ctx, err)
			continue // until it lapses
		}
		for i, s := range settlements {
			var chat int
			_, _ = fmt.Sscan(s.Lease.Chat, &chat)
			if held[i] {
				done[chat] = maybe[chat]
			}
		}
	}
	wg.Wait()
	d, err := in.Depth(t.Context(), "")
	for err != nil {
		d, err = in.Depth(ctx, "")
		require.NoError(t, ctx.Err())
	}
	assert.Equal(t, inbox.Depth{}, d)
}

func checkCut(t *testing.T, ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	assert.ErrorIs(t, err, errors.StoreUnavailable)
	e, ok := errors.AsType[*errors.Error](err)
	assert.True(t, ok && e.Delivery != errors.DeliveryUnknown, "%v", err)
}

func TestAnInboxWhoseConnectionsAreCutLosesAndDoublesNothing(t *testing.T) {
	c := newCutInbox(t, 4)
	soak(t, c.via, func(step int) {
		if step%3 == 0 {
			c.cutAfter(rand.Int64N(4000), rand.N(2) == 0)
		}
		if step%20 == 0 {
			c.cut()
		}
	})
}

func TestAnInboxWhoseServerRestartsLosesAndDoublesNothing(t *testing.T) {
	for _, mode := range []string{"fast", "immediate"} {
		srv := newServer(t)
		in := openInbox(t, srv.url(), "tgfleet", keys(t), inboxtest.Config{})
		soak(t, in, func(step int) {
			if step == 5 || step == 25 {
				srv.run(t, "pg_ctl", "stop", "--pgdata="+srv.dir, "--mode="+mode, "--wait")
				srv.start(t)
			}
		})
	}
}

func TestAPutThatIsGivenUpMayBeStored(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	in := openInbox(t, url, schema, keys(t), inboxtest.Config{})
	other := begin(t, url, "LOCK TABLE "+schema+".inbox_updates")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := in.Put(ctx, []inbox.Update{message("a", "1", 1)})
		done <- err
	}()
	require.True(t, waitBlocked(t, url, other, done))
	soon, cancelSoon := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancelSoon()
	_, err := in.Put(soon, []inbox.Update{message("a", "1", 3)})
	require.ErrorIs(t, err, errors.Timeout)
	assert.True(t, errors.SafeToRepeat(err), "it was not begun")
	cancel()
	err = <-done
	require.ErrorIs(t, err, errors.Canceled)
	assert.Equal(t, errors.MaybeDelivered, deliveryOf(t, err))
	require.NoError(t, other.Rollback(t.Context()))
	outcomes, err := in.Put(t.Context(), []inbox.Update{message("a", "1", 1)})
	require.NoError(t, err)
	assert.True(t, outcomes[0].Duplicate, "others go on with it")
	_, err = in.Put(ctx, []inbox.Update{message("a", "1", 2)})
	require.ErrorIs(t, err, errors.Canceled)
	assert.True(t, errors.SafeToRepeat(err))
	outcomes, err = in.Put(t.Context(), []inbox.Update{message("a", "1", 3)})
	require.NoError(t, err)
	assert.False(t, outcomes[0].Duplicate)
}
