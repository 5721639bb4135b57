package procmaps

import (
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Role says what a mapping is for. It is finer than [Kind], which needs no more
// than the row itself; some roles are inferred from neighbours and threads.
type Role uint8

// The roles of mappings.
const (
	RoleAnon        Role = 1 + iota // private memory without a file of which no more is known
	RoleHeap                        // the brk heap
	RoleStack                       // the main thread's stack
	RoleThreadStack                 // the stack of another thread
	RoleArena                       // a heap of a glibc malloc arena, with the part it has yet to grow into
	RoleGuard                       // no access, to catch what runs out of a stack or of a library's segment
	RoleReserved                    // address space set aside, without access and memory behind it
	RoleFile                        // a file or a device
	RoleShared                      // shared memory: SysV, POSIX, memfd, shared anonymous
	RoleSpecial                     // mapped by the kernel: vdso, vvar, vsyscall, uprobes
)

var roleNames = [...]string{
	RoleAnon: "anon", RoleHeap: "heap", RoleStack: "stack", RoleThreadStack: "thread stack",
	RoleArena: "malloc arena", RoleGuard: "guard", RoleReserved: "reserved",
	RoleFile: "file", RoleShared: "shared", RoleSpecial: "special",
}

// String returns the word used on the command line and in JSON.
func (r Role) String() string {
	if int(r) < len(roleNames) && roleNames[r] != "" {
		return roleNames[r]
	}
	return "role(" + strconv.Itoa(int(r)) + ")"
}

// Purpose is what a mapping is for, and how that is known.
type Purpose struct {
	Role Role
	// Inferred says that the role is a conclusion from shape, neighbours or
	// stack pointers. Without it the kernel, or the program by naming the
	// memory, says so.
	Inferred bool
	// TID is the thread whose stack this is; 0 if it is no stack or not known whose.
	TID int
	// Stacks are those of several threads in one mapping, if that is known, in address order.
	Stacks []ThreadStack
	// Detail says what the conclusion rests on, or what more is known; it is
	// safe to print, and may be empty.
	Detail string
}

// ThreadStack is the stack of one thread in a mapping with others, without its guard.
type ThreadStack struct {
	Range
	TID int // 0: of a thread that has ended, or whose stack pointer is not known
}

const (
	mib = 1 << 20

	// heapMax is HEAP_MAX_SIZE of glibc's malloc/arena.c on 64-bit machines:
	// 2 * DEFAULT_MMAP_THRESHOLD_MAX (the tunable glibc.malloc.hugetlb changes it).
	heapMax = 64 * mib

	// lowestMmap is below every address that the kernel chooses by itself for a
	// 64-bit process: TASK_UNMAPPED_BASE is a third or a quarter of at least 39
	// bits. What lies lower was put there, like Java's heap with compressed pointers.
	lowestMmap = 64 << 30

	// nearby is how far apart two mappings are at most whose places the kernel
	// has chosen, one below the other: a full heap looks like a full arena of
	// Go's heap, which Go puts at a place of its own.
	nearby = 1 << 40

	// goArena and goChunk are heapArenaBytes and PallocChunkBytes of Go's
	// runtime on 64-bit Linux: the heap reserves the one and grows by the other.
	goArena = 64 * mib
	goChunk = 4 * mib

	// stackUsual is glibc's stack of a thread where the limit is not changed.
	stackUsual = 8 * mib
	// stackMost is more than a stack has; whoever maps more manages it himself.
	stackMost = 1 << 30
	// guardMost is 16 pages of the largest size that any machine has, 64 KiB.
	guardMost = 1 * mib
)

// Infer tells what each row is for; the result has one Purpose per row.
// Threads may be nil. Guards finds the guard pages of a row, in address order; it may
// be nil (see [Residency.Guards]). It knows 64-bit processes: in 32-bit ones,
// arenas are not found.
//
//   - A thread's stack is the private, anonymous, writable mapping that holds the
//     thread's stack pointer; where several threads' do, only if each has a piece
//     of its own between guard pages, or in a row of stacks of the usual size
//     (glibc 2.42 needs no mapping for guards, so stacks merge). Threads without a
//     known stack pointer, and stacks that glibc keeps for the next thread, are
//     found by a guard below and the size of the stacks found already, or the usual
//     8 MiB. Before 6.7 the kernel may merge a stack with memory above it, which
//     then counts as stack.
//   - A heap of a malloc arena is what malloc/arena.c:new_heap() and grow_heap()
//     leave: an aligned 64 MiB, writable at first and then without access. Heaps
//     without a rest, fully grown, count when there is another of that shape not
//     far away.
//   - A guard is memory without access directly below a stack, or a part of a
//     file without access between others of it.
//
// What a program names itself, with prctl(PR_SET_VMA), is taken at its word for
// glibc's and bionic's names of stacks and arenas.
//
// Preconditions: rows are in address order and do not overlap.
func Infer(rows []Mapping, threads []Thread, guards func(Range) []Range) []Purpose {
	in := inference{rows: rows, purposes: make([]Purpose, len(rows)), guards: guards}
	for i := range rows {
		in.purposes[i] = in.plain(i)
	}
	in.arenas()
	in.stacksOfThreads(threads)
	in.stacksByShape()
	return in.purposes
}

type inference struct {
	rows     []Mapping
	purposes []Purpose
	guards   func(Range) []Range
	sizes    []stackSize // of the stacks with a guard found by stack pointers
}

// stackSize is the size of a stack: writable, and with its guard.
type stackSize struct{ writable, total uint64 }

// plain tells what the row alone, or its neighbours in the same file, say.
func (in *inference) plain(i int) Purpose {
	m := &in.rows[i]
	switch m.Kind() {
	case KindHeap:
		return Purpose{Role: RoleHeap}
	case KindStack:
		if s, ok := strings.CutPrefix(m.Name, "[stack:"); ok {
			return Purpose{Role: RoleThreadStack, TID: tidIn(s)}
		}
		return Purpose{Role: RoleStack}
	case KindFile:
		if in.betweenSegments(i) {
			return Purpose{Role: RoleGuard, Inferred: true, Detail: "between segments of the file"}
		}
		return Purpose{Role: RoleFile}
	case KindShm:
		return Purpose{Role: RoleShared}
	case KindSpecial:
		return Purpose{Role: RoleSpecial}
	case KindAnon: // below
	}
	if m.Mode&Shared != 0 {
		return Purpose{Role: RoleShared}
	}
	if p, ok := named(m.Name); ok {
		if p.Role == RoleThreadStack && m.Mode&Perm == 0 {
			p.Role = RoleGuard // glibc names a stack with its guard
		}
		return p
	}
	if m.Mode&Perm == 0 {
		return Purpose{Role: RoleReserved}
	}
	return Purpose{Role: RoleAnon}
}

// named knows the names that glibc (2.39+, tunable glibc.mem.decorate_maps) and
// Android's libc give to memory of a single purpose.
func named(name string) (Purpose, bool) {
	label, ok := strings.CutPrefix(name, "[anon:")
	if !ok {
		return Purpose{}, false
	}
	for _, prefix := range [...]string{" glibc: pthread stack: ", " glibc: pthread user stack: ", "stack_and_tls:"} {
		if tid, ok := strings.CutPrefix(label, prefix); ok {
			return Purpose{Role: RoleThreadStack, TID: tidIn(tid), Detail: "named by the program"}, true
		}
	}
	switch label {
	case " glibc: unused stack]":
		return Purpose{Role: RoleThreadStack, Detail: "named by the program; kept for the next thread"}, true
	case " glibc: malloc arena]":
		return Purpose{Role: RoleArena, Detail: "named by the program"}, true
	case "thread stack guard]", "thread signal stack guard]":
		return Purpose{Role: RoleGuard, Detail: "named by the program"}, true
	}
	return Purpose{}, false
}

// tidIn reads the number before a closing bracket; what is no thread ID is 0.
func tidIn(s string) int {
	s, ok := strings.CutSuffix(s, "]")
	tid, err := strconv.ParseInt(s, 10, 32)
	if !ok || err != nil || tid < 0 {
		return 0
	}
	return int(tid)
}

// betweenSegments reports whether the row is what the dynamic linker leaves
// without access where the segments of a library are apart.
func (in *inference) betweenSegments(i int) bool {
	m := &in.rows[i]
	sameFile := func(o *Mapping) bool { return o.Dev == m.Dev && o.Inode == m.Inode && o.Name == m.Name }
	return m.Mode == 0 && in.follows(i) && in.follows(i+1) && sameFile(&in.rows[i-1]) && sameFile(&in.rows[i+1])
}

// follows reports whether row i begins where row i-1 ends. There need not be
// either of them.
func (in *inference) follows(i int) bool {
	return i > 0 && i < len(in.rows) && in.rows[i-1].End == in.rows[i].Start
}

// writable and reserved tell the rows without a file that a runtime may build
// its own structures of.
func (in *inference) writable(i int) bool {
	return in.rows[i].Mode&(Read|Write|Shared) == Read|Write && in.rows[i].Kind() == KindAnon
}

func (in *inference) reserved(i int) bool { return in.rows[i].Reserved() }

// Reserved reports whether the row is private anonymous memory without access.
// As a rule that is address space set aside: nothing can be behind it unless it
// was accessible once.
func (m *Mapping) Reserved() bool {
	return m.Mode&(Perm|Shared) == 0 && m.Kind() == KindAnon
}

// arenas finds the heaps of glibc's malloc other than the one of brk.
func (in *inference) arenas() {
	const detail = "the shape of a glibc heap"
	mark := func(i, n int, detail string) {
		for j := range n {
			if p := &in.purposes[i+j]; p.Role != RoleArena { // else it is named, which is better
				*p = Purpose{Role: RoleArena, Inferred: true, Detail: detail}
			}
		}
	}
	type run struct{ row, n int }
	var full []run
	var found []uint64 // where heaps are for sure
	for i := 0; i < len(in.rows); {
		n, rest := in.arenaAt(i)
		switch {
		case rest:
			mark(i, n, detail)
			found = append(found, in.rows[i].Start)
		case n > 0:
			full = append(full, run{i, n})
		}
		i += max(n, 1)
	}
	for _, r := range full {
		start := in.rows[r.row].Start
		near := slices.ContainsFunc(found, func(heap uint64) bool { return max(start, heap)-min(start, heap) < nearby })
		if near || in.purposes[r.row].Role == RoleArena {
			mark(r.row, r.n, detail+", fully grown")
		}
	}
}

// arenaAt returns how many rows from row i on have the place and shape of a heap,
// or of some full ones and the next that the kernel merged with them, and whether
// there is a rest without access. The writable part is in several rows when a part
// of it is named (as it is made, not as it grows), locked or the like; the rest is
// in several when glibc has shrunk the heap.
func (in *inference) arenaAt(i int) (n int, rest bool) {
	start := in.rows[i].Start
	unnamed := func(i int) bool { return in.rows[i].Name == "" }
	usable := func(i int) bool { return in.writable(i) && (unnamed(i) || in.purposes[i].Role == RoleArena) }
	if start%heapMax != 0 || start < lowestMmap || !usable(i) {
		return 0, false
	}
	j := i + 1
	for in.follows(j) && usable(j) && in.rows[j].Start%heapMax != 0 {
		j++
	}
	grown := in.rows[j-1].End
	if grown%heapMax == 0 {
		return j - i, false
	}
	end := (grown + heapMax - 1) / heapMax * heapMax // 0 if that overflows, which no row reaches
	for in.follows(j) && in.reserved(j) && unnamed(j) && in.rows[j].End <= end {
		j++
	}
	// Go's heap has the same shape, but for the step by which it grows. That
	// glibc, going by the page, stands on such a step is one case in 1,024.
	if in.rows[j-1].End != end || grown%goChunk == 0 {
		return 0, false
	}
	return j - i, true
}

// stacksOfThreads finds stacks by the stack pointers.
func (in *inference) stacksOfThreads(threads []Thread) {
	type use struct {
		row int
		Thread
	}
	var uses []use
	for _, t := range threads {
		if i := in.rowAt(t.SP); i >= 0 && t.SP != 0 && in.mayBeStack(i) {
			uses = append(uses, use{i, t})
		}
	}
	slices.SortStableFunc(uses, func(a, b use) int { return a.row - b.row })
	for len(uses) > 0 {
		n := 1
		for n < len(uses) && uses[n].row == uses[0].row {
			n++
		}
		row := uses[0].row
		m := &in.rows[row]
		switch {
		case in.goHeap(row):
			in.purposes[row].Detail = "the shape of Go's heap"
		case n == 1 && m.Len() <= stackMost:
			in.stack(row, uses[0].TID, "holds the thread's stack pointer")
		case n > 1:
			owners := make([]Thread, n)
			for k := range owners {
				owners[k] = uses[k].Thread
			}
			stacks := in.between(m.Range, owners)
			if stacks != nil || ownSlots(m.Range, owners) {
				in.stack(row, 0, "stacks of "+strconv.Itoa(n)+" threads side by side")
				in.purposes[row].Stacks = stacks
			}
		}
		uses = uses[n:]
	}
}

// rowAt returns the row that holds the address, or -1.
func (in *inference) rowAt(addr uint64) int {
	i := sort.Search(len(in.rows), func(i int) bool { return in.rows[i].End > addr })
	if i == len(in.rows) || !in.rows[i].Contains(addr) {
		return -1
	}
	return i
}

// mayBeStack reports whether nothing else is known of the row. Go names its heap
// (1.25+, in kernels that have CONFIG_ANON_VMA_NAME), on which all its stacks are.
func (in *inference) mayBeStack(i int) bool {
	return in.purposes[i].Role == RoleAnon && in.writable(i) && !strings.HasPrefix(in.rows[i].Name, "[anon: Go: ")
}

// goHeap reports whether the row has the shape of an arena of Go's heap
// (runtime/malloc.go:sysAlloc, runtime/mheap.go:grow): whole chunks in an aligned
// reservation that they do not fill, or that they fill. The place is no sign: it
// is random since Go 1.26.
func (in *inference) goHeap(i int) bool {
	lo, hi := i, i+1
	part := func(i int) bool { return in.writable(i) || in.reserved(i) }
	for in.rows[lo].Start%goArena != 0 && in.rows[lo].Start%goChunk == 0 && in.follows(lo) && part(lo-1) {
		lo--
	}
	for in.rows[hi-1].End%goArena != 0 && in.rows[hi-1].End%goChunk == 0 && in.follows(hi) && part(hi) {
		hi++
	}
	return in.rows[lo].Start%goArena == 0 && in.rows[hi-1].End%goArena == 0
}

// between returns the stacks that guard pages of a mapping are below of; nil if there
// are none, if two of the threads are in one, or one is in none or in its guard. What
// lies above the uppermost is taken for a part of it.
func (in *inference) between(r Range, owners []Thread) (stacks []ThreadStack) {
	if in.guards == nil {
		return nil
	}
	for _, g := range in.guards(r) {
		if last := len(stacks) - 1; last >= 0 {
			stacks[last].End = g.Start
		}
		if g.End < r.End && g.Len() <= guardMost {
			stacks = append(stacks, ThreadStack{Range: Range{g.End, r.End}})
		}
	}
	for _, t := range owners {
		i := slices.IndexFunc(stacks, func(s ThreadStack) bool { return s.Contains(t.SP) })
		if i < 0 || stacks[i].TID != 0 || stacks[i].Len() > stackMost {
			return nil
		}
		stacks[i].TID = t.TID
	}
	return stacks
}

// ownSlots reports whether the range is a row of stacks of the usual size, each
// with its guard inside, and no two of the stack pointers are in one of them.
func ownSlots(r Range, owners []Thread) bool {
	k := r.Len() / stackUsual
	if k < uint64(len(owners)) || r.Len()%k != 0 || r.Len()/k-stackUsual > guardMost {
		return false
	}
	slot := r.Len() / k
	taken := make(map[uint64]bool)
	for _, t := range owners {
		i := (t.SP - r.Start) / slot
		if taken[i] {
			return false
		}
		taken[i] = true
	}
	return true
}

// stack notes that the row is a stack, and what is below it its guard.
func (in *inference) stack(i, tid int, detail string) {
	in.purposes[i] = Purpose{Role: RoleThreadStack, Inferred: true, TID: tid, Detail: detail}
	if in.guardBelow(i) {
		in.purposes[i-1] = Purpose{Role: RoleGuard, Inferred: true, TID: tid, Detail: "below the stack of a thread"}
		size := stackSize{in.rows[i].Len(), in.rows[i].Len() + in.rows[i-1].Len()}
		// Threads come with a few sizes; a process with more is no one to learn from.
		if tid != 0 && len(in.sizes) < 64 && !slices.Contains(in.sizes, size) {
			in.sizes = append(in.sizes, size)
		}
	}
}

// guardBelow reports whether the row below can be the guard of a stack.
func (in *inference) guardBelow(i int) bool {
	return in.follows(i) && in.purposes[i-1].Role == RoleReserved && in.rows[i-1].Len() <= guardMost
}

// stacksByShape finds the stacks of threads that ran, of threads that may not be
// looked at, and those kept for later.
func (in *inference) stacksByShape() {
	usual := stackSize{stackUsual, stackUsual}
	for i := range in.rows {
		if p := &in.purposes[i]; p.Role == RoleThreadStack && !p.Inferred && in.guardBelow(i) {
			in.purposes[i-1] = Purpose{Role: RoleGuard, Inferred: true, TID: p.TID, Detail: "below the stack of a thread"}
			continue
		}
		if !in.guardBelow(i) || !in.mayBeStack(i) {
			continue
		}
		writable := in.rows[i].Len()
		total := writable + in.rows[i-1].Len()
		// Whether the guard is a part of the stack's size differs by libc, version
		// and runtime, even within one process.
		like := func(s stackSize) bool {
			return writable == s.writable || writable == s.total || total == s.writable || total == s.total
		}
		switch {
		case slices.ContainsFunc(in.sizes, like):
			in.stack(i, 0, "a guard below, and the size of another stack")
		case like(usual):
			in.stack(i, 0, "a guard below, and the usual size of a stack")
		}
	}
}
