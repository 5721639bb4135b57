package bpf

import (
	"os"

	"golang.org/x/sys/unix"
)

// Nested tells whether processes have other numbers here than the kernel's own:
// all that goes in and out of the programs is then numbered as here.
func Nested() bool {
	const initial = "pid:[4026531836]" // include/linux/proc_ns.h: PROC_PID_INIT_INO
	// Without the link there are no such namespaces.
	ns, _ := os.Readlink("/proc/self/ns/pid")
	return ns != initial && ns != ""
}

// Now is the clock of Event.Time: CLOCK_MONOTONIC, in ns.
func Now() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("clock_gettime(CLOCK_MONOTONIC): " + err.Error()) // EINVAL or EFAULT: neither can be
	}
	return uint64(ts.Nano())
}
