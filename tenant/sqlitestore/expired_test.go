package sqlitestore_test

import (
	"database/sql"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

// What expired while no worker ran may be much, and who puts does not wait until
// all of it is dropped.
func TestALeaseDropsWhatHasExpiredBitByBit(t *testing.T) {
	for name, place := range map[string]func(n int64) (tenant, chat string){
		"of many tenants": func(n int64) (string, string) { return fmt.Sprintf("t%04d", n), "1" },
		"of many chats":   func(n int64) (string, string) { return "t", fmt.Sprint(n) },
		"of one chat":     func(int64) (string, string) { return "t", "1" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := open(t, sqlitestore.Memory, keys(t))
				in := db.Inbox()
				const n, most = 450, 200
				in.SetDropMost(most)
				var batch []inbox.Update
				for i := range int64(n) {
					tenant, chat := place(i)
					u := message(tenant, chat, i+1)
					u.ExpiresAt = time.Now().Add(time.Minute)
					batch = append(batch, u)
				}
				tenant, chat := place(n - 1)
				batch = append(batch, message(tenant, chat, n+1), message("z", "1", 1))
				_, err := in.Put(t.Context(), batch)
				require.NoError(t, err)
				time.Sleep(2 * time.Minute)
				wake := in.Wake()
				commits := 0
				db.OnCommit(func(tx *sql.Tx) error { commits++; return tx.Commit() })
				var got []string
				for {
					leases, err := in.Lease(t.Context(), inbox.Want{Limit: 10, TTL: time.Hour})
					require.NoError(t, err)
					if len(leases) == 0 {
						break
					}
					for _, l := range leases {
						got = append(got, l.Tenant)
					}
				}
				select {
				case <-wake:
				default:
					assert.Fail(t, "who was lent a few is told that there may be more")
				}
				assert.ElementsMatch(t, []string{tenant, "z"}, got)
				assert.Greater(t, commits, n/most, "bit by bit")
				d, err := in.Depth(t.Context(), "")
				require.NoError(t, err)
				assert.Equal(t, 2, d.Waiting+d.Leased)
			})
		})
	}
}
