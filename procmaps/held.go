package procmaps

import (
	"bytes"
	"strconv"
	"strings"
)

// HeldKind says what holds memory whether or not it is mapped.
type HeldKind uint8

// The kinds. HeldFile is on a tmpfs.
const (
	HeldFile HeldKind = iota
	HeldMemfd
	HeldSegment // of System V shared memory
	HeldRing    // an io_uring
)

// HeldID tells what holds memory from all others of a machine.
type HeldID struct {
	Kind  HeldKind
	Dev   Device // of a HeldFile
	Inode uint64 // of a HeldSegment its number
}

// Held is what holds memory by a descriptor, whether or not it is mapped.
type Held struct {
	HeldID
	Path  string // as the kernel shows it: "/memfd:frame (deleted)"
	Bytes uint64 // that it has, in memory and swapped out; an estimate of a HeldRing
}

// RingPath is the path of an io_uring, as the kernel shows it.
const RingPath = "anon_inode:[io_uring]"

// kindOfPath tells what a descriptor of that path may hold; false if that is nothing.
func kindOfPath(path string) (HeldKind, bool) {
	switch {
	case strings.HasPrefix(path, MemfdPrefix):
		return HeldMemfd, true
	case path == RingPath:
		return HeldRing, true
	}
	return HeldFile, strings.HasPrefix(path, "/")
}

// ringBytes is what the queues of an io_uring take (io_uring/io_uring.c: rings_size), by the
// text of its file of fdinfo; 0 if it does not tell their lengths. Entries are taken to have
// their usual sizes.
func ringBytes(data []byte) (sum uint64) {
	const (
		page              = 4096
		most              = 1 << 20 // entries: IORING_MAX_CQ_ENTRIES and more
		head, submit      = 320, 64
		complete, pointer = 16, 4
	)
	entries := func(line []byte, key string) uint64 {
		text, ok := bytes.CutPrefix(line, []byte(key))
		if !ok {
			return 0
		}
		mask, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 0, 64)
		if err != nil || mask >= most {
			return 0
		}
		return mask + 1
	}
	var sq, cq uint64
	for line := range bytes.Lines(data) {
		sq, cq = max(sq, entries(line, "SqMask:")), max(cq, entries(line, "CqMask:"))
	}
	if sq == 0 || cq == 0 {
		return 0
	}
	up := func(n uint64) uint64 { return (n + page - 1) &^ (page - 1) }
	return up(sq*submit) + up(head+cq*complete+sq*pointer)
}

// parseMounts returns the numbers of those mounts that are of some kinds of file systems, from
// the text of a mountinfo file (proc_pid_mountinfo(5)).
func parseMounts(data []byte, file string, kinds map[string]bool) (map[string]bool, error) {
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
		if kind, _, _ := bytes.Cut(rest, []byte{' '}); kinds[string(kind)] {
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
