package tracer

import (
	"strconv"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Kind says what an Event reports.
type Kind uint8

// The kinds of events a Source gives.
const (
	KindCall     Kind = 1 + iota // a mapping call returned
	KindFork                     // a process was made
	KindExec                     // a process has a new image, in a new address space
	KindRow                      // one mapping of that image
	KindSeeded                   // the last of them was given
	KindExit                     // a process' last thread is exiting; Section, if set, is of none yet
	KindGone                     // an address space is gone
	KindOther                    // the mmap lock was write-held by something we do not decode
	KindStack                    // the stack grew
	KindAnnounce                 // a call has committed and will be reported much later
	KindLost                     // events were lost before this one
	KindSkipped                  // the kernel left out programs before this one, for whatever process
	KindFault                    // a page was touched: a sample of such events
	KindWrite                    // a watched word was written to
	KindTiming                   // how long a call took: slow ones, and a sample of the others
	KindLook                     // mappings were looked at: all of a process, if there is a Look
)

// claims tells whether an event stands for a section without being its owner.
func (k Kind) claims() bool { return k == KindOther || k == KindStack || k == KindAnnounce }

// Flags qualify an Event.
type Flags uint16

// The flags of an Event.
const (
	Stamped     Flags = 1 << iota // Time is the commit time, taken under the mmap lock
	HasSection                    // Section is set
	SharesSpace                   // KindFork: parent and child share the address space
	Remote                        // the caller belongs to another address space
	Incomplete                    // KindExec: no rows follow; KindFork: what the child holds is uncertain
	Unsampled                     // KindCall: it made memory larger, and its stack, though asked for, is not there
	Polled                        // it was noticed by looking at /proc, at Time, and is older
	NoStatus                      // KindExit: how it ended could not be seen
	NoLock                        // KindCall: from its entry to its return it let go of no mmap lock
)

// Event is one thing a Source reports. It is plain data: what the kernel said,
// not yet what it means. A Source may reuse what an Event refers to only after
// the next call.
type Event struct {
	Kind  Kind
	Flags Flags
	// NR is the system call of KindOther, -1 where there was none.
	NR      int16
	Section uint32 // of the mmap lock, wrapping
	TGID    int
	TID     int
	Time    uint64 // CLOCK_MONOTONIC, ns: when it took effect, or with no stamp when the call returned
	Space   uint64 // the address space's number in this run, never reused

	// Call is the call of KindCall.
	Call space.Call
	// Name is the call's own name where Call.Op covers several ("mlock2").
	Name string

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

	// Comm and the layout are those of KindExec's new image.
	Comm       string
	StartBrk   uint64
	Brk        uint64
	StartStack uint64

	// Status is the wait status of KindExit.
	Status uint32

	// Pages is by how many pages the stack grew, of KindStack.
	Pages int64

	// Lost is the number of records of KindLost, and of runs of KindSkipped.
	Lost uint64

	// Addr was touched, of KindFault, which stands for Weight faults on average: it
	// was taken by chance. Of KindWrite it is the word.
	Addr   uint64
	Weight uint64

	// Stratum is that of a KindCall that made memory larger, where stacks are asked
	// for.
	Stratum Stratum

	// Look is what KindLook found, nil if that is what was known.
	Look *Look

	// Timing is how long the Call of KindTiming took. Time is when it began.
	Timing *Timing

	// Sample is what the thread had in user mode, of KindFault, KindWrite, KindTiming, and of
	// a KindCall that made memory larger; nil where stacks are not asked for, and
	// with Unsampled.
	Sample *stack.Sample

	// Claimed is set by the loop: the section was reported before by a claim.
	Claimed Kind

	key uint64 // the queue's
}

// Process is one traced process. The loop owns it; copies are handed out.
type Process struct {
	PID        int
	Inner      int    // its number in its own pid namespace, where that is another; else 0
	Parent     int    // 0 if it was there when tracing began
	Comm       string // of its newest image
	Space      uint64
	StartTime  uint64 // CLOCK_BOOTTIME, ns
	Generation int    // how many images it has had since tracing began
	Exited     bool
	Status     uint32 // wait status, when Exited
	NoStatus   bool   // it is not known
}

// ExitText says in a word how an exited process ended.
func (p *Process) ExitText() string {
	if p.NoStatus {
		return "status not seen"
	}
	if sig := p.Status & 0x7f; sig != 0 {
		return "signal " + strconv.Itoa(int(sig))
	}
	return "status " + strconv.Itoa(int(p.Status>>8&0xff))
}

// Source gives events in the order in which they arrived. Next returns ErrIdle
// when there is none now, and io.EOF when there will be none any more.
type Source interface {
	Next(ev *Event) error
}

// World is what the loop asks about living processes. A recording has none. Its
// methods may be called from two goroutines.
type World interface {
	// Now is the clock of Event.Time.
	Now() uint64
	// Look reads the mappings of a process that overlap r. Full asks for what
	// smaps alone knows of them. The error is procmaps.ErrGone if the process is
	// no more.
	Look(pid int, r procmaps.Range, full bool) (Look, error)
	// Path is the name the kernel gives the mapping at addr, or "".
	Path(pid int, addr uint64) string
	// Tasks are the traced processes that live.
	Tasks() ([]Task, error)
	// Forget is told that a process is no more.
	Forget(pid int)
}

// Look is what reading a process' mappings gave.
type Look struct {
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
