// Package sqlinbox holds what the inboxes in SQL databases have in common: which
// updates of a batch are new and have room, which calls go into one
// transaction, which tenants may have something ready, and whom to wake. It knows
// no driver.
package sqlinbox

import (
	"fmt"
	"time"
)

// Config is what an inbox keeps to.
type Config struct {
	MaxUpdates, MaxPerTenant, MaxDeadPerTenant int
	RetryAfter, Remember                       time.Duration
}

// WithDefaults fills in what is zero, and returns what is wrong with the rest.
func (c Config) WithDefaults() (Config, []error) {
	var bad []error
	for _, f := range []struct {
		name  string
		value *int
		zero  int
	}{{"MaxUpdates", &c.MaxUpdates, 1_000_000}, {"MaxPerTenant", &c.MaxPerTenant, 20_000}, {"MaxDeadPerTenant", &c.MaxDeadPerTenant, 1000}} {
		if *f.value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", "Inbox."+f.name))
		}
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{{"RetryAfter", &c.RetryAfter, 5 * time.Second}, {"Remember", &c.Remember, 24 * time.Hour}} {
		if *f.value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", "Inbox."+f.name))
		}
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	return c, bad
}
