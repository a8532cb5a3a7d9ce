package inboxtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

func wake(t *testing.T, b *bench) {
	w, ok := b.in.(inbox.Waker)
	if !ok {
		return // an ability that an inbox need not have
	}
	woken := func(why string, f func()) {
		t.Helper()
		c := w.Wake()
		select {
		case <-c:
			t.Fatalf("%s: woken before", why)
		default:
		}
		f()
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not woken", why)
		}
	}
	woken("put", func() { b.put(update("a", "1", 1), update("a", "1", 2)) })
	l := b.one(1)
	woken("settled, with more in the chat", func() { b.settle(l, inbox.Done, 0) })
	l = b.one(2)
	woken("returned", func() { b.settle(l, inbox.Return, 0) })
	b.settle(b.one(2), inbox.Bury, 0)
	woken("replayed", func() {
		n, err := b.in.Replay(b.ctx, []inbox.Ref{{Tenant: "a", ID: 2}})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

func another(t *testing.T, b *bench) {
	if b.h.Another == nil {
		return // there is none
	}
	other := &bench{t: t, h: b.h, in: b.h.Another(t, b.in, Config{}), ctx: b.ctx}
	b.put(update("a", "1", 1), update("a", "1", 2))
	assert.Equal(t, []inbox.Outcome{{Duplicate: true}}, other.outcomes(update("a", "1", 1)))
	l := other.one(1)
	b.lease()
	b.settle(l, inbox.Bury, 0)
	other.depth("a", 1, 0, 1)
	n, err := other.in.Replay(b.ctx, []inbox.Ref{{Tenant: "a", ID: 1}})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	b.one(1)
}

// compete has sources and workers use an inbox at the same time, and counts
// what is lost, doubled or out of order.
func compete(t *testing.T, b *bench) {
	inboxes := []inbox.Inbox{b.in}
	if b.h.Another != nil {
		inboxes = append(inboxes, b.h.Another(t, b.in, Config{}))
	}
	const tenants, chats, perChat, workers = 5, 8, 12, 6
	const total = tenants * chats * perChat
	var (
		mu      sync.Mutex
		running = make(map[string]bool)
		last    = make(map[string]int64)
		done    = make(map[inbox.Ref]int)
		wrong   []string
	)
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for n := range tenants {
		wg.Go(func() { // a source
			in := inboxes[n%len(inboxes)]
			id := int64(0)
			for range perChat {
				var batch []inbox.Update
				for c := range chats {
					id++
					batch = append(batch, update(fmt.Sprint("tenant", n), fmt.Sprint(c), id))
				}
				for range 2 { // the second time all are duplicates
					if _, err := in.Put(ctx, batch); err != nil {
						mu.Lock()
						wrong = append(wrong, err.Error())
						mu.Unlock()
						return
					}
				}
			}
		})
	}
	for n := range workers {
		wg.Go(func() {
			in := inboxes[n%len(inboxes)]
			for ctx.Err() == nil {
				mu.Lock()
				enough := len(done) == total || len(wrong) > 0
				mu.Unlock()
				if enough {
					return
				}
				leases, err := in.Lease(ctx, inbox.Want{Limit: 1 + rand.IntN(7), TTL: time.Hour, PerTenant: 5})
				if err != nil {
					mu.Lock()
					wrong = append(wrong, err.Error())
					mu.Unlock()
					return
				}
				if len(leases) == 0 {
					time.Sleep(time.Millisecond)
					continue
				}
				var settlements []inbox.Settlement
				mu.Lock()
				for _, l := range leases {
					chat := l.Tenant + "/" + l.Chat
					if running[chat] {
						wrong = append(wrong, "two at once of "+chat)
					}
					running[chat] = true
					s := inbox.Settlement{Lease: l, Verdict: inbox.Done}
					if rand.IntN(10) == 0 {
						s.Verdict = inbox.Retry
					} else {
						if l.ID <= last[chat] {
							wrong = append(wrong, fmt.Sprintf("%d after %d in %s", l.ID, last[chat], chat))
						}
						last[chat] = l.ID
						done[l.Ref()]++
					}
					settlements = append(settlements, s)
				}
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
				mu.Lock()
				for _, l := range leases {
					running[l.Tenant+"/"+l.Chat] = false
				}
				mu.Unlock()
				held, err := in.Settle(ctx, settlements)
				mu.Lock()
				if err != nil {
					wrong = append(wrong, err.Error())
				}
				for i, ok := range held {
					if !ok {
						wrong = append(wrong, fmt.Sprintf("lost the lease of %v", leases[i]))
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Empty(t, wrong)
	assert.Len(t, done, total, "lost")
	for ref, n := range done {
		assert.Equal(t, 1, n, "%v was handled more than once", ref)
	}
	b.depth("", 0, 0, 0)
}
