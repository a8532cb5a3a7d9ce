package pgstore_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// A service of several replicas: each hears of what the others change.
func Example() {
	ctx := context.Background()
	keys, err := seal.FromEnv("TGFLEET_KEYS")
	if err != nil {
		log.Fatal(err)
	}
	db, err := pgstore.Open(ctx, "postgres://fleet@db.internal/fleet", pgstore.Config{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	s, err := session.New(session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close(ctx)
	pool, err := tenant.NewPool(s, db.Tenants(), tenant.PoolConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
	if err := manager.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer manager.Stop()
}

// A service that has a pool already shares it.
func ExampleNew() {
	ctx := context.Background()
	keys, err := seal.FromEnv("TGFLEET_KEYS")
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, "postgres://shop@db.internal/shop")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	db, err := pgstore.New(ctx, pool, pgstore.Config{Keys: keys, Schema: "bots"})
	if err != nil {
		log.Fatal(err)
	}
	_ = db.Tenants()
}
