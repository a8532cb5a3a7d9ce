package health

import (
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Flush names a write, so that repeating it does nothing.
type Flush struct {
	// Writer is a random name that a writer gives itself at each start.
	Writer string
	// Seq counts the writer's flushes, from 1.
	Seq uint64
}

// FlushMemory is how long a store remembers a writer's last flush, at least. No
// writer waits so long before it repeats one.
const FlushMemory = 7 * 24 * time.Hour

// Check returns an error of kind [errors.BadRequest] for a flush that names no
// write.
func (f Flush) Check() error {
	if f.Writer == "" || f.Seq == 0 {
		return &errors.Error{Kind: errors.BadRequest, Op: "check flush", Err: errors.New("flush has no writer or number"), Delivery: errors.NotDelivered}
	}
	return nil
}
