package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
)

// trial is an attribution and the time in it.
type trial struct {
	*attribution
	t     *testing.T
	owner map[string]string
}

func newTrial(t *testing.T) *trial {
	tr := &trial{t: t, owner: make(map[string]string)}
	tr.attribution = newAttribution(func(tenant string) string { return tr.owner[tenant] })
	return tr
}

// refused is a 429 that a tenant's call to a chat gets at once.
func (tr *trial) refused(tenant string, chat int64, wait time.Duration) verdict {
	now := tr.clock()
	tr.activity.note(tenant, now)
	return tr.of429(tenant, place{chat: ChatID{ID: chat}}, false, now, now, now.Add(wait))
}

// fails is a failure of a tenant's call.
func (tr *trial) fails(tenant string) errors.Scope {
	now := tr.clock()
	tr.activity.note(tenant, now)
	return tr.ofFailure(tenant, now, now)
}

// succeeds is a success of a tenant's call.
func (tr *trial) succeeds(tenant string) (refused bool) {
	time.Sleep(time.Millisecond) // it began after what was before
	now := tr.clock()
	tr.activity.note(tenant, now)
	tr.answered(tenant)
	refused, _ = tr.succeeded(tenant, false, now, now)
	return refused
}

// active is calls of so many other tenants, of which nothing else is known.
func (tr *trial) active(n int) {
	for i := range n {
		tr.activity.note(fmt.Sprint("active", i), tr.clock())
	}
}

