package health

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// AlertConfig says who is told of transitions, and how often.
//
// With a [Store], what waits or is under way when a process crashes is told by
// the one that loads it: how each tenant's status differs from that which was
// last told, once, after GroupWait. Only an alert that some handlers had and
// others had not, or of which it was not stored yet that they had, is told again.
// So what a store has of a time without handlers is told when there are some.
type AlertConfig struct {
	// Handlers are told, each of every alert. Without any, transitions are not
	// kept.
	Handlers []AlertHandler
	// GroupWait is how long the first transition of a group waits for others,
	// so that what fails together is told together. 0 means 30 s.
	GroupWait time.Duration
	// CoolDown is how long after an alert the next one of its group comes, at
	// the soonest, unless it is about ten times as many tenants. Where all
	// transitions are for the better they wait for as long, since a fleet
	// recovers by degrees. 0 means 5 min.
	CoolDown time.Duration
	// Enabled says whether alerts are told by this process now: of several
	// replicas each sees the same outage, and tells of it, unless all but one,
	// the leader, are not enabled. What falls due meanwhile is dropped:
	// [Monitor.Unhealthy] has it still. Where each replica makes the calls of
	// other tenants, the leader does not see what becomes of them: leave it nil.
	// It is called before each alert and must not block. Nil means always.
	Enabled func() bool
}

const (
	// surge is how many times larger than the last alert one must be that does
	// not wait for the cool-down to end, and surgeLeast how large it must be.
	surge, surgeLeast = 10, 10
	// maxWaiting bounds the transitions that wait to be told. More than these
	// are told at once; before Start and after Stop they are dropped.
	maxWaiting = 100_000
	// maxQueue bounds the alerts that wait for a slow handler.
	maxQueue = 256
)

// alerts gathers transitions into alerts and hands them to the handlers.
type alerts struct {
	handlers            []*alertQueue
	groupWait, coolDown time.Duration
	enabled             func() bool
	told                func(Alert)
	log                 *slog.Logger
	kick                chan struct{} // holds one: look again

	// mu guards what follows. It is taken while a shard's lock is held, and
	// nothing is called under it.
	mu      sync.Mutex
	groups  map[string]*alertGroup // a few dozen at most
	waiting int
	dropped uint64
	running bool
	wake    time.Time // when the loop looks again; zero for never
}

// alertGroup are the transitions that are to be told together.
type alertGroup struct {
	name    string
	waiting []Transition
	// tenants are those whose transitions wait. All that follow go there too,
	// whatever they are about, so that they are told in order.
	tenants map[string]struct{}
	first   time.Time // when the first of them came
	worse   time.Time // when the first for the worse did; zero for none
	cool    time.Time // until when it is told nothing
	told    int       // how many tenants were failing in the last alert
}

// newAlerts returns nil where nobody is to be told. told is called with each
// alert once all handlers have had it.
func newAlerts(cfg AlertConfig, log *slog.Logger, told func(Alert)) (*alerts, error) {
	var bad []error
	duration := func(name string, d *time.Duration, zero time.Duration) {
		if *d == 0 {
			*d = zero
		}
		if *d < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
	}
	duration("GroupWait", &cfg.GroupWait, 30*time.Second)
	duration("CoolDown", &cfg.CoolDown, 5*time.Minute)
	a := &alerts{
		groupWait: cfg.GroupWait,
		coolDown:  cfg.CoolDown,
		enabled:   cfg.Enabled,
		log:       log,
		kick:      make(chan struct{}, 1),
		groups:    make(map[string]*alertGroup),
		told:      told,
	}
	for i, h := range cfg.Handlers {
		if h == nil {
			bad = append(bad, fmt.Errorf("%s[%d] is nil", "Handlers", i))
		}
		a.handlers = append(a.handlers, newAlertQueue(h, log))
	}
	if err := errors.Join(bad...); err != nil {
		return nil, err
	}
	if len(a.handlers) == 0 {
		return nil, nil
	}
	return a, nil
}

// add takes a transition in. It never waits.
func (a *alerts) add(t Transition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting >= maxWaiting && !a.running {
		a.dropped++
		return
	}
	now := time.Now()
	g := a.of(t.Tenant)
	if g == nil {
		if g = a.groups[t.Group]; g == nil {
			g = &alertGroup{name: t.Group}
			a.groups[t.Group] = g
		}
		if g.tenants == nil {
			g.tenants = make(map[string]struct{})
		}
		g.tenants[t.Tenant] = struct{}{}
	}
	if len(g.waiting) == 0 {
		g.first = now
	}
	if t.To > t.From && g.worse.IsZero() {
		g.worse = now
	}
	g.waiting = append(g.waiting, t)
	a.waiting++
	if due := a.due(g); a.wake.IsZero() || due.Before(a.wake) {
		a.wake = due
		select {
		case a.kick <- struct{}{}:
		default:
		}
	}
}

// of returns the group in which a tenant's transitions wait, or nil.
func (a *alerts) of(tenant string) *alertGroup {
	for _, g := range a.groups {
		if _, waits := g.tenants[tenant]; waits {
			return g
		}
	}
	return nil
}

