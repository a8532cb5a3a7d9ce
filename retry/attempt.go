package retry

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// Attempt is what [Config].OnRetry hears: an attempt that failed and is
// followed by another.
type Attempt struct {
	// Key is the policy's; see [Policy.For].
	Key string
	// Number counts the operation's attempts, from 1.
	Number int
	// Err is what it failed with.
	Err error
	// Action is why it is repeated: [Retry] or [Wait].
	Action Action
	// Delay is how long it will be until the next one.
	Delay time.Duration
}

// tell calls the hook. The value of a panic is not logged: nobody knows what
// is in it.
func (c *core) tell(ctx context.Context, a Attempt) {
	if c.OnRetry == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			c.Logger.ErrorContext(ctx, "panic in OnRetry",
				slog.String("type", fmt.Sprintf("%T", p)),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	c.OnRetry(ctx, a)
}
