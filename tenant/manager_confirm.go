package tenant

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// rejected handles a 401 of an instance. Where nobody asks Telegram again, it
// quarantines the tenant at once.
func (m *Manager) rejected(ctx context.Context, t *Tenant, cause error) error {
	held := m.confirming.note(ctx, t.ID())
	if m.cfg.ConfirmFor >= 0 && m.watcher.confirming(func() { m.confirming.add(t, cause, true) }) {
		return nil
	}
	if held {
		t.reported.Store(false) // the next 401 tries again
		return nil
	}
	maybeStored := false
	r, made, err := m.quarantine(ctx, t, &maybeStored)
	if err != nil {
		return err
	}
	t.revoked.Store(true)
	if made {
		m.notices.call(ctx, notice{t.ID(), "OnQuarantine", func(ctx context.Context) { m.quarantined(ctx, r, cause) }})
	}
	return nil
}

// formRejected handles a 404 or 421 of an instance. It is not enough to fail the
// tenant's calls, or to quarantine where nobody asks Telegram again.
func (m *Manager) formRejected(t *Tenant, cause error) {
	m.watcher.confirming(func() { m.confirming.add(t, cause, false) })
}

// confirm asks Telegram about tokens that it rejected, until ctx ends.
func (m *Manager) confirm(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for ctx.Err() == nil {
		one, wait := m.confirming.next()
		if one != nil {
			work.Go(func() {
				defer m.confirming.done(one)
				m.ask(ctx, one)
			})
			continue
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-m.confirming.wake:
		case <-ctx.Done():
		}
	}
}

// ask asks Telegram about one token.
func (m *Manager) ask(ctx context.Context, one *confirmation) {
	limited, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	t := one.tenant
	id := t.ID()
	stored, err := m.store.Get(limited, id)
	if err == nil && one.maybeStored && isQuarantined(t.Record, stored) {
		m.confirming.unanswered(one)
		m.convict(limited, one)
		return
	}
	if errors.Is(err, errors.NotFound) || err == nil && !sameBot(t.Record, stored) {
		// The change may be another process's and not have been heard of here.
		if err = m.recheckSome(limited, []string{id}); err == nil {
			err = limited.Err()
		}
		if err == nil {
			m.confirming.drop(one, false)
			return
		}
	} else if err == nil {
		_, err = m.identify(limited, id, t.Record.Token)
	}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if m.confirming.drop(one, true) {
			m.log.InfoContext(ctx, "token accepted again", slog.String("tenant", id))
			m.pool.watchers.tell(id)
			m.accepted(stored)
		}
	case !rejectsToken(err):
		m.confirming.unanswered(one)
	default:
		if m.confirming.rejected(one) {
			m.pool.warnRejected(ctx, id, err)
			m.confirming.note(ctx, id)
		}
		if m.confirming.final(one) {
			m.convict(limited, one)
		}
	}
}

// convict quarantines a tenant. After an error it is tried again.
func (m *Manager) convict(ctx context.Context, one *confirmation) {
	id := one.tenant.ID()
	r, made, err := m.quarantine(ctx, one.tenant, &one.maybeStored)
	if err != nil {
		m.log.ErrorContext(ctx, "quarantine failed", slog.String("tenant", id), slog.String("err", session.Redact(err.Error())))
		return
	}
	m.confirming.drop(one, false)
	if made && m.cfg.OnQuarantine != nil {
		m.notices.add(id, "OnQuarantine", func(ctx context.Context) { m.quarantined(ctx, r, one.cause) })
	}
}

// accepted calls OnAccepted.
func (m *Manager) accepted(r Record) {
	if m.cfg.OnAccepted != nil {
		m.notices.add(r.ID, "OnAccepted", func(ctx context.Context) { m.cfg.OnAccepted(ctx, r) })
	}
}
