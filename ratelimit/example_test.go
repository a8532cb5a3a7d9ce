package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tgfleet/tgfleet/ratelimit"
)

func ExampleScheduler() {
	s, err := ratelimit.NewScheduler[string](ratelimit.Config{
		Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{ratelimit.Per(2, time.Minute)}},
	})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	for range 3 {
		permit, err := s.Admit(context.Background(), ratelimit.Request[string]{
			Tenant: "acme", Key: "room 7", MaxWait: time.Second,
		})
		fmt.Println(err == nil, errors.Is(err, ratelimit.ErrTooLate))
		permit.Release()
	}
	// Output:
	// true false
	// true false
	// false true
}

func ExampleKeyed() {
	logins := ratelimit.NewKeyed[string](ratelimit.KeyedConfig{Limit: ratelimit.Per(2, time.Minute)})
	for range 3 {
		fmt.Println(logins.Allow("ann", 1).OK)
	}
	// Output:
	// true
	// true
	// false
}
