package health

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Report is what is known of a tenant at one moment. Counts are over the
// tenant's life, as far as the store remembers it.
type Report struct {
	// Tenant is the tenant's id, Status its state, Since when it came to that
	// (zero for one that was never otherwise), and Reason why, in words for
	// the operator; "" for a healthy one.
	Tenant string    `json:"tenant"`
	Status Status    `json:"status"`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
	// Kind is the kind of failure behind the status: [errors.Suspended] for a
	// tenant that was switched off by hand, [errors.Unauthorized] for one in
	// quarantine, and [errors.None] where it is none.
	Kind errors.Kind `json:"kind"`

	// Requests were sent. Of them, Failures speak against the bot, its token,
	// Telegram or the way to it; Rejected were answered in order, with "no":
	// a chat that is gone, a user who blocked the bot. The rest succeeded.
	Requests  uint64 `json:"total_requests"`
	Successes uint64 `json:"successful_requests"`
	Failures  uint64 `json:"failed_requests"`
	Rejected  uint64 `json:"rejected_requests"`
	// Refused were held back by this program, and are none of the above.
	Refused uint64 `json:"refused_requests"`
	// ErrorRate is Failures' share of Requests over the tenant's life.
	ErrorRate float64 `json:"error_rate"`

	// Window and LongWindow are the last while, see [Config].
	Window     Rate `json:"window"`
	LongWindow Rate `json:"long_window"`
	// ConsecutiveFailures is how many calls failed since the last success.
	ConsecutiveFailures int `json:"consecutive_failures"`

	// LastSuccess, LastFailure and LastUpdate are when a call last succeeded
	// (or was rejected), when one failed, and when an update was received.
	// They are zero for never.
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	LastUpdate  time.Time `json:"last_update,omitzero"`
	// LastFailureKind is the kind of the last failure.
	LastFailureKind errors.Kind `json:"last_failure_kind"`

	// Latency is how long calls take, other than long polls.
	Latency Latency `json:"latency"`

	// RateLimitedUntil is until when Telegram asked to wait; zero where that
	// has passed.
	RateLimitedUntil time.Time `json:"rate_limited_until,omitzero"`
	// Breaker is the state of the tenant's circuit breaker.
	Breaker Breaker `json:"breaker"`
	// Webhook is what getWebhookInfo last said; nil before the first time.
	Webhook *WebhookInfo `json:"webhook,omitempty"`

	words bool // Reason has Telegram's words on the webhook
}

// Rate is the share of calls that failed within a time.
type Rate struct {
	// Within is the time; in JSON it is in seconds.
	Within time.Duration
	// Requests and Failures are as in [Report], and ErrorRate their ratio.
	Requests  uint64
	Failures  uint64
	ErrorRate float64
}

