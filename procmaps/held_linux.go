package procmaps

import (
	"cmp"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// HeldMemory lists the memfds and the files on tmpfs that the process has open, by their
// paths. It looks at most descriptors, and reports whether that was all of them. Files of
// other file systems are not touched: one that does not answer delays nothing.
//
// What is counted is what the file has (stat(2): st_blocks), which others may have open as
// well. The reader must be allowed to trace the process.
func (p *Process) HeldMemory(most int) (held []Held, all bool, err error) {
	d, err := p.root.Open("fd")
	if err != nil {
		return nil, false, p.fail("fd", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, p.fail("fd", err)
	}
	all = len(names) < most
	tmpfs := sync.OnceValues(func() (map[string]bool, error) {
		text, e := p.read("mountinfo")
		if e != nil {
			return nil, e
		}
		return parseTmpfs(text, p.file("mountinfo"))
	})
	files := make(map[[2]uint64]Held)
	for _, name := range names {
		path := linkOf(d, name)
		is, e := p.isHeld(name, path, tmpfs)
		if e != nil {
			return nil, false, e
		}
		if is {
			note(d, name, path, files)
		}
	}
	for _, h := range files {
		held = append(held, h)
	}
	slices.SortFunc(held, func(a, b Held) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Inode, b.Inode)) })
	return held, all, nil
}

// isHeld reports whether a descriptor is of a memfd, or of a file on one of the mounts of
// tmpfs.
func (p *Process) isHeld(name, path string, tmpfs func() (map[string]bool, error)) (bool, error) {
	if strings.HasPrefix(path, MemfdPrefix) {
		return true, nil
	}
	if !strings.HasPrefix(path, "/") {
		return false, nil
	}
	mounts, err := tmpfs()
	if err != nil || len(mounts) == 0 {
		return false, err
	}
	info, err := p.read("fdinfo/" + name)
	return err == nil && mounts[mountOf(info)], nil // it may be closed by now
}

// linkOf is the path of a descriptor, "" if it is closed by now.
func linkOf(d *os.File, name string) string {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(int(d.Fd()), name, buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// note notes the file of a descriptor, once for all descriptors of it.
func note(d *os.File, name, path string, files map[[2]uint64]Held) {
	var st unix.Stat_t
	const blockBytes = 512
	if unix.Fstatat(int(d.Fd()), name, &st, 0) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	files[[2]uint64{st.Dev, st.Ino}] = Held{Path: path, Inode: st.Ino, Bytes: uint64(st.Blocks) * blockBytes}
}
