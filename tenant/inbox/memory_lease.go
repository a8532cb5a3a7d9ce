package inbox

import (
	"context"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Lease implements [Inbox].
func (m *Memory) Lease(ctx context.Context, want Want) ([]Lease, error) {
	if ctx.Err() != nil {
		return nil, ended("lease updates", ctx)
	}
	if want.TTL <= 0 {
		return nil, fail("lease updates", "", errors.BadRequest, errors.New("TTL is not positive"))
	}
	now := time.Now()
	var room [64]*chat
	lent := room[:0]
	var taken map[string]int // in this call
	m.mu.Lock()
	defer m.mu.Unlock()
	m.due(now)
	// A tenant whose turn brings nothing leaves the ring until the call ends,
	// so the loop ends.
	var passed list[*box]
	for m.ring.first != nil && len(lent) < want.Limit {
		b := m.ring.first.of
		b.turn.leave()
		var i *item
		if want.Room(b.id) > taken[b.id] {
			i = m.first(b, now)
		}
		if i == nil {
			if b.ready.first != nil {
				passed.pushBack(&b.turn)
			}
			continue
		}
		c := b.chats[i.Chat]
		m.lend(c, i, now.Add(want.TTL))
		lent = append(lent, c)
		if want.PerTenant > 0 {
			if taken == nil {
				taken = make(map[string]int)
			}
			taken[b.id]++
		}
		m.settled(c) // to the end of the ring, if it has more
	}
	// Those that were passed over come first the next time. They are few: a
	// worker has no more tenants at their bound than it has handlers, and those
	// that it wants nothing of it holds back.
	for passed.last != nil {
		b := passed.last.of
		b.turn.leave()
		m.ring.pushFront(&b.turn)
	}
	if len(lent) == 0 {
		return nil, nil
	}
	leases := make([]Lease, len(lent))
	for i, c := range lent {
		leases[i] = Lease{Update: c.out.Update, Token: c.out.token, Until: c.at}
	}
	return leases, nil
}

// first takes the first item out of a tenant's ready chats, and drops what has
// expired on the way.
func (m *Memory) first(b *box, now time.Time) *item {
	for b.ready.first != nil {
		c := b.ready.first.of
		for len(c.queue) > 0 {
			i := c.pop()
			if !i.Expired(now) {
				return i
			}
			m.drop(b, i)
		}
		c.ready.leave()
		delete(b.chats, c.name)
	}
	return nil
}

// lend leases an item that was taken out of its chat's queue.
func (m *Memory) lend(c *chat, i *item, until time.Time) {
	m.token++
	i.token = m.token
	i.Attempt++
	c.out = i
	c.box.waiting--
	c.box.leased++
	m.timers.set(c, until)
}

// held returns the chat of a lease that is still held.
func (m *Memory) held(l *Lease) *chat {
	b := m.boxes[l.Tenant]
	if b == nil {
		return nil
	}
	c := b.chats[l.Chat]
	if c == nil || c.out == nil || c.out.token != l.Token {
		return nil
	}
	return c
}

// Extend implements [Inbox].
func (m *Memory) Extend(ctx context.Context, leases []Lease, ttl time.Duration) ([]bool, error) {
	if ctx.Err() != nil {
		return nil, ended("extend leases", ctx)
	}
	held := make([]bool, len(leases))
	until := time.Now().Add(ttl)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range leases {
		if c := m.held(&leases[i]); c != nil {
			m.timers.set(c, until)
			held[i] = true
		}
	}
	return held, nil
}

// Settle implements [Inbox].
func (m *Memory) Settle(ctx context.Context, settlements []Settlement) ([]bool, error) {
	if ctx.Err() != nil {
		return nil, ended("settle updates", ctx)
	}
	held := make([]bool, len(settlements))
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range settlements {
		s := &settlements[i]
		c := m.held(&s.Lease)
		if c == nil {
			continue
		}
		held[i] = true
		m.settle(c, s, now)
	}
	return held, nil
}

func (m *Memory) settle(c *chat, s *Settlement, now time.Time) {
	m.timers.remove(c)
	i := c.out
	switch s.Verdict {
	case Retry, Return:
		if s.Verdict == Return {
			i.Attempt--
		}
		m.back(c)
		if s.After > 0 {
			m.timers.set(c, now.Add(s.After))
		}
	default:
		c.out = nil
		c.box.leased--
		m.gone(c.box, i)
		if s.Verdict == Bury {
			m.bury(c.box, DeadLetter{Update: i.Update, Reason: s.Reason, DiedAt: now})
		}
	}
	m.settled(c)
}
