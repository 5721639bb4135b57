package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the clock of Event.Time: CLOCK_MONOTONIC as the kernel itself reads it, in ns.
// In a time namespace our own is ahead of it, or behind.
func Now() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("clock_gettime(CLOCK_MONOTONIC): " + err.Error()) // EINVAL or EFAULT: neither can be
	}
	ahead, _ := clockAhead() // Open has told of an error
	return uint64(ts.Nano() - int64(ahead))
}

// clockAhead is by how much our CLOCK_MONOTONIC is ahead of the kernel's. That is fixed
// as soon as a namespace has a process.
var clockAhead = sync.OnceValues(func() (time.Duration, error) { return readAhead("/proc/self") })

// readAhead reads clockAhead from a process' directory of /proc.
func readAhead(dir string) (time.Duration, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "timens_offsets"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // this kernel has no such namespaces
	}
	if err != nil {
		return 0, fmt.Errorf("read the time namespace: %w", err)
	}
	own, err := os.Readlink(filepath.Join(dir, "ns/time"))
	if err != nil {
		return 0, fmt.Errorf("read the time namespace: %w", err)
	}
	children, err := os.Readlink(filepath.Join(dir, "ns/time_for_children"))
	if err != nil {
		return 0, fmt.Errorf("read the time namespace: %w", err)
	}
	if own != children {
		return 0, ErrForeignClock
	}
	return parseAhead(raw)
}

// parseAhead finds the offset of CLOCK_MONOTONIC in the text of timens_offsets: one line
// a clock, with its name, seconds and nanoseconds.
func parseAhead(raw []byte) (time.Duration, error) {
	for line := range bytes.Lines(raw) {
		f := bytes.Fields(line)
		if len(f) != 3 || string(f[0]) != "monotonic" {
			continue
		}
		// kernel/time/namespace.c: proc_timens_set_offset keeps them within KTIME_SEC_MAX / 2.
		const most = int64(1<<63-1) / int64(time.Second) / 2
		sec, err := strconv.ParseInt(string(f[1]), 10, 64)
		nsec, err2 := strconv.ParseUint(string(f[2]), 10, 64)
		if err != nil || err2 != nil || sec < -most-1 || sec > most || nsec >= uint64(time.Second) {
			break
		}
		return time.Duration(sec)*time.Second + time.Duration(nsec), nil
	}
	return 0, fmt.Errorf("read the time namespace: %q has no offset of the monotonic clock", raw)
}