func TestWhomTroubleBelongsTo(t *testing.T) {
	const day = 24 * time.Hour
	scope := func(tr *trial, want errors.Scope, got errors.Scope) {
		tr.t.Helper()
		assert.Equal(tr.t, want, got)
	}
	for rule, test := range map[string]func(tr *trial){
		"A 429 of one chat belongs to the chat": func(tr *trial) {
			for range 5 {
				scope(tr, errors.ScopeChat, tr.refused("x", 1, day).scope)
			}
		},
		"429s of two chats in a row belong to the tenant": func(tr *trial) {
			tr.refused("x", 1, day)
			scope(tr, errors.ScopeTenant, tr.refused("x", 2, day).scope)
		},
		"A tenant's freeze lasts as long as the shortest wait that led to it": func(tr *trial) {
			now := tr.clock()
			tr.refused("x", 1, time.Minute)
			assert.Equal(tr.t, now.Add(time.Minute), tr.refused("x", 2, day).until)
		},
		"A success between them ends the row": func(tr *trial) {
			tr.refused("x", 1, day)
			tr.succeeds("x")
			scope(tr, errors.ScopeChat, tr.refused("x", 2, day).scope)
		},
		"A success of a call that was under way before does not": func(tr *trial) {
			began := tr.clock()
			time.Sleep(time.Millisecond)
			tr.refused("x", 1, day)
			tr.succeeded("x", false, began, tr.clock())
			scope(tr, errors.ScopeTenant, tr.refused("x", 2, day).scope)
		},
		"429s that are more than ten seconds apart are no row": func(tr *trial) {
			tr.refused("x", 1, day)
			time.Sleep(rowTime + 1)
			scope(tr, errors.ScopeChat, tr.refused("x", 2, day).scope)
		},
		"Calls that were under way together are one event": func(tr *trial) {
			began := tr.clock()
			time.Sleep(time.Millisecond)
			tr.refused("x", 1, day)
			now := tr.clock()
			scope(tr, errors.ScopeChat, tr.of429("x", place{chat: ChatID{ID: 2}}, false, began, now, now.Add(day)).scope)
		},
		"429s of three tenants of different owners belong to all": func(tr *trial) {
			tr.owner = map[string]string{"x": "Ann", "y": "Bob", "z": "Eve"}
			tr.refused("x", 1, day)
			tr.refused("y", 1, day)
			scope(tr, errors.ScopeAll, tr.refused("z", 1, day).scope)
		},
		"429s of three tenants of one owner do not": func(tr *trial) {
			tr.owner = map[string]string{"x": "Ann", "y": "Ann", "z": "Ann"}
			tr.refused("x", 1, day)
			tr.refused("y", 1, day)
			scope(tr, errors.ScopeChat, tr.refused("z", 1, day).scope)
		},
		"429s of three tenants without owners belong to all where nobody has an owner": func(tr *trial) {
			tr.refused("x", 1, day)
			tr.refused("y", 1, day)
			scope(tr, errors.ScopeAll, tr.refused("z", 1, day).scope)
		},
		"Tenants without owners are a third of the witnesses at most where others have one": func(tr *trial) {
			tr.owner = map[string]string{"a": "Ann"}
			for i := range 3 {
				tr.refused(fmt.Sprint("nobody's", i), 1, day)
			}
			scope(tr, errors.ScopeChat, tr.refused("a", 1, day).scope)
			tr.owner["b"] = "Bob"
			scope(tr, errors.ScopeAll, tr.refused("b", 1, day).scope)
		},
		"429s of three tenants do not belong to all if a third of the active ones is more": func(tr *trial) {
			tr.active(30)
			for i := range 9 {
				scope(tr, errors.ScopeChat, tr.refused(fmt.Sprint(i), 1, day).scope)
			}
			for i := range 6 {
				tr.refused(fmt.Sprint("more", i), 1, day)
			}
			scope(tr, errors.ScopeAll, tr.refused("last", 1, day).scope)
		},
		"A success of any other tenant ends the row of all": func(tr *trial) {
			tr.refused("x", 1, day)
			tr.refused("y", 1, day)
			assert.True(tr.t, tr.succeeds("w"))
			scope(tr, errors.ScopeChat, tr.refused("z", 1, day).scope)
		},
		"A freeze of all lasts for half a minute at most": func(tr *trial) {
			tr.refused("x", 1, day)
			tr.refused("y", 1, day)
			now := tr.clock()
			assert.Equal(tr.t, now.Add(wideTime), tr.refused("z", 1, day).until)
			assert.Equal(tr.t, now.Add(5*time.Second), tr.refused("w", 1, 5*time.Second).until, "and no longer than the shortest wait")
		},
		"A 429 of one cold tenant does not keep others from beginning": func(tr *trial) {
			now := tr.clock()
			begin := func(tenant string) verdict {
				return tr.of429(tenant, place{chat: ChatID{ID: 1}}, true, now, now, now.Add(day))
			}
			assert.False(tr.t, begin("x").starts)
			v := begin("y")
			assert.True(tr.t, v.starts, "two do")
			assert.Equal(tr.t, now.Add(wideTime), v.startsUntil)
			scope(tr, errors.ScopeChat, begin("z").scope)
			time.Sleep(time.Millisecond)
			_, starts := tr.succeeded("w", true, tr.clock(), tr.clock())
			assert.True(tr.t, starts, "until one begins")
			assert.False(tr.t, begin("v").starts)
		},
		"One failure belongs to nobody": func(tr *trial) {
			scope(tr, errors.ScopeUnknown, tr.fails("x"))
		},
		"A second failure belongs to the tenant": func(tr *trial) {
			tr.fails("x")
			scope(tr, errors.ScopeTenant, tr.fails("x"))
		},
		"A failure after an answer is a first one again": func(tr *trial) {
			tr.fails("x")
			tr.succeeds("x")
			scope(tr, errors.ScopeUnknown, tr.fails("x"))
		},
		"Failures of three tenants with no answer in between belong to all": func(tr *trial) {
			tr.fails("x")
			tr.fails("y")
			scope(tr, errors.ScopeAll, tr.fails("z"))
		},
		"Failures of three tenants with an answer in between do not": func(tr *trial) {
			tr.fails("x")
			tr.fails("y")
			tr.succeeds("w")
			scope(tr, errors.ScopeUnknown, tr.fails("z"))
			scope(tr, errors.ScopeTenant, tr.fails("x"))
		},
		"Failures of three tenants of one owner belong to each": func(tr *trial) {
			tr.owner = map[string]string{"x": "Ann", "y": "Ann", "z": "Ann"}
			for _, tenant := range []string{"x", "y", "z"} {
				scope(tr, errors.ScopeUnknown, tr.fails(tenant))
				scope(tr, errors.ScopeTenant, tr.fails(tenant))
			}
		},
		"Failures of a fleet of one or two belong to all": func(tr *trial) {
			tr.known = func() int { return 2 }
			scope(tr, errors.ScopeUnknown, tr.fails("x"))
			scope(tr, errors.ScopeAll, tr.fails("y"))
		},
		"A tenant with trouble of its own is a suspect for ten minutes": func(tr *trial) {
			assert.True(tr.t, tr.innocent("x", tr.clock()))
			tr.fails("x")
			tr.succeeds("x")
			assert.False(tr.t, tr.innocent("x", tr.clock()))
			assert.True(tr.t, tr.innocent("y", tr.clock()))
			time.Sleep(suspectTime + 1)
			assert.True(tr.t, tr.innocent("x", tr.clock()))
		},
	} {
		t.Run(rule, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(newTrial(t)) }) })
	}
}

// lasts is a call of each tenant that takes a time.
func (tr *trial) lasts(d time.Duration, tenants ...string) (slow bool) {
	nodes := make([]callNode, len(tenants))
	for i, tenant := range tenants {
		tr.begin(&nodes[i], tenant, tr.clock())
	}
	time.Sleep(d)
	for i := range nodes {
		slow = tr.finish(&nodes[i], tr.clock(), true) || slow
	}
	return slow
}

