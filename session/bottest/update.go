package bottest

import (
	"container/list"
	"encoding/json"
	"strconv"
	"time"
)

// How long updates wait for their bot (Client.cpp).
const (
	keepUpdate       = 24 * time.Hour
	keepInlineQuery  = 30 * time.Second
	keepQuery        = 150 * time.Second // callback, shipping and pre-checkout queries
	keepChosenResult = 600 * time.Second
)

// idsRestart is the silence after which update ids start anew at random (Bot
// API, Update).
const idsRestart = 7 * 24 * time.Hour

// lane is what updates keep their order in, each lane for itself.
type lane struct {
	kind string
	id   int64
}

// update is one that waits for its bot.
type update struct {
	id      int64
	body    []byte // JSON, with its id
	expires time.Time
	lane    lane

	// What webhook delivery keeps of it.
	sending  bool
	failures int
	delay    time.Duration
	next     time.Time
}

// updateQueue holds the updates of one bot, oldest first. The bot's lock
// guards it.
type updateQueue struct {
	list    list.List // of *update
	allowed map[string]bool
	names   []string // allowed; nil where they are the usual ones (Client.cpp)
	last    int64
	lastAt  time.Time
	soonest time.Time // no update expires before
	minute  [2]struct {
		start time.Time
		count int
	}
}

// usual tells whether updates of a kind are sent to who asked for none in
// particular.
func usual(kind string) bool {
	switch kind {
	case "chat_member", "message_reaction", "message_reaction_count":
		return false
	}
	return true
}

func updateKinds() []string {
	return []string{
		"message", "edited_message", "channel_post", "edited_channel_post", "business_connection",
		"business_message", "edited_business_message", "deleted_business_messages", "guest_message",
		"message_reaction", "message_reaction_count", "inline_query", "chosen_inline_result",
		"callback_query", "shipping_query", "pre_checkout_query", "purchased_paid_media", "poll",
		"poll_answer", "my_chat_member", "chat_member", "chat_join_request", "chat_boost",
		"removed_chat_boost", "managed_bot", "subscription",
	}
}

// allow remembers which updates a bot wants. An empty list means the usual
// ones; no list, those of before.
func (q *updateQueue) allow(p params) {
	var names []string
	if found, err := p.json("allowed_updates", &names); !found || err != nil {
		return
	}
	q.allowed, q.names = nil, nil
	if len(names) == 0 {
		return
	}
	asked := make(map[string]bool, len(names))
	for _, name := range names {
		asked[name] = true
	}
	q.allowed = make(map[string]bool)
	for _, kind := range updateKinds() {
		if asked[kind] {
			q.allowed[kind] = true
			q.names = append(q.names, kind)
		}
	}
	// The usual ones are not told, and neither does a bot get others where
	// nothing known was asked for.
	all := true
	for _, kind := range updateKinds() {
		all = all && q.allowed[kind] == usual(kind)
	}
	if all || len(q.allowed) == 0 {
		q.allowed, q.names = nil, nil
	}
}

func (q *updateQueue) wants(kind string) bool {
	if q.allowed == nil {
		return usual(kind)
	}
	return q.allowed[kind]
}

// prune drops what has expired. It looks only once something has.
func (q *updateQueue) prune(now time.Time) {
	if !now.After(q.soonest) {
		return
	}
	q.soonest = now.Add(keepUpdate)
	for e := q.list.Front(); e != nil; {
		next := e.Next()
		switch u := e.Value.(*update); {
		case now.After(u.expires) && !u.sending:
			q.list.Remove(e)
		case u.expires.Before(q.soonest):
			q.soonest = u.expires
		}
		e = next
	}
}

// lastMinute is about how many updates came within a minute.
func (q *updateQueue) lastMinute(now time.Time) int {
	n := 0
	for _, m := range q.minute {
		if now.Sub(m.start) < 2*time.Minute {
			n += m.count
		}
	}
	return n
}

func (q *updateQueue) countMinute(now time.Time) {
	if now.Sub(q.minute[0].start) >= time.Minute {
		q.minute[1] = q.minute[0]
		q.minute[0].start, q.minute[0].count = now, 0
	}
	q.minute[0].count++
}

// push queues an update for the bot and wakes who waits for it. Body is the
// value of the update's field.
func (b *Bot) push(kind string, body json.RawMessage, in lane, keep time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := &b.queue
	if !q.wants(kind) {
		return
	}
	now := time.Now()
	q.prune(now)
	q.countMinute(now)
	if q.last == 0 || now.Sub(q.lastAt) >= idsRestart {
		q.last = b.srv.rand.between(100_000_000, 900_000_000)
	} else {
		q.last++
	}
	q.lastAt = now
	text := make([]byte, 0, len(body)+len(kind)+40)
	text = append(text, `{"update_id":`...)
	text = strconv.AppendInt(text, q.last, 10)
	text = append(text, ",\""...)
	text = append(text, kind...)
	text = append(text, "\":"...)
	text = append(text, body...)
	text = append(text, '}')
	if expires := now.Add(keep); q.list.Len() == 0 || expires.Before(q.soonest) {
		q.soonest = expires
	}
	q.list.PushBack(&update{id: q.last, body: text, expires: now.Add(keep), lane: in, delay: time.Second, next: now})
	b.poll.wake()
	b.webhook.wake(b)
}

// Push queues any update for the bot: kind is the name of the field of
// gotgbot.Update, such as "inline_query", and value what goes into it. The id
// is given by the server. It is for what the server has no user's action for.
func (b *Bot) Push(kind string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	keep := keepUpdate
	switch kind {
	case "inline_query":
		keep = keepInlineQuery
	case "callback_query", "shipping_query", "pre_checkout_query":
		keep = keepQuery
	case "chosen_inline_result":
		keep = keepChosenResult
	}
	b.push(kind, body, lane{}, keep)
	return nil
}

// Pending is how many updates wait for the bot.
func (b *Bot) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue.prune(time.Now())
	return b.queue.list.Len()
}
