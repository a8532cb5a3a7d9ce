package inboxtest

import (
	"context"
	"flag"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Harness makes inboxes for the tests.
type Harness struct {
	// New returns an empty inbox, which ends with the test.
	New func(t *testing.T, cfg Config) inbox.Inbox
	// Another returns the same inbox as another process sees it, which keeps to
	// the same and ends with the test. Nil where there is no such thing.
	Another func(t *testing.T, in inbox.Inbox, cfg Config) inbox.Inbox
	// Advance makes d pass for an inbox and all that it holds.
	Advance func(t *testing.T, in inbox.Inbox, d time.Duration)
	// Bubble runs a test where time is virtual, such as [synctest.Test]. Nil
	// runs it as it is.
	Bubble func(t *testing.T, f func(t *testing.T))
	// Checks bounds how many runs of actions at random the inbox is compared with
	// a model over, where -rapid.checks does not say: each has an inbox of its own,
	// and to open one may take long. 0 is 12 without Bubble, and else as many as
	// rapid makes.
	Checks int
}

// Config is what an inbox is to keep to. Zero fields are the inbox's own.
type Config struct {
	// MaxUpdates and MaxPerTenant bound what waits or is leased.
	MaxUpdates, MaxPerTenant int
	// MaxDeadPerTenant bounds dead letters, of which the oldest goes first.
	MaxDeadPerTenant int
}

// Run runs the whole suite, each test with an inbox of its own.
func Run(t *testing.T, h Harness) {
	checks := math.MaxInt // as -rapid.checks says
	idle := 5 * time.Second
	bubble := h.Bubble != nil
	switch {
	case given("rapid.checks"):
	case h.Checks > 0:
		checks = h.Checks
	case !bubble:
		checks = 12
	}
	if !bubble {
		idle = time.Millisecond
		h.Bubble = func(t *testing.T, f func(*testing.T)) { t.Run("", f) } // what ends with the test ends with each check
	}
	for _, test := range []struct {
		name string
		cfg  Config
		run  func(t *testing.T, b *bench)
	}{
		{"AnUpdateComesOutAsItWentIn", Config{}, roundTrip},
		{"NothingToDoIsNoError", Config{}, nothing},
		{"ADuplicateIsStoredOnce", Config{}, duplicates},
		{"AnIDIsForgottenWithinTheWeek", Config{}, remembered},
		{"WhatIsNoUpdateIsRefusedAlone", Config{}, invalid},
		{"AnEndedContextStoresNothing", Config{}, endedContext},
		{"AChatIsHandledInOrderOneAtATime", Config{}, order},
		{"ChatsDoNotHoldUpEachOther", Config{}, parallel},
		{"CallbackQueriesComeInTheirChatsOrder", Config{}, callbacks},
		{"AnOvertakenUpdateComesFirst", Config{}, overtaken},
		{"ALeaseThatLapsesReturnsItsUpdate", Config{}, lapse},
		{"AnExtendedLeaseDoesNotLapse", Config{}, extend},
		{"ARetryHoldsUpItsChatUntilItIsDue", Config{}, retry},
		{"AReturnIsNoAttempt", Config{}, returned},
		{"ASettlementCountsOnce", Config{}, settleTwice},
		{"WhatHasExpiredIsDropped", Config{}, expired},
		{"ADeadLetterFreesItsChat", Config{}, bury},
		{"DeadLettersAreListedInPages", Config{}, deadPages},
		{"AReplayedLetterIsTriedAnew", Config{}, replay},
		{"ADeadLetterWhoseIDIsInUseIsNotLost", Config{}, replayInUse},
		{"ADroppedLetterIsGone", Config{}, dropped},
		{"TheOldestDeadLetterMakesRoom", Config{MaxDeadPerTenant: 3}, deadBound},
		{"ATenantsRoomIsItsOwn", Config{MaxPerTenant: 3}, fullTenant},
		{"TheRoomOfAllIsBounded", Config{MaxUpdates: 4}, fullAll},
		{"ARefusedUpdateIsNotOvertaken", Config{MaxPerTenant: 2}, refusedTogether},
		{"WhatHasExpiredTakesNoRoom", Config{MaxPerTenant: 2}, expiredRoom},
		{"TenantsTakeTurns", Config{}, turns},
		{"AWorkersBoundPerTenantIsKept", Config{}, perTenant},
		{"ALeaseSharesOutWhatItMay", Config{}, sharedOut},
		{"ManyOfWhomNothingIsWantedHoldUpNobody", Config{}, manyHeld},
		{"DepthAndAgeAreTold", Config{}, depth},
		{"AForgottenTenantLeavesNothing", Config{}, forget},
		{"WhoWaitsIsWoken", Config{}, wake},
		{"AnotherProcessSeesTheSame", Config{}, another},
		{"CompetingWorkersKeepTheOrder", Config{}, compete},
		{"WorkersThatHangAndComeBackHarmNobody", Config{}, hang},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.Bubble(t, func(t *testing.T) {
				test.run(t, &bench{t: t, h: h, in: h.New(t, test.cfg), ctx: t.Context(), idle: idle})
			})
		})
	}
	t.Run("ItBehavesAsTheModel", func(t *testing.T) {
		model(t, h, bubble, checks, Config{MaxPerTenant: 6, MaxUpdates: 12, MaxDeadPerTenant: 1})
	})
}

