package httplimit_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/ratelimit/httplimit"
)

func Example() {
	limiter, err := httplimit.New(httplimit.Config{
		Routes: []httplimit.Route{{Pattern: "POST /api/bots", Limit: ratelimit.Per(5, time.Minute)}},
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/bots", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	server := limiter.Handler(mux)

	for range 6 {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest("POST", "/api/bots", nil))
		fmt.Printf("%d %q\n", w.Code, w.Header().Get("Retry-After"))
	}
	// Output:
	// 201 ""
	// 201 ""
	// 201 ""
	// 201 ""
	// 201 ""
	// 429 "12"
}