func TestWhoseSlownessIs(t *testing.T) {
	slow := slowAfter + time.Second
	for rule, test := range map[string]func(tr *trial){
		"Slow calls of two tenants are their own": func(tr *trial) {
			tr.active(10)
			assert.False(tr.t, tr.lasts(slow, "x", "y", "x", "y", "x"))
		},
		"Slow calls of half of the active tenants are the platform's": func(tr *trial) {
			tr.active(6)
			assert.True(tr.t, tr.lasts(slow, "a", "b", "c", "d", "e", "f", "g", "h", "h", "h"))
		},
		"Slow calls of a third are enough while nobody is answered quickly": func(tr *trial) {
			tr.active(20)
			many := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
			assert.True(tr.t, tr.lasts(slow, many...))
			tr.notSlow()
			tr.lasts(time.Second, "quick")
			tr.active(20)
			nodes := make([]callNode, len(many))
			for i, tenant := range many {
				tr.begin(&nodes[i], tenant, tr.clock())
			}
			time.Sleep(slow - time.Second)
			tr.lasts(time.Second, "quick")
			tr.active(20)
			for i := range nodes {
				assert.False(tr.t, tr.finish(&nodes[i], tr.clock(), true))
			}
		},
		"They count while they are under way": func(tr *trial) {
			nodes := make([]callNode, 10)
			for i := range nodes {
				tr.begin(&nodes[i], fmt.Sprint(i%5), tr.clock())
			}
			time.Sleep(slow)
			assert.True(tr.t, tr.overdue(tr.clock()))
		},
		"Those of one owner are one": func(tr *trial) {
			for i := range 20 {
				tr.owner[fmt.Sprint(i)] = "Ann"
			}
			var all []string
			for i := range 20 {
				all = append(all, fmt.Sprint(i))
			}
			assert.False(tr.t, tr.lasts(slow, all...))
		},
		"A quick answer takes its tenant out": func(tr *trial) {
			tr.lasts(slow, "a", "b")
			assert.False(tr.t, tr.lasts(time.Second, "a", "b"))
			assert.False(tr.t, tr.lasts(slow, "c"))
		},
		"A few slow calls are nobody's, however few bots there are": func(tr *trial) {
			tr.known = func() int { return 1 }
			assert.False(tr.t, tr.lasts(slow, "a", "a", "a"))
			assert.True(tr.t, tr.lasts(slow, "a", "a", "a", "a", "a", "a", "a"))
		},
		"They are forgotten": func(tr *trial) {
			assert.True(tr.t, tr.lasts(slow, "a", "b", "c", "d", "a", "b", "c", "d", "a", "b"))
			time.Sleep(activeTime + time.Second)
			assert.False(tr.t, tr.overdue(tr.clock()))
			assert.Empty(tr.t, tr.slow)
		},
	} {
		t.Run(rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t)
				test(tr)
			})
		})
	}
}

func TestTheActiveTenantsAreEstimated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 3, 100, 1000, 10_000, 50_000} {
			var v activity
			now := time.Now()
			for i := range n {
				v.note(fmt.Sprint("tenant-", i), now)
				v.note(fmt.Sprint("tenant-", i), now)
			}
			assert.InEpsilon(t, n+1, v.count(now)+1, 0.05)
			assert.Zero(t, v.count(now.Add(2*activeTime)), "they are active no more")
		}
	})
}

func TestTroubleIsForgottenAndItsMemoryBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t)
		for i := range 2 * maxTroubles {
			tr.fails(fmt.Sprint(i))
		}
		assert.LessOrEqual(t, len(tr.tenants), maxTroubles)
		assert.False(t, tr.innocent("unknown", tr.clock()), "so many in trouble are not told apart")
		time.Sleep(suspectTime + 1)
		assert.Equal(t, errors.ScopeUnknown, tr.fails("new"), "there is room again")
		assert.False(t, tr.innocent("new", tr.clock()))
		tr.tenants = map[string]*trouble{"old": {last: tr.clock()}}
		tr.latest = tr.clock()
		time.Sleep(suspectTime + 1)
		tr.succeeds("other")
		assert.Zero(t, tr.troubles.Load(), "a success looks no further")
	})
}

func BenchmarkAttributeDuringAnOutage(b *testing.B) {
	for _, tenants := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(tenants), func(b *testing.B) {
			a := newAttribution(nil)
			names := make([]string, tenants)
			for i := range names {
				names[i] = fmt.Sprint("tenant-", i)
				a.activity.note(names[i], a.clock())
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now := a.clock()
				a.ofFailure(names[i%tenants], now, now)
			}
		})
	}
}
