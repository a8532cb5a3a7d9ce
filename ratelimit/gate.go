package ratelimit

// gate is where a tenant's requests of one class wait, those that hold a slot
// apart from those that don't: what waits for a slot must not hold up what
// needs none. While any of them could go as far as its key is concerned the
// gate is in its fair queue, asleep until the tenant has room, parked until the
// tenant has a slot, or unbegun until the tenant may begin.
type gate[K comparable] struct {
	// First what every request looks at, which is a cache line.
	tenant *tenant[K]
	fair   *fair[K]
	bucket *bucket // the tenant's limit of the class
	own    bucket  // what bucket points to, but for a slotless gate
	ready  int     // flows in the lanes
	state  gateState

	slotless bool
	queue    *queue[K] // of fair, that it is or was last in
	lanes    []waitingLane[K]
	keyless  []*flow[K] // by lane
	sleeping list[*flow[K]]

	tag   *uint64 // the tenant's
	seq   uint64  // breaks ties
	pos   int
	alarm alarm[K]
}

type waitingLane[K comparable] struct {
	flows  list[*flow[K]]
	passed int // how many more urgent ones went before, while it waited
}

type gateState uint8

const (
	resting gateState = iota // nothing could go
	queued                   // in the fair queue
	asleep                   // until the alarm, or a change of limits
	parked                   // until the tenant has a slot
	unbegun                  // until the tenant may begin
)

func (g *gate[K]) metered() bool  { return g.fair.metered }
func (g *gate[K]) position() *int { return &g.pos }

func (g *gate[K]) before(o *gate[K]) bool {
	if *g.tag != *o.tag {
		return behind(*g.tag, *o.tag)
	}
	return behind(g.seq, o.seq)
}

// fair is the queue of gates for what all tenants share: start-time fair
// queueing (Goyal, Vin, Cheng 1996). A tenant's tag grows by what it takes,
// divided by its weight; the least tag goes next. A tenant that comes back
// starts at the tag of the one that went last: it has saved up nothing, and
// goes before those that have had more than their share meanwhile.
//
// A tenant has one tag for all of its gates, so that more classes are no more
// share; its gates take turns.
type fair[K comparable] struct {
	first    queue[K] // for the first slot of a tenant
	further  queue[K] // for one more slot, of tenants that hold some
	slotless queue[K] // for what needs no slot
	metered  bool
	last     uint64 // tag of the tenant that went last
	seq      uint64
}

// queue is a part of a fair queue: what is in it waits for the same.
type queue[K comparable] struct {
	gates    heap[*gate[K]]
	starting list[*tenant[K]] // those that wait for a start, the first also in gates
	i        int              // which of Scheduler.queues it is
}

// tagBits are the fraction of a tag, so that weights up to MaxWeight differ.
const tagBits = 20

// behind compares tags and sequence numbers, which may wrap.
func behind(a, b uint64) bool { return int64(a-b) < 0 }

func (f *fair[K]) len() int {
	return f.first.gates.len() + f.further.gates.len() + f.slotless.gates.len()
}

// head returns the gate that goes next, nil for none. first and further say
// whether the gates that need such a slot can have one; the others are left out.
func (f *fair[K]) head(first, further bool) *gate[K] {
	g := f.slotless.head(nil)
	if first {
		g = f.first.head(g)
	}
	if further {
		g = f.further.head(g)
	}
	return g
}

// head returns the first gate of the queue if it goes before another one, and
// else that one.
func (q *queue[K]) head(g *gate[K]) *gate[K] {
	if q.gates.len() > 0 && (g == nil || q.gates.items[0].before(g)) {
		return q.gates.items[0]
	}
	return g
}

// queueOf returns the queue that a gate belongs in, as many slots as its tenant
// holds now.
func (s *Scheduler[K]) queueOf(g *gate[K]) *queue[K] {
	switch {
	case g.slotless:
		return &g.fair.slotless
	case g.tenant.inFlight == 0:
		return &g.fair.first
	}
	return &g.fair.further
}

// charge adds to the tag of a gate's tenant what it takes.
func (s *Scheduler[K]) charge(g *gate[K], cost int) (charged uint64) {
	charged = uint64(cost) << tagBits / uint64(g.tenant.limits.Weight)
	s.retag(g, *g.tag+charged)
	return charged
}

