package main

import (
	"fmt"
	"io"
	"io/fs"
)

// archive writes a cpio archive in the format "newc", which is what the kernel
// unpacks into its first root (Documentation/driver-api/early-userspace/
// buffer-format.rst). The first error is kept and told by close.
type archive struct {
	w     io.Writer
	inode int
	err   error
}

// The types of a file, as stat(2) has them.
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioLink = 0o120000
)

func (a *archive) dir(name string) { a.entry(name, cpioDir|0o755, nil) }

func (a *archive) file(name string, perm fs.FileMode, data []byte) {
	a.entry(name, cpioFile|uint32(perm.Perm()), data)
}

func (a *archive) link(name, target string) { a.entry(name, cpioLink|0o777, []byte(target)) }

// close writes the entry that ends the archive.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) entry(name string, mode uint32, data []byte) {
	a.inode++
	// magic, then thirteen numbers of 8 digits: inode, mode, uid, gid, links, mtime,
	// size, device (2), device of a device file (2), length of the name, checksum.
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.padded([]byte(head))
	a.padded(data)
}

// padded writes up to the next multiple of four: names and contents begin at one.
func (a *archive) padded(b []byte) {
	for _, part := range [][]byte{b, make([]byte, -len(b)&3)} {
		if a.err == nil {
			_, a.err = a.w.Write(part)
		}
	}
}
