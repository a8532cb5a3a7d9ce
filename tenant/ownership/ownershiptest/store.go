package ownershiptest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/ownership"
)

// Harness is what the suite knows of a store. Only Open is required.
type Harness struct {
	// Open returns an empty store, which shares nothing with any other and is
	// closed when t ends.
	Open func(t *testing.T) ownership.Store
	// Again returns another store over the data of s, as another process would
	// open it. Nil has the suite use s itself.
	Again func(t *testing.T, s ownership.Store) ownership.Store
}

// TestStore tests a store.
func TestStore(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, a, b ownership.Store)
	}{
		{"a challenge comes back with its attempt", comesBack},
		{"challenges are of a tenant and a user", apart},
		{"a later challenge takes the earlier one's place", replaced},
		{"attempts are bounded", bounded},
		{"attempts at the same time are bounded", boundedTogether},
		{"an expired challenge is not there", expired},
		{"what is redeemed is gone, and proves", redeemed},
		{"what is not there can't be redeemed, and proves nothing", notRedeemed},
		{"of many who redeem one succeeds", redeemedOnce},
		{"the later proof stays", proofs},
		{"what was forgotten is gone", forgotten},
		{"names and numbers are any", anyText},
		{"values are copies", copies},
		{"a context that has ended changes nothing", contexts},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.Open(t)
			b := a
			if h.Again != nil {
				b = h.Again(t, a)
			}
			c.test(t, a, b)
		})
	}
}

var bg = context.Background()

// now is a time that each database can hold exactly. Challenges of the suite
// live far into the future, since stores may drop what has expired.
var now = time.Now().UTC().Truncate(time.Second).Add(123456 * time.Microsecond)

func challenge(tenant string, user int64) ownership.Challenge {
	return ownership.Challenge{
		Tenant: tenant, User: user, BotID: 700, Hash: hash(1), ExpiresAt: now.Add(time.Hour),
	}
}

func hash(n byte) []byte { return bytes.Repeat([]byte{0, n, 0xff, 0x80}, 8) }

func proof(tenant string, user int64) ownership.Proof {
	return ownership.Proof{Tenant: tenant, BotID: 700, User: user, Method: ownership.ByChallenge, At: now, Hash: hash(1)}
}

func begin(t testing.TB, s ownership.Store, c ownership.Challenge) {
	t.Helper()
	require.NoError(t, s.Begin(bg, c))
}

func missing(t testing.TB, s ownership.Store, tenant string, user int64, max int, at time.Time) {
	t.Helper()
	_, err := s.Attempt(bg, tenant, user, max, at)
	require.ErrorIs(t, err, errors.NotFound)
}

func proved(t testing.TB, s ownership.Store, want ownership.Proof) {
	t.Helper()
	got, err := s.Proof(bg, want.Tenant)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func unproved(t testing.TB, s ownership.Store, tenant string) {
	t.Helper()
	_, err := s.Proof(bg, tenant)
	require.ErrorIs(t, err, errors.NotFound)
}

func comesBack(t *testing.T, a, b ownership.Store) {
	c := challenge("shop", 7)
	c.ExpiresAt = c.ExpiresAt.In(time.FixedZone("x", 3600)).Add(789)
	begin(t, a, c)
	c = challenge("shop", 7)
	for i := range 3 {
		c.Attempts = i + 1
		got, err := b.Attempt(bg, "shop", 7, 3, now)
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
}

func apart(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 0))
	begin(t, a, challenge("cafe", 7))
	missing(t, b, "shop", 7, 9, now)
	missing(t, b, "cafe", 0, 9, now)
	missing(t, b, "", 0, 9, now)
	begin(t, b, challenge("shop", 7))
	for range 2 {
		_, err := a.Attempt(bg, "shop", 7, 2, now)
		require.NoError(t, err)
	}
	got, err := a.Attempt(bg, "shop", 0, 2, now)
	require.NoError(t, err)
	require.Equal(t, 1, got.Attempts)
}