// retag changes a tenant's tag, which is that of each of its gates, and gives
// its other gates the next turn.
func (s *Scheduler[K]) retag(g *gate[K], tag uint64) {
	for _, o := range g.tenant.gates {
		if o != nil && o.state == queued && o != g && o.fair == g.fair {
			o.queue.gates.remove(o)
		}
	}
	*g.tag = tag
	g.fair.seq++
	g.seq = g.fair.seq
	if g.state == queued {
		g.queue.gates.fix(g)
	}
	for _, o := range g.tenant.gates {
		if o != nil && o.state == queued && o.pos == 0 {
			o.queue.gates.push(o)
		}
	}
}

// enter puts a gate into its fair queue.
func (s *Scheduler[K]) enter(g *gate[K]) {
	if g.state == queued {
		return
	}
	s.alarms.remove(&g.alarm)
	if behind(*g.tag, g.fair.last) && !g.tenant.queuesIn(g.fair) {
		*g.tag = g.fair.last
	}
	g.state, g.queue = queued, s.queueOf(g)
	g.fair.seq++
	g.seq = g.fair.seq
	g.queue.gates.push(g)
}

func (t *tenant[K]) queuesIn(f *fair[K]) bool {
	for _, g := range t.gates {
		if g != nil && g.state == queued && g.fair == f {
			return true
		}
	}
	return false
}

// leave takes a gate out of its fair queue, into another state.
func (s *Scheduler[K]) leave(g *gate[K], state gateState) {
	if g.state == queued {
		g.queue.gates.remove(g)
	}
	s.alarms.remove(&g.alarm)
	g.state = state
	s.mayLeaveStarting(g.tenant, g.queue)
}

// settle makes the gate's state fit to whether any of its flows could go.
func (s *Scheduler[K]) settle(g *gate[K]) {
	switch {
	case g.ready == 0 && g.state != resting:
		s.leave(g, resting)
	case g.ready > 0 && g.state == resting:
		s.enter(g)
	}
}

// retryGate puts a gate that waits for its tenant into the fair queue, to be looked
// at anew.
func (s *Scheduler[K]) retryGate(g *gate[K]) {
	if g.state == asleep || g.state == parked {
		s.enter(g)
		s.settle(g)
	}
}

// reconsider looks at all of a gate anew, since limits or freezes changed.
func (s *Scheduler[K]) reconsider(now int64, g *gate[K]) {
	for _, f := range g.flows() {
		s.placeFlow(now, f)
	}
	s.retryGate(g)
}

// flows returns all in which anyone waits.
func (g *gate[K]) flows() []*flow[K] {
	var all []*flow[K]
	for i := range g.lanes {
		for e := g.lanes[i].flows.first; e != nil; e = e.next {
			all = append(all, e.of)
		}
	}
	for e := g.sleeping.first; e != nil; e = e.next {
		all = append(all, e.of)
	}
	return all
}

// next returns the flow whose first goes next as far as the gate is concerned;
// nil where none could go. It goes by lanes: the most urgent one that was
// passed too often, or else the most urgent.
func (s *Scheduler[K]) next(now int64, g *gate[K]) *flow[K] {
	for g.ready > 0 {
		chosen := -1
		for i := range g.lanes {
			l := &g.lanes[i]
			if l.flows.n == 0 {
				continue
			}
			if overdue := l.passed >= s.cfg.LaneShare-1; overdue || chosen < 0 {
				chosen = i
				if overdue {
					break
				}
			}
		}
		f := g.lanes[chosen].flows.first.of
		if d := f.delay(now); d > 0 {
			s.sleep(now, f, d) // another flow of the key took what there was
			continue
		}
		return f
	}
	return nil
}

// went notes that a flow's first went: its lane's turn is over, and the flow's
// within the lane.
func (g *gate[K]) went(f *flow[K]) {
	for i := range g.lanes {
		switch l := &g.lanes[i]; {
		case i == int(f.lane):
			l.passed = 0
		case i > int(f.lane) && l.flows.n > 0:
			l.passed++
		}
	}
	if f.inLane() {
		l := &g.lanes[f.lane].flows
		f.place.leave()
		l.pushBack(&f.place)
	}
}

// wake implements sleeper.
func (g *gate[K]) wake(s *Scheduler[K], _ int64) { s.retryGate(g) }
