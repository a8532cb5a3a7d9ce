package inbox

import (
	"cmp"
	"context"
	"slices"
	"time"
)

func byID(d DeadLetter, id int64) int { return cmp.Compare(d.ID, id) }

// bury keeps a dead letter. Where there is no room the tenant's oldest goes;
// a tenant that has none gets no place.
func (m *Memory) bury(b *box, d DeadLetter) {
	if len(b.dead) >= m.cfg.MaxDeadPerTenant || m.dead >= m.cfg.MaxDead {
		m.stats.DeadDropped++
		if len(b.dead) == 0 {
			return
		}
		oldest := 0
		for i := range b.dead {
			if b.dead[i].DiedAt.Before(b.dead[oldest].DiedAt) {
				oldest = i
			}
		}
		b.dead = slices.Delete(b.dead, oldest, oldest+1)
		m.dead--
	}
	at, found := slices.BinarySearchFunc(b.dead, d.ID, byID)
	if found { // ids were started anew since
		b.dead[at] = d
		return
	}
	b.dead = slices.Insert(b.dead, at, d)
	m.dead++
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
		d := b.dead[at]
		b.dead = slices.Delete(b.dead, at, at+1)
		m.dead--
		n++
		then(b, d)
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
	m.dead -= len(b.dead)
	b.turn.leave()
	b.all.leave()
	delete(m.boxes, tenant)
	return nil
}
