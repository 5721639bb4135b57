package space

import (
	"slices"
	"strconv"

	"github.com/maptrace/maptrace/procmaps"
)

// Options are fixed at the creation of a Space. The zero value is usable.
type Options struct {
	PageSize uint64 // bytes, default 4096
	// HugePageSize is the size of hugetlb pages where none is asked for, in bytes. The
	// default is the kernel's: what a page full of page table entries maps (PMD_SIZE), 2
	// MiB with pages of 4 KiB.
	HugePageSize uint64
	// Shm is the device of the kernel's own mount, where shared anonymous memory and
	// System V segments are; zero if it is not known. A file of another device is
	// neither, whatever it is called.
	Shm procmaps.Device
	// MovesMany says that the kernel moves several mappings with one mremap. Without it
	// that is taken for so when a call has shown it.
	MovesMany bool
	// Mix returns what Coarsen gives for the sites of two extents that it makes one; nil
	// is for 0.
	Mix func(a, b uint64) uint64
	// Reports asks Apply for Effect.Now and Effect.Displaced, which cost time.
	Reports bool
}

func (o *Options) mix(a, b uint64) uint64 {
	if o.Mix == nil {
		return 0
	}
	return o.Mix(a, b)
}

// All is the range of every address.
var All = procmaps.Range{End: ^uint64(0)}

// kernelHalf is where addresses stop being a program's. The vsyscall page,
// the only row of maps above, belongs to no address space: it cannot be
// changed and some ways of reading do not show it.
const kernelHalf = 1 << 63

// Space is the extent tree of one address space. Make one with New. It must
// not be used by two goroutines at once.
type Space struct {
	opts Options
	tab  tables
	list list

	mapped    uint64 // bytes in extents
	surplus   int    // cells that may become one with others, as of the last compact
	newest    uint64 // latest stamp applied
	horizon   uint64 // what is older has been forgotten
	readUntil uint64 // end of the latest read
	userfault bool   // some memory may be registered with a userfaultfd
	movesMany bool   // the kernel moves several mappings with one mremap
	movedMany uint64 // stamp of a call that shows so, unless an older one is yet to come
	complete  bool
	aliased   bool // see Aliased

	brkStart, brk, brkAt uint64
	heapFrom             uint64 // where the row of the heap began that was read last; 0 if none was
	stack                uint64 // an address in the main thread's stack
	// Flags that maps does not show may have parted what is one region with them here.
	heapParted, stackParted bool

	readers    []reader
	lastReader uint64 // stamp of the newest that there was, and
	lostReader uint64 // of those that are forgotten
	open       []doubt
	unadvised  []doubt // where a fork advice may or may not have been taken

	// Scratch of the operation under way.
	eff          Effect
	displaced    []Displaced
	doubts       []procmaps.Range
	changes      []Change
	spare        cell
	copied       []cell
	tainted      []procmaps.Range
	cutAt        procmaps.Range // the range last written, and
	cutLo, cutHi bool           // whether a cell reached beyond it
	quiet        bool           // collect no changes
}

// New returns an empty address space.
func New(opts Options) *Space {
	if opts.PageSize == 0 {
		opts.PageSize = 4096
	}
	if opts.HugePageSize == 0 {
		opts.HugePageSize = opts.PageSize * opts.PageSize / 8
	}
	return &Space{opts: opts, tab: newTables(opts.Shm), movesMany: opts.MovesMany}
}

// SetBrk tells where the heap lies: the addresses start_brk and brk of
// /proc/PID/stat (or of prctl). Later brk calls keep the break up to date.
// Without it the heap is where the first "[heap]" row read was.
func (s *Space) SetBrk(start, brk uint64) { s.brkStart, s.brk = start, brk }

// SetStack tells an address in the stack of the main thread: start_stack of
// /proc/PID/stat. Without it the stack is where the first "[stack]" row was.
func (s *Space) SetStack(addr uint64) { s.stack = addr }

// SetComplete says whether the tree is believed to hold everything. Only then
// are impossible operations counted as violations. A new Space is not complete.
func (s *Space) SetComplete(yes bool) { s.complete = yes }

// SetLayout tells that where the heap lies, and an address in the stack, were set at the
// stamp at, without a change of what is mapped.
func (s *Space) SetLayout(at, startBrk, brk, stack uint64) {
	s.brkStart, s.stack = startBrk, stack
	if at > s.brkAt {
		s.brk, s.brkAt = brk, at
	}
}

