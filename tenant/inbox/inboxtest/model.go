package inboxtest

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"pgregory.net/rapid"
)

// world is the contract as a program: slow, plain, and all in one list.
type world struct {
	cfg   Config
	now   time.Duration // since the start
	items []*thing
	known map[inbox.Ref]bool

	deaths int
}

type thing struct {
	u       inbox.Update
	attempt int
	dead    bool
	died    int           // which death it was
	lease   *inbox.Lease  // the latest, nil where it is known not to be held
	until   time.Duration // of the lease
	notYet  time.Duration // of the next try
	expires time.Duration // 0 is never
}

// leased reports whether a lease has not lapsed. One that has may still be
// held, until its chat is lent again.
func (w *world) leased(x *thing) bool { return x.lease != nil && x.until > w.now }

// lend makes a lease the only one of its chat.
func (w *world) lend(x *thing, l *inbox.Lease) {
	for _, y := range w.items {
		if y.u.Tenant == x.u.Tenant && y.u.Chat == x.u.Chat {
			y.lease = nil
		}
	}
	x.lease, x.until = l, w.now+ttl
}

// count counts what waits or is leased, of a tenant or of all. What has
// expired may or may not be there still.
func (w *world) count(tenant string) (least, most int) {
	for _, x := range w.items {
		if x.dead || tenant != "" && x.u.Tenant != tenant {
			continue
		}
		most++
		if w.leased(x) || x.expires == 0 || x.expires > w.now {
			least++
		}
	}
	return least, most
}

// heads returns what may be lent now. An update that has expired while it waits
// for another try may hold up its chat until then, or not.
func (w *world) heads(holdUp bool) []*thing {
	type chat struct{ tenant, chat string }
	busy := make(map[chat]bool)
	first := make(map[chat]*thing)
	for _, x := range w.items {
		c := chat{x.u.Tenant, x.u.Chat}
		switch {
		case x.dead:
		case w.leased(x):
			busy[c] = true
		case x.expires != 0 && x.expires <= w.now:
			busy[c] = busy[c] || holdUp && x.notYet > w.now
		case x.notYet > w.now:
			busy[c] = true
		case first[c] == nil || x.u.ID < first[c].u.ID:
			first[c] = x
		}
	}
	var heads []*thing
	for c, x := range first {
		if !busy[c] {
			heads = append(heads, x)
		}
	}
	return heads
}

// bury makes a thing a dead letter, for which its tenant's oldest makes room.
func (w *world) bury(x *thing) {
	w.deaths++
	x.dead, x.died = true, w.deaths
	for {
		n, oldest := 0, x
		for _, y := range w.items {
			if y.dead && y.u.Tenant == x.u.Tenant {
				n++
				if y.died < oldest.died {
					oldest = y
				}
			}
		}
		if n <= w.cfg.MaxDeadPerTenant {
			return
		}
		w.remove(oldest)
	}
}

func (w *world) remove(x *thing) {
	w.items = slices.DeleteFunc(w.items, func(y *thing) bool { return x == y })
}

func (w *world) find(l inbox.Lease) *thing {
	for _, x := range w.items {
		if x.lease != nil && x.lease.Token == l.Token && x.u.Ref() == l.Ref() {
			return x
		}
	}
	return nil
}

// model does at random what can be done to an inbox, and to the model of one,
// and wants both to answer the same.
//
// A bubble can't hold a rapid.Check, so each check has a bubble. What rapid
// throws to end one is carried out of it.
//
// After so many checks the others are left out: one on a database may take a
// second.
func model(t *testing.T, h Harness, checks int, cfg Config) {
	failed := false
	rapid.Check(t, func(r *rapid.T) {
		if checks--; checks < 0 && !failed { // once one has failed rapid looks for a smaller one
			return
		}
		failed = true
		var thrown any
		h.Bubble(t, func(t *testing.T) {
			defer func() { thrown = recover() }()
			modelOnce(t, r, h, cfg)
		})
		if thrown != nil {
			panic(thrown)
		}
		failed = false
	})
}

