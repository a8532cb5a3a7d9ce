//go:build race

package session

// RaceEnabled says that the race detector watches, which takes ten times as
// long: what is simulated is then shorter.
const RaceEnabled = true