func replaced(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 7))
	_, err := a.Attempt(bg, "shop", 7, 1, now)
	require.NoError(t, err)
	missing(t, a, "shop", 7, 1, now)
	c := challenge("shop", 7)
	c.Hash, c.BotID = hash(2), 701
	begin(t, b, c)
	got, err := a.Attempt(bg, "shop", 7, 1, now)
	require.NoError(t, err)
	c.Attempts = 1
	require.Equal(t, c, got)
	require.ErrorIs(t, a.Redeem(bg, challenge("shop", 7), proof("shop", 7)), errors.NotFound)
	unproved(t, a, "shop")
}

func bounded(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 7))
	missing(t, a, "shop", 7, 0, now)
	for range 5 {
		_, err := a.Attempt(bg, "shop", 7, 5, now)
		require.NoError(t, err)
	}
	missing(t, a, "shop", 7, 5, now)
	missing(t, b, "shop", 7, 5, now)
}

func boundedTogether(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 7))
	var all sync.WaitGroup
	var through atomic.Int32
	for i := range 20 {
		all.Go(func() {
			s := a
			if i%2 == 1 {
				s = b
			}
			_, err := s.Attempt(bg, "shop", 7, 5, now)
			if err == nil {
				through.Add(1)
				return
			}
			assert.ErrorIs(t, err, errors.NotFound)
		})
	}
	all.Wait()
	require.EqualValues(t, 5, through.Load())
}

func expired(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 7))
	missing(t, a, "shop", 7, 5, now.Add(time.Hour))
	missing(t, b, "shop", 7, 5, now.Add(2*time.Hour))
	_, err := b.Attempt(bg, "shop", 7, 5, now.Add(time.Hour-time.Microsecond))
	require.NoError(t, err)
}

func redeemed(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 0))
	begin(t, a, challenge("shop", 7))
	require.NoError(t, b.Redeem(bg, challenge("shop", 7), proof("shop", 7)))
	missing(t, a, "shop", 7, 5, now)
	proved(t, a, proof("shop", 7))
	require.ErrorIs(t, a.Redeem(bg, challenge("shop", 7), proof("shop", 8)), errors.NotFound)
	proved(t, b, proof("shop", 7))
	_, err := a.Attempt(bg, "shop", 0, 5, now)
	require.NoError(t, err, "another challenge stays")
}

func notRedeemed(t *testing.T, a, b ownership.Store) {
	require.ErrorIs(t, a.Redeem(bg, challenge("shop", 7), proof("shop", 7)), errors.NotFound)
	begin(t, a, challenge("shop", 7))
	other := challenge("shop", 7)
	other.Hash = hash(2)
	require.ErrorIs(t, b.Redeem(bg, other, proof("shop", 7)), errors.NotFound)
	require.ErrorIs(t, b.Redeem(bg, challenge("shop", 8), proof("shop", 7)), errors.NotFound)
	unproved(t, b, "shop")
	_, err := a.Attempt(bg, "shop", 7, 5, now)
	require.NoError(t, err)
}

func redeemedOnce(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 0))
	var all sync.WaitGroup
	var winner atomic.Int64
	for i := range int64(20) {
		all.Go(func() {
			s := a
			if i%2 == 1 {
				s = b
			}
			err := s.Redeem(bg, challenge("shop", 0), proof("shop", i+1))
			if err == nil {
				assert.Zero(t, winner.Swap(i+1), "a second one succeeds")
				return
			}
			assert.ErrorIs(t, err, errors.NotFound)
		})
	}
	all.Wait()
	proved(t, a, proof("shop", winner.Load()))
}

