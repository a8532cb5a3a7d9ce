module github.com/tgfleet/tgfleet/internal/bench

go 1.26.0

require (
	github.com/failsafe-go/failsafe-go v0.9.8
	github.com/sethvargo/go-limiter v0.7.1
	github.com/sony/gobreaker/v2 v2.4.0
	github.com/tgfleet/tgfleet v0.0.0
	golang.org/x/time v0.16.0
)

require (
	github.com/PaulSonOfLars/gotgbot/v2 v2.0.0-rc.36 // indirect
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/hashicorp/golang-lru/v2 v2.0.7 // indirect
	github.com/rs/dnscache v0.0.0-20230804202142-fc85eb664529 // indirect
	github.com/sethvargo/go-retry v0.5.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
)

replace github.com/tgfleet/tgfleet => ../..
