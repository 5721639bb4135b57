package procmaps

import (
	"cmp"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// HeldMemory lists the memfds, the io_urings and the files on tmpfs that the process has open,
// by their paths. It looks at most descriptors, and reports whether that was all of them. Files of
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
		return parseMounts(text, p.file("mountinfo"), map[string]bool{"tmpfs": true})
	})
	files := make(map[HeldID]Held)
	for _, name := range names {
		if e := p.note(d, name, tmpfs, files); e != nil {
			return nil, false, e
		}
	}
	for _, h := range files {
		held = append(held, h)
	}
	slices.SortFunc(held, func(a, b Held) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Inode, b.Inode)) })
	return held, all, nil
}

// note notes what a descriptor holds, once for all descriptors of it. One that is closed by
// now holds nothing.
func (p *Process) note(d *os.File, name string, tmpfs func() (map[string]bool, error), files map[HeldID]Held) error {
	const blockBytes = 512
	h := Held{Path: linkOf(d, name)}
	kind, may := kindOfPath(h.Path)
	if !may {
		return nil
	}
	if kind == HeldFile {
		mounts, err := tmpfs()
		if err != nil || len(mounts) == 0 {
			return err
		}
		if !mounts[mountOf(p.fdinfo(name))] {
			return nil
		}
	}
	st, there := statOf(d, name)
	if !there || kind != HeldRing && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	h.HeldID = HeldID{Kind: kind, Inode: st.Ino}
	switch h.Bytes = uint64(st.Blocks) * blockBytes; kind {
	case HeldRing:
		h.Bytes = ringBytes(p.fdinfo(name))
	case HeldFile:
		h.Dev = deviceOf(&st)
	}
	files[h.HeldID] = h
	return nil
}

// fdinfo is what the kernel tells of a descriptor, nil if it is closed by now.
func (p *Process) fdinfo(name string) []byte {
	info, err := p.read("fdinfo/" + name)
	if err != nil {
		return nil
	}
	return info
}

// statOf is the inode of a descriptor, false if it is closed by now.
func statOf(d *os.File, name string) (st unix.Stat_t, ok bool) {
	err := unix.Fstatat(int(d.Fd()), name, &st, 0)
	return st, err == nil
}

// deviceOf is the device of an inode, as maps shows it.
func deviceOf(st *unix.Stat_t) Device {
	return Device{Major: unix.Major(st.Dev), Minor: unix.Minor(st.Dev)}
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
