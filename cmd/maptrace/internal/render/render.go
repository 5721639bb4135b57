// Package render turns what the tracer tells into lines of text and JSON. All
// names come from traced programs and are escaped.
package render

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/space"
)

// Clock turns the kernel's CLOCK_MONOTONIC stamps into times of day.
type Clock struct {
	wall time.Time
	mono uint64
}

// NewClock ties the two clocks together; mono is CLOCK_MONOTONIC now, in ns.
func NewClock(wall time.Time, mono uint64) Clock { return Clock{wall, mono} }

// Time is the time of day of a stamp.
func (c Clock) Time(stamp uint64) time.Time {
	return c.wall.Add(time.Duration(int64(stamp - c.mono)))
}

// Text is the time of day of a stamp, to the microsecond.
func (c Clock) Text(stamp uint64) string { return c.Time(stamp).Format("15:04:05.000000") }

// inside is what follows the number of a process where it goes by another in its
// own pid namespace; inner is 0 where it does not.
func inside(inner int) string {
	if inner == 0 {
		return ""
	}
	return " (" + strconv.Itoa(inner) + " inside)"
}

// Event is what both forms show of a change. Strings are not escaped yet.
type Event struct {
	Op        string
	Time      uint64
	PID, TID  int
	NSPID     int // the process' number in its own pid namespace, where that is another
	Space     uint64
	Range     procmaps.Range
	From      procmaps.Range // mremap: the source
	Delta     int64          // bytes
	Now       space.Extent   // what is mapped at Range.Start, if Mapped
	Mapped    bool
	Displaced []space.Displaced
	Errno     unix.Errno
	Half      bool // the call failed, and changed something before
	// Suppressed is set for a call that seccomp gave the Result without executing it.
	Suppressed bool
	Result     int64

	Detail string // what else there is to say, for people
	Child  int    // of a fork
	Comm   string // of an exec
	Lost   uint64 // records
	Ended  bool   // an exit whose end was seen, with:
	Status int
	Signal int // that killed it, 0 for none
	Late   bool
	Polled bool // seen by polling: when it happened, and who did it, is not known

	// Stack is the stack of the call, innermost function first, where it was asked
	// for and is there; the names are as the program has them.
	Stack []string
}

// Kind is the kind of mapping the event is about, 0 for none.
func (e *Event) Kind() procmaps.Kind {
	if e.Mapped {
		return e.Now.Kind
	}
	if len(e.Displaced) > 0 {
		return e.Displaced[0].Kind
	}
	return 0
}

// Name is the name of the mapping the event is about, as maps prints it.
func (e *Event) Name() string {
	if e.Mapped {
		return e.Now.Name
	}
	if len(e.Displaced) > 0 {
		return e.Displaced[0].Name
	}
	return ""
}

// Size is the size of what the event is about, in bytes.
func (e *Event) Size() uint64 {
	if e.Delta < 0 {
		return uint64(-e.Delta)
	}
	return max(uint64(e.Delta), e.Range.Len())
}

// AppendEvents appends the lines of a change: most have one, a look at /proc one for each
// thing found, and some nothing worth a line.
func AppendEvents(dst []Event, c *tracer.Change) []Event {
	e := Event{Time: c.Time, PID: c.TGID, TID: c.TID, Space: c.Space, Polled: c.Flags&tracer.Polled != 0}
	if c.Process != nil && c.Process.PID == c.TGID {
		e.NSPID = c.Process.Inner
	}
	switch c.Kind {
	case tracer.KindCall:
		return callEvent(dst, e, c)
	case tracer.KindSuppressed:
		e.Op, e.Range = tracer.CallName(c.Call.Op, c.Call.Sub), asked(c.Call)
		e.Suppressed, e.Result = true, c.Call.Ret
	case tracer.KindFork:
		e.Op, e.Child, e.Detail = "fork", c.Child, "child "+strconv.Itoa(c.Child)
		if c.Inner != c.Child {
			e.Detail += inside(c.Inner)
		}
		switch {
		case c.Flags&tracer.SharesSpace != 0:
			e.Detail += ", which shares the address space"
		case c.ChildSpace == 0:
			e.Detail += ", not followed"
		}
	case tracer.KindExec:
		e.Op, e.Comm, e.Detail = "exec", c.Comm, c.Comm
	case tracer.KindExit:
		e.Op = "exit"
		if c.Process != nil {
			e.Detail = c.Process.ExitText()
			e.Ended, e.Signal, e.Status = !c.Process.NoStatus, int(c.Process.Status&0x7f), int(c.Process.Status>>8&0xff)
		}
	case tracer.KindReread:
		return foundEvents(dst, e, c)
	case tracer.KindDrift:
		return driftEvents(dst, e, c)
	case tracer.KindUnkept:
		e.Op, e.Detail = "unkept", "its mappings are not kept any more: --memory was reached"
	case tracer.KindLost:
		e.Op, e.Lost, e.Detail = "lost", c.Lost, strconv.FormatUint(c.Lost, 10)
	default:
		return dst
	}
	return append(dst, e)
}

