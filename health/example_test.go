package health_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

func Example() {
	m, err := health.New(health.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 5 {
		m.Observe("customer-7", health.Outcome{Latency: 80 * time.Millisecond, Kind: errors.Unauthorized})
	}
	m.Observe("customer-8", health.Outcome{Latency: 60 * time.Millisecond})

	r, _ := m.Get("customer-7")
	fmt.Println(r.Status, "since", r.Reason)
	f := m.Fleet()
	fmt.Println(f.Healthy, "healthy,", f.Unhealthy, "unhealthy")
	// Output:
	// unhealthy since the last 5 calls failed, the last one: token not accepted by Telegram
	// 1 healthy, 1 unhealthy
}

func ExampleConfig_alerts() {
	toOperators := func(_ context.Context, text string) error {
		fmt.Println(text)
		return nil
	}
	m, err := health.New(health.Config{Alerts: health.AlertConfig{
		Handlers: []health.AlertHandler{health.MessageAlerts(toOperators)},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := m.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for i := range 3 {
		for range 5 {
			m.Observe(fmt.Sprint("customer-", i), health.Outcome{Kind: errors.Unavailable})
		}
	}
	// Stop tells what would have been told in half a minute.
	if err := m.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 3 bots unhealthy (platform)
	// customer-0: unhealthy, the last 5 calls failed, the last one: Telegram unavailable
	// customer-1: unhealthy, the last 5 calls failed, the last one: Telegram unavailable
	// customer-2: unhealthy, the last 5 calls failed, the last one: Telegram unavailable
}

func ExampleTenantHandler() {
	m, err := health.New(health.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	mayRead := func(r *http.Request, tenant string) error {
		if r.Header.Get("Authorization") == "" {
			return errors.Forbidden
		}
		return nil // whoever it is, in an example
	}
	mux := http.NewServeMux()
	mux.Handle("GET /api/bots/{id}/health", health.TenantHandler(m, func(r *http.Request) (string, error) {
		id := r.PathValue("id")
		return id, mayRead(r, id)
	}))
	mux.Handle("GET /healthz", health.LiveHandler())
	mux.Handle("GET /readyz", health.ReadyHandler(health.Check{
		Name:  "health",
		Check: func(context.Context) error { return m.Ready() },
	}))
}

func ExampleSketch() {
	var morning, evening health.Sketch
	for ms := range 100 {
		morning.Add(time.Duration(ms+1) * time.Millisecond)
		evening.Add(time.Duration(ms+101) * time.Millisecond)
	}
	morning.Merge(&evening)
	fmt.Println(morning.Count(), morning.Quantile(0.5).Round(5*time.Millisecond), morning.Quantile(0.95).Round(5*time.Millisecond))
	// Output: 200 100ms 190ms
}

func ExampleVerifyAlert() {
	secret := []byte("a secret of the receiver's own")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /alerts", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			err = health.VerifyAlert(secret, r.Header, body, time.Now())
		}
		if err != nil {
			errors.WriteProblem(w, r, err)
			return
		}
		// The alert is genuine. Remember its webhook-id, which comes again when
		// the answer is lost.
		w.WriteHeader(http.StatusNoContent)
	})
}

func ExampleNewProber() {
	m, err := health.New(health.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ask := func(ctx context.Context, tenant, method string) error { return nil } // through the tenant's bot
	p, err := health.NewProber(health.ProberConfig{
		Monitor: m,
		Me:      func(ctx context.Context, tenant string) error { return ask(ctx, tenant, "getMe") },
		Webhook: func(ctx context.Context, tenant string) (health.WebhookInfo, error) {
			return health.WebhookInfo{Pending: 3}, ask(ctx, tenant, "getWebhookInfo")
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := p.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	defer p.Stop()
}
