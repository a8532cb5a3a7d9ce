package hookbench

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"
)

// cpus is a set of processors, as the kernel has it.
type cpus [16]uint64

func (c *cpus) list() (all []int) {
	for i := range len(c) * 64 {
		if c[i/64]>>(i%64)&1 == 1 {
			all = append(all, i)
		}
	}
	return all
}

func cpusOf(list ...int) *cpus {
	c := &cpus{}
	for _, i := range list {
		c[i/64] |= 1 << (i % 64)
	}
	return c
}

// affinity asks for the processors of a thread, or sets them. Thread 0 is the
// caller's.
func affinity(call uintptr, thread int, c *cpus) bool {
	_, _, errno := syscall.RawSyscall(call, uintptr(thread), unsafe.Sizeof(*c), uintptr(unsafe.Pointer(c)))
	return errno == 0
}

// startApart starts the sender on the last processor that this process may use,
// and keeps this process to the others until the benchmark has ended. It reports
// false, and changes nothing, where there is only one, or the system refuses.
func startApart(b *testing.B, sender *exec.Cmd) (bool, error) {
	runtime.LockOSThread() // the child inherits this thread's processors
	defer runtime.UnlockOSThread()
	all := &cpus{}
	if !affinity(syscall.SYS_SCHED_GETAFFINITY, 0, all) {
		return false, nil
	}
	list := all.list()
	last := len(list) - 1
	if last < 1 || !affinity(syscall.SYS_SCHED_SETAFFINITY, 0, cpusOf(list[last])) {
		return false, nil
	}
	err := sender.Start()
	stay(cpusOf(list[:last]...))
	procs := runtime.GOMAXPROCS(0) // may be fewer than there are: by -cpu, or a bound of the container's
	runtime.GOMAXPROCS(min(procs, last))
	b.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		stay(all)
	})
	return true, err
}

// stay keeps all threads of this process, and those that they start, to
// processors. It looks until there are no threads that it has not seen, since one
// that it has yet to come to may have started another meanwhile.
func stay(c *cpus) {
	seen := make(map[int]bool)
	for more := true; more; {
		more = false
		threads, _ := os.ReadDir("/proc/self/task")
		for _, t := range threads {
			if id, err := strconv.Atoi(t.Name()); err == nil && !seen[id] {
				affinity(syscall.SYS_SCHED_SETAFFINITY, id, c)
				seen[id], more = true, true
			}
		}
	}
}
