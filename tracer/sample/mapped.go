//go:build linux

package sample

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// openMapped opens the file of a mapping to put probes on it, whatever became of its path:
// by the mapping itself, or, for who may not, by its path as the process has it, if that is
// the same file. Nothing of it is read (O_PATH), and who serves it is asked nothing.
//
// It refuses a file that a process serves (FUSE). To put a probe on, the kernel reads the
// page that it is for while no process can fork (kernel/events/uprobes.c: dup_mmap_sem), and
// who serves the file may have that wait for as long as it likes.
func openMapped(fs procmaps.FS, pid int, m *procmaps.Mapping) (*os.File, error) {
	dir := fmt.Sprintf("%s/%d", fs.Root(), pid)
	f, err := os.OpenFile(fmt.Sprintf("%s/map_files/%x-%x", dir, m.Start, m.End), unix.O_PATH|unix.O_CLOEXEC, 0)
	byPath := err != nil
	if byPath {
		f, err = os.OpenFile(dir+"/root"+m.Path(), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", m.Path(), err)
	}
	if byPath {
		err = probable(f, dir+"/mountinfo", m)
	} else {
		err = errors.Join(probable(f, dir+"/mountinfo", nil), symbol.StillMapped(fs, pid, m))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("probe %s: %w", m.Path(), err), f.Close())
	}
	return f, nil
}

// probable says why an open file must not be probed, or, if m is not nil, is not that of the
// mapping.
func probable(f *os.File, mounts string, m *procmaps.Mapping) error {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return err
	}
	text, err := os.ReadFile(mounts)
	if err != nil {
		return err
	}
	kind, ok := fileSystem(text, st.Mnt_id)
	switch {
	case !ok:
		return errors.New("it is on a file system that the process does not see")
	case kind == "fuse" || kind == "fuseblk" || strings.HasPrefix(kind, "fuse."):
		return fmt.Errorf("it is on a file system that a process serves (%s), which could stop the machine from forking meanwhile", kind)
	case m == nil:
	case st.Ino != m.Inode, (st.Dev_major != m.Dev.Major || st.Dev_minor != m.Dev.Minor) && kind != "btrfs" && kind != "overlay":
		// Of the last two maps has another device than stat.
		return symbol.ErrReplaced
	}
	return nil
}

// fileSystem is the kind of the file system of a mount, by the text of a mountinfo file
// (proc_pid_mountinfo(5)).
func fileSystem(mountinfo []byte, mount uint64) (kind string, ok bool) {
	for line := range bytes.Lines(mountinfo) {
		id, rest, _ := bytes.Cut(line, []byte(" "))
		if n, err := strconv.ParseUint(string(id), 10, 64); err != nil || n != mount {
			continue
		}
		_, rest, ok = bytes.Cut(rest, []byte(" - ")) // a path has no spaces there
		word, _, more := bytes.Cut(rest, []byte(" "))
		if ok && more {
			return string(word), len(word) > 0
		}
	}
	return "", false
}
