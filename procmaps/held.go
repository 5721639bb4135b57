package procmaps

import (
	"bytes"
	"strings"
)

// Held is a file of shared memory that a process has open: a memfd, or a file on tmpfs. It
// takes memory whether or not it is mapped.
type Held struct {
	Path  string // as the kernel shows it: "/memfd:frame (deleted)"
	Inode uint64
	Bytes uint64 // that it has, in memory and swapped out
}

// Memfd reports whether it is a memfd.
func (h *Held) Memfd() bool { return strings.HasPrefix(h.Path, MemfdPrefix) }

// parseTmpfs returns the numbers of those mounts that are of tmpfs, from the text of a
// mountinfo file (proc_pid_mountinfo(5)).
func parseTmpfs(data []byte, file string) (map[string]bool, error) {
	ids := make(map[string]bool)
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return nil, err
		}
		id, rest, ok := bytes.Cut(line, []byte{' '})
		if _, tail, is := cutDec(id); !ok || !is || len(tail) > 0 {
			return nil, parseError(file, l.n, line, "no number")
		}
		_, rest, ok = bytes.Cut(rest, []byte(" - "))
		if !ok {
			return nil, parseError(file, l.n, line, "no file system")
		}
		if kind, _, _ := bytes.Cut(rest, []byte{' '}); string(kind) == "tmpfs" {
			ids[string(id)] = true
		}
	}
	return ids, nil
}

// mountOf returns the number of the mount that an open file is on, from the text of a
// file of fdinfo (proc_pid_fdinfo(5)); "" if there is none.
func mountOf(data []byte) string {
	for line := range bytes.Lines(data) {
		if id, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			return string(bytes.TrimSpace(id))
		}
	}
	return ""
}
