package usage_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/usage"
)

func Example() {
	ctx := context.Background()
	store := usage.NewMemoryStore()
	recorder, err := usage.New(usage.Config{Store: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	monday := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	for i := range 10 {
		call := usage.Call{At: monday, Method: "sendMessage", Chat: usage.Chat{ID: 42}, Latency: 80 * time.Millisecond}
		if i == 0 {
			call.Kind = errors.Blocked
		}
		recorder.Observe("customer-7", call)
	}
	if err := recorder.Flush(ctx); err != nil {
		fmt.Println(err)
		return
	}
	rep, err := usage.NewReporter(store, nil).Report(ctx, "customer-7", monday.Truncate(usage.Day), monday.Add(usage.Day), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d calls, %.0f %% failed, %.0f ms\n", rep.Requests, rep.ErrorRate, rep.Average)
	fmt.Printf("most on %ss at %d, with chat %v\n", rep.Busiest[0].Weekday, rep.Busiest[0].Hour, rep.Chats[0].Chat)
	// Output:
	// 10 calls, 10 % failed, 80 ms
	// most on Mondays at 9, with chat 42
}

func ExampleHandler() {
	reporter := usage.NewReporter(usage.NewMemoryStore(), nil)
	mux := http.NewServeMux()
	mux.Handle("GET /api/bots/{id}/analytics", usage.Handler(reporter, func(r *http.Request) (string, error) {
		if r.Header.Get("Authorization") == "" {
			return "", errors.Forbidden
		}
		return r.PathValue("id"), nil // whoever it is, in an example
	}))
}
