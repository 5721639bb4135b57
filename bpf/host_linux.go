package bpf

import "os"

// Nested tells whether processes have other numbers here than the kernel's own:
// all that goes in and out of the programs is then numbered as here.
func Nested() bool {
	const initial = "pid:[4026531836]" // include/linux/proc_ns.h: PROC_PID_INIT_INO
	// Without the link there are no such namespaces.
	ns, _ := os.Readlink("/proc/self/ns/pid")
	return ns != initial && ns != ""
}
