package tenant

import (
	"context"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// recheckTime bounds a second look at whether a tenant was quarantined.
const recheckTime = 5 * time.Second

// quarantine stops using a token that Telegram no longer accepts, and reports
// whether it did. A token that was rotated since the call is another one, and a
// tenant that is not active is not used anyway.
//
// maybeStored says that an earlier try may have stored the quarantine; quarantine
// sets it where this one may have. A tenant that is found quarantined then counts
// as quarantined by that try.
func (m *Manager) quarantine(ctx context.Context, t *Tenant, maybeStored *bool) (r Record, made bool, err error) {
	const reason = "Telegram no longer accepts the token"
	defer m.begin(t.ID())()
	quarantined := func(r *Record) (bool, error) {
		if made = *maybeStored && isQuarantined(t.Record, *r); made {
			return false, nil
		}
		if r.Status != Active || !r.Token.Equal(t.Record.Token) {
			return false, nil
		}
		r.Status, r.Reason = Quarantined, reason
		return true, nil
	}
	r, changed, err := m.update(ctx, t.ID(), ActionQuarantine, "", quarantined)
	if err != nil && !errors.SafeToRepeat(err) {
		// Where nobody asks again, nobody would ever hear of it. It may be ctx
		// that has ended.
		*maybeStored = true
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recheckTime)
		defer cancel()
		r, changed, err = m.update(ctx, t.ID(), ActionQuarantine, "", quarantined)
	}
	switch {
	case errors.Is(err, errors.NotFound): // removed meanwhile
		m.pool.evict(t.ID(), true)
		return Record{}, false, nil
	case err != nil:
		return Record{}, false, err
	case !changed && !made:
		// The instance is of what was stored before, and nobody else may know:
		// the change was another process's and was not heard here.
		m.compare(t.ID(), map[string]Record{r.ID: r}, t)
		return Record{}, false, nil
	}
	m.changed(ctx, "tenant quarantined", r, false)
	return r, true, nil
}

// isQuarantined reports whether a tenant that was stored so is quarantined, with
// the same token.
func isQuarantined(was, r Record) bool {
	return r.Status == Quarantined && r.Token.Equal(was.Token) && r.CreatedAt.Equal(was.CreatedAt)
}

// quarantined calls OnQuarantine.
func (m *Manager) quarantined(ctx context.Context, r Record, cause error) {
	if m.cfg.OnQuarantine != nil {
		m.cfg.OnQuarantine(ctx, r, cause)
	}
}
