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

// hang has workers at the same time that hang until their leases have lapsed and
// settle late all the same, that crash, and that give back, bury and replay: each
// update is handled to its end once, in its chat's order, and none is lost.
func hang(t *testing.T, b *bench) {
	inboxes := []inbox.Inbox{b.in}
	if b.h.Another != nil {
		inboxes = append(inboxes, b.h.Another(t, b.in, Config{}), b.h.Another(t, b.in, Config{}))
	}
	const tenants, chats, perChat, workers = 4, 3, 8, 6
	const total = tenants * chats * perChat
	var (
		mu    sync.Mutex
		last  = make(map[string]int64)
		done  = make(map[inbox.Ref]bool)
		token = make(map[string]int64) // the latest of a chat
		wrong []string
	)
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Hour)
	defer cancel()
	fail := func(format string, args ...any) { // mu is held
		if wrong = append(wrong, fmt.Sprintf(format, args...)); len(wrong) == 1 {
			cancel()
		}
	}
	for n := range tenants {
		var batch []inbox.Update
		for i := range chats * perChat {
			batch = append(batch, update(fmt.Sprint("tenant", n), fmt.Sprint(i%chats), int64(i+1)))
		}
		b.put(batch...)
	}
	settle := func(in inbox.Inbox, leases []inbox.Lease) {
		var all []inbox.Settlement
		for _, l := range leases {
			v := inbox.Done
			switch rand.IntN(8) {
			case 0:
				v = inbox.Return
			case 1:
				v = inbox.Retry
			}
			all = append(all, inbox.Settlement{Lease: l, Verdict: v})
		}
		mu.Lock() // what is held must be known before it is lent again
		defer mu.Unlock()
		held, err := in.Settle(ctx, all)
		if err != nil {
			if ctx.Err() == nil {
				fail("settle: %v", err)
			}
			return
		}
		for i, s := range all {
			chat := s.Lease.Tenant + "/" + s.Lease.Chat
			switch {
			case !held[i]:
			case s.Lease.Token != token[chat]:
				fail("%v was settled by one who had lost its lease", s.Lease)
			case s.Verdict == inbox.Done && done[s.Lease.Ref()]:
				fail("%v was handled to its end twice", s.Lease)
			case s.Verdict == inbox.Done:
				if s.Lease.ID <= last[chat] {
					fail("%d after %d in %s", s.Lease.ID, last[chat], chat)
				}
				last[chat], done[s.Lease.Ref()] = s.Lease.ID, true
			}
		}
	}
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			in := inboxes[n%len(inboxes)]
			var kept []inbox.Lease // by one that hangs
			for ctx.Err() == nil {
				mu.Lock()
				if len(done) == total {
					mu.Unlock()
					break
				}
				leases, err := in.Lease(ctx, inbox.Want{Limit: 1 + rand.IntN(6), TTL: ttl, PerTenant: 2})
				if err != nil && ctx.Err() == nil {
					fail("lease: %v", err)
				}
				for _, l := range leases {
					chat := l.Tenant + "/" + l.Chat
					if done[l.Ref()] {
						fail("%v was lent after its end", l)
					}
					if l.Token <= token[chat] {
						fail("the lease of %v is no later one", l)
					}
					token[chat] = l.Token
				}
				mu.Unlock()
				switch rand.IntN(5) {
				case 0: // it crashes
				case 1:
					kept = append(kept, leases...)
				case 2:
					settle(in, append(kept, leases...))
					kept = nil
				default:
					settle(in, leases)
				}
				if len(leases) == 0 {
					time.Sleep(b.idle)
				}
			}
			settle(in, kept)
		})
	}
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	for {
		select {
		case <-finished:
		case <-time.After(20 * time.Millisecond):
			b.advance(ttl + time.Second)
			continue
		}
		break
	}
	require.Empty(t, wrong)
	assert.Len(t, done, total, "lost")
	b.depth("", 0, 0, 0)
}