func modelOnce(t *testing.T, r *rapid.T, h Harness, cfg Config) {
	in := h.New(t, cfg)
	ctx := context.Background()
	w := &world{cfg: cfg, known: make(map[inbox.Ref]bool)}
	var leases []inbox.Lease // ever given
	var lastToken int64
	tenants := rapid.SampledFrom([]string{"a", "b", "c"})
	chats := rapid.SampledFrom([]string{"1", "2"})
	ids := rapid.Int64Range(1, 30)
	aLease := func() (inbox.Lease, bool) {
		if len(leases) == 0 {
			return inbox.Lease{}, false
		}
		return rapid.SampledFrom(leases[max(0, len(leases)-8):]).Draw(r, "lease"), true
	}
	r.Repeat(map[string]func(*rapid.T){
		// Who had leases is gone, and they lapse.
		"crash": func(r *rapid.T) {
			h.Advance(t, in, ttl)
			w.now += ttl
		},
		"put": func(r *rapid.T) {
			var batch []inbox.Update
			for range rapid.IntRange(1, 4).Draw(r, "n") {
				u := update(tenants.Draw(r, "tenant"), chats.Draw(r, "chat"), ids.Draw(r, "id"))
				if rapid.IntRange(0, 5).Draw(r, "expires") == 0 {
					u.ExpiresAt = u.ReceivedAt.Add(30 * time.Second)
				}
				batch = append(batch, u)
			}
			outcomes, err := in.Put(ctx, batch)
			require.NoError(r, err)
			refused := make(map[string]bool)
			for i, u := range batch {
				if w.known[u.Ref()] {
					require.Equal(r, inbox.Outcome{Duplicate: true}, outcomes[i])
					continue
				}
				least, most := w.count(u.Tenant)
				leastAll, mostAll := w.count("")
				must := refused[u.Tenant] || least >= cfg.MaxPerTenant || leastAll >= cfg.MaxUpdates
				may := must || most >= cfg.MaxPerTenant || mostAll >= cfg.MaxUpdates
				if outcomes[i].Err != nil {
					require.ErrorIs(r, outcomes[i].Err, inbox.ErrFull)
					require.True(r, may, "refused although there is room")
					refused[u.Tenant] = true
					continue
				}
				require.False(r, must, "taken although there is no room")
				w.known[u.Ref()] = true
				x := &thing{u: u}
				if !u.ExpiresAt.IsZero() {
					x.expires = w.now + 30*time.Second
				}
				w.items = append(w.items, x)
			}
		},
		"lease": func(r *rapid.T) {
			want := inbox.Want{
				Limit: rapid.IntRange(0, 6).Draw(r, "limit"), TTL: ttl,
				PerTenant: rapid.IntRange(0, 3).Draw(r, "per tenant"),
				Held:      map[string]int{"a": rapid.IntRange(0, 3).Draw(r, "held")},
			}
			got, err := in.Lease(ctx, want)
			require.NoError(r, err)
			count := func(heads []*thing) (ready map[string]int, lent int) {
				ready = make(map[string]int)
				for _, x := range heads {
					ready[x.u.Tenant]++
				}
				for tenant, n := range ready {
					ready[tenant] = min(n, want.Room(tenant))
					lent += ready[tenant]
				}
				return ready, min(want.Limit, lent)
			}
			ready, least := count(w.heads(true))
			heads := w.heads(false)
			_, most := count(heads)
			require.GreaterOrEqual(r, len(got), least)
			require.LessOrEqual(r, len(got), most)
			taken := make(map[string]int)
			for _, l := range got {
				at := slices.IndexFunc(heads, func(x *thing) bool { return x.u.Ref() == l.Ref() })
				require.GreaterOrEqual(r, at, 0, "%v may not be lent", l)
				x := heads[at]
				heads = slices.Delete(heads, at, at+1)
				x.attempt++
				require.Equal(r, x.attempt, l.Attempt)
				require.Greater(r, l.Token, lastToken)
				require.Equal(r, string(x.u.Raw), string(l.Raw))
				w.lend(x, &l)
				leases = append(leases, l)
				taken[l.Tenant]++
			}
			for _, l := range got {
				lastToken = max(lastToken, l.Token)
			}
			for tenant, n := range taken {
				for other, could := range ready {
					require.False(r, n > 1 && could > 0 && taken[other] == 0, "%s had two before %s had one", tenant, other)
				}
			}
		},
		"settle": func(r *rapid.T) {
			l, ok := aLease()
			if !ok {
				return
			}
			s := inbox.Settlement{Lease: l, Reason: "why"}
			s.Verdict = rapid.SampledFrom([]inbox.Verdict{inbox.Done, inbox.Retry, inbox.Return, inbox.Bury}).Draw(r, "verdict")
			s.After = time.Duration(rapid.IntRange(0, 40).Draw(r, "after")) * time.Second
			held, err := in.Settle(ctx, []inbox.Settlement{s})
			require.NoError(r, err)
			x := w.find(l)
			if x != nil && !w.leased(x) && !held[0] {
				x.lease = nil // lapsed, and noticed
				return
			}
			require.Equal(r, x != nil, held[0])
			if x == nil {
				return
			}
			x.lease = nil
			switch s.Verdict {
			case inbox.Done:
				w.remove(x)
			case inbox.Bury:
				w.bury(x)
				h.Advance(t, in, time.Second) // which of two is older must be known
				w.now += time.Second
			default:
				x.notYet = w.now + s.After
				if s.Verdict == inbox.Return {
					x.attempt--
				}
			}
		},
		"extend": func(r *rapid.T) {
			l, ok := aLease()
			if !ok {
				return
			}
			held, err := in.Extend(ctx, []inbox.Lease{l}, ttl)
			require.NoError(r, err)
			x := w.find(l)
			if x != nil && !w.leased(x) && !held[0] {
				x.lease = nil
				return
			}
			require.Equal(r, x != nil, held[0])
			if x != nil {
				x.until = w.now + ttl
			}
		},
		"dead": func(r *rapid.T) {
			letters, err := in.Dead(ctx, inbox.DeadFilter{})
			require.NoError(r, err)
			var want []inbox.Ref
			for _, x := range w.items {
				if x.dead {
					want = append(want, x.u.Ref())
				}
			}
			slices.SortFunc(want, func(a, b inbox.Ref) int {
				return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
			})
			require.Equal(r, want, refs(letters))
		},
		"replay or drop": func(r *rapid.T) {
			ref := inbox.Ref{Tenant: tenants.Draw(r, "tenant"), ID: ids.Draw(r, "id")}
			drop := rapid.Bool().Draw(r, "drop")
			f := in.Replay
			if drop {
				f = in.Drop
			}
			n, err := f(ctx, []inbox.Ref{ref})
			require.NoError(r, err)
			at := slices.IndexFunc(w.items, func(x *thing) bool { return x.dead && x.u.Ref() == ref })
			if at < 0 {
				require.Zero(r, n)
				return
			}
			require.Equal(r, 1, n)
			x := w.items[at]
			w.remove(x)
			if !drop { // whether or not there is room
				w.items = append(w.items, &thing{u: x.u})
			}
		},
		"forget": func(r *rapid.T) {
			tenant := tenants.Draw(r, "tenant")
			if rapid.IntRange(0, 9).Draw(r, "really") > 0 {
				return
			}
			require.NoError(r, in.Forget(ctx, tenant))
			w.items = slices.DeleteFunc(w.items, func(x *thing) bool { return x.u.Tenant == tenant })
			for ref := range w.known {
				if ref.Tenant == tenant {
					delete(w.known, ref)
				}
			}
		},
		"wait": func(r *rapid.T) {
			d := time.Duration(rapid.IntRange(1, 50).Draw(r, "s")) * time.Second
			h.Advance(t, in, d)
			w.now += d
		},
		"": func(r *rapid.T) {
			d, err := in.Depth(ctx, "")
			require.NoError(r, err)
			least, most := w.count("")
			require.True(r, least <= d.Waiting+d.Leased && d.Waiting+d.Leased <= most, "%+v, wanted %d to %d", d, least, most)
		},
	})
	drain(t, r, h, in, w)
}

