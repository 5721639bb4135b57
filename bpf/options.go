package bpf

import "time"

// DefaultRingBytes is the size of the ring unless told otherwise: 80 times what
// 350,000 events/s produce between two reads 5 ms apart.
const DefaultRingBytes = 16 << 20

// Options say how the programs are loaded. The zero value is usable.
type Options struct {
	// RingBytes is the size of the ring of records, a power of two and a
	// multiple of the page size; 0 means DefaultRingBytes.
	RingBytes int
	// NoFollow leaves the children of traced processes alone.
	NoFollow bool
	// Stacks asks for the user stacks of calls that make memory larger, and of
	// page faults. Nil asks for none, and costs nothing.
	Stacks *StackOptions
	// Latency asks for how long mapping calls take. Nil asks for nothing, and
	// costs nothing.
	Latency *LatencyOptions
}

// StackOptions say which stacks are wanted and what they may cost. The zero
// value is usable.
type StackOptions struct {
	// Bytes is how much of a stack is copied, up to 64 KiB; 0 means
	// DefaultStackBytes.
	Bytes int
	// Rate is how many stacks of calls one address space is to send a second; 0
	// means DefaultStackRate, and fewer than 8 mean 8, as of all rates here. Where
	// there are more calls, fewer of them are taken, by chance: up to twice the rate
	// are. Each place that calls come from has a sixteenth of it to itself.
	Rate int
	// FaultRate is the same for page faults, whatever place they come from; 0 asks for
	// none of them.
	FaultRate int
	// BlockRate is how many blocks of its heap one address space is to send a second,
	// each with its stack, while its allocator is probed ([Hooks.ProbeHeap]); 0 asks for
	// none. Each place that calls come from has a sixteenth of it to itself.
	BlockRate int
	// Writes permits [Hooks.Watch].
	Writes bool
	// RingBytes is the size of their ring, a power of two and a multiple of the
	// page size; 0 means DefaultRingBytes.
	RingBytes int
}

// What a stack may cost unless told otherwise. 16 KiB hold nearly every stack
// whole, and take 2 to 4 µs to copy.
const (
	DefaultStackBytes = 16 << 10
	DefaultStackRate  = 2000
	MaxStackBytes     = 64 << 10
)

// Touch is a piece of an address space that a page fault was in.
type Touch struct {
	Space uint64
	Addr  uint64 // where the piece begins; it is PieceBytes long
}

// LatencyOptions say what is measured of mapping calls. The zero value is usable.
type LatencyOptions struct {
	// Slow is what a slow call takes at least; 0 means DefaultSlow.
	Slow time.Duration
	// Rate is how many slow calls of one operation are to be sent a second, and how
	// many of the others; 0 means DefaultTimingRate. Where there are more, fewer of
	// them are taken, by chance: up to twice the rate are. The calls that RaiseWorst
	// speaks of are sent beside.
	Rate int
}

// What is sent of calls unless told otherwise. The stack of one takes 2 to 4 µs.
const (
	DefaultSlow       = 100 * time.Microsecond
	DefaultTimingRate = 250
)

// HeapCalls are how often the functions of an allocator were called by an address space
// while they were probed.
type HeapCalls struct {
	Allocs uint64 // those of realloc(3) among them
	Leaves uint64 // of them, those that were seen at a [HeapLeave]
	// Samples are those of them whose stacks were copied.
	Samples uint64
	Frees   uint64
	Faults  uint64 // page faults, while they were probed or not, if those are seen ([StackOptions].FaultRate)
}

// Changed are the words of a block that freeing it has changed, as bits.
type Changed uint8

// The words.
const (
	ChangedBefore Changed = 1 << iota // the one before it
	ChangedFirst
	ChangedSecond
)

// HeapPrice is what a call takes longer by for each probe that it meets: where the kernel
// does the probed instruction itself, and where it has it stepped over.
type HeapPrice struct{ Emulated, Stepped time.Duration }
