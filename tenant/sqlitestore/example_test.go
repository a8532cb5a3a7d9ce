package sqlitestore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

// Tenants outlive the program, their tokens sealed.
func Example() {
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	key, _ := seal.GenerateKey("2026-07") // in a service: seal.FromFile or FromEnv
	keys, _ := seal.New(key)
	ctx := context.Background()

	db, err := sqlitestore.Open(ctx, filepath.Join(dir, "fleet.db"), sqlitestore.Config{Keys: keys})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, _ := session.ParseToken("123456:not-a-real-secret")
	_, err = db.Tenants().Put(ctx, tenant.Record{ID: "customer-7", BotID: token.ID(), Token: token})
	fmt.Println(err)
	fmt.Println(db.Close())

	db, _ = sqlitestore.Open(ctx, filepath.Join(dir, "fleet.db"), sqlitestore.Config{Keys: keys})
	defer db.Close()
	r, err := db.Tenants().Get(ctx, "customer-7")
	fmt.Println(r.Token, r.Token.Reveal() == token.Reveal(), err)
	_, err = db.Tenants().Put(ctx, tenant.Record{ID: "customer-8", BotID: token.ID(), Token: token})
	fmt.Println(errors.Is(err, errors.TokenTaken))
	// Output:
	// <nil>
	// <nil>
	// 123456:*** true <nil>
	// true
}

// A new key takes over while the service runs.
func ExampleDB_Sealed() {
	old, _ := seal.GenerateKey("2025-01")
	newer, _ := seal.GenerateKey("2026-07")
	keys, _ := seal.New(newer, old)
	ctx := context.Background()
	db, _ := sqlitestore.Open(ctx, sqlitestore.Memory, sqlitestore.Config{Keys: keys})
	defer db.Close()

	progress, err := seal.Reseal(ctx, keys, db, seal.ResealConfig{})
	fmt.Println(progress.Resealed, "left to do, and then the old key may go:", err)
	// Output: 0 left to do, and then the old key may go: <nil>
}
