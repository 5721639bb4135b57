package tracer

import (
	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Sampling is what samplers ask an engine for.
type Sampling interface {
	// Now is the clock of events.
	Now() uint64
	// FaultsErr says why no page faults are reported though they were asked for; nil
	// if they are, or were not.
	FaultsErr() error
	// Touched appends the pieces of memory in which page faults were since it was asked
	// last to dst. PieceBytes is the size of such a piece.
	Touched(dst []Touch) ([]Touch, error)
	PieceBytes() uint64
	// StackCounters say why calls and faults have no stack.
	StackCounters() (StackCounters, error)
	// Watch watches the next writes, most of them, of a thread to a word of memory: they
	// come as events of KindWrite.
	Watch(tid int, addr uint64, most int) (Watchpoint, error)
	// Births is how many threads have begun in an address space since a moment that
	// does not change.
	Births(space uint64) (uint64, error)
	Heaps
}

// Heaps tell of blocks of heaps, while their allocators are probed.
type Heaps interface {
	// HeapErr says why no heaps can be sampled though it was asked for; nil if they can, or
	// it was not.
	HeapErr() error
	// SampleHeap has blocks of an address space told while ProbeHeap's probes are there,
	// until ForgetHeap. HeapCalls are the calls that were seen since.
	SampleHeap(space uint64) error
	ForgetHeap(space uint64) error
	HeapCalls(space uint64) (HeapCalls, error)
	// ProbeHeap puts probes on allocators for a process, until they are closed, which
	// takes tens of milliseconds. Files are what each can be opened by. Burst is another
	// number each time. It may be called by any goroutine, as may HeapCalls.
	ProbeHeap(pid int, all []heap.Allocator, files []string, burst uint32) (HeapProbes, error)
	// HeapPrice is what a call takes longer by while it is probed: of which the kernel does
	// the probed instruction itself, and of which it does not. It is measured once, which
	// takes 100 ms. It may be called by any goroutine.
	HeapPrice() (HeapPrice, error)
	// NextBlock reads the next of what was told; it is ErrIdle when all was read. For one
	// goroutine.
	NextBlock(b *HeapBlock) error
	// ForgetBlock ends the waiting for the end of a sample.
	ForgetBlock(space, addr uint64) error
	// BlocksDropped is how many samples and ends could not be told.
	BlocksDropped() (uint64, error)
}

// HeapProbes are probes on the allocators of a process.
type HeapProbes interface {
	// CloseAllocs takes those away that see what is allocated, and Close all.
	CloseAllocs() error
	Close() error
}

// HeapCalls are how often functions of allocators were seen to be called.
type HeapCalls = bpf.HeapCalls

// HeapPrice is what calls of allocators cost: see bpf.HeapPrice.
type HeapPrice = bpf.HeapPrice

// HeapBlock is what happened to a block of a heap.
type HeapBlock struct {
	What  BlockWhat
	Time  uint64 // CLOCK_MONOTONIC, ns
	Space uint64
	Addr  uint64
	Size  uint64 // BlockBorn and BlockMoved: as it was asked for, in bytes
	Old   uint64 // of realloc(3): where it was; 0 if nowhere
	// Weight is how many calls at that time a BlockBorn stands for.
	Weight float64
	// Header is the word before the block when the call returned, and OldHeader, of
	// BlockBorn, that before the old one when it began; 0 if they could not be read. The
	// Header of BlockMark is the block's second word.
	Header, OldHeader uint64
	// First is the block's first word when a BlockBorn returned, or when that of a BlockMark
	// was freed.
	First   uint64
	Changed BlockChanged // BlockMark
	Words   [8]uint64    // BlockContents; those beyond the block's end say nothing
	Sample  stack.Sample // BlockBorn: of who has called the allocator
}

// BlockWhat says what a HeapBlock tells.
type BlockWhat uint8

// What a HeapBlock may tell.
const (
	BlockBorn     BlockWhat = iota // it was allocated, and is a sample
	BlockFreed                     // a sample was seen to be freed
	BlockReused                    // its address was given out again: it was freed before
	BlockMoved                     // it was realloc(3)ated: Addr and Size are new
	BlockMark                      // what freeing a sample has changed: its second word is Header now
	BlockContents                  // what was in a sample a moment after, when it was surely there
)

// BlockChanged are the words of a block that freeing it has changed, as bits.
type BlockChanged = bpf.Changed

// The words.
const (
	ChangedBefore = bpf.ChangedBefore // the one before it
	ChangedFirst  = bpf.ChangedFirst
	ChangedSecond = bpf.ChangedSecond
)

// Touch is a piece of memory in which a page fault was.
type Touch = bpf.Touch

// Watchpoint is a thread that watches a word.
type Watchpoint interface {
	// Writes is how many writes there were, of those that are to be told.
	Writes() (uint64, error)
	Close() error
}

// StackCounters say why calls and faults have no stack, and how many faults there
// were in all.
type StackCounters struct {
	Chance  uint64 // calls: there were too many, and chance passed them over
	Dropped uint64 // the ring of stacks had no room
	Busy    uint64 // the CPU was in the midst of another
	Unread  uint64 // faults and writes: too many others waited to be looked at
	Faults  uint64 // of traced processes, sampled or not
	Touches uint64 // of these, those that Touched does not tell of
}
