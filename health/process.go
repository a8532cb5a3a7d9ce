package health

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/web"
)

// LiveHandler answers /healthz: 200 for as long as the process serves. Whoever
// restarts processes asks it, so it depends on nothing else: a database that
// is away is no reason to restart.
func LiveHandler() http.Handler {
	return web.Get(func(w http.ResponseWriter, _ *http.Request) {
		web.JSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
}

// Check is something without which a process can't do its work.
type Check struct {
	// Name is shown to whoever asks.
	Name string
	// Check returns nil if it is there. It obeys ctx, which ends after 5 s, and
	// is called concurrently. Of its error only the kind is shown.
	Check func(ctx context.Context) error
}

// readyTimeout is less than the 10 s or so that probes wait.
const readyTimeout = 5 * time.Second

// ReadyHandler answers /readyz: 200 if all checks pass, else 503, with the
// result of each. Whoever sends requests to processes asks it. A monitor that
// has a store belongs among the checks:
//
//	health.ReadyHandler(health.Check{Name: "health", Check: func(context.Context) error { return m.Ready() }})
func ReadyHandler(checks ...Check) http.Handler {
	return web.Get(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		results := make([]errors.Kind, len(checks))
		var running sync.WaitGroup
		for i, c := range checks {
			running.Go(func() { results[i] = c.run(ctx) })
		}
		running.Wait()
		status, word := http.StatusOK, "ok"
		byName := make(map[string]string, len(checks))
		for i, c := range checks {
			byName[c.Name] = "ok"
			if results[i] != errors.None {
				byName[c.Name] = results[i].String()
				status, word = http.StatusServiceUnavailable, "unavailable"
			}
		}
		web.JSON(w, status, map[string]any{"status": word, "checks": byName})
	})
}

func (c *Check) run(ctx context.Context) (kind errors.Kind) {
	defer func() {
		if recover() != nil {
			kind = errors.Internal
		}
	}()
	return errors.KindOf(c.Check(ctx))
}
