package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// ErrArchitecture says that there are no programs for this machine, whatever its
// kernel. It is an ebpf.ErrNotSupported.
var ErrArchitecture = fmt.Errorf("maptrace's BPF programs are for amd64 and arm64 only: %w", ebpf.ErrNotSupported)

// ErrForeignClock is returned by Open where the kernel does not tell how its clock and ours
// differ: /proc/self/timens_offsets is about the time namespace of children yet to be born
// (fs/proc/base.c: timens_offsets_show), and ours is another. It is an
// ebpf.ErrNotSupported.
var ErrForeignClock = fmt.Errorf("the clock of this process is not that of its time namespace for children, and cannot be compared with the kernel's: start maptrace from a child (unshare --fork does): %w", ebpf.ErrNotSupported)

// Check is the answer to one question about the running kernel.
type Check struct {
	Name string
	What string // what it is needed for
	// Err is nil if it works. It wraps ebpf.ErrNotSupported if the kernel lacks
	// it and os.ErrPermission if we may not; anything else is inconclusive.
	Err error
	// Optional says that tracing works without it.
	Optional bool
}

// SectionCheck is the name of the check whether changes can be ordered by section,
// and proven complete.
const SectionCheck = "mm_lock_seq"

// WatchpointCheck is the name of the check whether words of memory can be watched.
const WatchpointCheck = "hardware watchpoints"

// HeapCheck is the name of the check whether blocks of heaps can be sampled.
const HeapCheck = "allocator probes"
