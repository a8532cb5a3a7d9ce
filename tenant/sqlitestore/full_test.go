package sqlitestore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// On a disk that has no room for a WAL of a thousand pages, every kind of change
// that finds it full empties it, so that the next one finds room.
func TestEveryChangeEmptiesAWALThatFillsTheDisk(t *testing.T) {
	ring := keys(t)
	for name, change := range map[string]func(t *testing.T, db *sqlitestore.DB, n int) error{
		"SetHealth": func(t *testing.T, db *sqlitestore.DB, n int) error {
			return db.Tenants().SetHealth(t.Context(), map[string]string{"a": fmt.Sprint(n)})
		},
		"Replace": func(t *testing.T, db *sqlitestore.DB, _ int) error {
			rows, err := db.Sealed(t.Context(), "", "", 1)
			require.NoError(t, err)
			token := storetest.Record(t, "a", 1).Token
			sealed, err := ring.Seal(rows[0].Purpose, rows[0].Owner, []byte(token.Reveal()))
			require.NoError(t, err)
			_, err = db.Replace(t.Context(), rows[0], sealed)
			return err
		},
		"Prove": func(t *testing.T, db *sqlitestore.DB, n int) error {
			return db.Ownership().Prove(t.Context(), ownership.Proof{
				Tenant: "a", BotID: int64(n), Method: ownership.ByChallenge, At: time.Now(),
			})
		},
		"Merge": func(t *testing.T, db *sqlitestore.DB, n int) error {
			return db.Health().Merge(t.Context(), health.Flush{Writer: "w", Seq: uint64(n + 1)}, []health.Snapshot{{Tenant: "a", Requests: 1}})
		},
		"Lease": func(t *testing.T, db *sqlitestore.DB, _ int) error {
			leases, err := db.Inbox().Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
			if err != nil {
				return err
			}
			if len(leases) > 0 {
				_, err = db.Inbox().Settle(t.Context(), []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Return}})
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, "2m")
			db := open(t, filepath.Join(dir, "fleet.db"), ring)
			_, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
			require.NoError(t, err)
			_, err = db.Inbox().Put(t.Context(), []inbox.Update{message("a", "1", 1)})
			require.NoError(t, err)
			require.NoError(t, change(t, db, 0)) // the file need not grow any more
			require.NoError(t, db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"))
			failed := 0
			for n := 1; n < 1000 && failed < 3; n++ {
				err := change(t, db, n)
				if err == nil {
					continue
				}
				require.ErrorIs(t, err, errors.StoreUnavailable)
				assert.True(t, errors.SafeToRepeat(err))
				failed++
				if name == "Lease" { // which may be lent to nobody
					require.NoError(t, db.Exec("UPDATE inbox_chats SET at = 1, token = 0"))
				}
				require.NoError(t, change(t, db, n), "the next change finds the room")
			}
			assert.Positive(t, failed, "the disk is too large to test anything")
		})
	}
}

// crowd is an inbox on a disk that gets full.
type crowd struct {
	in   *sqlitestore.Inbox
	fill func(t *testing.T)
	free func(t *testing.T)
}

func crowds(t *testing.T, ring *seal.Ring) map[string]func(t *testing.T) crowd {
	return map[string]func(t *testing.T) crowd{
		"the database has reached its quota": func(t *testing.T) crowd {
			db := open(t, readyFile(t), ring)
			return crowd{db.Inbox(),
				func(t *testing.T) { require.NoError(t, db.LimitPages(1)) },
				func(t *testing.T) { require.NoError(t, db.LimitPages(0)) }}
		},
		"the disk is full": func(t *testing.T) crowd {
			dir := smallDisk(t, "16m")
			filler := filepath.Join(dir, "filler")
			return crowd{open(t, filepath.Join(dir, "fleet.db"), ring).Inbox(),
				func(t *testing.T) {
					f, err := os.Create(filler)
					require.NoError(t, err)
					for err == nil {
						_, err = f.Write(make([]byte, 4096))
					}
					require.NoError(t, f.Close())
				},
				func(t *testing.T) { require.NoError(t, os.Remove(filler)) }}
		},
	}
}

