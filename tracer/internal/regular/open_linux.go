package regular

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openHere is [Open] without the process that waits for others.
func openHere(root, name string, resolve uint64) (*os.File, os.FileInfo, error) {
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
		return nil, nil, &os.PathError{Op: "open", Path: full(root, name), Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		return nil, nil, &os.PathError{Op: "stat", Path: full(root, name), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, &os.PathError{Op: "open", Path: full(root, name), Err: ErrNot}
	}
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	opened, err := unix.Open(self, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: full(root, name), Err: err}
	}
	f := os.NewFile(uintptr(opened), full(root, name))
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// listHere is [List] without the process that waits for others. What is no directory is not
// opened.
func listHere(name string, most int) ([]string, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	names, err := d.Readdirnames(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return names, nil
}

// full is the path of a name below a root, as messages show it.
func full(root, name string) string { return strings.TrimSuffix(root, "/") + name }
