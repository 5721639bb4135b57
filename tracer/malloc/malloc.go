// Package malloc reads, from outside of a process, what glibc's malloc holds: how much
// of its memory is in use, and how much is free but kept.
//
// A heap of malloc is a row of chunks without gaps. Each begins with its size, in whose
// low bits is whether the chunk before it is in use:
//
//	       p                      p + size               top
//	.......[prev_size|size|P][ … ][prev_size|size|P][ … ][.....|size|P][ … ]
//	          |         |             |           |
//	          |         |             |           0: the chunk at p is free, and
//	          |         |             |              prev_size is its size
//	          |         how to find the next one
//	          a part of the chunk before, unless that is free
//
// So a walk from the start of a heap finds every chunk. Chunks in fast bins and in the
// caches of threads (tcache) look as if they were in use: those are found by their
// lists. The lists of fast bins begin in the arena; those of a thread's cache in a
// block of that thread, which is recognized by its size and by what its lists hold.
//
// Nothing of this has a symbol in a stripped libc. The main arena is found in libc's
// data by its shape: a bin that is empty points to itself, and the last of the 127 is
// always empty. The others are in a ring with it. So are malloc's parameters, which
// count the blocks that have mappings of their own.
//
// This holds for 64-bit glibc 2.31 to 2.43, whose differences are recognized: links of
// lists are masked from 2.32 on, heap_info has six words and not four from 2.35 on, the
// caches have more lists from 2.42 on, and 2.43 has no fast bins. Before 2.32 chunks of
// fast bins are found by the lists alone, and so only as many as are followed.
//
// The process runs on meanwhile, and what is read may be anything: sizes are checked,
// walks only go up, lists are bounded. Where the chain of sizes breaks, the piece is
// read again, and then passed over up to where a chain goes on. Each arena counts what
// it has from the kernel; what was found is compared with that.
//
// Reading touches pages of the process as a debugger would: what was swapped out would
// come back, so arenas with such pages are left out (see [Options.Count]), and a page
// that was never written may get the kernel's page of zeros, which is not resident
// memory.
//
// A heap of 1 GB in 16 million chunks takes about 0.3 s. The kernel holds the lock of the
// mappings while it looks the pages of a piece up: code that allocates and frees does not
// feel that, code that maps and unmaps all the time was slowed by a third meanwhile.
package malloc

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/units"
)

// ErrNone says that no malloc of glibc was found: the program has another one, has not
// used it yet, is not a 64-bit one, or has a glibc whose malloc is laid out otherwise.
var ErrNone = errors.New("no heap of glibc's malloc was found")

// Memory is the memory of a process.
type Memory interface {
	// ReadAt reads what is at addr. It returns how much was read, which is less
	// than len(p) where memory ends, with an error.
	ReadAt(p []byte, addr uint64) (int, error)
}

// Options bound a reading. The zero value is of use.
type Options struct {
	// Bytes is how much of the process' memory is read at most; 4 GiB if it is 0.
	Bytes uint64
	// Stop is asked before each piece of at most 1 MiB, and again and again in between;
	// the reading ends when it says true. It may sleep, to spread the reading, and may be
	// nil.
	Stop func() bool
	// Page is the size of a page; 4096 if it is 0.
	Page uint64
	// Count counts what is resident, as [procmaps.Residency.Count] does, and may be nil.
	// With it arenas of which pages are swapped out are not read, and what of the free
	// memory is resident is known.
	Count func([]procmaps.Range, []procmaps.Resident) error
}

// Classes is how many classes of sizes there are.
const Classes = 64

// ClassOf is the class of a chunk by its size in bytes: up to 496 there is one for each 16, from
// 512 on one for each power of 2. It is 0 for what is no size of a chunk.
func ClassOf(size uint64) uint8 {
	const large, most = 32, 30
	switch {
	case size%chunkAlign != 0, size < leastChunk, size>>most != 0:
		return 0
	case size < large*chunkAlign:
		return uint8(size / chunkAlign)
	}
	return uint8(large + bits.Len64(size/(large*chunkAlign)) - 1)
}

// Amount is a number of blocks, and their bytes with malloc's words before them.
type Amount struct {
	Bytes, Blocks uint64
}

func (a *Amount) add(bytes uint64) {
	a.Bytes += bytes
	a.Blocks++
}

// plus adds another amount.
func (a *Amount) plus(o Amount) {
	a.Bytes += o.Bytes
	a.Blocks += o.Blocks
}

// Arena is what one arena holds, or several together. All figures are bytes.
type Arena struct {
	// State is the address of its malloc_state; 0 for several.
	State uint64
	// Main is the arena that grows by brk; the others are of threads.
	Main bool
	// Heaps is how many pieces of memory the arena has.
	Heaps int
	// System is what the arena has from the kernel, as malloc itself counts it.
	System uint64
	// Walked is what was found of it: the sum of all that follows, up to Overhead. It
	// is System if all was found while nothing changed.
	Walked uint64
	// InUse are the blocks that were not freed, and Sizes how many of them are of each class.
	InUse Amount
	Sizes [Classes]uint64
	// Bins are free blocks that malloc knows as such. No two of them are neighbours.
	Bins Amount
	// Fast are free blocks in fast bins: small ones that are not joined yet.
	Fast Amount
	// Tcache are free blocks in the caches of threads. mallinfo counts them as in use.
	Tcache Amount
	// Top is what is free at the end of the arena, to grow into.
	Top uint64
	// Overhead is malloc's own: the heads of heaps and arenas, the ends of heaps, and
	// what somebody else has taken by brk between two parts of the main arena.
	Overhead uint64
	// Skipped is what could not be read as chunks. It is a part of Walked.
	Skipped uint64
	// Trimmable are the whole pages that malloc_trim(0) would give back: of bins and fast
	// bins, and of the top of the heap by brk alone.
	Trimmable uint64
	// Resident is what is in memory; ResidentTrim what is of Trimmable, ResidentTop of
	// other tops, which malloc_trim keeps. All are 0 without
	// [Options.Count].
	Resident, ResidentTrim, ResidentTop uint64
	// Estimated says that Fast is by the look of the blocks: the lists were too long to
	// follow, or changed too fast. A block that was taken from a fast bin and never
	// written to since is then counted there, and not as in use.
	Estimated bool
	// Why says why the figures of the arena are not whole; empty if they are.
	Why string
}

