package ratelimit

// gate is where a tenant's requests of one class wait. While any of them could
// go as far as its key is concerned the gate is in one of three states: in its
// fair queue, asleep until the tenant has room, or parked until a slot is free
// or the tenant may begin.
type gate[K comparable] struct {
	tenant   *tenant[K]
	bucket   bucket // the tenant's limit
	fair     *fair[K]
	lanes    []waitingLane[K]
	keyless  []*flow[K] // by lane
	sleeping list[*flow[K]]
	ready    int // flows in the lanes

	state gateState
	tag   uint64 // what it has had, by its weight
	seq   uint64 // breaks ties
	pos   int
	alarm alarm[K]
}

type waitingLane[K comparable] struct {
	flows  list[*flow[K]]
	passed int // how many others went before, while it waited
}

type gateState uint8

const (
	resting gateState = iota // nothing could go
	queued                   // in the fair queue
	asleep                   // until the alarm, or a change of limits
	parked                   // until a slot is free
	unbegun                  // until the tenant may begin
)

func (g *gate[K]) metered() bool          { return g.fair.metered }
func (g *gate[K]) position() *int         { return &g.pos }
func (g *gate[K]) before(o *gate[K]) bool { return g.tag < o.tag || g.tag == o.tag && g.seq < o.seq }
func (g *gate[K]) charge(units int) uint64 {
	return uint64(units) << tagBits / uint64(g.tenant.limits.Weight)
}

// fair is the queue of gates for what all tenants share: start-time fair
// queueing (Goyal, Vin, Cheng 1996). A gate's tag grows by what it takes,
// divided by its weight; the least tag goes next. A gate that comes back
// starts at the tag of the one that went last: it has saved up nothing, and
// goes before those that have had more than their share meanwhile.
type fair[K comparable] struct {
	heap    heap[*gate[K]]
	metered bool
	last    uint64 // tag of the gate that went last
	seq     uint64
}

// tagBits are the fraction of a tag, so that weights up to MaxWeight differ.
const tagBits = 20

// enter puts a gate into its fair queue.
func (s *Scheduler[K]) enter(g *gate[K]) {
	if g.state == queued {
		return
	}
	s.alarms.remove(&g.alarm)
	g.state = queued
	g.tag = max(g.tag, g.fair.last)
	g.fair.seq++
	g.seq = g.fair.seq
	g.fair.heap.push(g)
}

// leave takes a gate out of its fair queue, into another state.
func (s *Scheduler[K]) leave(g *gate[K], state gateState) {
	if g.state == queued {
		g.fair.heap.remove(g)
	}
	s.alarms.remove(&g.alarm)
	g.state = state
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

// reconsider looks at all of a gate anew, since limits or freezes changed.
func (s *Scheduler[K]) reconsider(now int64, g *gate[K]) {
	for _, f := range g.flows() {
		if f.key != nil {
			f.key.use(now, f.key.class)
		}
		s.placeFlow(now, f)
	}
	if g.state == asleep || g.state == parked {
		s.enter(g)
		s.settle(g)
	}
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
// nil where none could go. It goes by lanes: an urgent one goes before those
// that are less so, until one of them was passed too often.
func (s *Scheduler[K]) next(now int64, g *gate[K]) *flow[K] {
	for g.ready > 0 {
		chosen := -1
		for i := range g.lanes {
			l := &g.lanes[i]
			if l.flows.n > 0 && (chosen < 0 || l.passed >= s.cfg.LaneShare-1) {
				chosen = i
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
		case i == f.lane:
			l.passed = 0
		case i > f.lane && l.flows.n > 0:
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
func (g *gate[K]) wake(s *Scheduler[K], _ int64) {
	s.enter(g)
	s.settle(g)
}