// MarshalJSON writes Within in seconds.
func (r Rate) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"within_s":%g,"requests":%d,"failures":%d,"error_rate":%g}`,
		r.Within.Seconds(), r.Requests, r.Failures, r.ErrorRate), nil
}

// Latency is how long calls took.
type Latency struct {
	// Average is a moving one, in which each call weighs 30 % and all before
	// it the rest. In a [Fleet] it is 0, which its JSON leaves out.
	Average time.Duration
	// P50, P95 and P99 are percentiles: of the last 4,000 calls or more for a
	// tenant, of all since the start for a fleet. See [Sketch] for how exact
	// they are.
	P50, P95, P99 time.Duration

	fleet bool // has no Average
}

// MarshalJSON writes milliseconds.
func (l Latency) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / float64(time.Millisecond) }
	text := []byte{'{'}
	if !l.fleet {
		text = fmt.Appendf(text, `"average_ms":%g,`, ms(l.Average))
	}
	return fmt.Appendf(text, `"p50_ms":%g,"p95_ms":%g,"p99_ms":%g}`, ms(l.P50), ms(l.P95), ms(l.P99)), nil
}

// Get returns what is known of a tenant, false where nothing is.
func (m *Monitor) Get(tenant string) (Report, bool) {
	now := m.now()
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.tenants[tenant]
	if s == nil {
		return Report{Tenant: tenant}, false
	}
	return m.report(tenant, s, now), true
}

// report makes a tenant's report. The shard's lock is held.
func (m *Monitor) report(tenant string, s *state, now int64) Report {
	s.short.move(slotOf(now, m.slot))
	s.long.move(slotOf(now, m.long))
	latency := s.latency()
	r := Report{
		Tenant:              tenant,
		Status:              s.status,
		Since:               m.wall(s.since),
		Reason:              m.reason(s, now),
		Kind:                s.kind(),
		Requests:            s.requests,
		Failures:            s.failures,
		Rejected:            s.rejected,
		Successes:           s.requests - s.failures - s.rejected,
		Refused:             s.refused,
		Window:              rateOf(s.short.sum, m.slot),
		LongWindow:          rateOf(s.long.sum, m.long),
		ConsecutiveFailures: int(max(-s.streak, 0)),
		LastSuccess:         m.wall(s.lastSuccess),
		LastFailure:         m.wall(s.lastFailure),
		LastUpdate:          m.wall(s.lastUpdate),
		LastFailureKind:     s.lastKind,
		Latency:             latencyOf(&latency),
		Breaker:             s.breaker,
	}
	r.Latency.Average = time.Duration(s.ema)
	if r.Requests > 0 {
		r.ErrorRate = float64(r.Failures) / float64(r.Requests)
	}
	r.Webhook = m.info(s)
	r.words = s.cause == webhookFails && strings.HasPrefix(r.Reason, webhookFailsText)
	if s.rare != nil && s.rare.limitedUntil > now {
		r.RateLimitedUntil = m.wall(s.rare.limitedUntil)
	}
	return r
}

// ForTenant returns the report as the tenant's own people may see it. Why a
// tenant was suspended and what Telegram says of the webhook are words for the
// operator: instead there is the friendly text of the catalogue, in the language
// or the nearest one that there is.
func (r Report) ForTenant(texts errors.Texts, lang string) Report {
	if r.Status == Suspended {
		r.Reason = texts.Friendly(r.Kind, lang)
	}
	if r.Webhook != nil && r.Webhook.LastError != "" {
		w := *r.Webhook
		w.LastError = ""
		if r.words {
			r.Reason = webhookFailsText
		}
		r.Webhook = &w
	}
	return r
}

func rateOf(w tally[uint32], slot int64) Rate {
	return Rate{
		Within:    time.Duration(slot * windowSlots),
		Requests:  uint64(w.calls),
		Failures:  uint64(w.failed),
		ErrorRate: w.rate(),
	}
}

func latencyOf[C uint16 | uint32](b *bins[C]) Latency {
	return Latency{P50: b.quantile(0.5), P95: b.quantile(0.95), P99: b.quantile(0.99)}
}

// Unhealthy returns the reports of all tenants that are unhealthy or degraded,
// the unhealthy first, each in order of their ids.
func (m *Monitor) Unhealthy() []Report { return m.worst(math.MaxInt) }

// worst is Unhealthy for the first so many, since a report takes a while.
func (m *Monitor) worst(most int) []Report {
	type patient struct {
		tenant string
		status Status
	}
	var list []patient
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		for tenant, s := range sh.ill {
			list = append(list, patient{tenant, s.status})
		}
		sh.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b patient) int {
		return cmp.Or(cmp.Compare(b.status, a.status), cmp.Compare(a.tenant, b.tenant))
	})
	reports := make([]Report, 0, min(most, len(list)))
	for _, p := range list[:cap(reports)] {
		// It may have changed meanwhile; one that is well by now is left out.
		if r, found := m.Get(p.tenant); found && (r.Status == Degraded || r.Status == Unhealthy) {
			reports = append(reports, r)
		}
	}
	return reports
}

// Fleet is all tenants at a glance. Its counts are since the monitor's start.
type Fleet struct {
	// Tenants is how many are known, and the next four how many of them are in
	// which state.
	Tenants   int `json:"tenants"`
	Healthy   int `json:"healthy"`
	Degraded  int `json:"degraded"`
	Unhealthy int `json:"unhealthy"`
	Suspended int `json:"suspended"`
	// The counts are as in [Report].
	Requests  uint64 `json:"total_requests"`
	Successes uint64 `json:"successful_requests"`
	Failures  uint64 `json:"failed_requests"`
	Rejected  uint64 `json:"rejected_requests"`
	Refused   uint64 `json:"refused_requests"`
	// Window is the last while, see [Config].
	Window Rate `json:"window"`
	// Latency is how long calls take, other than long polls.
	Latency Latency `json:"latency"`
	// Breaker is the state of the circuit breaker of all tenants together.
	Breaker Breaker `json:"platform_breaker"`
	// Untracked is how many outcomes were of tenants for which there was no
	// room, or named no tenant.
	Untracked uint64 `json:"untracked_requests"`
}

// Fleet returns the sums over all tenants. It takes as long for one tenant as
// for a million.
func (m *Monitor) Fleet() Fleet {
	at := slotOf(m.now(), m.slot)
	f := Fleet{
		Healthy:   int(m.byStatus[Healthy].Load()),
		Degraded:  int(m.byStatus[Degraded].Load()),
		Unhealthy: int(m.byStatus[Unhealthy].Load()),
		Suspended: int(m.byStatus[Suspended].Load()),
		Breaker:   Breaker(m.platform.Load()),
		Untracked: m.untracked.Load(),
	}
	f.Tenants = f.Healthy + f.Degraded + f.Unhealthy + f.Suspended
	var window tally[uint32]
	var latency bins[uint32]
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		f.Requests += sh.requests
		f.Failures += sh.failures
		f.Rejected += sh.rejected
		f.Refused += sh.refused
		sum := sh.window.read(at)
		merge(&latency, &sh.latency, maxBins)
		sh.mu.Unlock()
		window.calls += min(sum.calls, math.MaxUint32-window.calls)
		window.failed += min(sum.failed, math.MaxUint32-window.failed)
	}
	f.Successes = f.Requests - f.Failures - f.Rejected
	f.Window = rateOf(window, m.slot)
	f.Latency = latencyOf(&latency)
	f.Latency.fleet = true
	return f
}
