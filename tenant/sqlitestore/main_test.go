package sqlitestore_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// lookerAt names the environment variable that makes this program say whether
// another process has the database of that file open.
const lookerAt = "SQLITESTORE_LOOKER_AT"

func TestMain(m *testing.M) {
	if path := os.Getenv(victimOf); path != "" {
		beVictim(path)
	}
	if path := os.Getenv(lookerAt); path != "" {
		beLooker(path)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
