package sqlinbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Ids are remembered as bits in blocks of 1024, by the hour that they were put
// in: a busy tenant's day is some dozens of rows, however many updates it has,
// and gaps between the ids cost nothing.
const (
	blockShift = 10
	blockBytes = 1 << blockShift / 8
)

// Block names 1024 ids of a tenant: those that are N when shifted.
type Block struct {
	Tenant string
	N      int64
}

// Hour is the time in hours since 1970, rounded down.
func Hour(t time.Time) int64 { return t.Unix() / 3600 }

// Plan is what becomes of a batch of updates. It is made in steps: NewPlan,
// Load for each row of Blocks that is stored, and Decide.
type Plan struct {
	Updates  []inbox.Update
	Outcomes []inbox.Outcome
	Tenants  []string // ascending, each once
	Blocks   []Block  // ascending, each once

	// What Decide found.
	Stored []int   // which updates are to be stored
	Marked []Block // whose bits of this hour are to be stored
	Full   bool    // something was refused

	good      []bool
	perTenant map[string]int
	old       map[Block][blockBytes]byte // of all hours that are remembered
	current   map[Block][blockBytes]byte // of this hour
}

// NewPlan begins with what can be said without looking.
func NewPlan(updates []inbox.Update) *Plan {
	p := &Plan{
		Updates: updates, Outcomes: make([]inbox.Outcome, len(updates)), good: make([]bool, len(updates)),
		perTenant: make(map[string]int),
	}
	blocks := make(map[Block]bool)
	for i := range updates {
		u := &updates[i]
		if err := u.Validate(); err != nil {
			p.Outcomes[i].Err = err
			continue
		}
		if !sqlstore.Storable(u.Tenant) || !sqlstore.Storable(u.Kind) || !sqlstore.Storable(u.Chat) {
			p.Outcomes[i].Err = sqlstore.Fail("check update", "", errors.BadRequest, errors.New("tenant, kind or chat is not UTF-8 or has a NUL"))
			continue
		}
		p.good[i] = true
		if p.perTenant[u.Tenant]++; p.perTenant[u.Tenant] == 1 {
			p.Tenants = append(p.Tenants, u.Tenant)
		}
		if b := (Block{u.Tenant, u.ID >> blockShift}); !blocks[b] {
			blocks[b] = true
			p.Blocks = append(p.Blocks, b)
		}
	}
	slices.Sort(p.Tenants)
	slices.SortFunc(p.Blocks, func(a, b Block) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.N, b.N)) })
	p.Reset()
	return p
}

// Reset forgets what was loaded and decided, for another try.
func (p *Plan) Reset() {
	for i, good := range p.good {
		if good {
			p.Outcomes[i] = inbox.Outcome{}
		}
	}
	p.Stored, p.Marked, p.Full = p.Stored[:0], p.Marked[:0], false
	p.old, p.current = make(map[Block][blockBytes]byte), make(map[Block][blockBytes]byte)
}

// Load takes a stored row. current says that it is of this hour.
func (p *Plan) Load(b Block, current bool, bits []byte) {
	old := p.old[b]
	for i := range min(len(bits), blockBytes) {
		old[i] |= bits[i]
	}
	p.old[b] = old
	if current {
		var now [blockBytes]byte
		copy(now[:], bits)
		p.current[b] = now
	}
}

// Decide says which updates are stored, and takes room for them.
func (p *Plan) Decide(room *Room) {
	var refused map[string]error
	marked := make(map[Block]bool)
	for i := range p.Updates {
		if !p.good[i] {
			continue
		}
		u := &p.Updates[i]
		b := Block{u.Tenant, u.ID >> blockShift}
		at, bit := u.ID>>3&(blockBytes-1), byte(1)<<(u.ID&7)
		old := p.old[b]
		if old[at]&bit != 0 {
			p.Outcomes[i].Duplicate = true
			continue
		}
		err := refused[u.Tenant]
		if err == nil {
			if err = room.take(u.Tenant); err != nil {
				if refused == nil {
					refused = make(map[string]error)
				}
				refused[u.Tenant] = err
			}
		}
		if err != nil {
			p.Outcomes[i].Err, p.Full = err, true
			continue
		}
		now := p.current[b]
		old[at] |= bit
		now[at] |= bit
		p.old[b], p.current[b] = old, now
		if !marked[b] {
			marked[b] = true
			p.Marked = append(p.Marked, b)
		}
		p.Stored = append(p.Stored, i)
	}
	slices.SortFunc(p.Marked, func(a, b Block) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.N, b.N)) })
}

// Bits returns what is to be stored of a marked block for this hour.
func (p *Plan) Bits(b Block) []byte {
	bits := p.current[b]
	return bits[:]
}

// Undo gives back the room that Decide took, since nothing was stored.
func (p *Plan) Undo(room *Room) { room.Forget(p.Tenants...) }