func callEvent(dst []Event, e Event, c *tracer.Change) []Event {
	e.Op = tracer.CallName(c.Call.Op, c.Call.Sub)
	eff := c.Effect
	e.Range, e.From, e.Delta, e.Late = eff.Range, eff.From, eff.Delta, eff.Late
	e.Now, e.Displaced = eff.Now, eff.Displaced
	e.Mapped = e.Now.Kind != 0
	if e.Errno = errnoOf(c.Call); e.Errno != 0 {
		e.Half = eff.Changed
		if e.Range.Empty() {
			e.Range = asked(c.Call)
		}
		return append(dst, e)
	}
	if c.Call.Op == space.OpBrk && e.Range.Empty() {
		return dst // a question, or refused: brk(2) knows no errors
	}
	if c.Call.Op == space.OpMadvise {
		e.Detail = advice(c.Call.Args[2])
	}
	return append(dst, e)
}

// errnoOf is the error that a call returned, 0 for none.
func errnoOf(c *space.Call) unix.Errno {
	if c.Failed() {
		return unix.Errno(-c.Ret)
	}
	return 0
}

// asked is the range that a failed call named. For mmap the address may be 0:
// the kernel's to choose.
func asked(c *space.Call) procmaps.Range {
	addr, size := c.Args[0], c.Args[1]
	switch {
	case c.Sub == space.SubMlockall, c.Sub == space.SubMunlockall:
		return procmaps.Range{}
	case c.Op == space.OpShmat:
		addr, size = c.Args[1], 0
	case c.Op == space.OpShmdt:
		size = 0
	case c.Op == space.OpSetVMA:
		addr, size = c.Args[2], c.Args[3]
	}
	return procmaps.Range{Start: addr, End: addr + size}
}

func foundEvents(out []Event, e Event, c *tracer.Change) []Event {
	for _, f := range c.Found {
		f1 := e
		f1.Op, f1.Range, f1.Now = c.Call.Op.String(), f.Range, f.Now
		f1.Mapped = f.Now.Kind != 0
		switch {
		case f.Was.Kind == 0:
			f1.Delta = int64(f.Range.Len())
		case f.Now.Kind == 0:
			f1.Delta = -int64(f.Range.Len())
			f1.Displaced = []space.Displaced{{Extent: f.Was, How: space.Unmapped}}
		case f.Was.Mode != f.Now.Mode && c.Call.Op != space.OpMmap:
			f1.Displaced = []space.Displaced{{Extent: f.Was, How: space.Protected}}
		default:
			f1.Displaced = []space.Displaced{{Extent: f.Was, How: space.Replaced}}
		}
		if c.Call.Op == space.OpOther && c.NR >= 0 {
			f1.Detail = "by system call " + strconv.Itoa(int(c.NR))
		}
		out = append(out, f1)
	}
	return out
}

func driftEvents(out []Event, e Event, c *tracer.Change) []Event {
	for _, d := range c.Drift {
		d1 := e
		d1.Op, d1.Range, d1.Now, d1.Mapped = "drift", d.Range, d.Tree, d.Tree.Kind != 0
		d1.Detail = d.What.String()
		if !d.Row.Empty() {
			d1.Detail += ", the kernel has " + d.Row.Mode.String() + " " + d.Row.Name
		}
		out = append(out, d1)
	}
	return out
}

// advices of madvise(2), from include/uapi/asm-generic/mman-common.h.
var advices = map[uint64]string{
	0: "normal", 1: "random", 2: "sequential", 3: "willneed", 4: "dontneed", 8: "free", 9: "remove",
	10: "dontfork", 11: "dofork", 12: "mergeable", 13: "unmergeable", 14: "hugepage", 15: "nohugepage",
	16: "dontdump", 17: "dodump", 18: "wipeonfork", 19: "keeponfork", 20: "cold", 21: "pageout",
	22: "populate_read", 23: "populate_write", 24: "dontneed_locked", 25: "collapse",
	102: "guard_install", 103: "guard_remove",
}

func advice(n uint64) string {
	if s, ok := advices[n&0xffffffff]; ok {
		return s
	}
	return "advice " + strconv.FormatUint(n, 10)
}

// Name is a mapping's name for people: [ anon ] for nameless memory, the last
// element of a path unless paths are wanted, and safe for a terminal.
func Name(name string, paths bool) string {
	switch {
	case name == "":
		return procmaps.AnonName
	case !paths:
		name = procmaps.ShortName(name)
	}
	return table.Escape(name)
}