// Free is what is free and kept.
func (a *Arena) Free() uint64 { return a.Bins.Bytes + a.Fast.Bytes + a.Tcache.Bytes + a.Top }

// plus adds another arena, for sums.
func (a *Arena) plus(o *Arena) {
	a.Heaps += o.Heaps
	a.System += o.System
	a.Walked += o.Walked
	a.InUse.plus(o.InUse)
	for class, n := range o.Sizes {
		a.Sizes[class] += n
	}
	a.Bins.plus(o.Bins)
	a.Fast.plus(o.Fast)
	a.Tcache.plus(o.Tcache)
	a.Top += o.Top
	a.Overhead += o.Overhead
	a.Skipped += o.Skipped
	a.Trimmable += o.Trimmable
	a.Resident += o.Resident
	a.ResidentTrim += o.ResidentTrim
	a.ResidentTop += o.ResidentTop
	a.Estimated = a.Estimated || o.Estimated
}

// Heap is what malloc holds.
type Heap struct {
	// Arenas are all of them, the main arena first where it is in use.
	Arenas []Arena
	// Mapped are the blocks that have mappings of their own, as malloc counts them.
	Mapped Amount
	// MappedKnown says that malloc's own count of those was found.
	MappedKnown bool
	// Caches is of how many threads a cache with free blocks was found.
	Caches int
	// Counted says that resident pages were counted.
	Counted bool
	// ReadBytes is how much of the process' memory was read.
	ReadBytes uint64
	// Complete says that every arena was read to its end, and what was found in it is
	// what malloc counts, but for what changed meanwhile.
	Complete bool
	// Why says what is missing if it is not complete.
	Why string
}

// Total is the sum of all arenas.
func (h *Heap) Total() Arena {
	var sum Arena
	for i := range h.Arenas {
		sum.plus(&h.Arenas[i])
	}
	return sum
}

// Read reads what malloc holds. rows are the process' mappings, in address order. The
// error is [ErrNone], or that of Count; all else that goes wrong is in the result.
func Read(mem Memory, rows []procmaps.Mapping, o Options) (*Heap, error) {
	if o.Page == 0 {
		o.Page = 4096
	}
	if o.Bytes == 0 {
		o.Bytes = 4 << 30
	}
	s := &survey{rows: rows, opts: o, mem: newReader(mem, o)}
	arenas := s.find()
	if len(arenas) == 0 {
		return nil, ErrNone
	}
	h := &Heap{Counted: o.Count != nil}
	for i := range arenas {
		s.prepare(&arenas[i])
	}
	for i := range arenas {
		if err := s.read(&arenas[i]); err != nil {
			return nil, fmt.Errorf("count resident pages: %w", err)
		}
	}
	h.Caches = s.caches(arenas)
	s.judge(arenas, h)
	h.ReadBytes = s.mem.done
	return h, nil
}

// judge says of each arena, and of all, whether the figures are whole.
func (s *survey) judge(arenas []arena, h *Heap) {
	h.Complete = true
	missing := 0
	for i := range arenas {
		a := &arenas[i]
		if a.Why == "" {
			a.Why = a.mismatch()
		}
		if a.Why != "" {
			if missing++; missing == 1 {
				h.Why = a.Why
			}
			h.Complete = false
		}
		if a.System != 0 || a.Walked != 0 {
			h.Arenas = append(h.Arenas, a.Arena)
		}
	}
	if missing > 1 {
		h.Why = fmt.Sprintf("%d arenas: %s, and others", missing, h.Why)
	}
	if s.why != "" {
		h.Complete = false
		h.Why = join(h.Why, s.why)
	}
	for _, p := range s.params {
		h.Mapped.plus(p)
	}
	// A process may have several mallocs, by dlmopen, each with its own count.
	if h.MappedKnown = len(s.params) > 0 && len(s.params) == s.mains; !h.MappedKnown {
		h.Complete = false
		h.Why = join(h.Why, "malloc's count of blocks with mappings of their own was not found")
	}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// mismatch compares what was found with what malloc counts, before and after.
func (a *arena) mismatch() string {
	least, most := min(a.System, a.systemAfter), max(a.System, a.systemAfter)
	moved := most - least
	// What grew and shrank again meanwhile is seen in no count.
	if a.resyncs > 0 || moved > 0 {
		moved += most / 64
	}
	if a.Skipped > most/64 {
		return size(a.Skipped) + " of " + size(a.System) + " could not be read as chunks"
	}
	if a.Walked+moved < least || a.Walked > most+moved {
		return size(a.Walked) + " was found where malloc counts " + size(a.System)
	}
	return ""
}

func size(n uint64) string { return units.Bytes(float64(n)) }
