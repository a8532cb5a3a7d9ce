package health

import (
	"net/http"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/web"
)

// FleetHandler answers with the fleet's summary and those of its tenants that
// are unhealthy or degraded, the worst first, as JSON:
//
//	{"fleet": {...}, "unhealthy": [{...}, ...]}
//
// The parameter limit bounds the list: 100 where it is not given, at most
// 1,000; "fleet" has the numbers of all. authorize returns nil for who may see
// it, and else the error that the client gets as a problem document; nil lets
// in nobody.
func FleetHandler(m *Monitor, authorize func(*http.Request) error) http.Handler {
	return web.Get(func(w http.ResponseWriter, r *http.Request) {
		err := error(errors.Forbidden)
		if authorize != nil {
			err = authorize(r)
		}
		var query map[string]string
		if err == nil {
			query, err = web.Query(r, "limit")
		}
		limit := 0
		if err == nil {
			limit, err = web.Number(query, "limit", 100, 0, 1000)
		}
		if err != nil {
			web.Problem(w, r, err)
			return
		}
		web.JSON(w, http.StatusOK, struct {
			Fleet     Fleet    `json:"fleet"`
			Unhealthy []Report `json:"unhealthy"`
		}{m.Fleet(), m.worst(limit)})
	})
}

// TenantHandler answers with a tenant's [Report] as JSON, as [Report.ForTenant]
// returns it in English: without what is for the operator. tenant returns the id
// of the tenant that a request is about, if the client may see it, and else the
// error that it gets as a problem document, such as [errors.Forbidden]; nil
// lets in nobody:
//
//	mux.Handle("GET /api/bots/{id}/health", health.TenantHandler(m, func(r *http.Request) (string, error) {
//		return r.PathValue("id"), mayRead(r, r.PathValue("id"))
//	}))
//
// A tenant of which nothing is known is answered with 404.
func TenantHandler(m *Monitor, tenant func(*http.Request) (string, error)) http.Handler {
	return web.Get(func(w http.ResponseWriter, r *http.Request) {
		id, err := "", error(errors.Forbidden)
		if tenant != nil {
			id, err = tenant(r)
		}
		if err == nil {
			report, found := m.Get(id)
			if found {
				web.JSON(w, http.StatusOK, report.ForTenant(errors.Texts{}, "en"))
				return
			}
			err = errors.NotFound
		}
		errors.WriteProblem(w, r, err)
	})
}