// drain handles all that is left, and wants it to be all that should be, each
// once and in its chat's order.
func drain(t *testing.T, r *rapid.T, h Harness, in inbox.Inbox, w *world) {
	h.Advance(t, in, time.Hour) // no lease is held, no try waits, and what can expire has
	ctx := context.Background()
	want := make(map[inbox.Ref]bool)
	for _, x := range w.items {
		if !x.dead && x.expires == 0 {
			want[x.u.Ref()] = true
		}
	}
	last := make(map[[2]string]int64)
	for {
		leases, err := in.Lease(ctx, inbox.Want{Limit: 5, TTL: ttl})
		require.NoError(r, err)
		if len(leases) == 0 {
			break
		}
		var done []inbox.Settlement
		for _, l := range leases {
			require.True(r, want[l.Ref()], "%v is done, dead, expired or was handled before", l)
			delete(want, l.Ref())
			chat := [2]string{l.Tenant, l.Chat}
			require.Greater(r, l.ID, last[chat], "out of order")
			last[chat] = l.ID
			done = append(done, inbox.Settlement{Lease: l, Verdict: inbox.Done})
		}
		held, err := in.Settle(ctx, done)
		require.NoError(r, err)
		require.NotContains(r, held, false)
	}
	require.Empty(r, want, "lost")
	d, err := in.Depth(ctx, "")
	require.NoError(r, err)
	require.Zero(r, d.Waiting+d.Leased)
}
