// Package explain says what is at an address of a process, or why nothing is: in which
// mapping it lies and what that is for, how far it is from its neighbours, and, of an
// address that was the cause of a fault, why the processor or the kernel refused it.
//
// It looks at nothing but what it is given: rows of maps, which may be those of a living
// process, of a core file or of a text, and facts about one page and one file. What is
// not given is not known, and nothing is said of it.
package explain

import (
	"math/bits"
	"sort"

	"github.com/maptrace/maptrace/procmaps"
)

// ModeKnown says what of the mode of a row is known.
type ModeKnown uint8

// What is known of a mode. Core files do not say whether a mapping is shared.
const (
	WholeMode  ModeKnown = iota
	AccessOnly           // read, write and execute
	NoMode
)

// Row is one mapping, as far as it is known.
type Row struct {
	procmaps.Mapping
	Known    ModeKnown
	NoOffset bool // Offset is not known
}

// ModeText is the mode as maps has it, as far as it is known: "r-xp", "r-x", "".
func (r *Row) ModeText() string {
	switch r.Known {
	case AccessOnly:
		return r.Mode.String()[:3]
	case NoMode:
		return ""
	case WholeMode:
	}
	return r.Mode.String()
}

// Space is what is known of an address space. It is not changed.
type Space struct {
	Rows    []Row             // in address order, not overlapping
	Threads []procmaps.Thread // with their stack pointers; may be nil
	// Guards finds the guard pages of a range, as [procmaps.Infer] takes it; may be nil.
	Guards func(procmaps.Range) []procmaps.Range
	// Arch is the processor's architecture as Go calls it, "" if it is not known.
	Arch      string
	PageBytes uint64 // the size of a page, a power of 2; 0 stands for 4096
	// StackLimit is RLIMIT_STACK in bytes, 0 if it is not known.
	StackLimit uint64
	// Partial says that the process had other mappings too: what is in no row may be mapped.
	Partial bool
	// Missing says what is not known of the mappings, if there is something.
	Missing string
}

const (
	usualPage = 4096
	// stackGuard is the kernel's gap below what grows down, 256 pages of 4 KiB
	// (mm/mmap.c:stack_guard_gap).
	stackGuard = 1 << 20
	// usualStack is the limit of a stack that is hardly ever changed: _STK_LIM.
	usualStack = 8 << 20
	// nullBytes is below vm.mmap_min_addr of most machines: nothing can be mapped there.
	nullBytes = 64 << 10
	// errnoMost is the largest error number (MAX_ERRNO): as a pointer, what is below
	// address 0 by so much is an error or a small negative number.
	errnoMost = 4095
	// nearStack is how far from the stack pointer a function with large variables touches first.
	nearStack = 64 << 10
	// guardMost is more than the guard of a stack has.
	guardMost = 1 << 20

	kernelHalf   = 1 << 63
	vsyscallPage = 0xffffffffff600000
)

func (s *Space) page() uint64 {
	if s.PageBytes == 0 {
		return usualPage
	}
	return s.PageBytes
}

// Untag takes away what arm64 ignores of an address of user space: the top byte, where
// allocators and MTE keep tags. Of other machines, or of the kernel's addresses, it
// takes nothing.
func (s *Space) Untag(addr uint64) (plain uint64, tag uint8) {
	const top, user = 56, 1 << 55
	if s.Arch != "arm64" || addr&user != 0 {
		return addr, 0
	}
	return addr &^ (0xff << top), uint8(addr >> top)
}

// Find returns the row that holds an address, without its tag; nil if there is none.
func (s *Space) Find(addr uint64) *Row {
	addr, _ = s.Untag(addr)
	if i := s.above(addr); i < len(s.Rows) && s.Rows[i].Contains(addr) {
		return &s.Rows[i]
	}
	return nil
}

// above returns the first row that ends above an address.
func (s *Space) above(addr uint64) int {
	return sort.Search(len(s.Rows), func(i int) bool { return s.Rows[i].End > addr })
}

// What is at an address.
type What uint8

// What there can be.
const (
	Mapped       What = 1 + iota // a mapping that permits access
	NoAccess                     // a mapping that permits none (PROT_NONE)
	Guard                        // memory without access that is there to catch an overflow
	PastEnd                      // a mapping of a file, beyond the file's end
	Null                         // nothing, and near address 0
	Gap                          // nothing, between mappings
	StackRoom                    // nothing, but the stack may grow there
	Overflow                     // nothing, and the stack may not grow there
	NonCanonical                 // nothing that any process can have
	Kernel                       // the kernel's half
	Vsyscall                     // the page that the kernel shows to all processes
	Unknown                      // the mappings are not known
)