// Undecoded tells that something has happened at the stamp at that no call tells of, and
// that a read of maps does not show: memory may have been registered with a userfaultfd,
// and may have taken fork advices. A seed knows of the first by itself.
func (s *Space) Undecoded(at uint64) {
	s.userfault = true
	s.unadvise(All, at)
}

// Totals are the sizes of a Space.
type Totals struct {
	Mapped  uint64 // bytes
	Extents int
	Holes   int // remembered unmappings and protections that wait for their mmap
}

// Totals returns the current sizes, at no cost.
func (s *Space) Totals() Totals {
	return Totals{Mapped: s.mapped, Extents: s.list.alive, Holes: s.list.cells - s.list.alive}
}

// File returns what is known of a file; the zero File for 0.
func (s *Space) File(id FileID) File {
	if int(id) >= len(s.tab.files) {
		return File{}
	}
	return s.tab.files[id]
}

// How says what became of a displaced piece of memory.
type How uint8

// The ways of displacement.
const (
	Unmapped  How = 1 + iota
	Replaced      // by MAP_FIXED and its kin
	Moved         // by mremap
	Protected     // still there with another protection
)

var howNames = [...]string{Unmapped: "unmapped", Replaced: "replaced", Moved: "moved", Protected: "protected"}

// String returns the word used in output.
func (h How) String() string {
	if int(h) < len(howNames) && howNames[h] != "" {
		return howNames[h]
	}
	return "how(" + strconv.Itoa(int(h)) + ")"
}

// Displaced is a piece of an extent that an operation took away or protected,
// as it was before.
type Displaced struct {
	Extent
	How How
	// Partial says that the extent reached beyond the range operated on: it
	// was cut, and the rest is still there.
	Partial bool
}

// Violation is an operation that the kernel cannot have done to the address
// space as the tree has it: something was missed, or applied in a wrong order.
type Violation uint8

// The violations.
const (
	// OverlapsLive: memory was given out where something is mapped.
	OverlapsLive Violation = 1 + iota
	// ProtectedAbsent: mprotect succeeded where nothing is mapped.
	ProtectedAbsent
	// MovedAbsent: mremap or remap_file_pages succeeded where nothing is mapped.
	MovedAbsent
	// DetachedAbsent: shmdt succeeded where no segment is attached.
	DetachedAbsent
	// Miscounted: the kernel has mapped or unmapped another number of pages.
	Miscounted
)

var violationNames = [...]string{
	OverlapsLive: "result overlaps live memory", ProtectedAbsent: "mprotect of absent memory",
	MovedAbsent: "mremap of absent memory", DetachedAbsent: "shmdt of absent memory",
	Miscounted: "another number of pages changed",
}

// String returns a phrase for people.
func (v Violation) String() string {
	if int(v) < len(violationNames) && violationNames[v] != "" {
		return violationNames[v]
	}
	return "violation(" + strconv.Itoa(int(v)) + ")"
}

// Effect is what one call did to the tree. Its slices belong to the Space and
// are overwritten by the next Apply or Reread.
type Effect struct {
	Range procmaps.Range // acted on; for mremap the result; empty if none
	From  procmaps.Range // for mremap, the source
	Delta int64          // change of mapped bytes
	// Changed says whether the tree changed, stamps aside.
	Changed bool
	// Late says that something newer had been applied before. In a clone made
	// since for a later fork, the caller should put the range in Doubt.
	Late bool
	// Now is what is mapped at Range.Start afterwards, the zero Extent if
	// nothing is. Only with Options.Reports.
	Now       Extent
	Displaced []Displaced // only with Options.Reports

	Violations int
	Reason     Violation // of the first violation

	// Doubts are ranges whose state the call does not tell: failed calls whose half
	// way does not follow from the tree, copies of an unknown source. The caller
	// reads them again, with a stamp later than the call's.
	Doubts []procmaps.Range
}

// Apply applies one finished call. Calls may come in any order; see the
// package comment. It allocates nothing once the Space has its size.
func (s *Space) Apply(c *Call) Effect {
	s.eff = Effect{}
	s.displaced, s.doubts = s.displaced[:0], s.doubts[:0]
	s.part(c) // one that fails may have done a part of it
	switch {
	case c.Failed():
		s.fail(c)
		s.showNow()
	case c.Time < s.horizon:
		// What stood against it has been forgotten: it cannot be placed.
		s.unplaced(c)
	default:
		before := s.newest
		s.eff.Late = c.Time < before
		s.newest = max(before, c.Time)
		s.tab.renamed = s.tab.renamed[:0]
		s.apply(c)
		s.checkNames(s.eff.Range, nil)
		s.recount(c, before)
		s.showNow()
	}
	s.eff.Displaced, s.eff.Doubts = s.displaced, s.doubts
	return s.eff
}

