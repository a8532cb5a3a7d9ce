package usage

import (
	"bytes"
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/web"
)

// Handler answers with a tenant's [Report]. tenant returns the id of the tenant
// that a request is about, if the client may see it, and else the error that it
// gets as a problem document, such as [errors.Forbidden]; nil lets in nobody:
//
//	mux.Handle("GET /api/bots/{id}/analytics", usage.Handler(reporter, func(r *http.Request) (string, error) {
//		return r.PathValue("id"), mayRead(r, r.PathValue("id"))
//	}))
//
// The parameters, all optional:
//
//   - days: how many days, today included; 1 to [MaxDays], 7 if it is left out.
//   - zone: the time zone of the days, such as Europe/Berlin; UTC if it is left
//     out. A program that runs where there is no time zone database, as in an
//     empty container, imports [time/tzdata] for it.
//   - format: json or csv; if it is left out, CSV for who accepts text/csv
//     and not JSON.
//
// CSV has a line for each day. What a parameter can't be is answered with 400.
func Handler(p *Reporter, tenant func(*http.Request) (string, error)) http.Handler {
	return web.Get(func(w http.ResponseWriter, r *http.Request) {
		id, err := "", error(errors.Forbidden)
		if tenant != nil {
			id, err = tenant(r)
		}
		var q query
		if err == nil {
			q, err = parseQuery(r)
		}
		var rep *Report
		if err == nil {
			from, to := q.span(time.Now())
			rep, err = p.Report(r.Context(), id, from, to, q.zone)
		}
		if err != nil {
			web.Problem(w, r, err)
			return
		}
		w.Header().Set("Vary", "Accept")
		if q.csv {
			w.Header().Set("Content-Disposition", `attachment; filename="usage.csv"`)
			web.Write(w, http.StatusOK, "text/csv; charset=utf-8", rep.csv())
			return
		}
		web.JSON(w, http.StatusOK, rep)
	})
}

type query struct {
	days int
	zone *time.Location
	csv  bool
}

func parseQuery(r *http.Request) (q query, err error) {
	values, err := web.Query(r, "days", "zone", "format")
	if err != nil {
		return q, err
	}
	if q.days, err = web.Number(values, "days", 7, 1, MaxDays); err != nil {
		return q, err
	}
	if q.zone, err = zoneOf(values["zone"]); err != nil {
		return q, err
	}
	switch values["format"] {
	case "json":
	case "csv":
		q.csv = true
	case "":
		accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
		q.csv = strings.Contains(accept, "text/csv") && !strings.Contains(accept, "json")
	default:
		return q, web.BadQuery("The parameter format must be json or csv.")
	}
	return q, nil
}

func zoneOf(name string) (*time.Location, error) {
	// "Local" would be this server's, which is nobody's business.
	if len(name) <= 64 && name != "Local" {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, web.BadQuery("The parameter zone must be the name of a time zone, such as Europe/Berlin.")
}

// span returns the last days of the zone, today included.
func (q *query) span(now time.Time) (from, to time.Time) {
	today := dateOf(now.In(q.zone))
	return startOfDay(today.AddDate(0, 0, 1-q.days), q.zone), startOfDay(today.AddDate(0, 0, 1), q.zone)
}

func (rep *Report) csv() []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	// Writing to memory can't fail.
	_ = w.Write([]string{"date", "total_requests", "successful_requests", "failed_requests", "error_rate_percent",
		"avg_response_time_ms", "p50_response_time_ms", "p95_response_time_ms", "p99_response_time_ms", "updates_received", "unique_chats", "refused_requests"})
	whole := func(n uint64) string { return strconv.FormatUint(n, 10) }
	real := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	for _, d := range rep.Days {
		_ = w.Write([]string{d.Date, whole(d.Requests), whole(d.Successes), whole(d.Failures), real(d.ErrorRate),
			real(d.Average), real(d.P50), real(d.P95), real(d.P99), whole(d.Received), whole(d.Chats), whole(d.Refused)})
	}
	w.Flush()
	return b.Bytes()
}