// given reports whether a flag was set on the command line.
func given(name string) (is bool) {
	flag.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
}

// bench is an inbox under test with what makes tests short.
type bench struct {
	t   *testing.T
	h   Harness
	in  inbox.Inbox
	ctx context.Context
	// idle is how long one rests who found nothing: where time is virtual a short
	// rest is over at once.
	idle time.Duration
}

const ttl = time.Minute

func (b *bench) advance(d time.Duration) { b.h.Advance(b.t, b.in, d) }

// update makes one of a tenant's chat.
func update(tenant, chat string, id int64) inbox.Update {
	return inbox.Update{
		Tenant: tenant, ID: id, Kind: "message", Chat: chat,
		Raw:        fmt.Appendf(nil, `{"update_id":%d,"message":{"chat":{"id":%s}}}`, id, chat),
		ReceivedAt: time.Now(),
	}
}

// put stores updates and wants them all taken, and none of them known.
func (b *bench) put(updates ...inbox.Update) {
	b.t.Helper()
	for i, o := range b.outcomes(updates...) {
		require.Equal(b.t, inbox.Outcome{}, o, "%v", updates[i])
	}
}

func (b *bench) outcomes(updates ...inbox.Update) []inbox.Outcome {
	b.t.Helper()
	outcomes, err := b.in.Put(b.ctx, updates)
	require.NoError(b.t, err)
	require.Len(b.t, outcomes, len(updates))
	return outcomes
}

// lease takes all that is ready, and wants it to be these ids.
func (b *bench) lease(ids ...int64) []inbox.Lease {
	b.t.Helper()
	leases, err := b.in.Lease(b.ctx, inbox.Want{Limit: 1000, TTL: ttl})
	require.NoError(b.t, err)
	got := make([]int64, len(leases))
	for i, l := range leases {
		got[i] = l.ID
	}
	if len(ids) == 0 {
		require.Empty(b.t, got)
	} else {
		require.ElementsMatch(b.t, ids, got)
	}
	return leases
}

// one leases all that is ready, which must be one update.
func (b *bench) one(id int64) inbox.Lease {
	b.t.Helper()
	return b.lease(id)[0]
}

func (b *bench) settle(l inbox.Lease, v inbox.Verdict, after time.Duration) {
	b.t.Helper()
	require.True(b.t, b.settled(inbox.Settlement{Lease: l, Verdict: v, After: after, Reason: "because"}))
}

func (b *bench) settled(s inbox.Settlement) bool {
	b.t.Helper()
	held, err := b.in.Settle(b.ctx, []inbox.Settlement{s})
	require.NoError(b.t, err)
	require.Len(b.t, held, 1)
	return held[0]
}

func (b *bench) depth(tenant string, waiting, leased, dead int) inbox.Depth {
	b.t.Helper()
	d, err := b.in.Depth(b.ctx, tenant)
	require.NoError(b.t, err)
	assert.Equal(b.t, [3]int{waiting, leased, dead}, [3]int{d.Waiting, d.Leased, d.Dead}, "waiting, leased, dead")
	return d
}
