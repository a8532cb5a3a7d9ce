//go:build race

package inbox_test

// raceEnabled says that the race detector watches, which takes ten times as
// long: what is simulated is then shorter.
const raceEnabled = true