// On a full disk an inbox refuses what it can't keep, in whole, keeps what it
// has, and goes on when there is room.
func TestAnInboxOnAFullDisk(t *testing.T) {
	ring := keys(t)
	for name, make := range crowds(t, ring) {
		t.Run(name, func(t *testing.T) {
			c := make(t)
			ctx := t.Context()
			unavailable := func(err error) bool {
				t.Helper()
				if err == nil {
					return false
				}
				require.ErrorIs(t, err, errors.StoreUnavailable)
				assert.True(t, errors.SafeToRepeat(err), "it was rolled back")
				return true
			}
			// Three of a batch, each in a chat of its own and as large as a few pages.
			batch := func(n int64) (all []inbox.Update) {
				for i := range int64(3) {
					u := message("a", fmt.Sprint(n, "/", i), 3*n+i+1)
					u.Raw = []byte(`"` + strings.Repeat("x", 10_000) + `"`)
					all = append(all, u)
				}
				return all
			}
			expect := func(waiting, leased, dead int) {
				t.Helper()
				d, err := c.in.Depth(ctx, "a")
				require.NoError(t, err)
				assert.Equal(t, []int{waiting, leased, dead}, []int{d.Waiting, d.Leased, d.Dead})
			}
			put := int64(0)
			for ; put < 5; put++ {
				_, err := c.in.Put(ctx, batch(put))
				require.NoError(t, err)
			}
			held, err := c.in.Lease(ctx, inbox.Want{Limit: 2, TTL: time.Hour})
			require.NoError(t, err)
			require.Len(t, held, 2)
			bury, done := inbox.Settlement{Lease: held[0], Verdict: inbox.Bury, Reason: strings.Repeat("y", 10_000)},
				inbox.Settlement{Lease: held[1], Verdict: inbox.Done}
			c.fill(t)

			refused := false
			for ; !refused && put < 10_000; put++ {
				_, err := c.in.Put(ctx, batch(put))
				refused = unavailable(err)
			}
			require.True(t, refused, "the disk is not full")
			put-- // which was refused
			waiting := int(3*put) - 2
			expect(waiting, 2, 0)
			// What is settled together is together done or not.
			var settled []bool
			for refused := false; !refused; {
				if settled, err = c.in.Settle(ctx, []inbox.Settlement{bury, done}); !unavailable(err) {
					// A quota says nothing against what needs no more pages.
					require.Equal(t, []bool{true, true}, settled)
					expect(waiting, 0, 1)
					break
				}
				expect(waiting, 2, 0)
				refused = true
			}
			leases, err := c.in.Lease(ctx, inbox.Want{Limit: 5, TTL: time.Hour})
			if unavailable(err) {
				require.Empty(t, leases)
			}
			taken := len(leases)

			c.free(t)
			if settled == nil {
				settled, err = c.in.Settle(ctx, []inbox.Settlement{bury, done})
				require.NoError(t, err)
				require.Equal(t, []bool{true, true}, settled, "the leases are held still")
			}
			expect(waiting-taken, taken, 1)
			outcomes, err := c.in.Put(ctx, batch(put))
			require.NoError(t, err)
			assert.Equal(t, []inbox.Outcome{{}, {}, {}}, outcomes, "what was refused is no duplicate")
			outcomes, err = c.in.Put(ctx, batch(put-1))
			require.NoError(t, err)
			assert.Equal(t, []inbox.Outcome{{Duplicate: true}, {Duplicate: true}, {Duplicate: true}}, outcomes)
			n, err := c.in.Replay(ctx, []inbox.Ref{{Tenant: "a", ID: bury.Lease.ID}})
			require.NoError(t, err)
			assert.Equal(t, 1, n)

			seen := map[int64]bool{done.Lease.ID: true}
			for {
				for _, l := range leases {
					assert.False(t, seen[l.ID], "%d came twice", l.ID)
					assert.Len(t, l.Raw, 10_002)
					seen[l.ID] = true
				}
				if leases, err = c.in.Lease(ctx, inbox.Want{Limit: 100, TTL: time.Hour}); len(leases) == 0 {
					break
				}
			}
			require.NoError(t, err)
			assert.Len(t, seen, int(3*put)+3, "nothing is lost")
		})
	}
}