var whatNames = [...]string{
	Mapped: "mapped", NoAccess: "no_access", Guard: "guard", PastEnd: "past_end", Null: "null", Gap: "gap",
	StackRoom: "stack_room", Overflow: "stack_overflow", NonCanonical: "non_canonical", Kernel: "kernel",
	Vsyscall: "vsyscall", Unknown: "unknown",
}

// String returns the word used in JSON.
func (w What) String() string {
	if int(w) < len(whatNames) {
		return whatNames[w]
	}
	return ""
}

// Neighbour is the mapping below or above an address, and how many bytes lie between: 0
// for one that touches the address' own mapping, or that ends at the address.
type Neighbour struct {
	*Row
	Purpose  procmaps.Purpose
	Distance uint64 // from the address
}

// Symbol is what a file says of an address. Without Function only its place is known.
type Symbol struct {
	Function string // without parameters; raw
	Offset   uint64 // into it, bytes
	File     string // raw; empty if the line is not known
	Line     int
	Address  uint64 // in the file's own numbering
	Numbered bool   // Address is known
}

// Details are facts about one address that cost more than the rows.
type Details struct {
	Page      *procmaps.Page // nil if it is not known, or nothing is mapped
	PageWhy   string         // why not
	FileBytes uint64         // the size of the mapped file now, if it is known:
	FileKnown bool
	Symbol    *Symbol // nil if there is none
	SymbolWhy string  // why not; "" where none was to be expected
}

// Answer is what there is to say of an address. Names are as they were given.
type Answer struct {
	Address uint64 // without its tag:
	Tag     uint8
	What    What

	// Of what is mapped:
	Row     *Row
	Purpose procmaps.Purpose
	Into    uint64 // bytes from the row's start
	// TID is the thread whose stack it is, or whose stack the guard is of; 0 if not known.
	TID int

	// File says that the row shows a file, and that it is known where in it the address is:
	File       bool
	FileOffset uint64
	Details

	// Text are the bytes of an address that no process can have, if they are all
	// printable: it is no pointer, but a piece of text.
	Text string
	// Below0 is how far below address 0 it is, if that is little: a negative number.
	Below0 uint64

	Below, Above *Neighbour // nil if there is none, or none is known
	StackLimit   uint64     // of Overflow and StackRoom, 0 if not known
	Missing      string     // as of the Space
	Listed       bool       // all mappings are known
	Fault        *Fault     // nil if it is about no fault
	Reason       Reason     // why it faulted
	// NearStack says that what was not there is FromSP bytes above the stack pointer, or below
	// it if that is negative: as with a stack that has overflowed.
	NearStack bool
	FromSP    int64
}

// Address explains an address. D holds what is known beside the rows, and f the fault that it
// was the address of; both may be nil.
func (s *Space) Address(addr uint64, d *Details, f *Fault) *Answer {
	a := &Answer{Missing: s.Missing, Listed: !s.partial(), Fault: f}
	a.Address, a.Tag = s.Untag(addr)
	if d != nil {
		a.Details = *d
	}
	rows := make([]procmaps.Mapping, len(s.Rows))
	for i := range s.Rows {
		rows[i] = s.Rows[i].Mapping
		if s.Rows[i].Known == NoMode {
			rows[i].Mode = procmaps.Read // or it would be taken for memory without access
		}
	}
	purposes := procmaps.Infer(rows, s.Threads, s.Guards)
	i := s.above(a.Address)
	neighbours := s.neighbours(a, i, purposes)
	switch {
	case i < len(s.Rows) && s.Rows[i].Contains(a.Address):
		a.Row, a.Purpose = &s.Rows[i], purposes[i]
		s.mapped(a)
	case !s.number(a):
		s.unmapped(a)
	}
	if !neighbours || s.Partial {
		a.Below, a.Above = nil, nil
	}
	if f != nil {
		s.fault(a)
	}
	return a
}

// neighbours finds what is below and above, and tells whether that is worth to be told: of a
// number that is no address of a process it is not.
func (s *Space) neighbours(a *Answer, i int, purposes []procmaps.Purpose) bool {
	below, above := i-1, i
	if i < len(s.Rows) && s.Rows[i].Contains(a.Address) {
		above++
	}
	if below >= 0 {
		a.Below = &Neighbour{&s.Rows[below], purposes[below], a.Address - s.Rows[below].End}
	}
	if above < len(s.Rows) && s.Rows[above].Start < kernelHalf { // [vsyscall] is nobody's neighbour
		a.Above = &Neighbour{&s.Rows[above], purposes[above], s.Rows[above].Start - a.Address}
	}
	return a.Address < kernelHalf && (s.Arch != "amd64" || a.Address>>56 == 0)
}

