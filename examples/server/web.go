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

// serveWeb serves the pages, if an address is given.
func (f *fleet) serveWeb(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	handler, err := f.handler()
	if err != nil {
		return err
	}
	at, err := f.serve(ctx, address, handler)
	if err != nil {
		return err
	}
	f.log.Info("status page", "url", "http://"+at+"/status")
	return nil
}

// serve serves a handler until the fleet is closed, and returns where.
func (f *fleet) serve(ctx context.Context, address string, handler http.Handler) (at string, err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
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
	f.closes(func(context.Context) error {
		grace, end := context.WithTimeout(context.Background(), time.Second)
		defer end()
		err := server.Shutdown(grace)
		cancel()
		if err != nil {
			server.Close()
		}
		<-done
		handlers.Wait()
		return nil
	})
	return listener.Addr().String(), nil
}

// handler has the status page, the registration of bots and of their owners, the
// pages on health, and where Telegram delivers to. A real service asks first who
// it is that registers.
func (f *fleet) handler() (http.Handler, error) {
	limiter, err := httplimit.New(httplimit.Config{
		Routes: []httplimit.Route{
			{Pattern: "POST /api/bots", Limit: ratelimit.Per(5, time.Minute)},
			{Pattern: "POST /api/bots/{id}/verify", Limit: ratelimit.Per(5, time.Minute)},
		},
		Refuse: func(w http.ResponseWriter, r *http.Request, refusal httplimit.Refusal) {
			errors.WriteProblem(w, r, &errors.Error{Kind: errors.Throttled, RetryAfter: refusal.RetryAfter})
		},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", f.serveStatus)
	mux.HandleFunc("POST /api/bots", f.serveRegister)
	mux.HandleFunc("POST /api/bots/{id}/verify", f.serveVerify)
	mux.HandleFunc("GET /api/bots/{id}/verify", f.serveOwner)
	f.handleHealth(mux)
	f.handleWebhooks(mux)
	return limiter.Handler(withProblems(mux)), nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}
