package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// Reconcile says where to begin and whom to tell.
type Reconcile struct {
	// After is the id to begin after: the Next of a run that ended early. ""
	// begins at the start.
	After string
	// Anew sets every webhook, also where nothing seems to differ, so that what
	// Telegram does not show is as it should be too: the secret, and that no
	// address is fixed. It is one more call for each tenant. Those that a newer
	// key has set are left. A run that goes on where another ended needs it
	// again.
	Anew bool
	// Progress hears of Report.Next when it has changed, one call at a time,
	// so that a run can be resumed by another process. Nil tells nobody. If it
	// panics, so does Reconcile, once its workers have ended.
	Progress func(next string)
}

// Report is what a run of [Manager.Reconcile] has done.
type Report struct {
	// Changed counts webhooks that were set, Right those that were as they
	// should be, Newer those that a newer key has set, Skipped tenants
	// that another replica works on, that Wants does not select, or that were
	// suspended or removed meanwhile, and Failed those that could not be brought in order.
	Changed, Right, Newer, Skipped, Failed int
	// Refused counts those of the changed and the right that Telegram was
	// turned away from lately; see Result.Refused.
	Refused int
	// Failures are the first 100 of those that failed.
	Failures []Failure
	// Next is what a later run may begin after: all tenants up to it were
	// worked on, whatever came out.
	Next string
}

// Failure is a tenant whose webhook could not be brought in order.
type Failure struct {
	// Tenant is the tenant's id, and Err has the kinds of Ensure's.
	Tenant string
	Err    error
}

// maxFailures bounds Report.Failures.
const maxFailures = 100

// Reconcile brings the webhooks of all active tenants in order, as
// [Manager.Ensure] does for one. One that fails stops none of the others. It
// returns when all were worked on, or ctx has ended, or tenants can't be
// listed, which alone are errors; the report tells then where to resume.
//
// A run on a fleet that is in order sets nothing, unless it is to set all anew.
func (m *Manager) Reconcile(ctx context.Context, o Reconcile) (Report, error) {
	// The one that lists must end when this returns early.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := &run{report: Report{Next: o.After}, told: o.After, progress: o.Progress, changed: make(chan struct{}, 1)}
	jobs := make(chan *step)
	var wg sync.WaitGroup
	panics := make(chan any, m.cfg.Concurrency)
	for range m.cfg.Concurrency {
		wg.Go(func() {
			ended := false
			defer func() {
				if p := recover(); p != nil { // of Progress or the logger: the caller's to deal with
					panics <- p
				}
				if !ended {
					cancel()
				}
			}()
			for s := range jobs {
				r, skipped, err := m.ensureClaimed(ctx, s.id, o.Anew)
				if at, again := m.later(s, err); again {
					run.put(s, at)
				} else {
					run.done(ctx, m, s, r, skipped, err)
				}
				run.end()
			}
			ended = true
		})
	}
	give := func(s *step) bool {
		run.start()
		select {
		case jobs <- s:
			return true
		case <-ctx.Done():
			return false
		}
	}
	// late gives out those that were put off and whose time has come.
	late := func() bool {
		for s := run.due(time.Now()); s != nil; s = run.due(time.Now()) {
			if !give(s) {
				return false
			}
		}
		return true
	}
	list := func() error {
		// In small pages: one of 500 may take an hour to work on, and Wants is to
		// see records that are recent.
		filter := tenant.Filter{Status: []tenant.Status{tenant.Active}, After: o.After, Limit: m.cfg.Concurrency}
		for r, err := range m.tenants.List(ctx, filter) {
			if err != nil {
				return err
			}
			s := run.begin(r.ID)
			if m.cfg.Wants != nil && !m.cfg.Wants(r) {
				run.done(ctx, m, s, Result{}, true, nil)
				continue
			}
			if !late() || !give(s) {
				return nil
			}
		}
		for late() && run.wait(ctx) {
		}
		return nil
	}
	var err error
	func() {
		defer wg.Wait()
		defer close(jobs)
		ended := false
		defer func() {
			if !ended { // the lister, Wants or Progress has panicked: no worker outlives this
				cancel()
			}
		}()
		err = list()
		ended = true
	}()
	select {
	case p := <-panics:
		panic(p)
	default:
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return run.report, fail("reconcile webhooks", "", errors.KindOf(err), err)
	}
	return run.report, nil
}

// patience is how long a worker of a run, and the claim it has, wait for one
// tenant. One that takes longer is put off.
const patience = 5 * time.Second

