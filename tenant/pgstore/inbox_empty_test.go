package pgstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
)

// Expiry leaves chats that have nothing. They cost the others nothing, and are
// gone once they were met.
func TestEmptyChatsTakeNoTurnsOfOthers(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	in := openInbox(t, url, schema, keys(t), inboxtest.Config{})
	var batch []inbox.Update
	for tenant := range 100 {
		for chat := range 40 {
			batch = append(batch, message(fmt.Sprintf("t%03d", tenant), fmt.Sprint(chat), int64(chat+1)))
		}
	}
	_, err := in.Put(t.Context(), batch)
	require.NoError(t, err)
	execute(t, url, strings.ReplaceAll("DELETE FROM s.inbox_updates WHERE chat IN ('0', '1', '2') AND tenant IN ('t010', 't045', 't099') OR tenant = 't050' AND chat <> '39'", "s.", schema+"."))
	got := make(map[string]int)
	for range 40 {
		leases, err := in.Lease(t.Context(), inbox.Want{Limit: 50, TTL: time.Hour, PerTenant: 16})
		require.NoError(t, err)
		require.Len(t, leases, 50)
		for _, l := range leases {
			got[l.Tenant]++
		}
	}
	for tenant := range 100 {
		id := fmt.Sprintf("t%03d", tenant)
		want := 20
		if id == "t050" {
			want = 1
		}
		require.InDelta(t, want, got[id], 3, "%s: an empty chat costs its tenant a turn at most", id)
	}
}
