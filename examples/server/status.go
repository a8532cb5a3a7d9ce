package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"time"

	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// status is what GET /status answers.
type status struct {
	Pool    tenant.Stats    `json:"pool"`
	Session session.Stats   `json:"session"`
	Calls   figures         `json:"calls"`
	Limits  ratelimit.Stats `json:"limits"`
}

// serveStatus serves the status page, and returns what stops it.
func (f *fleet) serveStatus(address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status{f.pool.Stats(), f.session.Stats(), f.meter.figures(), f.limiter.Stats(10)})
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); err != http.ErrServerClosed {
			f.log.Error("status page", "err", err)
		}
	}()
	f.log.Info("status page", "url", "http://"+listener.Addr().String()+"/status")
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		<-done
	}, nil
}
