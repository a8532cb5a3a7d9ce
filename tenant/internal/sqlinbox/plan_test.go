package sqlinbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"pgregory.net/rapid"
)

func update(tenant string, id int64) inbox.Update {
	return inbox.Update{Tenant: tenant, ID: id, Kind: "message", Chat: "1", Raw: []byte("{}"), ReceivedAt: time.Unix(1, 0)}
}

// disk is where rows would be stored.
type disk map[Block]map[int64][]byte

func (d disk) put(p *Plan, room *Room, hour int64) {
	p.Reset()
	tenants, all := room.Unknown(p, time.Now())
	for _, t := range tenants {
		room.Counted(t, 0, time.Now())
	}
	if all {
		room.Counted("", 0, time.Now())
	}
	for _, b := range p.Blocks {
		for h, bits := range d[b] {
			p.Load(b, h == hour, bits)
		}
	}
	p.Decide(room)
	for _, b := range p.Marked {
		if d[b] == nil {
			d[b] = make(map[int64][]byte)
		}
		d[b][hour] = p.Bits(b)
	}
}

func config(t require.TestingT) Config {
	cfg, bad := Config{}.WithDefaults()
	require.Empty(t, bad)
	return cfg
}

func TestAnIDIsNewOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, known := disk{}, map[inbox.Ref]bool{}
		room := NewRoom(config(t))
		hour := int64(500_000)
		for range rapid.IntRange(1, 20).Draw(t, "batches") {
			var batch []inbox.Update
			for range rapid.IntRange(1, 8).Draw(t, "n") {
				base := rapid.SampledFrom([]int64{1, 1020, 1 << 30, 1<<62 + 5}).Draw(t, "base")
				batch = append(batch, update(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant"), base+rapid.Int64Range(0, 9).Draw(t, "id")))
			}
			p := NewPlan(batch)
			d.put(p, room, hour)
			for i, u := range batch {
				require.NoError(t, p.Outcomes[i].Err)
				require.Equal(t, known[u.Ref()], p.Outcomes[i].Duplicate, "%v", u)
				known[u.Ref()] = true
			}
			hour += rapid.Int64Range(0, 1).Draw(t, "hours")
		}
	})
}

func TestBusyIDsTakeFewRows(t *testing.T) {
	d := disk{}
	room := NewRoom(Config{MaxUpdates: 1 << 30, MaxPerTenant: 1 << 30})
	for id := int64(1); id <= 20_000; id += 100 {
		var batch []inbox.Update
		for n := range int64(100) {
			batch = append(batch, update("a", id+n))
		}
		p := NewPlan(batch)
		d.put(p, room, 7)
		require.Len(t, p.Stored, 100)
	}
	assert.Len(t, d, 20)
}

func TestWhatNoDatabaseTakesIsRefusedAlone(t *testing.T) {
	bad := update("a", 2)
	bad.Chat = "nul\x00"
	worse := update("a\xff", 3)
	p := NewPlan([]inbox.Update{update("a", 1), bad, worse, update("a", 4)})
	disk{}.put(p, NewRoom(config(t)), 7)
	assert.Equal(t, []int{0, 3}, p.Stored)
	assert.ErrorIs(t, p.Outcomes[1].Err, errors.BadRequest)
	assert.ErrorIs(t, p.Outcomes[2].Err, errors.BadRequest)
}

func TestACountIsTrustedForAWhileUnlessItSaysFull(t *testing.T) {
	room := NewRoom(Config{MaxUpdates: 100, MaxPerTenant: 10, RetryAfter: time.Second})
	p := NewPlan([]inbox.Update{update("a", 1), update("a", 2)})
	now := time.Now()
	unknown := func(at time.Time) string {
		tenants, all := room.Unknown(p, at)
		return fmt.Sprint(tenants, all)
	}
	assert.Equal(t, "[a] true", unknown(now))
	room.Counted("a", 7, now)
	room.Counted("", 7, now)
	assert.Equal(t, "[] false", unknown(now))
	assert.Equal(t, "[a] false", unknown(now.Add(tenantFresh)))
	assert.Equal(t, "[a] true", unknown(now.Add(allFresh)))
	require.NoError(t, room.take("a"))
	require.NoError(t, room.take("a"))
	assert.Equal(t, "[a] false", unknown(now), "9 and 2 are more than 10")
	room.Left("a")
	assert.Equal(t, "[] false", unknown(now))
	room.Counted("a", 10, now)
	assert.ErrorIs(t, room.take("a"), inbox.ErrFull)
	room.Forget("a")
	assert.Equal(t, "[a] true", unknown(now))
}

// A flood that fills the inbox has it counted for every Put otherwise.
func TestManyAreNotCountedForEveryUpdateThatIsRefused(t *testing.T) {
	room := NewRoom(Config{MaxUpdates: 1_000_000, MaxPerTenant: 20_000, RetryAfter: time.Second})
	p := NewPlan([]inbox.Update{update("a", 1), update("a", 2)})
	now := time.Now()
	unknown := func(after time.Duration) string {
		tenants, all := room.Unknown(p, now.Add(after))
		return fmt.Sprint(tenants, all)
	}
	room.Counted("a", 20_000, now)
	room.Counted("", 999_999, now)
	assert.Equal(t, "[] false", unknown(199*time.Millisecond))
	assert.Equal(t, "[a] false", unknown(200*time.Millisecond))
	assert.Equal(t, "[a] true", unknown(10*time.Second))
	room.Counted("", 1_000_000, now)
	assert.Equal(t, "[a] false", unknown(9*time.Second))
	assert.Equal(t, "[a] true", unknown(10*time.Second))
}

func TestABadConfigIsToldWhole(t *testing.T) {
	_, bad := Config{-1, -1, -1, -1, -1}.WithDefaults()
	assert.Len(t, bad, 5)
}
