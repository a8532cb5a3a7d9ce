package bottest

import (
	"container/list"
	"encoding/json"
	"math"
	"time"
)

const (
	otherPoller   = "terminated by other getUpdates request; make sure that only one bot instance is running"
	otherWebhook  = "terminated by setWebhook request"
	webhookActive = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)

const (
	maxPoll      = 50 // seconds (Client.h, LONG_POLL_MAX_TIMEOUT)
	maxPollBytes = 4 << 20
)

// pollState is a bot's getUpdates. The bot's lock guards it.
type pollState struct {
	current    *poller
	lastOffset int64
	lastStart  time.Time
	conflict   time.Time // until when a 409 comes late
}

// poller is a getUpdates that waits.
type poller struct {
	ready chan struct{} // gets one when there is something to look at
	ended *apiError     // why it must stop
}

func (p *poller) signal() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

func (p *pollState) wake() {
	if p.current != nil {
		p.current.signal()
	}
}

// interrupt ends a waiting getUpdates with an error.
func (p *pollState) interrupt(why *apiError) {
	if p.current != nil {
		p.current.ended = why
		p.current.signal()
		p.current = nil
	}
}

// clash is a 409; one that follows another closely comes late.
func (p *pollState) clash(text string, l *Limits) *apiError {
	bad := conflict(text)
	now := time.Now()
	if l.FloodDelay > 0 && now.Before(p.conflict) {
		bad.late = l.FloodDelay
	} else {
		p.conflict = now.Add(max(l.FloodDelay, 0))
	}
	return bad
}

func getUpdates(q *request) (any, *apiError) {
	offset := q.params.int("offset", 0, math.MinInt32, math.MaxInt32)
	limit := int(q.params.int("limit", 100, 1, 100))
	timeout := time.Duration(q.params.int("timeout", 0, 0, maxPoll)) * time.Second
	b, l := q.bot, &q.srv.cfg.Limits

	b.mu.Lock()
	if b.webhook.set() {
		defer b.mu.Unlock()
		return nil, b.poll.clash(webhookActive, l)
	}
	b.queue.allow(q.params)
	now := time.Now()
	if l.SameOffsetDelay > 0 && offset == b.poll.lastOffset {
		since := now.Sub(b.poll.lastStart)
		if timeout < l.SameOffsetDelay && since < l.SameOffsetDelay {
			timeout = l.SameOffsetDelay
		}
		if since < l.SameOffsetDelay/6 {
			limit = 1
		}
	}
	b.poll.lastOffset, b.poll.lastStart = offset, now
	if b.poll.current != nil {
		b.poll.interrupt(b.poll.clash(otherPoller, l))
	}
	b.queue.confirm(offset)
	me := &poller{ready: make(chan struct{}, 1)}
	b.poll.current = me
	b.mu.Unlock()
	return b.wait(q, me, offset, limit, timeout)
}

// wait answers a getUpdates as soon as there is an update.
func (b *Bot) wait(q *request, me *poller, offset int64, limit int, timeout time.Duration) (any, *apiError) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	over := timeout == 0
	for {
		b.mu.Lock()
		if me.ended != nil {
			b.mu.Unlock()
			return nil, me.ended
		}
		found := b.queue.from(offset, limit)
		if len(found) > 0 || over {
			b.poll.current = nil
			b.mu.Unlock()
			return joinUpdates(found), nil
		}
		b.mu.Unlock()
		select {
		case <-me.ready:
		case <-timer.C:
			over = true
		case <-b.srv.ctx.Done():
			return nil, restarting()
		case <-q.ctx.Done():
			b.mu.Lock()
			if b.poll.current == me {
				b.poll.current = nil
			}
			b.mu.Unlock()
			return nil, restarting() // nobody hears it
		}
	}
}

// confirm drops the updates before offset. A negative one keeps the last
// -offset.
func (q *updateQueue) confirm(offset int64) {
	q.prune(time.Now())
	for e := q.list.Front(); e != nil; e = q.list.Front() {
		if offset < 0 && int64(q.list.Len()) <= -offset || offset >= 0 && !before(e, offset) {
			return
		}
		q.list.Remove(e)
	}
}

func before(e *list.Element, offset int64) bool { return e.Value.(*update).id < offset }

// from returns at most limit updates, from the first on.
func (q *updateQueue) from(offset int64, limit int) [][]byte {
	q.prune(time.Now())
	var found [][]byte
	size := 0
	for e := q.list.Front(); e != nil && len(found) < limit; e = e.Next() {
		u := e.Value.(*update)
		if offset > 0 && u.id < offset {
			continue
		}
		if size += len(u.body) + 50; size > maxPollBytes && len(found) > 0 {
			break
		}
		found = append(found, u.body)
	}
	return found
}

func joinUpdates(updates [][]byte) json.RawMessage {
	size := 2
	for _, u := range updates {
		size += len(u) + 1
	}
	text := make([]byte, 0, size)
	text = append(text, '[')
	for i, u := range updates {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, u...)
	}
	return append(text, ']')
}
