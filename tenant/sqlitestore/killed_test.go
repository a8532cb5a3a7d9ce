package sqlitestore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

// victimOf names the environment variable that makes this program work on the
// inbox of that file until it is killed, and say what was confirmed to it.
const victimOf = "SQLITESTORE_VICTIM_OF"

func beVictim(path string) {
	must := func(err error) {
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
	key, err := seal.GenerateKey("test")
	must(err)
	ring, err := seal.New(key)
	must(err)
	ctx := context.Background()
	db, err := sqlitestore.Open(ctx, path, sqlitestore.Config{Keys: ring})
	must(err)
	in := db.Inbox()
	for w := range 4 {
		go func() {
			tenant := fmt.Sprint("t", w)
			for n := int64(0); ; n++ {
				outcomes, err := in.Put(ctx, batchOf(tenant, n))
				must(err)
				if !outcomes[0].Duplicate {
					fmt.Println("put", tenant, n)
				}
			}
		}()
	}
	for {
		leases, err := in.Lease(ctx, inbox.Want{Limit: 5, TTL: time.Nanosecond})
		must(err)
		var all []inbox.Settlement
		for i, l := range leases {
			all = append(all, inbox.Settlement{Lease: l, Verdict: []inbox.Verdict{inbox.Done, inbox.Bury, inbox.Retry}[i%3]})
		}
		held, err := in.Settle(ctx, all)
		must(err)
		for i, s := range all {
			if held[i] && s.Verdict != inbox.Retry {
				fmt.Println(s.Verdict, s.Lease.Tenant, s.Lease.ID)
			}
		}
	}
}

// batchOf is the n-th batch of a tenant.
func batchOf(tenant string, n int64) (all []inbox.Update) {
	for i := range int64(3) {
		all = append(all, message(tenant, fmt.Sprint("chat", i%2), 3*n+i+1))
	}
	return all
}

// A process that is killed loses nothing of what was confirmed to it, and leaves
// no change by half.
func TestAnInboxWhoseProcessIsKilledKeepsWhatItConfirmed(t *testing.T) {
	path, ring := newFile(t), keys(t)
	type update struct {
		tenant string
		id     int64
	}
	put, settled := map[update]bool{}, map[update]string{} // the batches, and the updates
	for round := range 4 {
		ctx, kill := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), victimOf+"="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 100+37*round {
				kill()
			}
			what, rest, _ := strings.Cut(lines.Text(), " ")
			var u update
			if _, err := fmt.Sscan(rest, &u.tenant, &u.id); err != nil {
				continue // it was killed while it wrote the line
			}
			switch what {
			case "put":
				put[u] = true
			case "done", "bury":
				assert.NotContains(t, settled, u, "it came again")
				settled[u] = what
			default:
				t.Error(lines.Text())
			}
		}
		kill()
		assert.Error(t, cmd.Wait())

		db := open(t, path, ring)
		var check string
		require.NoError(t, db.Scan("PRAGMA integrity_check", &check))
		require.Equal(t, "ok", check)
		require.NoError(t, db.Close())
	}

	in := open(t, path, ring).Inbox()
	unconfirmed := map[update]bool{}
	for w := range 4 {
		u := update{fmt.Sprint("t", w), 0}
		for ; ; u.id++ { // the batches, beginning with the first that nobody knows
			outcomes, err := in.Put(t.Context(), batchOf(u.tenant, u.id))
			require.NoError(t, err)
			known := outcomes[0].Duplicate
			for _, o := range outcomes {
				require.Equal(t, inbox.Outcome{Duplicate: known}, o, "a batch was stored by half")
			}
			if put[u] {
				require.True(t, known, "%v was confirmed and lost", u)
			}
			unconfirmed[u] = !put[u]
			if !known {
				break
			}
		}
		for n := range u.id + 1 {
			delete(put, update{u.tenant, n})
		}
	}
	assert.Empty(t, put, "confirmed and lost")

	there := map[update]string{}
	note := func(what, tenant string, id int64) {
		u := update{tenant, id}
		assert.NotContains(t, there, u, "it is there twice")
		there[u] = what
	}
	for f := (inbox.DeadFilter{Limit: 100}); ; {
		page, err := in.Dead(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			note("bury", d.Tenant, d.ID)
			f.After = inbox.Ref{Tenant: d.Tenant, ID: d.ID}
		}
	}
	for {
		leases, err := in.Lease(t.Context(), inbox.Want{Limit: 100, TTL: time.Hour})
		require.NoError(t, err)
		if len(leases) == 0 {
			break
		}
		var all []inbox.Settlement
		for _, l := range leases {
			note("waiting", l.Tenant, l.ID)
			all = append(all, inbox.Settlement{Lease: l, Verdict: inbox.Done})
		}
		_, err = in.Settle(t.Context(), all)
		require.NoError(t, err)
	}
	gone := 0
	for u := range unconfirmed {
		for _, x := range batchOf(u.tenant, u.id) {
			u := update{x.Tenant, x.ID}
			switch what := settled[u]; {
			case what == "done":
				assert.NotContains(t, there, u, "it was done")
			case what == "bury":
				assert.Equal(t, "bury", there[u])
			case there[u] == "":
				gone++
			}
		}
	}
	// Of each process's last settlements nobody has heard: 2 of 5 are Done.
	assert.LessOrEqual(t, gone, 4*2, "updates are lost")
}

// A caller who is told that nothing was done can rely on it, whenever he left.
func TestAnInboxWhoseCallersLeave(t *testing.T) {
	in := open(t, newFile(t), keys(t)).Inbox()
	told := map[errors.Delivery]int{}
	for round := range int64(100) {
		ctx, cancel := context.WithCancel(t.Context())
		stop := make(chan struct{})
		go func() {
			for range round * 200 { // about as long as a Put takes, from almost none to all
				select {
				case <-stop:
					return
				default:
				}
			}
			cancel()
		}()
		_, err := in.Put(ctx, batchOf("a", round))
		close(stop)
		cancel()
		outcomes, again := in.Put(t.Context(), batchOf("a", round))
		require.NoError(t, again)
		known := outcomes[0].Duplicate
		for _, o := range outcomes {
			require.Equal(t, inbox.Outcome{Duplicate: known}, o, "a batch was stored by half")
		}
		switch e, ok := errors.AsType[*errors.Error](err); {
		case err == nil:
			require.True(t, known, "confirmed and lost")
		default:
			require.True(t, ok)
			require.ErrorIs(t, err, errors.Canceled)
			if e.Delivery == errors.NotDelivered {
				require.False(t, known, "it was done")
			}
			told[e.Delivery]++
		}
	}
	assert.Zero(t, told[errors.DeliveryUnknown])
	d, err := in.Depth(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, 300, d.Waiting)
}
