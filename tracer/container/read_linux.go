package container

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// What reading the list of processes of a threaded group gives, and of one that
// was removed meanwhile: kernel/cgroup/cgroup.c:cgroup_procs_start, kernfs.
var errThreaded, errRemoved error = unix.EOPNOTSUPP, unix.ENODEV

// maxState is more than any runtime's file holds: podman's list has about 1 KiB
// for each container.
const maxState = 16 << 20

// readState reads a whole file of a runtime.
func readState(name string) ([]byte, error) {
	f, _, err := regular.Open("", name, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxState {
		return nil, fmt.Errorf("read %s: it is larger than %d MiB", name, maxState>>20)
	}
	return b, nil
}

// readDir lists the entries of a directory, and no more than a machine can run.
func readDir(name string) ([]string, error) {
	const most = 16384
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return names, nil
}
