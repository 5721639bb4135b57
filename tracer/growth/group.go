package growth

import (
	"cmp"
	"strconv"
	"time"
)

// What says what a group's memory is for.
type What uint8

// The purposes of memory. Other is the group of all that has none of its own.
const (
	Other       What = iota
	Anon             // private memory without a file or a name
	NamedAnon        // the same, named by the program; Key.Name is the name
	Heap             // the brk heap
	Arena            // a heap of a glibc malloc arena, its reserve included
	Pool             // the heap of a runtime or an allocator, made during the watch; Key.Name is its name
	Reserve          // address space that a runtime sets aside and opens up as it goes
	Stack            // the main thread's stack
	ThreadStack      // the stacks of the other threads
	File             // a file or a device; Key.Name is the path
	Shm              // System V or POSIX shared memory, shared anonymous memory
	Memfd            // a memfd; Key.Name is its name
	Special          // mapped by the kernel

	// What is charged to a process beside what is resident in its mappings. A holding has
	// it as Resident, and nothing else.
	PageTables // those of its mappings
	Copied     // pages that were shared with another process since fork(2), and copied
	Written    // pages of private mappings of files that were written to: they are no longer the file's
	Held       // shared memory that it holds by descriptors, or has made, and maps nowhere; Key.Name is its name
	Tmpfs      // files on tmpfs that it has open; Key.Name is the path

	Processes // those of one name, together; Key.Name is the name

	// What is charged to a cgroup.
	GroupAnon    // anonymous memory of its processes, swap included
	PageCache    // of files
	GroupShmem   // shared memory and tmpfs
	KernelMemory // slab, kernel stacks, page tables and the like
	Sockets      // buffers of sockets
)

// Private reports whether it is memory that the process has to itself.
func (w What) Private() bool {
	return w != File && w != Shm && w != Memfd && w != Special && !w.Charged()
}

// Charged reports whether it is charged to the process, or its cgroup, beside its mappings.
func (w What) Charged() bool { return w >= PageTables }

var whatNames = [...]string{
	Other: "other", Anon: "anon", NamedAnon: "named anon", Heap: "heap", Arena: "malloc arena",
	Pool: "runtime heap", Reserve: "reserve", Stack: "stack", ThreadStack: "thread stack", File: "file",
	Shm: "shared", Memfd: "memfd", Special: "special",
	PageTables: "page tables", Copied: "copied pages", Written: "written file pages", Held: "held memory", Tmpfs: "tmpfs file",
	Processes: "processes", GroupAnon: "anonymous memory", PageCache: "page cache", GroupShmem: "tmpfs and shared memory", KernelMemory: "kernel memory", Sockets: "socket buffers",
}

// String returns the word used in output.
func (w What) String() string { return name(whatNames[:], uint8(w), "what") }

func name(names []string, i uint8, kind string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return kind + "(" + strconv.Itoa(int(i)) + ")"
}

// Key identifies a group. It outlives the addresses of its mappings.
type Key struct {
	What What
	Name string // path of the file, name of the anonymous memory; as the program chose it, not escaped
	Site uint32 // the creating site; 0 if made before the watch, or unknown
}

// Compare orders keys, for output that is always the same.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.What, o.What), cmp.Compare(k.Name, o.Name), cmp.Compare(k.Site, o.Site))
}

// Holding is what a group holds at one moment: bytes, and a number of mappings.
type Holding struct {
	Mapped, Writable uint64
	Reserved         uint64 // mapped without access: address space, and no memory
	Resident         uint64 // in memory
	Swapped          uint64 // swapped out
	Huge             uint64 // of Resident, as huge pages
	Mappings         int
}

// Of returns one of the sizes.
func (h Holding) Of(m Measure) float64 {
	switch m {
	case Resident:
		return float64(h.Resident + h.Swapped)
	case Writable:
		return float64(h.Writable)
	case Mapped:
		return float64(h.Mapped)
	case Reserved:
		return float64(h.Reserved)
	default:
		return float64(h.Mappings)
	}
}

// left is how much of what is mapped was not touched yet, in bytes.
func (h Holding) left() float64 { return max(0, h.Of(Mapped)-h.Of(Resident)) }

// merge applies f to each member.
func (h Holding) merge(o Holding, f func(a, b uint64) uint64) Holding {
	return Holding{
		Mapped: f(h.Mapped, o.Mapped), Writable: f(h.Writable, o.Writable), Reserved: f(h.Reserved, o.Reserved),
		Resident: f(h.Resident, o.Resident), Swapped: f(h.Swapped, o.Swapped), Huge: f(h.Huge, o.Huge),
		Mappings: int(f(uint64(h.Mappings), uint64(o.Mappings))),
	}
}

