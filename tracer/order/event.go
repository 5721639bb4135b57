package order

import (
	"errors"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// The kinds of events that only a Source gives, beside those that become changes:
// KindCall, KindFork, KindExec, KindExit, KindLost, KindFault, KindWrite, KindMade and KindTiming of
// package model. Of KindExit, Section, if set, is of none yet.
const (
	KindRow      = model.FreeKind + iota // one mapping of a new image
	KindSeeded                           // the last of them was given
	KindGone                             // an address space is gone
	KindOther                            // the mmap lock was write-held by something we do not decode
	KindStack                            // the stack grew
	KindAnnounce                         // a call has committed and will be reported much later
	KindSkipped                          // the kernel left out programs before this one, for whatever process
	KindLook                             // mappings were looked at: all of a process, if there is a Look
	KindLayout                           // where the heap and the stack begin was set
)

// claims tells whether an event of a kind stands for a section without being its owner.
func claims(k model.Kind) bool { return k == KindOther || k == KindStack || k == KindAnnounce }

// The flags of an Event, beside those of package model.
const (
	Stamped    = model.FreeFlag << iota // Time is the commit time, taken under the mmap lock
	HasSection                          // Section is set
	Remote                              // the caller belongs to another address space
	Incomplete                          // KindExec: no rows follow; KindFork: what the child holds is uncertain
	NoLock                              // KindCall: from its entry to its return it let go of no mmap lock
)

// told are the flags that an operation has of its event.
const told = model.FreeFlag - 1

// Event is one thing a Source reports. It is plain data: what the kernel said,
// not yet what it means. A Source must not use again what an Event refers to:
// events may wait.
type Event struct {
	Kind  model.Kind
	Flags model.Flags
	// NR is the system call of KindOther, -1 where there was none.
	NR      int16
	Section uint32 // of the mmap lock, wrapping
	TGID    int
	TID     int
	Time    uint64 // CLOCK_MONOTONIC, ns: when it took effect, or with no stamp when the call returned
	Space   uint64 // the address space's number in this run, never reused

	// Call is the call of KindCall.
	Call space.Call

	// Found is, of a KindCall that was completed by what was found in its place, the
	// first section that cannot have changed that; else 0.
	Found uint32

	// Row is the mapping of KindRow.
	Row space.Row

	// Child is the new process of KindFork. ChildSpace is 0 if it is not followed.
	Child      int
	ChildSpace uint64
	// Inner is the child's number in its own pid namespace.
	Inner int
	// First is the first section sure to be reported in the new space of
	// KindFork and KindExec.
	First uint32
	// StartTime is the child's, CLOCK_BOOTTIME in ns.
	StartTime uint64

	// Comm and the layout are those of KindExec's new image; the layout also of KindLayout.
	Comm       string
	StartBrk   uint64
	Brk        uint64
	StartStack uint64

	// Status is the wait status of KindExit.
	Status uint32

	// Pages is by how many pages the stack grew, of KindStack, and how many the child has,
	// of KindFork, 0 if that is not known. Of KindSeeded it is how many rows there are.
	Pages int64

	// Lost is the number of records of KindLost, and of runs of KindSkipped.
	Lost uint64

	// Addr was touched, of KindFault, which stands for Weight faults on average: it
	// was taken by chance. Of KindWrite it is the word.
	Addr   uint64
	Weight uint64

	// Made is what a KindMade is about.
	Made procmaps.HeldID

	// Stratum is that of a KindCall that made memory larger, where stacks are asked
	// for.
	Stratum model.Stratum

	// Look is what KindLook found, nil if that is what was known.
	Look *Look

	// Timing is how long the Call of KindTiming took. Time is when it began.
	Timing *model.Timing

	// Sample is what the thread had in user mode, of KindFault, KindWrite, KindMade, KindTiming, and of
	// a KindCall that made memory larger; nil where stacks are not asked for, and
	// with Unsampled.
	Sample *stack.Sample

	// Claimed is set by the loop: the section was reported before by a claim.
	Claimed model.Kind

	key uint64 // the queue's
}

// ErrIdle is returned by a Source that has no event now.
var ErrIdle = errors.New("no event now")

// Source gives events in the order in which they arrived. Next returns ErrIdle
// when there is none now, and io.EOF when there will be none any more.
type Source interface {
	Next(ev *Event) error
}

// Lossy is a Source that can be asked for losses ahead of the events it still has: as long
// as more come than are handled, Next does not get to them.
type Lossy interface {
	// Loss gives an event of KindLost or KindSkipped if there was a loss that none has
	// told of yet; else it returns ErrIdle.
	Loss(ev *Event) error
}

// World is what the loop asks about living processes; tests that have only events have
// none. Its methods may be called from two goroutines.
type World interface {
	// Now is the clock of Event.Time.
	Now() uint64
	// Look reads the mappings of a process that overlap r. Full asks for what
	// smaps alone knows of them. The error is procmaps.ErrGone if the process is
	// no more. Take is called with how many rows are to be kept, before they are, as
	// often as there are some; an error of it ends the read.
	Look(pid int, r procmaps.Range, full bool, take func(rows int) error) (Look, error)
	// Path is the name the kernel gives the mapping at addr if it is of that file, else "".
	Path(pid int, addr uint64, dev procmaps.Device, inode uint64) string
	// Tasks are the traced processes that live.
	Tasks() ([]Task, error)
	// Forget is told that a process is no more.
	Forget(pid int)
}

// Look is what reading a process' mappings gave.
type Look struct {
	// Err is why there are no rows, of one that a Source has taken; all else is not set then.
	Err   error
	Rows  []space.Row
	At    uint64 // the time before the read
	Until uint64 // the time after it
	// Space is the address space the process had after the read, 0 if none.
	Space uint64
	// Section is the first section that cannot have changed what was read.
	Section    uint32
	HasSection bool
}

// Task is a traced process as the kernel knows it now.
type Task struct {
	PID        int
	Inner      int // its number in its own pid namespace; 0 says nothing
	Space      uint64
	StartTime  uint64
	StartBrk   uint64
	Brk        uint64
	StartStack uint64
	Section    uint32 // the first section sure to be reported
	HasSection bool
	Comm       string
}
