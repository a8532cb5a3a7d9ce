package webhook

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func generation(g uint32) Key {
	return Key{Master: bytes.Repeat([]byte("k"), MinMaster), Generation: g}
}

// replica is one process of a fleet that rotates, and what its keys should be.
type replica struct {
	keys    *Keys
	current uint32
	until   map[uint32]time.Time // of the others
}

// model is three replicas, and a clock.
type model struct {
	*rapid.T
	replicas []*replica
	now      time.Time
	signers  map[uint32]*Keys // who knows just one
}

func newModel(t *rapid.T) *model {
	m := &model{T: t, now: time.Unix(1e9, 0), signers: make(map[uint32]*Keys)}
	for range 3 {
		r := &replica{current: 1, until: make(map[uint32]time.Time)}
		m.start(r)
		m.replicas = append(m.replicas, r)
	}
	return m
}

// start starts a replica with what it is configured to know.
func (m *model) start(r *replica) {
	var others []Accepted
	for g, until := range r.until {
		others = append(others, Accepted{Key: generation(g), Until: until})
	}
	var err error
	r.keys, err = NewKeys(generation(r.current), others...)
	require.NoError(m, err)
}

func (m *model) draw(label string, most int) int { return rapid.IntRange(0, most).Draw(m.T, label) }

func (m *model) pick() *replica { return m.replicas[m.draw("replica", 2)] }

func (m *model) pass(d time.Duration) { m.now = m.now.Add(d) }

// accepts is what a replica should take.
func (m *model) accepts(r *replica, g uint32) bool {
	until, ok := r.until[g]
	return g == r.current || ok && (until.IsZero() || m.now.Before(until))
}

// takes is what it takes.
func (m *model) takes(r *replica, g uint32) bool {
	signer := m.signers[g]
	if signer == nil {
		var err error
		signer, err = NewKeys(generation(g))
		require.NoError(m, err)
		m.signers[g] = signer
	}
	id, key, ok := r.keys.open(signer.Path("a"), m.now)
	return ok && id == "a" && key.holds(id, signer.Secret("a"))
}

func (m *model) rotated(r *replica, next uint32, grace time.Duration) {
	if next != r.current {
		r.until[r.current] = m.now.Add(grace)
		delete(r.until, next)
		r.current = next
	}
}

// Whatever is done to three replicas in any order, each takes exactly what it
// should: what is signed with its current key, or with one that is accepted and
// whose time is not over.
func TestEachReplicaTakesWhatItShould(t *testing.T) {
	const keys = 5
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(rt)
		key := func() uint32 { return uint32(m.draw("key", keys-1) + 1) }
		rt.Repeat(map[string]func(*rapid.T){
			"accept": func(rt *rapid.T) {
				r, g, until := m.pick(), key(), time.Time{}
				if minutes := m.draw("minutes", 90); minutes < 90 {
					until = m.now.Add(time.Duration(minutes-5) * time.Minute)
				}
				require.NoError(rt, r.keys.accept(generation(g), until, m.now))
				if g != r.current {
					r.until[g] = until
				}
			},
			"rotate": func(rt *rapid.T) {
				r, next, grace := m.pick(), key(), time.Duration(m.draw("grace", 90))*time.Minute
				may, newest := m.accepts(r, next), next > r.current
				for g := range r.until {
					newest = newest && (g <= next)
				}
				err := r.keys.rotate(generation(next), grace, m.now)
				if may || newest {
					require.NoError(rt, err)
				}
				if err == nil {
					m.rotated(r, next, grace)
				}
			},
			"time":    func(*rapid.T) { m.pass(time.Duration(m.draw("minutes", 60)) * time.Minute) },
			"restart": func(*rapid.T) { m.start(m.pick()) },
			"": func(rt *rapid.T) {
				for i, r := range m.replicas {
					for g := uint32(1); g <= keys; g++ {
						if got := m.takes(r, g); got != m.accepts(r, g) {
							rt.Fatalf("replica %d (%v) takes key %d: %v", i, r.keys, g, got)
						}
					}
					require.Equal(rt, r.current, r.keys.Generation())
				}
			},
		})
	})
}

// A fleet follows the steps of [Keys], rotating on and back, each replica at its
// own time and restarted at any. Whoever reconciles last has decided with which
// key Telegram delivers: no replica ever refuses that one, and when the grace
// of a key is over none takes it.
func TestAFleetThatRotatesInStepsRefusesNothingGenuine(t *testing.T) {
	const grace = 3 * time.Hour // longer than on and back take together
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(rt)
		telegram, newest := uint32(1), uint32(1)
		meanwhile := func() {
			switch m.draw("meanwhile", 3) {
			case 0: // somebody reconciles
				telegram = m.pick().current
			case 1:
				m.start(m.pick())
			case 2:
				m.pass(time.Duration(m.draw("minutes", 9)) * time.Minute)
			}
			for i, r := range m.replicas {
				if !m.takes(r, telegram) {
					rt.Fatalf("replica %d (%v) refuses what Telegram signs with key %d", i, r.keys, telegram)
				}
			}
		}
		inAnyOrder := func(f func(r *replica)) {
			for _, i := range rapid.Permutation([]int{0, 1, 2}).Draw(rt, "order") {
				f(m.replicas[i])
				for range 3 {
					meanwhile()
				}
			}
		}
		rotate := func(next uint32) { // takes at most 81 min
			inAnyOrder(func(r *replica) {
				require.NoError(rt, r.keys.rotate(generation(next), grace, m.now))
				m.rotated(r, next, grace)
			})
			telegram = next // by a Reconcile that began after the last
		}
		for range m.draw("rotations", 3) + 1 {
			before := m.replicas[0].current
			newest++
			inAnyOrder(func(r *replica) {
				require.NoError(rt, r.keys.accept(generation(newest), time.Time{}, m.now))
				r.until[newest] = time.Time{}
			})
			rotate(newest)
			if m.draw("back", 1) == 1 {
				rotate(before)
			}
			m.pass(grace)
			for range 5 {
				meanwhile()
			}
			for g := uint32(1); g <= newest; g++ {
				for i, r := range m.replicas {
					if g != r.current && m.takes(r, g) {
						rt.Fatalf("replica %d (%v) takes key %d, whose grace is over", i, r.keys, g)
					}
				}
			}
		}
	})
}
