package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// Harness is what the suite knows of a store. Only Open is required.
type Harness struct {
	// Open returns an empty store, which shares nothing with any other and is
	// closed when t ends. Stores in memory need no keys.
	Open func(t *testing.T, keys *seal.Ring) tenant.Store
	// Again returns another store over the data of s, as another process would
	// open it, with keys of its own. It is closed when t ends.
	Again func(t *testing.T, s tenant.Store, keys *seal.Ring) tenant.Store
	// Rows returns what s has sealed, for [seal.Reseal].
	Rows func(s tenant.Store) seal.Rows
	// Dump returns all that s has stored, as a thief would find it: the bytes
	// of its files, or a dump of its database.
	Dump func(t *testing.T, s tenant.Store) []byte
	// Health and Usage return the stores of health and usage over the database
	// of s, to be tested with it: by packages healthtest and usagetest, and with
	// Again and Faults by what replicas and faults do to them.
	Health func(s tenant.Store) health.Store
	Usage  func(s tenant.Store) usage.Store
	// Faults are what the store is to survive.
	Faults []Fault
}

// Fault is something that befalls a store.
type Fault struct {
	// Name is what happens, such as "the disk is full".
	Name string
	// Open returns an empty store like Harness.Open does, and what makes the
	// fault happen. From the return of begin on, changes fail, at least one of
	// them, until end was called or the store has recovered by itself; after
	// end they succeed again. A nil end is fine.
	Open func(t *testing.T, keys *seal.Ring) (s tenant.Store, begin func() (end func()))
}

// Run tests a store.
func Run(t *testing.T, h Harness) {
	s := suite{h, newRing(t, "suite")}
	t.Run("records", s.records)
	t.Run("ids", s.ids)
	t.Run("list", s.list)
	t.Run("log", s.log)
	t.Run("pages", s.pages)
	t.Run("versions", s.versions)
	t.Run("watch", s.watch)
	t.Run("contexts", s.contexts)
	t.Run("together", s.together)
	if h.Again != nil {
		t.Run("keys", s.keys)
		t.Run("replicas", s.replicas)
	}
	if h.Dump != nil {
		t.Run("secrets", s.secrets)
	}
	if h.Health != nil {
		t.Run("health", s.health)
		t.Run("odd health", s.oddHealth)
	}
	if h.Usage != nil {
		t.Run("usage", s.usage)
		t.Run("odd usage", s.oddUsage)
	}
	both := h.Health != nil && h.Usage != nil
	if both && h.Again != nil {
		t.Run("flushes", s.flushes)
	}
	for _, f := range h.Faults {
		t.Run(f.Name, func(t *testing.T) { s.fault(t, f) })
		if both {
			t.Run(f.Name+" during flushes", func(t *testing.T) { s.flushFault(t, f) })
		}
	}
}

type suite struct {
	Harness
	ring *seal.Ring
}

// patience is how long the suite waits for what other goroutines, processes or
// servers do. It is only ever spent in full by a test that fails.
const patience = 30 * time.Second

func newRing(t testing.TB, ids ...string) *seal.Ring {
	keys := make([]seal.Key, len(ids))
	for i, id := range ids {
		var err error
		keys[i], err = seal.GenerateKey(id)
		require.NoError(t, err)
	}
	r, err := seal.New(keys...)
	require.NoError(t, err)
	return r
}

// canary is in every token that the suite stores.
const canary = "AA-canary-"

// Record returns a record of a bot, for tests and benchmarks of stores.
func Record(t testing.TB, id string, bot int64) tenant.Record {
	t.Helper()
	token, err := session.ParseToken(fmt.Sprintf("%d:%s%025d", bot, canary, bot))
	require.NoError(t, err)
	return tenant.Record{
		ID: id, BotID: bot, Username: fmt.Sprintf("shop_%d_bot", bot), Name: "Shop", Token: token,
		CreatedAt: time.Date(2026, 7, 1, 12, 0, 0, 123_456_000, time.UTC),
		UpdatedAt: time.Date(2026, 7, 2, 12, 0, 0, 654_321_000, time.UTC),
	}
}

func put(t testing.TB, s tenant.Store, r tenant.Record, log ...tenant.Entry) tenant.Record {
	t.Helper()
	stored, err := s.Put(t.Context(), r, log...)
	require.NoError(t, err)
	return stored
}

func entry(detail string) tenant.Entry {
	return tenant.Entry{
		Time: time.Date(2026, 7, 3, 0, 0, 0, 1000, time.UTC), Actor: "ann", Action: tenant.ActionSuspend, Detail: detail,
	}
}

// listAll reads all pages.
func listAll(t testing.TB, s tenant.Store, f tenant.Filter) []tenant.Record {
	t.Helper()
	var all []tenant.Record
	for {
		page, err := s.List(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		f.After = page[len(page)-1].ID
	}
}

// logOf reads all entries of a tenant.
func logOf(t testing.TB, s tenant.Store, id string) []tenant.Entry {
	t.Helper()
	var all []tenant.Entry
	f := tenant.LogFilter{Tenant: id}
	for {
		page, err := s.Log(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		f.After = page[len(page)-1].Seq
	}
}

// watching watches s in the background until the test ends. It returns once
// nothing is missed any more.
func watching(t *testing.T, s tenant.Store) <-chan tenant.Change {
	t.Helper()
	changes := make(chan tenant.Change, 1000)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func(c tenant.Change) { changes <- c }) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if !errors.Is(err, errors.Canceled) {
				t.Errorf("Watch ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("Watch does not end with its context")
		}
	})
	if first := next(t, changes); first != (tenant.Change{}) {
		t.Fatalf("the first change is %v, not the zero Change", first)
	}
	return changes
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}
