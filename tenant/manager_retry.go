package tenant

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

const (
	defaultRetry = 24 * time.Hour
	// These are parts of RetryQuarantined: 24 h makes a look for tenants that are
	// due every hour, the first 5 min after a start, and 20 s between two tenants
	// that are rejected again: 3 of the 20 bots that Telegram loads in a minute for
	// an address.
	retryScans  = 24
	retryStarts = 288
	retryPaces  = 4320
	// giveUpRetries is after how many failures in a row Telegram is taken to be away.
	giveUpRetries = 3
	// resumeTries bounds how often a resumption is stored again because the store's
	// answer was lost.
	resumeTries = 3
)

// retryQuarantined asks Telegram about quarantined tenants until ctx ends.
func (m *Manager) retryQuarantined(ctx context.Context) {
	for wait := m.retryEvery / retryStarts; pause(ctx, max(wait, 1)); wait = m.retryEvery / retryScans {
		if err := m.retryDue(ctx); err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "quarantined tenants not retried", slog.String("err", session.Redact(err.Error())))
		}
	}
}

// retryDue asks about all tenants that are due. An error of the store or of several
// questions in a row ends it.
func (m *Manager) retryDue(ctx context.Context) error {
	failures := 0
	for r, err := range m.List(ctx, Filter{Status: []Status{Quarantined}}) {
		if err != nil {
			return err
		}
		if r.TokenErr != nil || time.Now().Before(m.retryAt(r)) {
			continue
		}
		asked, err := m.retry(ctx, r)
		switch {
		case err == nil || rejectsToken(err):
			failures = 0
		default:
			if failures++; failures == giveUpRetries {
				return err
			}
		}
		// An accepted token is no reason to wait: the others of a mistake of Telegram
		// are quarantined too.
		if asked && err != nil && !pause(ctx, max(m.retryEvery/retryPaces, 1)) {
			return ctx.Err()
		}
	}
	return nil
}

// retryAt returns when to ask about a quarantined tenant: half to seven eighths of
// the period after it was quarantined or last asked about. The rest is for the
// time between two looks, and for those before it. All replicas return the same.
func (m *Manager) retryAt(r Record) time.Time {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, r.UpdatedAt.UnixMicro())
	_, _ = h.Write([]byte(r.ID))
	spread := max(m.retryEvery*3/8, 1)
	return r.UpdatedAt.Add(m.retryEvery/2 + time.Duration(h.Sum64()%uint64(spread)))
}

// retry asks about one tenant, and resumes it if Telegram accepts its token. asked is
// false where another replica asks. Only one does, because asking begins with a
// change of the record, at its version.
func (m *Manager) retry(ctx context.Context, r Record) (asked bool, err error) {
	before := r.UpdatedAt
	r.UpdatedAt = now()
	claimed, err := m.store.Put(ctx, r)
	switch {
	case errors.Is(err, errors.Stale) || errors.Is(err, errors.NotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	limited, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if _, err = m.identify(limited, r.ID, r.Token); err == nil {
		err = m.resumeAccepted(ctx, claimed)
	}
	if err == nil || rejectsToken(err) {
		return true, err
	}
	// Telegram or the store did not answer: the tenant is due again.
	claimed.UpdatedAt = before
	undo, cancelUndo := context.WithTimeout(context.WithoutCancel(ctx), recheckTime)
	defer cancelUndo()
	_, _ = m.store.Put(undo, claimed)
	return true, err
}

// resumeAccepted resumes a quarantined tenant whose token Telegram accepts again.
// Another replica, or the owner, may have done it since; then it changes nothing.
func (m *Manager) resumeAccepted(ctx context.Context, quarantined Record) error {
	id := quarantined.ID
	ctx = WithActor(ctx, "") // the service, whoever started the manager
	defer m.begin(id)()
	maybeStored, made := false, false
	resume := func(r *Record) (bool, error) {
		made = maybeStored && r.Status == Active && sameToken(quarantined, *r)
		if made || r.Status != Quarantined || !sameToken(quarantined, *r) {
			return false, nil
		}
		r.Status, r.Reason = Active, ""
		return true, nil
	}
	r, changed, err := m.update(ctx, id, ActionResume, "Telegram accepts the token again", resume)
	for tries := 1; err != nil && !errors.SafeToRepeat(err) && tries < resumeTries && pause(ctx, time.Second); tries++ {
		maybeStored = true
		r, changed, err = m.update(ctx, id, ActionResume, "Telegram accepts the token again", resume)
	}
	switch {
	case errors.Is(err, errors.NotFound): // removed meanwhile
		return nil
	case err != nil:
		return err
	case !changed && !made:
		return nil
	}
	m.changed(ctx, "tenant resumed", r, false)
	m.accepted(r)
	if m.cfg.OnActive != nil {
		m.notices.add(id, "OnActive", func(ctx context.Context) { m.cfg.OnActive(ctx, r) })
	}
	return nil
}
