// Package bench measures parts of tgfleet side by side with the libraries that
// one would otherwise take, in one run:
//
//	go test ./internal/bench -run '^$' -bench .
//
// It is a module of its own, so that nobody who gets tgfleet gets those. Each
// file is one comparison, and each sub-benchmark one library. Look at ratios,
// not at nanoseconds.
package bench
