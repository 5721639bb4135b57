// Package regular opens files whose names come from those who are traced, or from
// other users: what is not a regular file is not opened.
package regular

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNot says that something else than a regular file has the name.
var ErrNot = errors.New("not a regular file")

// Open opens a regular file for reading under a root, which nothing in the path leads
// out of; resolve is what else openat2(2) is to refuse. Without a root it opens what
// the name means to us. What the path leads to is looked at before it is opened:
// opening a FIFO or a device has effects. Errors are an [*os.PathError], with [ErrNot]
// for what is no regular file. Minimum kernel: 5.6.
func Open(root, name string, resolve uint64) (*os.File, os.FileInfo, error) {
	dir := unix.AT_FDCWD
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}
	if root != "" {
		var err error
		dir, err = unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, nil, &os.PathError{Op: "open", Path: root, Err: err}
		}
		defer unix.Close(dir)
		how.Resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve
	}
	fd, err := unix.Openat2(dir, name, &how)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: root + name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		return nil, nil, &os.PathError{Op: "stat", Path: root + name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, &os.PathError{Op: "open", Path: root + name, Err: ErrNot}
	}
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	opened, err := unix.Open(self, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: root + name, Err: err}
	}
	f := os.NewFile(uintptr(opened), root+name)
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
