// Package event has the plain records that samplers tell.
package event

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/space"
)

// Record is what a sampler has found beside the events, at its place in their order.
// Who takes it need not look at anything else: all that it knows of the world is in
// records and changes.
type Record struct {
	At    uint64 // CLOCK_MONOTONIC, ns
	Space uint64 // the address space that it is about; 0 for none
	PID   int    // a process that lives in it
	// Tree is the address space as it is at this place in the order, nil if it is not
	// known. It is the loop's, and valid until the call returns.
	Tree *space.Space
	Body Body
}

// Body is what a record says.
type Body interface{ body() }

// The bodies.
type (
	// Threads are those of a process at its beginning.
	Threads []procmaps.Thread

	// Executable is the path of the program that a process executes, as it is at its
	// beginning.
	Executable string

	// Title is what a process shows in place of its arguments, as servers do whose processes
	// share a name: "postgres: checkpointer".
	Title string

	// Limits are those that a process may reach, and what it has used of them.
	Limits growth.Limits

	// Counting begins the counting of resident pages: of the extents that the tree has
	// now, but for those of the kernel (procmaps.KindSpecial).
	Counting struct{}

	// Resident is what was counted in each of those extents.
	Resident []procmaps.Resident

	// Account is what the kernel charges a process for, by its own figures, in bytes, and what
	// it is called.
	Account struct {
		Comm              string // the name of the process, which it may change
		Slack             uint64 // by how much each of the figures of what is resident may be wrong
		Resident, Swapped uint64 // VmRSS, VmSwap
		Anon, File, Shmem uint64 // of Resident
		PageTables        uint64 // VmPTE
		Hugetlb, Locked   uint64 // which Resident does not have; which it has
		// Before is what Total was before the pages of the mappings were counted; 0 if that
		// was not read.
		Before uint64
		// Moved says that mappings were changed while they were counted: what was mapped or
		// unmapped meanwhile may be in one of the figures, and not in what was counted.
		Moved  bool
		Faults uint64 // page faults without I/O so far
		// Summed says that pages were added up, all of one moment: SumResident, and Private,
		// those of them that no other process maps.
		Summed               bool
		SumResident, Private uint64
		SharedDirty          uint64 // of those that others map, which were written to
		LazyFree             uint64 // of all, what was given back with MADV_FREE and is still there
		Held                 []Held // what it holds by descriptors, or has made, and maps nowhere
		// Partial says that not all of its descriptors were looked at.
		Partial bool
	}

	// Group is what a cgroup is charged for. It is of no space.
	Group struct {
		Name string
		procmaps.GroupMemory
		// Files are those that its processes have open, with what of them is in the page cache,
		// the largest first; nil if they were not looked at.
		Files []procmaps.CachedFile
	}

	// Uncounted says why the resident pages of a process cannot be counted.
	Uncounted string

	// Outcome is what became of a watched word.
	Outcome struct {
		// In is what the word was part of when it was chosen. It may be gone by now.
		In    space.Extent
		First uint32 // the group of the site that was the first to write it
		// Site wrote it last, and it was left alone since; 0 if it did not stay.
		Site uint32
	}

	// Unwatched says why words of a process are not watched, or not now; "" says that they
	// are again.
	Unwatched string

	// Block is a block of a heap that was allocated, a sample.
	Block struct {
		ID    uint64 // of the process' samples, from 1 on
		Addr  uint64
		Site  uint32 // of who has called the allocator
		Bytes uint64 // by which the heap holds more: of realloc(3) what was added
		// Weight is how many allocations it stands for, of those in its window.
		Weight float64
		// Blind says that its contents do not show whether it was freed.
		Blind bool
		Class uint8 // of its size: see package malloc
	}

	// BlockEnd says that a sample is no more.
	BlockEnd struct {
		ID uint64
		// Seen says that its free was seen. Else it was found out later that it has ended.
		Seen bool
	}

	// BlockBlind says that the contents of a sample do not show any more whether it was
	// freed.
	BlockBlind struct{ ID uint64 }

	// HeapWindow is a time in which calls of the allocators of a process were seen, and how
	// many there were. It stands for the time since the one before.
	HeapWindow heap.Window

	// HeapThinned says that of the blocks of a process only those are followed any more whose
	// number is a multiple of it, a power of two.
	HeapThinned uint64

	// GoHeap is a reading of the profile that a Go program keeps of its heap: the records
	// that have changed since the reading before, all of them in the first.
	GoHeap struct {
		Rate        int64  // bytes for one that is sampled, on average
		Assumed     bool   // that is likely the rate: it is not known which variable has it
		Collections uint64 // of garbage so far, 0 if that is not known
		Records     []heap.Record
	}

	// HeapUnsampled says why who keeps the heap of a process is not known by a sample of
	// it, neither ours nor that of the program; "" says that it is again.
	HeapUnsampled string

	// Malloc is what glibc's malloc of a process holds, as it was read from outside.
	Malloc struct {
		Arenas []Arena
		Mapped uint64 // bytes of blocks that have mappings of their own
		// Sizes are how many blocks are in use, by the classes of package malloc; nil if they
		// were not counted.
		Sizes []uint64
		// Complete says that all arenas were read, and that what was found in them is what
		// malloc counts; Why says what is missing if not.
		Complete bool
		Why      string
	}

	// RSS is what of a process was resident at its beginning and at the end, in bytes, by the
	// kernel's own sum (VmRSS).
	RSS struct{ First, Last uint64 }

	// Effort is what sampling has cost and what it has missed, of all processes, at
	// the end.
	Effort struct {
		Faults uint64 // page faults of all processes, sampled or not
		// Missing are calls and faults without a stack, by the reason, of which [ByChance] is one.
		Missing     map[string]uint64
		Unseen      string // why page faults were not seen, if so
		CountCalls  uint64
		CountBusyNs uint64 // for which the targets' mmap locks were held, for reading
		CountMostNs uint64 // at once
		Pagemap     bool   // somewhere without PAGEMAP_SCAN
		// Whole is how often everything of a process was counted, by the reason.
		Whole map[string]uint64
		Words Words
		Heaps Heaps
		// Readings is how often it was read what a malloc holds, and ReadingNs the CPU time
		// that this took, about.
		Readings  uint64
		ReadingNs uint64
	}
)

