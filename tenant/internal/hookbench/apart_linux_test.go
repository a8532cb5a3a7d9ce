package hookbench

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everywhere asserts what processors all threads of this process may use.
func everywhere(t *testing.T, want []int, when string) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		require.NoError(t, err)
		var c cpus
		if affinity(syscall.SYS_SCHED_GETAFFINITY, id, &c) { // else it has ended
			assert.Equal(t, want, c.list(), when)
		}
	}
}

func TestABenchmarkGivesBackItsProcessors(t *testing.T) {
	var all cpus
	require.True(t, affinity(syscall.SYS_SCHED_GETAFFINITY, 0, &all))
	list := all.list()
	last := len(list) - 1
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for name, end := range map[string]func(b *testing.B){
		"that succeeds":    func(*testing.B) {},
		"that fails":       func(b *testing.B) { b.FailNow() },
		"that may use one": func(*testing.B) {},
	} {
		before := len(list)
		if name == "that may use one" { // as -cpu 1 says, or a container
			before = 1
		}
		runtime.GOMAXPROCS(before)
		during, procs, sender := []int{}, 0, ""
		testing.Benchmark(func(b *testing.B) {
			var out strings.Builder
			cmd := exec.Command("grep", "Cpus_allowed_list", "/proc/self/status")
			cmd.Stdout = &out
			apart, err := startApart(b, cmd)
			if !assert.NoError(t, err) || !apart {
				assert.Zero(t, last, "there are others, and it has none of its own")
				return
			}
			assert.NoError(t, cmd.Wait())
			sender = strings.TrimSpace(strings.TrimPrefix(out.String(), "Cpus_allowed_list:"))
			procs = runtime.GOMAXPROCS(0)
			var c cpus
			affinity(syscall.SYS_SCHED_GETAFFINITY, 0, &c)
			during = c.list()
			end(b)
		})
		if last > 0 {
			assert.Equal(t, strconv.Itoa(list[last]), sender, name)
			assert.Equal(t, list[:last], during, name)
			assert.Equal(t, min(before, last), procs, name)
		}
		everywhere(t, list, name)
		assert.Equal(t, before, runtime.GOMAXPROCS(0), name)
	}
}
