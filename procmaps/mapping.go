package procmaps

import (
	"strconv"
	"strings"
)

// DeletedSuffix is what the kernel appends to the path of a file that has none any more.
const DeletedSuffix = " (deleted)"

// MemfdPrefix begins the path of a memfd, as the kernel shows it.
const MemfdPrefix = "/memfd:"

// AnonName is what memory without a name is called in output, as pmap does.
const AnonName = "[ anon ]"

// ShortName is the last element of a name that is a path, and any other name as it is.
func ShortName(name string) string {
	if strings.HasPrefix(name, "/") {
		return name[strings.LastIndexByte(name, '/')+1:]
	}
	return name
}

// Deleted reports whether the name ends as the kernel marks an unlinked file.
// It is a best effort: a file whose own name ends in " (deleted)" looks the same.
func (m *Mapping) Deleted() bool { return strings.HasSuffix(m.Name, DeletedSuffix) }

// Path returns the path of the mapped file in the target's own mount namespace
// and root, or "" when the mapping has none (anonymous memory, memfds, System V
// segments, sockets and the like). It is a best effort: \012 becomes a newline
// and a final " (deleted)" is dropped, though both may be a part of the name.
func (m *Mapping) Path() string {
	if !strings.HasPrefix(m.Name, "/") || isPseudoFile(m.Name) {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSuffix(m.Name, DeletedSuffix), `\012`, "\n")
}

// isPseudoFile knows the names of memory that has a file inside the kernel only.
// Those are never linked anywhere, so all but memfds must be marked as deleted.
func isPseudoFile(name string) bool {
	if strings.HasPrefix(name, MemfdPrefix) {
		return true
	}
	base, deleted := strings.CutSuffix(name, DeletedSuffix)
	return deleted && (base == "/dev/zero" || base == "/anon_hugepage" || isSysV(base))
}

// isSysV recognizes /SYSV and the key as eight hex digits.
func isSysV(s string) bool {
	key, ok := strings.CutPrefix(s, "/SYSV")
	if !ok || len(key) != 8 {
		return false
	}
	for i := range len(key) {
		if hexDigit[key[i]] > 15 {
			return false
		}
	}
	return true
}

// Kind derives the kind from the name and the mode. It is a best effort in the
// same way as [Mapping.Deleted]: a file can be given a misleading name.
func (m *Mapping) Kind() Kind {
	name := m.Name
	switch {
	case name == "":
		return KindAnon
	case name[0] == '[':
		switch {
		case name == "[heap]":
			return KindHeap
		// Kernels before 4.5 named thread stacks too, as [stack:TID].
		case name == "[stack]", strings.HasPrefix(name, "[stack:"):
			return KindStack
		case strings.HasPrefix(name, "[anon:"):
			return KindAnon
		case strings.HasPrefix(name, "[anon_shmem:"):
			return KindShm
		}
		return KindSpecial
	case name == "/anon_hugepage"+DeletedSuffix && m.Mode&Shared == 0:
		return KindAnon
	case isPseudoFile(name), strings.HasPrefix(name, "/dev/shm/"):
		return KindShm
	}
	return KindFile
}

// nameColumn is where the kernel starts the name: fs/proc/task_mmu.c pads with
// seq_setwidth(25 + 6*sizeof(void *) - 1) and always puts one more space.
const nameColumn = 25 + 6*8 - 1

// Append appends the row as the kernel prints it on a 64-bit machine, without
// the newline, and returns the extended slice.
func (m *Mapping) Append(dst []byte) []byte {
	first := len(dst)
	dst = appendHex(dst, m.Start, 8)
	dst = append(dst, '-')
	dst = appendHex(dst, m.End, 8)
	dst = append(dst, ' ')
	for i, c := range []byte("rwx") {
		if m.Mode&(1<<i) == 0 {
			c = '-'
		}
		dst = append(dst, c)
	}
	if m.Mode&Shared != 0 {
		dst = append(dst, 's', ' ')
	} else {
		dst = append(dst, 'p', ' ')
	}
	dst = appendHex(dst, m.Offset, 8)
	dst = append(dst, ' ')
	dst = appendHex2(dst, m.Dev.Major)
	dst = append(dst, ':')
	dst = appendHex2(dst, m.Dev.Minor)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, m.Inode, 10)
	dst = append(dst, ' ')
	if m.Name == "" {
		return dst
	}
	for len(dst)-first < nameColumn {
		dst = append(dst, ' ')
	}
	dst = append(dst, ' ')
	return append(dst, m.Name...)
}

// appendHex appends v in lower-case hex with at least width digits.
func appendHex(dst []byte, v uint64, width int) []byte {
	const digits = "0123456789abcdef"
	n := 1
	for x := v >> 4; x != 0; x >>= 4 {
		n++
	}
	for i := max(n, width) - 1; i >= 0; i-- {
		dst = append(dst, digits[(v>>(4*i))&15])
	}
	return dst
}
