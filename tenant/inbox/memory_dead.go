package inbox

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"
)

func byID(d DeadLetter, id int64) int { return cmp.Compare(d.ID, id) }

// weight is the size of a dead letter.
func (d *DeadLetter) weight() int64 { return int64(len(d.Raw) + len(d.Reason)) }

// graves are the tenants that have dead letters, the one that has most first.
// It is a heap for container/heap.
type graves struct {
	boxes []*box
	count int
	bytes int64
	// What count and bytes are bounded by.
	maxCount int
	maxBytes int64
}

// share is the part of what there is room for that a tenant's letters take, by
// number or by size.
func (g *graves) share(b *box) float64 {
	return max(float64(len(b.dead))/float64(g.maxCount), float64(b.rotting)/float64(g.maxBytes))
}

func (g *graves) Len() int           { return len(g.boxes) }
func (g *graves) Less(i, j int) bool { return g.share(g.boxes[i]) > g.share(g.boxes[j]) }
func (g *graves) Swap(i, j int) {
	g.boxes[i], g.boxes[j] = g.boxes[j], g.boxes[i]
	g.boxes[i].graveAt, g.boxes[j].graveAt = i, j
}

func (g *graves) Push(x any) {
	b := x.(*box)
	b.graveAt = len(g.boxes)
	g.boxes = append(g.boxes, b)
}

func (g *graves) Pop() any {
	last := len(g.boxes) - 1
	b := g.boxes[last]
	g.boxes[last] = nil
	g.boxes = g.boxes[:last]
	b.graveAt = -1
	return b
}

// add puts a letter at its place among its tenant's.
func (g *graves) add(b *box, at int, d DeadLetter) {
	b.dead = slices.Insert(b.dead, at, d)
	g.change(b, 1, d.weight())
}

// remove takes the letter at a place out of its tenant's.
func (g *graves) remove(b *box, at int) DeadLetter {
	d := b.dead[at]
	b.dead = slices.Delete(b.dead, at, at+1)
	g.change(b, -1, -d.weight())
	return d
}

func (g *graves) change(b *box, count int, bytes int64) {
	g.count += count
	g.bytes += bytes
	b.rotting += bytes
	switch {
	case len(b.dead) == 0 && b.graveAt >= 0:
		heap.Remove(g, b.graveAt)
	case b.graveAt >= 0:
		heap.Fix(g, b.graveAt)
	case len(b.dead) > 0:
		heap.Push(g, b)
	}
}

// bury keeps a dead letter. Where there is no room older ones go, and never
// the new one: its tenant's oldest, or that of the tenant that has most.
func (m *Memory) bury(b *box, d DeadLetter) {
	if at, found := slices.BinarySearchFunc(b.dead, d.ID, byID); found { // ids were started anew since
		m.graves.remove(b, at)
	}
	for len(b.dead) >= m.cfg.MaxDeadPerTenant {
		m.evict(b)
	}
	for g := &m.graves; g.count > 0 && (g.count >= g.maxCount || g.bytes+d.weight() > g.maxBytes); {
		m.evict(g.boxes[0])
	}
	at, _ := slices.BinarySearchFunc(b.dead, d.ID, byID)
	m.graves.add(b, at, d)
}

// evict drops a tenant's oldest dead letter.
func (m *Memory) evict(b *box) {
	oldest := 0
	for i := range b.dead {
		if b.dead[i].DiedAt.Before(b.dead[oldest].DiedAt) {
			oldest = i
		}
	}
	m.graves.remove(b, oldest)
	m.stats.DeadDropped++
}

// Dead implements [Inbox].
func (m *Memory) Dead(ctx context.Context, filter DeadFilter) ([]DeadLetter, error) {
	if ctx.Err() != nil {
		return nil, ended("list dead letters", ctx)
	}
	if filter.Limit <= 0 {
		filter.Limit = DefaultDeadLimit
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var tenants []string
	for id, b := range m.boxes {
		if len(b.dead) > 0 && id >= filter.After.Tenant && (filter.Tenant == "" || filter.Tenant == id) {
			tenants = append(tenants, id)
		}
	}
	slices.Sort(tenants)
	var page []DeadLetter
	for _, id := range tenants {
		letters := m.boxes[id].dead
		if id == filter.After.Tenant {
			at, found := slices.BinarySearchFunc(letters, filter.After.ID, byID)
			if found {
				at++
			}
			letters = letters[at:]
		}
		page = append(page, letters[:min(len(letters), filter.Limit-len(page))]...)
		if len(page) == filter.Limit {
			break
		}
	}
	return page, nil
}

// Replay implements [Inbox].
func (m *Memory) Replay(ctx context.Context, refs []Ref) (int, error) {
	if ctx.Err() != nil {
		return 0, ended("replay dead letters", ctx)
	}
	return m.exhume(refs, func(b *box, d DeadLetter) {
		d.Attempt, d.ExpiresAt = 0, time.Time{}
		m.insert(b, &item{Update: d.Update})
	}), nil
}

// Drop implements [Inbox].
func (m *Memory) Drop(ctx context.Context, refs []Ref) (int, error) {
	if ctx.Err() != nil {
		return 0, ended("drop dead letters", ctx)
	}
	return m.exhume(refs, func(*box, DeadLetter) {}), nil
}

func (m *Memory) exhume(refs []Ref, then func(*box, DeadLetter)) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range refs {
		b := m.boxes[r.Tenant]
		if b == nil {
			continue
		}
		at, found := slices.BinarySearchFunc(b.dead, r.ID, byID)
		if !found {
			continue
		}
		n++
		then(b, m.graves.remove(b, at))
	}
	return n
}

// Depth implements [Inbox]. Oldest is the oldest of the first updates of the
// chats.
func (m *Memory) Depth(ctx context.Context, tenant string) (Depth, error) {
	var d Depth
	if ctx.Err() != nil {
		return d, ended("measure inbox", ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if tenant != "" {
		if b := m.boxes[tenant]; b != nil {
			d.add(b)
		}
		return d, nil
	}
	for _, b := range m.boxes {
		d.add(b)
	}
	return d, nil
}

func (d *Depth) add(b *box) {
	d.Waiting += b.waiting
	d.Leased += b.leased
	d.Dead += len(b.dead)
	oldest := func(i *item) {
		if d.Oldest.IsZero() || i.ReceivedAt.Before(d.Oldest) {
			d.Oldest = i.ReceivedAt
		}
	}
	for _, c := range b.chats {
		if c.out != nil {
			oldest(c.out)
		}
		if len(c.queue) > 0 {
			oldest(c.queue[0])
		}
	}
}

// Forget implements [Inbox].
func (m *Memory) Forget(ctx context.Context, tenant string) error {
	if ctx.Err() != nil {
		return ended("forget tenant", ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[tenant]
	if b == nil {
		return nil
	}
	for _, c := range b.chats {
		m.timers.remove(c)
		if c.out != nil {
			b.leased--
			m.gone(b, c.out)
		}
		for _, i := range c.queue {
			b.waiting--
			m.gone(b, i)
		}
	}
	for len(b.dead) > 0 {
		m.graves.remove(b, len(b.dead)-1)
	}
	if b.heldAt >= 0 {
		heap.Remove(&m.holds, b.heldAt)
	}
	b.turn.leave()
	b.all.leave()
	delete(m.boxes, tenant)
	return nil
}
