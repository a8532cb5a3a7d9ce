package health

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Transition is a change of a tenant's status.
type Transition struct {
	// Tenant is whose status it is, From and To what it was and became, and At
	// when.
	Tenant string    `json:"tenant"`
	From   Status    `json:"from"`
	To     Status    `json:"to"`
	At     time.Time `json:"at"`
	// Kind is the kind of failure behind it, [errors.None] where it is none.
	Kind errors.Kind `json:"kind"`
	// Reason says why in words; "" for a tenant that is healthy again.
	Reason string `json:"reason,omitempty"`
	// Group is what it is told together with: "platform" for all that
	// Telegram or the network does to bots, "updates" for updates that do not
	// get through, "suspension", or the name of a kind. A recovery is of the
	// group of what it recovers from.
	Group string `json:"group"`
}

// Alert is what handlers are told: the transitions of a group, in the order in
// which they happened. Each transition is in one alert.
type Alert struct {
	// ID is unique, also across restarts and replicas.
	ID string `json:"id"`
	// Group is the transitions'.
	Group string `json:"group"`
	// At is when the alert was made.
	At time.Time `json:"at"`
	// Failing is how many tenants are degraded, unhealthy or suspended after
	// these transitions, and Recovered how many healthy. Both count each
	// tenant once.
	Failing   int `json:"failing"`
	Recovered int `json:"recovered"`
	// Worst is the worst status that a tenant is in after them.
	Worst Status `json:"worst"`
	// Transitions are in order. Handlers share them, and must not change them.
	Transitions []Transition `json:"transitions"`
}

// Text returns the alert in a few lines of plain text, with at most so many
// tenants by name.
func (a Alert) Text(names int) string {
	var b strings.Builder
	switch {
	case a.Failing > 0 && a.Recovered > 0:
		fmt.Fprintf(&b, "%s %s (%s), %d recovered", bots(a.Failing), a.Worst, a.Group, a.Recovered)
	case a.Failing > 0:
		fmt.Fprintf(&b, "%s %s (%s)", bots(a.Failing), a.Worst, a.Group)
	default:
		fmt.Fprintf(&b, "%s recovered (%s)", bots(a.Recovered), a.Group)
	}
	left := a.Failing + a.Recovered
	for _, t := range a.last() {
		if names--; names < 0 {
			fmt.Fprintf(&b, "\nand %d more", left)
			break
		}
		left--
		fmt.Fprintf(&b, "\n%s: %s", t.Tenant, t.To)
		if t.Reason != "" {
			fmt.Fprintf(&b, ", %s", t.Reason)
		}
	}
	return b.String()
}

func bots(n int) string {
	if n == 1 {
		return "1 bot"
	}
	return fmt.Sprintf("%d bots", n)
}

// count counts the tenants.
func (a *Alert) count() {
	for _, t := range a.last() {
		if t.To == Healthy {
			a.Recovered++
			continue
		}
		a.Failing++
		a.Worst = max(a.Worst, t.To)
	}
}

// last returns the last transition of each tenant, in the order of their first.
func (a Alert) last() []Transition {
	at := make(map[string]int, len(a.Transitions))
	list := make([]Transition, 0, len(a.Transitions))
	for _, t := range a.Transitions {
		i, seen := at[t.Tenant]
		if !seen {
			i = len(list)
			at[t.Tenant] = i
			list = append(list, t)
		}
		list[i] = t
	}
	return list
}

// AlertHandler is told of alerts, one after the other. It may take its time:
// each handler has a queue and a goroutine of its own. ctx ends when the
// monitor has to stop. An error is logged, and the alert is not told again; a
// handler that can succeed later tries again itself, as [PostAlerts] does.
type AlertHandler interface {
	// Handle tells of an alert, and returns when that is done.
	Handle(ctx context.Context, a Alert) error
}

// AlertFunc adapts a function to [AlertHandler].
type AlertFunc func(ctx context.Context, a Alert) error

// Handle calls f.
func (f AlertFunc) Handle(ctx context.Context, a Alert) error { return f(ctx, a) }