// Arena is what an arena of malloc holds, in bytes.
type Arena struct {
	State uint64 // where it is: tells it from the others
	Main  bool   // it is the one that grows by brk
	// InUse are the blocks that were not freed, by no more than Doubt too many or too few,
	// but for what changed meanwhile. Free is what is free and kept, Top what of that is at the
	// end, to grow into.
	InUse, Doubt, Free, Top uint64
	// Resident is what is in memory, and Trimmable what of that malloc_trim would give back.
	Resident, Trimmable uint64
}

// SystemV is the name of System V segments that are in no mapping.
const SystemV = "System V segments"

// Held is memory that a process holds and maps nowhere: files of one name, but for numbers
// in it.
type Held struct {
	Name   string // "/memfd:frame", a path on tmpfs, procmaps.RingPath, or SystemV
	Linked bool   // they have their names in the file system, too: others may hold them
	Files  []HeldFile
}

// HeldFile is one of them, or a segment.
type HeldFile struct {
	procmaps.HeldID
	Bytes uint64 // that are not mapped
}

// Bytes are those of all its files.
func (h *Held) Bytes() (sum uint64) {
	for _, f := range h.Files {
		sum += f.Bytes
	}
	return sum
}

// Words are what became of all watched words.
type Words struct {
	Watched   uint64 // in all, and followed to their end
	Passed    uint64 // beside these: first written by one of whom there were enough
	Stayed    uint64 // were written to, and then left alone
	Rewritten uint64 // were written to again and again
	Returned  uint64 // their memory was given back
	Unwritten uint64 // nobody wrote to them
	Missed    uint64 // nobody knows who wrote last
}

// Heaps is what sampling heaps has cost, of all processes.
type Heaps struct {
	Processes uint64 // whose heaps were sampled
	Bursts    uint64 // how often allocators were probed
	ProbedNs  uint64 // for how long, in all
	WatchedNs uint64 // of so much
	Calls     uint64 // that were seen
	Blocks    uint64 // samples
	Dropped   uint64 // samples, or their ends, that could not be told
	// CostNs is what the calls took longer by, about: their number, and the price of one.
	CostNs uint64
	// Profiles is how often profiles that Go programs keep were read, and ProfileNs the CPU
	// time that it took us.
	Profiles  uint64
	ProfileNs uint64
}

// Total is what a process has, wherever it is.
func (a *Account) Total() uint64 { return a.Resident + a.Swapped + a.PageTables + a.Hugetlb }

// Plus is the sum of both.
func (w Words) Plus(o Words) Words {
	return Words{
		w.Watched + o.Watched, w.Passed + o.Passed, w.Stayed + o.Stayed, w.Rewritten + o.Rewritten,
		w.Returned + o.Returned, w.Unwritten + o.Unwritten, w.Missed + o.Missed,
	}
}

func (Threads) body()       {}
func (Executable) body()    {}
func (Limits) body()        {}
func (Counting) body()      {}
func (Resident) body()      {}
func (Account) body()       {}
func (Group) body()         {}
func (Uncounted) body()     {}
func (Outcome) body()       {}
func (Unwatched) body()     {}
func (Block) body()         {}
func (BlockEnd) body()      {}
func (BlockBlind) body()    {}
func (HeapWindow) body()    {}
func (HeapThinned) body()   {}
func (GoHeap) body()        {}
func (HeapUnsampled) body() {}
func (RSS) body()           {}
func (Title) body()         {}
func (Malloc) body()        {}
func (Effort) body()        {}

// ByChance is why most calls and faults of a busy process have no stack: they are sampled.
const ByChance = "passed over by chance"
