package model

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// Kind says what a Change is.
type Kind uint8

// The kinds of changes. Sources use the numbers from FreeKind on for what is their own.
const (
	KindCall       Kind = 1 + iota // a mapping call returned
	KindFork                       // a process was made
	KindExec                       // a process has a new image, in a new address space
	KindExit                       // a process' last thread is exiting
	KindLost                       // events were lost before this one
	KindFault                      // a page was touched: a sample of such events
	KindWrite                      // a watched word was written to
	KindMade                       // something was made that holds memory without a mapping: a sample
	KindTiming                     // how long a call took: slow ones, and a sample of the others
	KindReread                     // a look at /proc found something
	KindDrift                      // an audit found a difference
	KindBegin                      // a process' mappings are known: its start
	KindUnkept                     // what is mapped is not kept any more: there are too many rows
	KindSuppressed                 // a call was given a result that says success, and was not executed
	FreeKind
)

// Change is one thing that happened. It is valid until whoever is told of it returns.
type Change struct {
	Kind    Kind
	Flags   Flags
	NR      int16 // of KindReread: the system call that was under way, -1 for none
	TGID    int
	TID     int
	Time    uint64 // CLOCK_MONOTONIC, ns: when it took effect
	Space   uint64 // the address space's number in this run, never reused
	Process *Process

	// Call is that of KindCall, KindSuppressed and KindTiming. Of KindReread it has the
	// operation that the changes are put down to.
	Call *space.Call
	// Effect is what a KindCall did to the tree.
	Effect *space.Effect
	// Site is the site of a KindFault, KindWrite or KindMade, and of a KindCall, KindFork or
	// KindTiming that has one.
	Site uint32

	// Child is the new process of KindFork, and Inner its number in its own pid
	// namespace. ChildSpace is 0 if it is not followed.
	Child, Inner int
	ChildSpace   uint64
	Comm         string // of KindExec: the name of the new image

	// Addr was touched, of KindFault, which stands for Weight faults on average: it
	// was taken by chance. Of KindWrite it is the word.
	Addr, Weight uint64
	// Made is what a KindMade is about: not each is told.
	Made procmaps.HeldID
	// At is what is mapped where a KindFault touched, the zero Extent if nothing
	// is known to be.
	At space.Extent

	// Timing is how long the Call of KindTiming took. Time is when it began.
	Timing *Timing
	// Start is what is mapped at a KindBegin.
	Start *space.Packed
	// Found is what a look at /proc showed that no call had told of: growth of
	// the stack, mappings made by the kernel, repairs after a loss. Found are
	// changes of KindReread.
	Found []space.Change
	// Drift is where the tree differed from /proc, of KindDrift.
	Drift []space.Drift
	// Lost is the number of records of KindLost.
	Lost uint64
}
