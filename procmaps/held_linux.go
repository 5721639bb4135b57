package procmaps

import (
	"cmp"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

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
	text, err := p.read("mountinfo")
	if err != nil {
		return nil, false, err
	}
	tmpfs, err := parseTmpfs(text, p.file("mountinfo"))
	if err != nil {
		return nil, false, err
	}
	files := make(map[[2]uint64]*Held)
	for _, name := range names {
		if p.isHeld(d, name, tmpfs) {
			count(d, name, files)
		}
	}
	for _, h := range files {
		held = append(held, *h)
	}
	slices.SortFunc(held, func(a, b Held) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Inode, b.Inode)) })
	return held, all, nil
}

// isHeld reports whether a descriptor is of a memfd or of a file on tmpfs.
func (p *Process) isHeld(d *os.File, name string, tmpfs map[string]bool) bool {
	path := linkOf(d, name)
	if strings.HasPrefix(path, memfdPrefix) {
		return true
	}
	if !strings.HasPrefix(path, "/") || len(tmpfs) == 0 {
		return false
	}
	info, err := p.read("fdinfo/" + name)
	return err == nil && tmpfs[mountOf(info)] // it may be closed by now
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

// count adds a descriptor to its file.
func count(d *os.File, name string, files map[[2]uint64]*Held) {
	var st unix.Stat_t
	const blockBytes = 512
	if unix.Fstatat(int(d.Fd()), name, &st, 0) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	key := [2]uint64{st.Dev, st.Ino}
	if files[key] == nil {
		files[key] = &Held{Path: linkOf(d, name), Inode: st.Ino, Bytes: uint64(st.Blocks) * blockBytes}
	}
	files[key].Descriptors++
}
