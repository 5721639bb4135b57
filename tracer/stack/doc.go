// Package stack unwinds the stack of a thread from its registers and a copy of
// its memory, without frame pointers: by the call frame information that ELF
// files carry for exceptions (.eh_frame) or for debuggers (.debug_frame).
//
// # Model
//
// [ReadTable] turns the call frame information of one file into a [Table]:
// sorted rows, each with the rule for a run of instructions. Rules say where
// the caller's registers are, in terms of the canonical frame address (CFA),
// the value of the stack pointer before the call. Files have few different
// rules, so a table is small: 169 KB for glibc, 2.5 MB for node; and made once,
// in 4 ms and 0.1 s.
//
// An [Unwinder] walks a [Sample]. Which code is where, and by which [Rule] it
// is unwound, it asks its caller, as it knows neither /proc nor symbols. Every
// walk ends with a reason, an [End]; only EndRoot is a whole stack.
//
// # What can be wrong
//
// Registers that a frame does not save are taken to be unchanged, as libgcc
// does. The chain of frame pointers misses a caller where the innermost
// function has not set up its frame yet, or never does, as some of Go's in
// assembly. A copy of the stack is not the stack: what lies above it, or on
// another stack, ends the walk with EndTruncated.
//
// # Hostile input
//
// Files and samples come from processes that are not trusted. Reading a table
// and walking a stack are bounded in time and memory, and do not panic.
//
// The formats are those of DWARF 5, section 6.4, the LSB ("Exception Frames"),
// and, for arm64, "DWARF for the Arm 64-bit Architecture".
package stack
