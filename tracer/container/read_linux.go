package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// What reading the list of processes of a threaded group gives, and of one that
// was removed meanwhile: kernel/cgroup/cgroup.c:cgroup_procs_start, kernfs.
var errThreaded, errRemoved error = unix.EOPNOTSUPP, unix.ENODEV

// maxState is more than any runtime's file holds: podman's list has about 1 KiB
// for each container.
const maxState = 16 << 20

// errNotRegular says that something else than a file has a file's name.
var errNotRegular = errors.New("not a regular file")

// readState reads a whole file of a runtime. Some belong to users: what the path
// leads to is looked at before it is opened, since to open a FIFO or a device has
// effects.
func readState(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		if pe := (*os.PathError)(nil); errors.As(err, &pe) {
			pe.Path = name
		}
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
