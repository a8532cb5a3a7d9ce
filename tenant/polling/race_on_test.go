//go:build race

package polling_test

// raceEnabled says that the race detector watches, which takes ten times as
// long: what is simulated is then smaller.
const raceEnabled = true
