package database

import (
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// Updates are the stores of what comes in.
type Updates struct {
	Inbox  inbox.Inbox
	Leases polling.Leases
	Owners ownership.Store
}

// InMemory returns stores that end with the process, as a temporary database
// does.
func InMemory() Updates {
	in, err := inbox.NewMemory(inbox.MemoryConfig{})
	if err != nil {
		panic(err) // only a bad field is an error
	}
	return Updates{Inbox: in, Leases: polling.NewMemoryLeases(), Owners: ownership.NewMemoryStore()}
}
