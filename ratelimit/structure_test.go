package ratelimit

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type weighed struct{ weight, pos int }

func (w *weighed) before(o *weighed) bool { return w.weight < o.weight }
func (w *weighed) position() *int         { return &w.pos }

func TestAHeapKnowsItsLeast(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var h heap[*weighed]
		var all []*weighed
		for range 60 {
			switch i := rapid.IntRange(0, max(len(all)-1, 0)).Draw(rt, "i"); {
			case len(all) == 0 || rapid.Bool().Draw(rt, "push"):
				x := &weighed{weight: rapid.IntRange(0, 9).Draw(rt, "weight")}
				all = append(all, x)
				h.push(x)
			case rapid.Bool().Draw(rt, "remove"):
				h.remove(all[i])
				h.remove(all[i]) // again is nothing
				assert.Zero(rt, all[i].pos)
				all = slices.Delete(all, i, i+1)
			default:
				all[i].weight = rapid.IntRange(0, 9).Draw(rt, "weight")
				h.fix(all[i])
			}
			assert.Equal(rt, len(all), h.len())
			checkHeap(rt.Fatalf, &h)
			for _, x := range all {
				if x.before(h.items[0]) {
					rt.Fatalf("the first is not the least")
				}
			}
		}
	})
}

func TestAListIsInOrderWhateverLeaves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var l list[int]
		var want []*elem[int]
		for n := range 60 {
			switch i := rapid.IntRange(0, max(len(want)-1, 0)).Draw(rt, "i"); {
			case len(want) == 0 || rapid.IntRange(0, 2).Draw(rt, "step") == 0:
				e := &elem[int]{of: n}
				l.pushBack(e)
				want = append(want, e)
			case rapid.Bool().Draw(rt, "insert"):
				e := &elem[int]{of: n}
				l.insertBefore(e, want[i])
				want = slices.Insert(want, i, e)
			default:
				want[i].leave()
				want[i].leave() // again is nothing
				want = slices.Delete(want, i, i+1)
			}
			assert.Equal(rt, len(want), l.n)
			i := 0
			for e := l.first; e != nil; e = e.next {
				if e != want[i] || e.in != &l || (e.prev == nil) != (i == 0) {
					rt.Fatalf("element %d is out of place", i)
				}
				i++
			}
			assert.Equal(rt, len(want), i)
			assert.Equal(rt, l.n == 0, l.last == nil)
		}
	})
}

// numbered is a value of a table.
type numbered struct {
	n  int
	at seat[int, *numbered]
}

func (n *numbered) seat() *seat[int, *numbered] { return &n.at }

func TestATableDropsOnlyWhatIsIdle(t *testing.T) {
	idle := map[int]bool{}
	lately := map[int]bool{}
	var dropped []int
	tab := newTable(10, func(v *numbered, room bool) bool { return idle[v.n] && !(room && lately[v.n]) }, func(v *numbered) { dropped = append(dropped, v.n) })
	add := func(n int) bool { return tab.add(n, &numbered{n: n}) }
	for i := range 10 {
		assert.True(t, add(i))
	}
	assert.False(t, add(10), "all are in use")
	idle[7] = true
	assert.True(t, add(10))
	assert.Equal(t, []int{7}, dropped)
	assert.Equal(t, 10, tab.len())
	tab.put(11, &numbered{n: 11})
	assert.Equal(t, 11, tab.len(), "more than there is room for")
	for i := range 12 {
		idle[i] = true
	}
	for i := range 20 { // it shrinks as fast as it grows
		idle[20+i] = true
		assert.True(t, add(20+i))
		assert.Equal(t, max(10-i, 1), tab.len())
	}
	_, found := tab.get(7)
	assert.False(t, found)
	v, found := tab.get(39)
	assert.True(t, found)
	assert.Equal(t, []*numbered{v}, tab.values())
	tab.remove(v)
	assert.Zero(t, tab.len())

	roomy := newTable(10, func(v *numbered, room bool) bool { return !room || !lately[v.n] }, nil)
	lately[1], lately[2] = true, true
	for i := range 5 {
		assert.True(t, roomy.add(i, &numbered{n: i}))
	}
	_, found = roomy.get(1)
	assert.True(t, found, "it was used lately, and there is room")
}