func proofs(t *testing.T, a, b ownership.Store) {
	unproved(t, a, "shop")
	first := proof("shop", 7)
	first.At = first.At.In(time.FixedZone("x", -3600)).Add(789)
	require.NoError(t, a.Prove(bg, first))
	proved(t, b, proof("shop", 7))
	later := ownership.Proof{Tenant: "shop", BotID: 701, User: 8, Method: ownership.ByManager, At: now.Add(time.Second)}
	require.NoError(t, b.Prove(bg, later))
	proved(t, a, later)
	unproved(t, a, "cafe")
	begin(t, a, challenge("shop", 7))
	require.NoError(t, a.Redeem(bg, challenge("shop", 7), proof("shop", 7)))
	proved(t, b, proof("shop", 7))
}

func forgotten(t *testing.T, a, b ownership.Store) {
	for _, id := range []string{"shop", "cafe"} {
		begin(t, a, challenge(id, 0))
		begin(t, a, challenge(id, 7))
		require.NoError(t, a.Prove(bg, proof(id, 7)))
	}
	require.NoError(t, b.Forget(bg, "shop"))
	require.NoError(t, b.Forget(bg, "shop"))
	unproved(t, a, "shop")
	missing(t, a, "shop", 0, 5, now)
	missing(t, a, "shop", 7, 5, now)
	proved(t, a, proof("cafe", 7))
	_, err := a.Attempt(bg, "cafe", 7, 5, now)
	require.NoError(t, err)
}

func anyText(t *testing.T, a, b ownership.Store) {
	names := []string{"x", "X", "é", "e\u0301", "'; DROP TABLE proofs; --", "%", "_", `\`, strings.Repeat("t", 128), "🤖", " x", "x "}
	for i, name := range names {
		c := challenge(name, math.MaxInt64-int64(i))
		c.BotID = 1<<54 - 1 - int64(i)
		begin(t, a, c)
		p := proof(name, math.MaxInt64-int64(i))
		p.BotID = c.BotID
		require.NoError(t, a.Prove(bg, p))
	}
	for i, name := range names {
		c, err := b.Attempt(bg, name, math.MaxInt64-int64(i), 1, now)
		require.NoError(t, err, name)
		require.Equal(t, name, c.Tenant)
		require.Equal(t, 1<<54-1-int64(i), c.BotID)
		p, err := b.Proof(bg, name)
		require.NoError(t, err, name)
		require.Equal(t, math.MaxInt64-int64(i), p.User, fmt.Sprint("name ", i))
	}
}

func copies(t *testing.T, a, _ ownership.Store) {
	c, p := challenge("shop", 7), proof("shop", 7)
	begin(t, a, c)
	require.NoError(t, a.Prove(bg, p))
	clear(c.Hash)
	clear(p.Hash)
	c, err := a.Attempt(bg, "shop", 7, 9, now)
	require.NoError(t, err)
	require.Equal(t, hash(1), c.Hash)
	clear(c.Hash)
	p, err = a.Proof(bg, "shop")
	require.NoError(t, err)
	require.Equal(t, hash(1), p.Hash)
	clear(p.Hash)
	proved(t, a, proof("shop", 7))
	require.NoError(t, a.Redeem(bg, challenge("shop", 7), proof("shop", 7)))
}

func contexts(t *testing.T, a, b ownership.Store) {
	begin(t, a, challenge("shop", 7))
	ctx, cancel := context.WithCancel(bg)
	cancel()
	for name, err := range map[string]error{
		"Begin":  a.Begin(ctx, challenge("cafe", 7)),
		"Redeem": a.Redeem(ctx, challenge("shop", 7), proof("shop", 7)),
		"Prove":  a.Prove(ctx, proof("shop", 7)),
		"Forget": a.Forget(ctx, "shop"),
		"Attempt": func() error {
			_, err := a.Attempt(ctx, "shop", 7, 5, now)
			return err
		}(),
		"Proof": func() error {
			_, err := a.Proof(ctx, "shop")
			return err
		}(),
	} {
		assert.ErrorIs(t, err, errors.Canceled, name)
	}
	missing(t, b, "cafe", 7, 5, now)
	unproved(t, b, "shop")
	c, err := b.Attempt(bg, "shop", 7, 5, now)
	require.NoError(t, err)
	assert.Equal(t, 1, c.Attempts)
}
