package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/ratelimit/httplimit"
)

// serveWeb serves the handler's pages, and returns what stops it.
func (f *fleet) serveWeb(ctx context.Context, address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	handler, err := f.handler(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	var handlers sync.WaitGroup // Close does not wait for them
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			handler.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); err != http.ErrServerClosed {
			f.log.Error("web page", "err", err)
		}
	}()
	f.log.Info("status page", "url", "http://"+listener.Addr().String()+"/status")
	return func() {
		grace, end := context.WithTimeout(context.Background(), time.Second)
		defer end()
		err := server.Shutdown(grace)
		cancel()
		if err != nil {
			server.Close()
		}
		<-done
		handlers.Wait()
	}, nil
}

// handler has the status page, the registration of bots and the pages on
// health. The bots that are registered run until ctx ends. A real service asks
// first who it is that registers.
func (f *fleet) handler(ctx context.Context) (http.Handler, error) {
	limiter, err := httplimit.New(httplimit.Config{
		Routes: []httplimit.Route{{Pattern: "POST /api/bots", Limit: ratelimit.Per(5, time.Minute)}},
		Refuse: func(w http.ResponseWriter, r *http.Request, refusal httplimit.Refusal) {
			errors.WriteProblem(w, r, &errors.Error{Kind: errors.Throttled, RetryAfter: refusal.RetryAfter})
		},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", f.serveStatus)
	mux.HandleFunc("POST /api/bots", func(w http.ResponseWriter, r *http.Request) { f.serveRegister(ctx, w, r) })
	f.handleHealth(mux)
	return limiter.Handler(mux), nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}
