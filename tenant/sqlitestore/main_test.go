package sqlitestore_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(victimOf); path != "" {
		beVictim(path)
	}
	goleak.VerifyTestMain(m)
}