// Plus is the sum of both.
func (h Holding) Plus(o Holding) Holding { return h.merge(o, sum) }

func lower(a, b uint64) uint64  { return min(a, b) }
func higher(a, b uint64) uint64 { return max(a, b) }
func sum(a, b uint64) uint64    { return a + b }

// Flow is what was mapped and unmapped, in bytes and in pieces. What was mapped
// before the watch and unmapped in it counts as died.
type Flow struct{ Born, Died, BornCount, DiedCount uint64 }

// Plus is the sum of both.
func (f Flow) Plus(o Flow) Flow {
	return Flow{f.Born + o.Born, f.Died + o.Died, f.BornCount + o.BornCount, f.DiedCount + o.DiedCount}
}

// Measure is one of the sizes of a group.
type Measure uint8

// The measures. All but Mappings are in bytes.
const (
	Resident Measure = iota // with what is swapped out: it is resident elsewhere
	Writable
	Mapped
	Reserved
	Mappings
	measures = iota

	// Unmeasured is that of limits on what no group holds.
	Unmeasured Measure = 255
)

var measureNames = [...]string{Resident: "resident", Writable: "writable", Mapped: "mapped", Reserved: "reserved", Mappings: "mappings"}

// OfMemory tells whether it is of memory that can be used.
func (m Measure) OfMemory() bool { return m <= Mapped }

// String returns the word used in output.
func (m Measure) String() string { return name(measureNames[:], uint8(m), "measure") }

// Label is a verdict. A greater one is worse.
type Label uint8

// The labels. Steady is all that has no other.
const (
	Steady   Label = iota
	Churns         // much was mapped and unmapped, without growth
	Sawtooth       // falls back again and again, and the troughs do not rise
	Plateau        // grew, and is flat now
	Retained       // grew, but what the allocator has given out did not: it keeps what was freed
	Grows          // grew, but slows down, gives back, or has not been seen for long enough
	Leaks          // grows all the time and gives nothing back
)

var labelNames = [...]string{
	Steady: "steady", Churns: "churns", Sawtooth: "sawtooth", Plateau: "plateau", Retained: "retained", Grows: "grows", Leaks: "leaks",
}

// String returns the word used in output.
func (l Label) String() string { return name(labelNames[:], uint8(l), "label") }

// Point is a group at one moment of the watch.
type Point struct {
	At time.Duration
	// Low and High are the least and the greatest of each measure since the
	// point before. They differ only if the watch has thinned out its points.
	Low, High Holding
}

// Rate is a speed per second: of bytes, or of the number of mappings. Low and
// High are its confidence interval ([Options.Confidence]).
type Rate struct{ PerSecond, Low, High float64 }

// plus is the sum of both.
func (r Rate) plus(o Rate) Rate {
	return Rate{r.PerSecond + o.PerSecond, r.Low + o.Low, r.High + o.High}
}

// ArenaPool is the name of the group of what malloc arenas were made larger by during the
// watch.
const ArenaPool = "malloc arenas"

// JVMPool is the name of the heap of a JVM: of the group of what it was made larger by during the
// watch, and of what was there before.
const JVMPool = "JVM heap"

// Finding is the verdict on one group.
type Finding struct {
	Key
	Label  Label
	Reason []Note  // what the label rests on, the most important first
	Score  float64 // what ranks findings of one label: bytes a second

	First, Last Holding // at the first and the last observation
	Peak        Holding // the greatest of each measure, at different moments perhaps

	Flow
	// AliveShare is the share, from 0 to 1, of AliveOf that is still mapped.
	// AliveOf are the bytes that were mapped after the warm-up and before the
	// last tenth of the watch, which has had little time to die. Where AliveOf
	// is 0, AliveShare says nothing.
	AliveShare float64
	AliveOf    uint64
	// MedianAge is the age that half of the bytes have reached which were
	// mapped during the watch and are still there; 0 if there are none.
	MedianAge time.Duration

	Measure  Measure       // the one that the rest is about
	From, To time.Duration // the part of the watch that was judged
	Growth   float64       // from From to To, in the unit of Measure; below 0 if it shrank
	// Slope is a robust mean per second in the unit of Measure, with its
	// confidence interval; 0 if it moved by less than the least growth.
	Slope, SlopeLow, SlopeHigh float64
	Monotone                   float64 // share of all movement that was upwards; 1: never shrank; 0: never grew
	Rates                      [measures]Rate

	Series []Point // the whole watch, the warm-up included, in at most 60 points
}

// ParseWhat is the inverse of What.String.
func ParseWhat(s string) (What, bool) {
	for w, name := range whatNames {
		if name == s {
			return What(w), true
		}
	}
	return 0, false
}