// mapped explains what lies in a row.
func (s *Space) mapped(a *Answer) {
	r := a.Row
	a.Into = a.Address - r.Start
	a.TID = a.Purpose.TID
	if r.OfFile() && r.Name != "[vdso]" {
		a.File, a.FileOffset = !r.NoOffset, r.Offset+a.Into
	}
	for _, t := range a.Purpose.Stacks {
		if t.Contains(a.Address) {
			a.TID = t.TID
		}
	}
	switch {
	case r.Name == "[vsyscall]":
		a.What = Vsyscall
	case a.Page != nil && a.Page.Guard:
		a.What = Guard
		a.TID = s.guarded(a)
	case a.Purpose.Role == procmaps.RoleGuard:
		a.What = Guard
	case r.Known != NoMode && r.Mode&procmaps.Perm == 0:
		a.What = NoAccess
	case a.File && a.FileKnown && a.FileOffset >= roundUp(a.FileBytes, s.page()):
		a.What = PastEnd
	default:
		a.What = Mapped
	}
}

// guarded is the thread whose stack is directly above a guard page, 0 if none is known.
func (s *Space) guarded(a *Answer) int {
	for _, t := range a.Purpose.Stacks {
		if t.Start > a.Address && t.Start-a.Address <= guardMost {
			return t.TID
		}
	}
	if a.Purpose.Role == procmaps.RoleThreadStack {
		return a.Purpose.TID
	}
	return 0
}

// roundUp rounds a size up to whole pages.
func roundUp(n, page uint64) uint64 {
	if up := (n + page - 1) &^ (page - 1); up >= n {
		return up
	}
	return ^uint64(0)
}

// number explains what can be said by the number alone, and tells whether that is all.
func (s *Space) number(a *Answer) bool {
	const (
		fourLevels = 1 << 47 // where the half of user space ends with four levels of page tables
		fiveLevels = 1 << 56
	)
	if below := -a.Address; below <= errnoMost {
		a.Below0 = below
	}
	user := uint64(fourLevels)
	switch s.Arch {
	case "amd64":
	case "arm64":
		user = fiveLevels // 52 bits at most, and others fault in the same way
	case "riscv64":
		user = fiveLevels // sv57
	default:
		user = kernelHalf // it differs by machine
	}
	switch {
	case s.Arch == "amd64" && a.Address&^0xfff == vsyscallPage:
		a.What = Vsyscall
	case a.Address < user:
		return false
	case a.Address < kernelHalf, s.Arch != "riscv64" && a.Address < 0xff<<56:
		a.What = NonCanonical
		a.Text = textOf(a.Address)
	default:
		a.What = Kernel
	}
	return true
}

// textOf returns the bytes of an address as they are in memory of a little-endian machine,
// "" unless all are printable.
func textOf(addr uint64) string {
	b := make([]byte, 0, 8)
	for n := (bits.Len64(addr) + 7) / 8; n > 0; n-- {
		c := byte(addr)
		if c < ' ' || c > '~' {
			return ""
		}
		b = append(b, c)
		addr >>= 8
	}
	return string(b)
}

// partial tells whether there may be mappings that are in no row.
func (s *Space) partial() bool { return s.Partial || len(s.Rows) == 0 }

// unmapped explains an address of user space that is in no row.
func (s *Space) unmapped(a *Answer) {
	switch {
	case a.Address < nullBytes && a.Below == nil:
		a.What = Null // where nothing is known to be mapped, and hardly anything can be
	case s.partial():
		a.What = Unknown
	case a.Above != nil && a.Above.Purpose.Role == procmaps.RoleStack:
		s.belowStack(a)
	default:
		a.What = Gap
	}
}

// belowStack explains what is below the main thread's stack. The kernel lets it grow to
// where the limit is, whatever the stack pointer is (since 5.0), but not to where other
// memory would be nearer than its guard (mm/mmap.c:expand_downwards()).
func (s *Space) belowStack(a *Answer) {
	stack := a.Above
	size := stack.End - a.Address&^(s.page()-1)
	limit := s.StackLimit
	a.StackLimit = limit
	if limit == 0 {
		limit = usualStack
	}
	blocked := a.Below != nil && a.Below.Distance < stackGuard && a.Below.Mode&procmaps.Perm != 0
	refused := a.Fault != nil && a.Fault.Signal == sigSEGV
	switch {
	case refused && stack.Distance <= stackGuard: // or the kernel would have grown it
		a.What = Overflow
	case refused:
		a.What = Gap
	case size <= limit && !blocked:
		a.What = StackRoom
	case s.StackLimit != 0 && size > limit && size-limit <= stackGuard:
		a.What = Overflow
	default:
		a.What = Gap
	}
}

// OfFile tells whether a row may show an ELF file: code, or data.
func (r *Row) OfFile() bool {
	return r.Name == "[vdso]" || r.Kind() == procmaps.KindFile || r.Kind() == procmaps.KindShm && r.Inode != 0
}
