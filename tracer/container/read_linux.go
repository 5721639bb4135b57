package container

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// What reading the list of processes of a threaded group gives, and of one that
// was removed meanwhile: kernel/cgroup/cgroup.c:cgroup_procs_start, kernfs.
var errThreaded, errRemoved error = unix.EOPNOTSUPP, unix.ENODEV

// maxState is more than any runtime's file holds: podman's list has about 1 KiB
// for each container.
const maxState = 16 << 20

// readState reads a whole file of a runtime. It is paid for before.
func readState(name string, pay func(bytes int64) error) ([]byte, error) {
	if err := pay(0); err != nil {
		return nil, err // which file it is does not matter
	}
	f, info, err := regular.Open("", name, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := info.Size()
	if size > maxState {
		return nil, fmt.Errorf("read %s: it is larger than %d MiB", name, maxState>>20)
	}
	if err = pay(size); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// readDir lists the entries of a directory, and no more than a machine can run.
func readDir(name string, pay func(bytes int64) error) ([]string, error) {
	const most = 16384
	if err := pay(0); err != nil {
		return nil, err
	}
	return regular.List(name, most)
}
