package tracer

import "github.com/maptrace/maptrace/bpf"

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
}

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