// recount compares what c did to the tree with the kernel's count of pages (mm/mmap.c:
// vm_stat_account). Whatever the tree is wrong about, or a call pretends, changes that.
func (s *Space) recount(c *Call, newest uint64) {
	if c.Counted && len(s.doubts) == 0 && s.eff.Delta != c.Pages*int64(s.opts.PageSize) {
		s.violate(c, All, newest, Miscounted)
	}
}

// Pages is how many pages are mapped, as the kernel counts them: total_vm of the mm.
func (s *Space) Pages() int64 {
	gate := s.aliveIn(procmaps.Range{Start: kernelHalf, End: All.End})
	return int64((s.mapped - gate) / s.opts.PageSize)
}

func (s *Space) showNow() {
	if s.opts.Reports && !s.eff.Range.Empty() {
		s.eff.Now, _ = s.At(s.eff.Range.Start)
	}
}

// report books one change of a cell, from was to now.
func (s *Space) report(was, now *cell, w *write, replaced bool) {
	n := now.end - now.start
	switch {
	case now.alive() && !was.alive():
		s.mapped += n
		s.eff.Delta += int64(n)
	case was.alive() && !now.alive():
		s.mapped -= n
		s.eff.Delta -= int64(n)
	case !was.alive():
		return // a register of a hole
	}
	s.eff.Changed = true
	if w.read {
		if !s.quiet {
			s.changes = append(s.changes, Change{Was: s.extent(was), Now: s.extent(now), Range: now.rng()})
		}
		return
	}
	if !s.opts.Reports || !was.alive() {
		return
	}
	switch {
	case replaced:
		s.displace(was, w.how)
	case was.mode != now.mode:
		s.displace(was, Protected)
	}
}

func (s *Space) displace(was *cell, how How) {
	s.displaced = append(s.displaced, Displaced{
		Extent: s.extent(was), How: how,
		Partial: s.cutLo && was.start == s.cutAt.Start || s.cutHi && was.end == s.cutAt.End,
	})
}

// survey is what a range holds before an operation.
type survey struct {
	p      pos    // first cell that ends above the start
	n      int    // cells in the range
	newest uint64 // latest stamp of any register
	alive  uint64 // bytes mapped
	ops    uint32 // largest count of an extent
}

func (s *Space) survey(r procmaps.Range) survey {
	sv := survey{p: s.list.find(r.Start)}
	for p := sv.p; s.list.has(p); p = s.list.next(p) {
		c := s.list.cell(p)
		if c.start >= r.End {
			break
		}
		sv.n++
		sv.newest = max(sv.newest, c.newest())
		if c.alive() {
			sv.alive += c.rng().Intersect(r).Len()
			sv.ops = max(sv.ops, c.each())
		}
	}
	return sv
}

// write applies w to r; sv is the survey of r. For calls: it looks after the
// operations that read this range before w was known.
func (s *Space) write(r procmaps.Range, w *write, sv *survey) {
	if r.Empty() {
		return
	}
	if w.at < s.lastReader {
		s.straggler(r, w.at, w)
	}
	if w.regs == regAll && w.at > sv.newest {
		s.replace(r, w, sv)
	} else {
		s.overlay(r, w)
	}
}

// replace makes r one cell.
//
// Preconditions: w writes all registers and is newer than everything in r; sv
// is the survey of r.
func (s *Space) replace(r procmaps.Range, w *write, sv *survey) {
	l := &s.list
	p := sv.p
	if sv.n > 0 {
		if s.cut(r) {
			p = l.find(r.Start)
		}
		if sv.alive > 0 {
			s.eff.Changed = true
			s.mapped -= sv.alive
			s.eff.Delta -= int64(sv.alive)
			if w.flag&present != 0 {
				w.ops = max(w.ops, sv.ops+1)
			}
			s.reportAll(r, p, sv.n, w)
		}
	}
	now := w.cell(r)
	if now.alive() {
		s.eff.Changed = true
		s.mapped += r.Len()
		s.eff.Delta += int64(r.Len())
	}
	if sv.n == 0 {
		l.insert(p, &now)
		return
	}
	c := l.cell(p)
	if c.alive() {
		l.alive--
	}
	if now.alive() {
		l.alive++
	}
	*c = now
	if p.i == 0 {
		l.first[p.ci] = now.start
	}
	if sv.n > 1 {
		l.remove(l.next(p), sv.n-1)
		l.tidy(p.ci)
	}
}

