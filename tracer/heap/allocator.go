package heap

import "github.com/maptrace/maptrace/procmaps"

// Function is what a function of an allocator does, by where its arguments are.
type Function uint8

// The functions.
const (
	Malloc        Function = iota // (size)
	Calloc                        // (number, size)
	Realloc                       // (block, size)
	ReallocArray                  // (block, number, size)
	AlignedAlloc                  // (alignment, size)
	PosixMemalign                 // (result, alignment, size)
	ThrowingNew                   // (size), which may throw an exception
	Leave                         // the instruction by which a ThrowingNew returns
	Free                          // (block, …)
)

// Point is where a function of an allocator is to be probed.
type Point struct {
	Offset   uint64 // in the file, bytes
	Function Function
	Stepped  bool // the kernel cannot do the instruction there by itself: it costs a trap more
}

// Allocator is a file with the functions of an allocator, as a process has mapped it.
type Allocator struct {
	Mapping procmaps.Mapping // of the code, or a part of it
	Points  []Point
}
