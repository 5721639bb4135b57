package model

import (
	"slices"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// Operation is one thing that has happened, at its place in the order. It is plain
// data. What kind of thing it is the type of its Body says.
type Operation struct {
	Time  uint64 // CLOCK_MONOTONIC, ns: when it took effect
	Space uint64 // the address space, a number that is never used again; 0 for none
	TGID  int    // who did it, 0 where that is not known
	TID   int
	Flags Flags
	Body  Body
}

// Clone returns a copy that shares nothing with what the owner of the operation will
// use again.
func (o *Operation) Clone() Operation {
	c := *o
	c.Body = o.Body.clone()
	return c
}

// Body is what an operation does. That of a Call is a pointer, so that whoever makes it
// can use one again and again: there are many.
type Body interface{ clone() Body }

// Flags qualify an Operation, and the Change that comes of it.
type Flags uint16

// The flags. Sources use the bits from FreeFlag on for what is their own.
const (
	SharesSpace Flags = 1 << iota // Fork: parent and child share the address space
	Unsampled                     // Call: it made memory larger, and its stack, though asked for, is not there
	Polled                        // it was noticed by looking at /proc, at Time, and is older
	NoStatus                      // Exit: how it ended could not be seen
	FreeFlag
)

// The bodies that make processes and address spaces, and end them.
type (
	// Layout makes an address space of which nothing is known but where its heap and
	// its stack begin, if that.
	Layout struct{ StartBrk, Brk, Stack uint64 }

	// Join puts the process TGID into an address space: a new one, or one that turns
	// out to live there now.
	Join struct {
		Inner     int // its number in its own pid namespace, 0 if not known
		Parent    int // 0 if it was there before
		Comm      string
		StartTime uint64 // CLOCK_BOOTTIME, ns
		Numbered  bool   // the kernel numbers the write sections of the space's lock
	}

	// Exec gives the process TGID a new image, in an empty address space.
	Exec struct {
		Layout
		Comm     string
		Numbered bool
	}

	// Fork tells of a child. What it holds is a Clone's business.
	Fork struct {
		Child, Inner int
		ChildSpace   uint64 // 0 if it is not followed
		Site         uint32 // of who has made it; 0 if that is not known
	}

	// Clone makes the address space a copy of its parent's, as of Time.
	Clone struct{ Parent uint64 }

	// Exit ends the process TGID.
	Exit struct{ Status uint32 }

	// Gone ends the address space.
	Gone struct{}
)

// The bodies that change what is mapped.
type (
	// Seed is what was mapped when tracing began. Time is before it was read.
	Seed struct {
		Rows  []space.Row
		Ended uint64 // the time after the read
	}

	// Begin says that what is mapped is known from here on.
	Begin struct{}

	// Complete says that the tree holds everything, or may not.
	Complete bool

	// Call is a system call that has returned.
	Call struct {
		*space.Call        // with the path of the file, and the site in its origin
		Site        uint32 // the number of the site, 0 for none
		Fate        Fate
	}

	// Stack is growth of the main thread's stack by a page fault.
	Stack struct {
		procmaps.Range
		Mode procmaps.Mode
		NR   int16 // the system call that was under way, -1 for none
	}

	// Reread is what a read of some range has found, where no call told of it. Time is
	// before the read.
	Reread struct {
		Range procmaps.Range
		Rows  []space.Row
		Ended uint64
		Op    space.Op // what the changes that it finds are called
		NR    int16
	}

	// Seen is everything that is mapped, as polling has found it.
	Seen struct {
		Rows         []space.Row
		Began, Ended uint64
	}

	// Doubt says that nobody knows what a range holds since Time.
	Doubt procmaps.Range

	// Undecoded says that something was done of which no call tells: besides what a Doubt
	// is about, memory may have taken fork advices, and be registered with a userfaultfd.
	Undecoded struct{}

	// SetLayout says that where the heap and the stack begin was set.
	SetLayout Layout

	// Prune lets the tree forget when things before Time happened.
	Prune struct{}
)

// The bodies that tell how far a tree can be trusted, and what else was seen.
type (
	// Drift is where an audit found that the tree is wrong.
	Drift []space.Drift

	// Approximate says why the tree is not right from here on.
	Approximate string

	// Audit is what an audit has come to, where that is new.
	Audit struct {
		Compared   bool         // at least something
		Unverified []Unverified // what has not been compared for long
	}

	// Violations is how many of the things that a call did cannot have happened to the
	// tree as it was, though nothing was lost.
	Violations int

	// Missed says that something has changed that nobody reported.
	Missed struct{}

	// Resynced says that all of it was read again.
	Resynced struct{}

	// Lost is how many records were lost.
	Lost uint64

	// Fault is a page fault, one of a sample: it stands for Weight on average.
	Fault struct {
		Addr, Weight uint64
		Site         uint32
	}

	// Write is a write to a word that is watched.
	Write struct {
		Addr uint64
		Site uint32
	}

	// Made says that something was made that holds memory without a mapping.
	Made struct {
		procmaps.HeldID
		Site uint32
	}

	// Timed is how long a call took. Time is when it began.
	Timed struct {
		Call   *space.Call
		Timing *Timing
		Site   uint32
	}
)

// Unverified is a range that no audit has compared since a time, though several have tried.
type Unverified struct {
	procmaps.Range
	Since uint64
}

// Fate is what became of a call.
type Fate uint8

// The fates.
const (
	Applied    Fate = iota // it took effect as its result says
	Refused                // it has changed nothing, and is told
	Suppressed             // it was given a result that says success, and was not executed
	Counted                // it is counted, no more: nothing came of it, or what did is read from /proc
)

func (b Layout) clone() Body      { return b }
func (b Join) clone() Body        { return b }
func (b Exec) clone() Body        { return b }
func (b Fork) clone() Body        { return b }
func (b Clone) clone() Body       { return b }
func (b Exit) clone() Body        { return b }
func (b Gone) clone() Body        { return b }
func (b Begin) clone() Body       { return b }
func (b Complete) clone() Body    { return b }
func (b Stack) clone() Body       { return b }
func (b Doubt) clone() Body       { return b }
func (b Undecoded) clone() Body   { return b }
func (b SetLayout) clone() Body   { return b }
func (b Prune) clone() Body       { return b }
func (b Approximate) clone() Body { return b }
func (b Missed) clone() Body      { return b }
func (b Violations) clone() Body  { return b }
func (b Resynced) clone() Body    { return b }
func (b Lost) clone() Body        { return b }
func (b Fault) clone() Body       { return b }
func (b Write) clone() Body       { return b }
func (b Made) clone() Body        { return b }
func (b Figures) clone() Body     { return b }

func (b *Call) clone() Body { return &Call{copyOf(b.Call), b.Site, b.Fate} }

func (b Timed) clone() Body {
	b.Call, b.Timing = copyOf(b.Call), copyOf(b.Timing)
	return b
}

func copyOf[T any](p *T) *T {
	c := *p
	return &c
}

func (b Seed) clone() Body   { b.Rows = slices.Clone(b.Rows); return b }
func (b Reread) clone() Body { b.Rows = slices.Clone(b.Rows); return b }
func (b Seen) clone() Body   { b.Rows = slices.Clone(b.Rows); return b }
func (b Drift) clone() Body  { return slices.Clone(b) }
func (b Audit) clone() Body  { b.Unverified = slices.Clone(b.Unverified); return b }