// However many there are, a new key looks at a few.
func TestATableThatIsFullLooksAtFew(t *testing.T) {
	looks := 0
	tab := newTable(10_000, func(*numbered, bool) bool { looks++; return false }, nil)
	for i := range 10_000 {
		looks = 0
		assert.True(t, tab.add(i, &numbered{n: i}))
		assert.LessOrEqual(t, looks, lookAt)
	}
	for i := range 1000 {
		looks = 0
		assert.False(t, tab.add(-1-i, &numbered{}))
		assert.LessOrEqual(t, looks, searchFor)
	}
	seen := map[*numbered]bool{}
	tab.idle = func(v *numbered, _ bool) bool { seen[v] = true; return false }
	for range tab.len()/searchFor + 1 {
		tab.add(-1, &numbered{})
	}
	assert.Len(t, seen, tab.len(), "each in turn")
}

// A request that is admitted at the moment at which its context ends gives
// everything back.
func TestAnAdmissionThatNobodyWantsIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := Limit{Rate: 1, Burst: 1}
		shared := NewBucket(one)
		s, err := NewScheduler[string](Config{
			Total: one, Shared: shared, InFlight: 1, Starts: []Limit{{Burst: 3}}, WarmFor: time.Minute,
			Tenant: Limits{InFlight: 1, Classes: []Limit{one}, Keys: []Limit{one}},
		})
		require.NoError(t, err)
		defer s.Close()
		hold, err := s.Admit(t.Context(), Request[string]{Tenant: "b", Key: "x"})
		require.NoError(t, err)
		time.Sleep(time.Second)
		r := Request[string]{Tenant: "a", Key: "x"}
		require.NoError(t, r.check(2))
		w, _, err := s.ask(&r, nil, time.Time{})
		require.NoError(t, err)
		require.NotNil(t, w)
		next := make(chan Permit[string], 1)
		go func() {
			p, err := s.Admit(t.Context(), Request[string]{Tenant: "a", Key: "x"})
			assert.NoError(t, err)
			next <- p
		}()
		synctest.Wait()
		hold.Release() // admits w
		assert.ErrorIs(t, s.giveUp(context.Canceled, w), context.Canceled)
		s.recycle(w)
		synctest.Wait()
		select {
		case p := <-next:
			assert.True(t, p.Began(), "the start that was taken is its")
			p.Release()
		default:
			t.Fatal("what was given back is not there")
		}
		stats := s.Stats(0)
		assert.EqualValues(t, 2, stats.Admitted)
		assert.EqualValues(t, 1, stats.Refused)
		assert.Zero(t, stats.InFlight)
		assert.Zero(t, shared.Tokens(time.Now()))
		assert.Equal(t, 1, s.starts[0].tokens(s.now()), "one for each tenant")
		checkStructure(t.Fatalf, s)

		// A free request gives its key's units back.
		time.Sleep(time.Second)
		hold, err = s.Admit(t.Context(), Request[string]{Tenant: "b", Key: "z", Free: true})
		require.NoError(t, err)
		free := Request[string]{Tenant: "a", Key: "x", Free: true}
		require.NoError(t, free.check(2))
		w, _, err = s.ask(&free, nil, time.Time{})
		require.NoError(t, err)
		hold.Release()
		assert.ErrorIs(t, s.giveUp(context.Canceled, w), context.Canceled)
		s.recycle(w)
		p, err := s.Admit(t.Context(), Request[string]{Tenant: "a", Key: "x", Free: true, MaxWait: 1})
		require.NoError(t, err)
		p.Release()

		// One that was refused at that moment stays so.
		hold, err = s.Admit(t.Context(), Request[string]{Tenant: "b", Key: "y", Free: true})
		require.NoError(t, err)
		again := Request[string]{Tenant: "a"}
		require.NoError(t, again.check(2))
		w, _, err = s.ask(&again, nil, time.Time{})
		require.NoError(t, err)
		s.Close()
		assert.ErrorIs(t, s.giveUp(context.Canceled, w), ErrClosed)
		hold.Release()
	})
}

func TestTagsMayWrap(t *testing.T) {
	a, b := uint64(5), ^uint64(0)-5
	assert.True(t, behind(b, a))
	assert.False(t, behind(a, b))
	assert.False(t, behind(a, a))
}

func TestOneTimerServesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewScheduler[string](Config{Tenant: Limits{Keys: []Limit{{Rate: 1, Burst: 1}}}})
		require.NoError(t, err)
		defer s.Close()
		for _, key := range []string{"x", "y", "z"} {
			for range 5 {
				go func() { _, _ = s.Admit(t.Context(), Request[string]{Tenant: "a", Key: key, Slotless: true}) }()
			}
		}
		synctest.Wait()
		timer := s.timer
		require.NotNil(t, timer)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Same(t, timer, s.timer)
		assert.Zero(t, s.waiting)
		assert.False(t, s.timer.Stop(), "it is stopped while nobody waits")
	})
}
