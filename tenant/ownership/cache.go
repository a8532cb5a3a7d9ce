package ownership

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxKnown bounds of how many tenants it is remembered whether they are
// verified, at some 200 bytes each.
const maxKnown = 100_000

// unknownFor is for how long a tenant is taken for unverified after a look.
const unknownFor = 5 * time.Second

// cache remembers who is verified.
type cache struct {
	ttl time.Duration

	mu      sync.Mutex // guards what follows
	entries *simplelru.LRU[string, known]
	changes uint64 // counts what was learned otherwise than by a look
}

// known is what was found out of a tenant.
type known struct {
	botID int64 // whose ownership is proved; 0 is nobody's
	at    time.Time
}

func (c *cache) init(ttl time.Duration) {
	c.ttl = ttl
	c.entries, _ = simplelru.NewLRU[string, known](maxKnown, nil)
}

// look is what a cache says of a tenant.
type look struct {
	verified bool
	found    bool   // it was known at some time
	fresh    bool   // and need not be looked up
	changes  uint64 // for seen
}

func (c *cache) get(tenant string, botID int64, now time.Time) look {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, found := c.entries.Get(tenant)
	l := look{verified: found && k.botID == botID, found: found, changes: c.changes}
	ttl := c.ttl
	if !l.verified {
		ttl = min(ttl, unknownFor)
	}
	l.fresh = found && now.Sub(k.at) < ttl
	if found && !l.fresh {
		// One caller looks; the others make do with what is known for a moment.
		c.entries.Add(tenant, known{k.botID, now.Add(min(ttl, time.Second) - ttl)})
	}
	return l
}

// seen notes what a look has found, unless something else was learned since.
func (c *cache) seen(tenant string, botID int64, now time.Time, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes == changes {
		c.entries.Add(tenant, known{botID, now})
	}
}

// put notes a proof.
func (c *cache) put(p Proof) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.entries.Add(p.Tenant, known{p.BotID, time.Now()})
}

func (c *cache) drop(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.entries.Remove(tenant)
}
