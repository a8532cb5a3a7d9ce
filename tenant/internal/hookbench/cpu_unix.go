//go:build unix

package hookbench

import (
	"syscall"
	"time"
)

// cpu is the time that this process has spent on all processors.
func cpu() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