// retract drops what waits of a tenant, since it was taken for another than
// it is.
func (a *alerts) retract(tenant string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.of(tenant)
	if g == nil {
		return
	}
	delete(g.tenants, tenant)
	a.waiting -= len(g.waiting)
	g.waiting = slices.DeleteFunc(g.waiting, func(t Transition) bool { return t.Tenant == tenant })
	a.waiting += len(g.waiting)
	g.worse = time.Time{}
	if slices.ContainsFunc(g.waiting, func(t Transition) bool { return t.To > t.From }) {
		g.worse = g.first
	}
}

// due returns when a group is to be told of.
func (a *alerts) due(g *alertGroup) time.Time {
	due := g.worse.Add(a.groupWait)
	if g.worse.IsZero() {
		due = g.first.Add(max(a.groupWait, a.coolDown))
	}
	switch {
	case a.waiting >= maxWaiting:
		return g.first
	case !g.worse.IsZero() && len(g.tenants) >= max(surge*g.told, surgeLeast):
		return due
	case g.cool.After(due):
		return g.cool
	}
	return due
}

// take returns the alerts that are due, in the order in which they became so,
// and when to look again. It makes them without the lock, which those who report
// wait for.
func (a *alerts) take(now time.Time, all bool) (due []Alert, next time.Time) {
	due = a.detach(now, all)
	for i := range due {
		due[i].count()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range due {
		a.groups[due[i].Group].told = due[i].Failing
	}
	for _, g := range a.groups {
		if len(g.waiting) > 0 {
			if d := a.due(g); next.IsZero() || d.Before(next) {
				next = d
			}
		}
	}
	a.wake = next
	return due, next
}

// detach takes what is due out of its groups. A group that is told of stays.
func (a *alerts) detach(now time.Time, all bool) []Alert {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ready []*alertGroup
	for name, g := range a.groups {
		switch {
		case len(g.waiting) == 0:
			if !g.cool.After(now) {
				delete(a.groups, name)
			}
		case all || !a.due(g).After(now):
			ready = append(ready, g)
		}
	}
	slices.SortFunc(ready, func(g, h *alertGroup) int {
		return cmp.Or(a.due(g).Compare(a.due(h)), g.first.Compare(h.first), cmp.Compare(g.name, h.name))
	})
	var due []Alert
	for _, g := range ready {
		due = append(due, Alert{ID: rand.Text(), Group: g.name, At: now.Round(0).UTC(), Transitions: g.waiting})
		a.waiting -= len(g.waiting)
		g.waiting, g.tenants, g.worse, g.cool = nil, nil, time.Time{}, now.Add(a.coolDown)
	}
	return due
}

// run tells the handlers until stop is closed, then of all that still waits,
// and returns once they have been told or ctx has ended.
func (a *alerts) run(ctx context.Context, stop <-chan struct{}) error {
	a.mu.Lock()
	a.running = true
	dropped := a.dropped
	a.mu.Unlock()
	if dropped > 0 {
		a.log.Warn("transitions dropped: there were too many before the monitor was started", slog.Uint64("dropped", dropped))
	}
	telling, end := context.WithCancel(ctx)
	defer end()
	for _, h := range a.handlers {
		h.start(telling)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for stopping := false; !stopping; {
		select {
		case <-a.kick:
		case <-timer.C:
		case <-stop:
			stopping = true
		case <-ctx.Done():
			stopping = true
		}
		if ctx.Err() != nil {
			end() // which ctx does too, but a moment later, and none may be told in between
		}
		now := time.Now()
		due, next := a.take(now, stopping)
		for _, alert := range due {
			if !a.isEnabled() {
				a.log.Debug("alert not told: another process does", slog.String("alert", alert.ID))
				continue
			}
			a.tell(alert)
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
	}
	a.mu.Lock()
	a.running = false
	a.mu.Unlock()
	for _, h := range a.handlers {
		h.close()
	}
	defer time.AfterFunc(lastAlert, end).Stop()
	var hang []error
	for i, h := range a.handlers {
		if !h.wait(telling) {
			hang = append(hang, &errors.Error{Kind: errors.Timeout, Op: fmt.Sprintf("end alert handler Handlers[%d]", i), Delivery: errors.NotDelivered,
				Err: errors.New("it does not obey its context and still runs")})
		}
	}
	return errors.Join(hang...)
}

// tell hands an alert to all handlers.
func (a *alerts) tell(alert Alert) {
	d := &delivery{Alert: alert, told: a.told}
	d.left.Store(int32(len(a.handlers)))
	for _, h := range a.handlers {
		h.put(d)
	}
}

const (
	// lastAlert bounds how long the handlers are waited for once the monitor
	// stops, and lastGrace how long thereafter for one to obey its context.
	lastAlert = time.Minute
	lastGrace = 5 * time.Second
)

// isEnabled asks whoever says so. One that panics does not silence alerts.
func (a *alerts) isEnabled() (is bool) {
	if a.enabled == nil {
		return true
	}
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("Enabled panicked", slog.String("panic", short(fmt.Sprint(p))))
			is = true
		}
	}()
	return a.enabled()
}
