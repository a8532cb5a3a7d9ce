package usage

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// Report is a tenant's usage between two times. Its JSON has the figures that
// dashboards want under flat names.
type Report struct {
	// Tenant is the tenant's id. What is in the report is from From on and
	// before To.
	Tenant string    `json:"tenant"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	// Zone is the name of the time zone that days and hours are of.
	Zone string `json:"zone"`

	// Totals are those of all days together.
	Totals
	// Status, Reason and the rate limit are the tenant's present state, from the
	// monitor, as [health.Report.ForTenant] has it in English; the status of one
	// that it does not know is "".
	Status           string    `json:"status,omitempty"`
	Reason           string    `json:"reason,omitempty"`
	RateLimited      bool      `json:"is_rate_limited"`
	RateLimitedUntil time.Time `json:"rate_limited_until,omitzero"`
	// LastActive is when the last call ended or the last update came within
	// the report's time.
	LastActive time.Time `json:"last_active,omitzero"`

	// Days are the days of the zone, from that of From to that before To, also
	// those on which nothing happened.
	Days []DayReport `json:"days"`
	// Hours are the requests and updates by weekday (Sunday is 0) and hour of
	// the day, and Busiest the hours with the most of both together. What is
	// only kept by day is in neither.
	Hours   [7][24]HourCount `json:"hours"`
	Busiest []BusyHour       `json:"busiest_hours"`

	// Methods, Kinds and Updates are the requests by method, the failures by
	// kind and the updates by type, the most frequent first.
	Methods []MethodCount `json:"methods"`
	Kinds   []KindCount   `json:"failures_by_kind"`
	Updates []TypeCount   `json:"updates_by_type"`
	// Chats are the most active chats, in and out.
	Chats []ChatCount `json:"top_chats"`
}

// Totals are the figures of a day or of a report.
type Totals struct {
	// Requests, Successes and Failures are calls: see [Rollup].
	Requests  uint64 `json:"total_requests"`
	Successes uint64 `json:"successful_requests"`
	Failures  uint64 `json:"failed_requests"`
	// Refused are calls that this program held back. They are none of the above.
	Refused uint64 `json:"refused_requests"`
	// ErrorRate is the share of failures, in per cent.
	ErrorRate float64 `json:"error_rate_percent"`
	// The response times are in milliseconds: their mean, which is exact, and
	// percentiles, which are at most 2 % off.
	Average float64 `json:"avg_response_time_ms"`
	P50     float64 `json:"p50_response_time_ms"`
	P95     float64 `json:"p95_response_time_ms"`
	P99     float64 `json:"p99_response_time_ms"`
	// Received is how many updates were received.
	Received uint64 `json:"updates_received"`
	// Chats is how many different chats there was anything with: exact if no
	// hour, and no day of which the hours are no longer kept, had more than
	// 128, else about 2 % off.
	Chats uint64 `json:"unique_chats"`
}

// DayReport is a day of a report.
type DayReport struct {
	// Date is the day, such as "2026-03-29".
	Date string `json:"date"`
	Totals
}

// HourCount is how much there was in an hour of the week.
type HourCount struct {
	// Requests are calls that were made, and Received updates that came.
	Requests uint64 `json:"requests"`
	Received uint64 `json:"updates"`
}

// BusyHour is an hour of the week, such as Mondays from 9 to 10.
type BusyHour struct {
	// Weekday is its English name, and Hour when it begins, from 0 to 23.
	Weekday string `json:"weekday"`
	Hour    int    `json:"hour"`
	HourCount
}

// Reporter makes reports of what a store has. It is safe for concurrent use.
type Reporter struct {
	store   Store
	monitor *health.Monitor
}

// NewReporter returns a Reporter. The monitor, from which the tenant's present
// state is, may be nil.
func NewReporter(store Store, monitor *health.Monitor) *Reporter {
	return &Reporter{store: store, monitor: monitor}
}

const (
	// MaxDays is how long a report may be.
	MaxDays = 400
	// shownChats is how many of the most active chats are in a report, and
	// shownHours how many of the hours.
	shownChats, shownHours = 10, 5
	// reportExact is up to how many different chats are counted exactly then.
	reportExact = 1 << 17
)

// Report returns the tenant's usage from the hour that begins at or after from
// up to to, by days of the zone; a nil zone is UTC. It has what was flushed: the
// last seconds may be missing. A tenant of which nothing is known has a report
// full of zeros. The error is [errors.BadRequest] for times that are not in
// order or more than [MaxDays] days apart, and else the store's.
//
// Hours are kept in UTC. In a zone that is off by half an hour, the hour that
// spans midnight counts for the day in which it begins. Once hours have been
// turned into days, those are of UTC, and a day counts for the one of the zone
// that has its noon.
func (p *Reporter) Report(ctx context.Context, tenant string, from, to time.Time, zone *time.Location) (*Report, error) {
	if zone == nil {
		zone = time.UTC
	}
	if span := to.Sub(from); span <= 0 || span > (MaxDays+1)*Day {
		return nil, &errors.Error{Kind: errors.BadRequest, Op: "report usage", Key: tenant, Delivery: errors.NotDelivered,
			Err: fmt.Errorf("the time must be above 0 and at most %d days", MaxDays)}
	}
	rollups, err := p.store.Range(ctx, tenant, from.Add(-Day/2).UTC(), to.UTC())
	if err != nil {
		return nil, err
	}
	from, to = from.In(zone), to.In(zone)
	rep := &Report{Tenant: tenant, From: from, To: to, Zone: zone.String()}
	var total Rollup
	chats := topSum{chats: make(map[Chat]ChatCount)}
	days := daysOf(from, to)
	for i := range rollups {
		if ctx.Err() != nil {
			return nil, loop.Ended("report usage", ctx)
		}
		r := &rollups[i]
		at := r.Start
		if r.Daily {
			at = at.Add(Day / 2)
		}
		if at.Before(from) || !at.Before(to) {
			continue
		}
		r.apart()
		dayAt(days, at).merge(r, reportExact, 0)
		total.merge(r, reportExact, 0)
		chats.add(&r.Top)
		if !r.Daily {
			at = at.In(zone)
			h := &rep.Hours[at.Weekday()][at.Hour()]
			h.Requests += r.Requests
			h.Received += r.Received
		}
	}
	rep.Totals = totals(&total)
	rep.LastActive = total.LastActive
	for i := range days {
		rep.Days = append(rep.Days, DayReport{Date: days[i].date, Totals: totals(&days[i].Rollup)})
	}
	rep.Busiest = busiest(&rep.Hours)
	rep.Methods, rep.Kinds, rep.Updates = orEmpty(total.Methods), orEmpty(total.Kinds), orEmpty(total.Updates)
	byCount(rep.Methods, func(m MethodCount) uint64 { return m.Requests }, func(m MethodCount) string { return m.Method })
	byCount(rep.Kinds, func(k KindCount) uint64 { return k.Count }, func(k KindCount) string { return k.Kind.String() })
	byCount(rep.Updates, func(u TypeCount) uint64 { return u.Count }, func(u TypeCount) string { return u.Type })
	rep.Chats = orEmpty(chats.most(shownChats))
	p.addState(rep)
	return rep, nil
}

// addState adds what the monitor knows.
func (p *Reporter) addState(rep *Report) {
	if p.monitor == nil {
		return
	}
	state, found := p.monitor.Get(rep.Tenant)
	if !found {
		return
	}
	state = state.ForTenant(errors.Texts{}, "en")
	rep.Status, rep.Reason = state.Status.String(), state.Reason
	rep.RateLimitedUntil = state.RateLimitedUntil
	rep.RateLimited = !state.RateLimitedUntil.IsZero()
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{} // [] and not null in JSON
	}
	return list
}

func totals(r *Rollup) Totals {
	t := Totals{
		Requests:  r.Requests,
		Successes: r.Requests - r.Failures,
		Failures:  r.Failures,
		Refused:   r.Refused,
		P50:       millis(r.Latencies.Quantile(0.5)),
		P95:       millis(r.Latencies.Quantile(0.95)),
		P99:       millis(r.Latencies.Quantile(0.99)),
		Received:  r.Received,
		Chats:     r.Unique.Count(),
	}
	if r.Requests > 0 {
		t.ErrorRate = round(100*float64(r.Failures)/float64(r.Requests), 2)
	}
	if r.Timed > 0 {
		t.Average = round(float64(r.Latency)/float64(r.Timed)/float64(time.Millisecond), 2)
	}
	return t
}

func millis(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 2) }

func round(x float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(x*scale) / scale
}

// busiest returns the hours of the week in which there was most.
func busiest(hours *[7][24]HourCount) []BusyHour {
	list := []BusyHour{}
	for day := range hours {
		for hour, n := range hours[day] {
			if n.Requests+n.Received > 0 {
				list = append(list, BusyHour{time.Weekday(day).String(), hour, n})
			}
		}
	}
	// Weekdays are sorted by number, which list is in already.
	byCount(list, func(b BusyHour) uint64 { return b.Requests + b.Received }, func(BusyHour) string { return "" })
	return list[:min(len(list), shownHours)]
}
