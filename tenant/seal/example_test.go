package seal_test

import (
	"fmt"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// What was sealed for one tenant does not open for another.
func Example() {
	key, _ := seal.GenerateKey("2026-07") // kept where Reveal was written to
	ring, _ := seal.New(key)

	sealed, _ := ring.Seal("bot token", "customer-7", []byte("123456:secret"))
	token, err := ring.Open("bot token", "customer-7", sealed)
	fmt.Println(string(token), err)

	_, err = ring.Open("bot token", "customer-8", sealed)
	fmt.Println(errors.Is(err, seal.ErrAltered))
	// Output:
	// 123456:secret <nil>
	// true
}

// A new key comes in behind the old one, then goes to the front.
func ExampleNew_rotation() {
	old, _ := seal.GenerateKey("2025-01")
	ring, _ := seal.New(old)
	sealed, _ := ring.Seal("bot token", "customer-7", []byte("123456:secret"))

	newer, _ := seal.GenerateKey("2026-07")
	ring, _ = seal.New(newer, old)
	token, _ := ring.Open("bot token", "customer-7", sealed)
	fmt.Println(string(token), ring.Newest())
	// Output: 123456:secret 2026-07
}
