package inbox

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// box is one tenant's part of a [Memory]. The inbox's lock guards it.
type box struct {
	id      string
	chats   map[string]*chat
	ready   list[*chat]
	waiting int
	leased  int
	bytes   int64 // of those
	seen    seen
	soonest time.Time    // no update that waits expires before; zero where none does
	dead    []DeadLetter // by ascending ID
	rotting int64        // bytes of those
	graveAt int          // its place among the graves, -1 while in none

	heldUntil time.Time // while it is held back
	heldAt    int       // its place among those that are, -1 while in none

	turn elem[*box] // in the inbox's ring while a chat is ready and it is not held back
	all  elem[*box]
}

func (b *box) empty() bool {
	return len(b.chats) == 0 && len(b.dead) == 0 && len(b.seen.spans) == 0 && b.heldAt < 0
}

// chat is the updates of a chat that wait, and the one that is leased. It is
// in its box's list of ready ones, or among the timers, or of no more use.
type chat struct {
	box     *box
	name    string
	queue   []*item  // by ascending ID
	room    [1]*item // for the queue of one
	out     *item    // leased
	ready   elem[*chat]
	at      time.Time // when the lease expires, or the next try may be
	timerAt int       // its place among the timers, -1 while in none
}

// item is an update in the inbox.
type item struct {
	Update
	token int64
}

// add puts an item in its place, which mostly is the last.
func (c *chat) add(i *item) {
	if len(c.queue) == 0 {
		c.queue = c.room[:0]
	}
	at := len(c.queue)
	if at > 0 && c.queue[at-1].ID > i.ID {
		at, _ = slices.BinarySearchFunc(c.queue, i.ID, func(x *item, id int64) int { return cmp.Compare(x.ID, id) })
	}
	c.queue = slices.Insert(c.queue, at, i)
}

// pop takes the first item.
func (c *chat) pop() *item {
	i := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	return i
}

// timers are the chats that wait for something, the soonest first. It is a
// heap for container/heap.
type timers []*chat

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timerAt, t[j].timerAt = i, j
}

func (t *timers) Push(x any) {
	c := x.(*chat)
	c.timerAt = len(*t)
	*t = append(*t, c)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	c.timerAt = -1
	return c
}

// set puts a chat among the timers, or moves it there.
func (t *timers) set(c *chat, at time.Time) {
	c.at = at
	if c.timerAt >= 0 {
		heap.Fix(t, c.timerAt)
	} else {
		heap.Push(t, c)
	}
}

func (t *timers) remove(c *chat) {
	if c.timerAt >= 0 {
		heap.Remove(t, c.timerAt)
	}
}