// reportAll books that the n cells from p on are replaced.
func (s *Space) reportAll(r procmaps.Range, p pos, n int, w *write) {
	switch {
	case w.read:
		if s.quiet {
			return
		}
		now := w.cell(r)
		for ; n > 0; n, p = n-1, s.list.next(p) {
			if c := s.list.cell(p); c.alive() {
				now.start, now.end = c.start, c.end
				s.changes = append(s.changes, Change{Was: s.extent(c), Now: s.extent(&now), Range: c.rng()})
			}
		}
	case s.opts.Reports:
		for ; n > 0; n, p = n-1, s.list.next(p) {
			if c := s.list.cell(p); c.alive() {
				s.displace(c, w.how)
			}
		}
	}
}

// cut puts cell boundaries at both ends of r, and reports whether that moved
// cells.
func (s *Space) cut(r procmaps.Range) bool {
	lo, hi := s.list.split(r.Start), s.list.split(r.End)
	s.cutAt, s.cutLo, s.cutHi = r, lo, hi
	return lo || hi
}

// overlay writes w over r piece by piece, each register where w is newer.
func (s *Space) overlay(r procmaps.Range, w *write) {
	l := &s.list
	s.cut(r)
	p := l.find(r.Start)
	for addr := r.Start; addr < r.End; p = l.next(p) {
		if l.has(p) && l.cell(p).start == addr {
			c := l.cell(p)
			was := c.alive()
			s.put(c, w)
			switch {
			case c.alive() && !was:
				l.alive++
			case was && !c.alive():
				l.alive--
			}
			addr = c.end
			continue
		}
		hi := r.End
		if l.has(p) {
			hi = min(hi, l.cell(p).start)
		}
		s.spare = cell{start: addr, end: hi}
		s.put(&s.spare, w)
		p = l.insert(p, &s.spare)
		addr = hi
	}
	l.coalesce(r.Start, r.End)
}

// doubt is a range whose state is unknown since a stamp.
type doubt struct {
	procmaps.Range
	at uint64
}

// maxDoubts bounds the list of open doubts; beyond, they become one range.
const maxDoubts = 64

// doubt reports that nobody knows r since at, until a read later than at.
func (s *Space) doubt(r procmaps.Range, at uint64) {
	if !r.Empty() {
		s.doubts = append(s.doubts, r)
		s.openDoubt(r, at)
	}
}

func (s *Space) openDoubt(r procmaps.Range, at uint64) {
	if r.Empty() {
		return
	}
	for i := range s.open {
		if d := &s.open[i]; d.Covers(r) {
			d.at = max(d.at, at)
			return
		}
	}
	s.open = append(s.open, doubt{r, at})
	if len(s.open) <= maxDoubts {
		return
	}
	all := s.open[0]
	for _, d := range s.open[1:] {
		all.Start, all.End = min(all.Start, d.Start), max(all.End, d.End)
		all.at = max(all.at, d.at)
	}
	s.open = append(s.open[:0], all)
}

// settle closes the doubts about r that are older than a read at the stamp at.
func (s *Space) settle(r procmaps.Range, at uint64) {
	var rest []doubt
	s.open = slices.DeleteFunc(s.open, func(d doubt) bool {
		if d.at >= at || !d.Overlaps(r) {
			return false
		}
		for _, left := range [2]procmaps.Range{{Start: d.Start, End: r.Start}, {Start: r.End, End: d.End}} {
			if !left.Empty() {
				rest = append(rest, doubt{left, d.at})
			}
		}
		return true
	})
	s.open = append(s.open, rest...)
}

// Doubts returns the ranges that Apply, Reread, Clone or Doubt put in doubt and
// no read has settled since. They may overlap.
func (s *Space) Doubts() []procmaps.Range {
	out := make([]procmaps.Range, 0, len(s.open))
	for _, d := range s.open {
		out = append(out, d.Range)
	}
	return out
}

func (s *Space) doubtful(r procmaps.Range) bool {
	for i := range s.open {
		if s.open[i].Overlaps(r) {
			return true
		}
	}
	return false
}

// violate counts a violation, if the tree can be trusted about r at the time
// of c: it is complete, nothing newer is in r, no read that may have seen the
// state after c is, and r is not in doubt.
func (s *Space) violate(c *Call, r procmaps.Range, newest uint64, why Violation) bool {
	if !s.complete || c.Time <= newest || c.Time <= s.readUntil || s.doubtful(r) {
		return false
	}
	if s.eff.Violations == 0 {
		s.eff.Reason = why
	}
	s.eff.Violations++
	return true
}
