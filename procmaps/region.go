package procmaps

import (
	"fmt"
	"slices"
	"strconv"
)

// Range is a half-open range [Start, End) of virtual addresses, in bytes.
type Range struct{ Start, End uint64 }

// Len returns the length in bytes.
func (r Range) Len() uint64 { return r.End - r.Start }

// Empty reports whether the range holds no byte.
func (r Range) Empty() bool { return r.End <= r.Start }

// Contains reports whether addr lies in the range.
func (r Range) Contains(addr uint64) bool { return r.Start <= addr && addr < r.End }

// Covers reports whether every byte of o lies in r.
func (r Range) Covers(o Range) bool { return r.Start <= o.Start && o.End <= r.End }

// Overlaps reports whether the two ranges share a byte.
func (r Range) Overlaps(o Range) bool { return r.Start < o.End && o.Start < r.End }

// Intersect returns the bytes in both ranges; the result is Empty when there are none.
func (r Range) Intersect(o Range) Range {
	return Range{max(r.Start, o.Start), min(r.End, o.End)}
}

// String prints the range as the kernel's maps file does: lower-case hex,
// at least eight digits each.
func (r Range) String() string { return fmt.Sprintf("%08x-%08x", r.Start, r.End) }

// Mode is what the permission column of maps shows.
type Mode uint8

// The bits of a Mode. A mapping without Shared is private (copy on write).
const (
	Read Mode = 1 << iota
	Write
	Exec
	Shared

	// Perm selects the bits mprotect(2) can change.
	Perm = Read | Write | Exec
)

// String prints the mode as the kernel does: "rw-p", "r-xs".
func (m Mode) String() string {
	b := [4]byte{'-', '-', '-', 'p'}
	for i, c := range "rwxs" {
		if m&(1<<i) != 0 {
			b[i] = byte(c)
		}
	}
	return string(b[:])
}

// Device is a block or anonymous device number as maps prints it.
type Device struct{ Major, Minor uint32 }

// String prints the device as the kernel does: at least two hex digits each.
func (d Device) String() string {
	s := make([]byte, 0, 12)
	s = appendHex2(s, d.Major)
	s = append(s, ':')
	return string(appendHex2(s, d.Minor))
}

func appendHex2(b []byte, v uint32) []byte {
	if v < 0x10 {
		b = append(b, '0')
	}
	return strconv.AppendUint(b, uint64(v), 16)
}

// Kind says what a mapping is for, in the classes a person asks about.
type Kind uint8

// The kinds of mappings.
const (
	KindAnon    Kind = 1 + iota // private memory without a file
	KindFile                    // a file on a file system, or a device
	KindHeap                    // the brk heap
	KindStack                   // the main thread's stack
	KindShm                     // shared memory: SysV, POSIX, memfd, shared anonymous
	KindSpecial                 // mapped by the kernel: vdso, vvar, vsyscall, uprobes
)

var kindNames = [...]string{
	KindAnon: "anon", KindFile: "file", KindHeap: "heap",
	KindStack: "stack", KindShm: "shm", KindSpecial: "special",
}

// String returns the word used on the command line and in JSON.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// KindNames are the words that [ParseKind] takes.
func KindNames() []string {
	return slices.DeleteFunc(slices.Clone(kindNames[:]), func(name string) bool { return name == "" })
}

// ParseKind is the inverse of Kind.String.
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if name == s && s != "" {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("kind %q: want anon, file, heap, stack, shm or special", s)
}

// Mapping is one row of /proc/PID/maps: one VMA.
type Mapping struct {
	Range
	Mode   Mode
	Offset uint64 // in the file, bytes; 0 for anonymous memory
	Dev    Device
	Inode  uint64
	// Name is the last column, byte for byte as the kernel printed it: a path
	// (only a newline is escaped in it, as \012), a bracketed word such as
	// "[heap]", or nothing.
	Name string
}