// later says when to look again at a tenant that can't be had before.
func (m *Manager) later(s *step, err error) (at time.Time, again bool) {
	after := errors.RetryAfter(err)
	if err == nil || after <= 0 || !errors.Temporary(err) {
		return at, false
	}
	now := time.Now()
	if s.until.IsZero() {
		s.until = now.Add(m.cfg.MaxWait)
	}
	at = now.Add(after)
	return at, !at.After(s.until)
}

// ensureClaimed ensures a tenant's webhook, if that is this replica's to do.
func (m *Manager) ensureClaimed(ctx context.Context, id string, anew bool) (r Result, skipped bool, err error) {
	defer func() {
		if p := recover(); p != nil { // one tenant's, or Claim's, and no end of the service
			skipped, err = false, fail("reconcile webhook", id, errors.Internal, fmt.Errorf("panic of type %T", p))
		}
	}()
	if m.cfg.Claim != nil {
		release, ok, err := m.cfg.Claim(ctx, id)
		if err != nil || !ok {
			return r, err == nil, err
		}
		if release != nil {
			defer release()
		}
	}
	r, err = m.ensure(ctx, id, Options{}, anew, min(patience, m.cfg.MaxWait))
	switch errors.KindOf(err) {
	case errors.Suspended, errors.NotFound:
		return r, true, nil
	}
	return r, false, err
}

// run is the state of a Reconcile. Steps end in any order; Next goes on only
// over those before which all have ended.
type run struct {
	mu     sync.Mutex // guards what follows
	report Report
	steps  []*step // begun and not passed by Next, in order
	off    []*step // put off, the one that is due first at the front
	given  int     // out to workers

	changed chan struct{} // of one place: what wait looks at has changed

	telling  sync.Mutex // one call of progress at a time
	told     string
	progress func(next string)
}

type step struct {
	id    string
	ended bool
	at    time.Time // not before, where it was put off
	until time.Time // when to give it up; zero where it never was put off
}

func (r *run) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given++
}

func (r *run) end() {
	r.mu.Lock()
	r.given--
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// put puts a step off.
func (r *run) put(s *step, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.at = at
	i, _ := slices.BinarySearchFunc(r.off, at, func(s *step, at time.Time) int { return s.at.Compare(at) })
	r.off = slices.Insert(r.off, i, s)
}

// due takes a step that was put off and whose time has come, or returns nil.
func (r *run) due(now time.Time) *step {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.off) == 0 || r.off[0].at.After(now) {
		return nil
	}
	s := r.off[0]
	r.off = slices.Delete(r.off, 0, 1)
	return s
}

// wait waits until a step may be due. It reports false when none ever will be,
// or ctx has ended.
func (r *run) wait(ctx context.Context) bool {
	r.mu.Lock()
	in, more := time.Hour, len(r.off) > 0 || r.given > 0
	if len(r.off) > 0 {
		in = time.Until(r.off[0].at)
	}
	r.mu.Unlock()
	if !more {
		return false
	}
	timer := time.NewTimer(in)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.changed:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *run) begin(id string) *step {
	s := &step{id: id}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, s)
	return s
}

func (r *run) done(ctx context.Context, m *Manager, s *step, result Result, skipped bool, err error) {
	if err != nil && ctx.Err() != nil {
		return // not worked on: to be resumed
	}
	if err != nil {
		m.log.WarnContext(ctx, "webhook not in order", slog.String("tenant", s.id), slog.String("error", errors.KindOf(err).String()))
	}
	r.count(s, result, skipped, err)
	r.tell()
}

func (r *run) count(s *step, result Result, skipped bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := &r.report
	switch {
	case err != nil:
		report.Failed++
		if len(report.Failures) < maxFailures {
			report.Failures = append(report.Failures, Failure{s.id, err})
		}
	case skipped:
		report.Skipped++
	case result.Newer:
		report.Newer++
	case result.Changed:
		report.Changed++
	default:
		report.Right++
	}
	if err == nil && result.Refused {
		report.Refused++
	}
	s.ended = true
	for len(r.steps) > 0 && r.steps[0].ended {
		report.Next = r.steps[0].id
		r.steps = r.steps[1:]
	}
}

// tell tells how far the run is.
func (r *run) tell() {
	if r.progress == nil {
		return
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.mu.Lock()
	next := r.report.Next
	r.mu.Unlock()
	if next != r.told {
		r.told = next
		r.progress(next)
	}
}
