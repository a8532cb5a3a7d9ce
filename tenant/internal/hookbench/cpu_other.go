//go:build !unix

package hookbench

import "time"

// cpu is not known here.
func cpu() time.Duration { return 0 }
