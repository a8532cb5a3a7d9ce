package sqlitestore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

const mib = 1 << 20

func TestAPageIsBoundedByItsBytesToo(t *testing.T) {
	s := open(t, readyFile(t), keys(t)).Tenants()
	var want []string
	for i := range 20 {
		r := storetest.Record(t, fmt.Sprintf("t%02d", i), int64(i+1))
		r.Metadata = map[string]string{"x": strings.Repeat("x", mib-1)}
		_, err := s.Put(t.Context(), r)
		require.NoError(t, err)
		want = append(want, r.ID)
	}
	var got []string
	for f := (tenant.Filter{Limit: 500}); ; f.After = got[len(got)-1] {
		page, err := s.List(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		assert.LessOrEqual(t, len(page), 8)
		for _, r := range page {
			got = append(got, r.ID)
		}
	}
	assert.Equal(t, want, got)
}

func TestADeadLetterThatIsLongerThanAPageIsListed(t *testing.T) {
	in := open(t, readyFile(t), keys(t)).Inbox()
	for i := range int64(3) {
		u := message("a", "1", i+1)
		u.Raw = make([]byte, 9*mib)
		_, err := in.Put(t.Context(), []inbox.Update{u})
		require.NoError(t, err)
		leases, err := in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Minute})
		require.NoError(t, err)
		_, err = in.Settle(t.Context(), []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Bury}})
		require.NoError(t, err)
	}
	var f inbox.DeadFilter
	for i := range int64(3) {
		page, err := in.Dead(t.Context(), f)
		require.NoError(t, err)
		require.Len(t, page, 1)
		assert.Equal(t, i+1, page[0].ID)
		f.After = inbox.Ref{Tenant: "a", ID: page[0].ID}
	}
	page, err := in.Dead(t.Context(), f)
	require.NoError(t, err)
	assert.Empty(t, page)
}
