package space

import (
	"iter"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// Origin says who made an extent. Time is a commit stamp (for a read, the
// stamp of the read); Site is what Call.Site was.
type Origin struct {
	Op   Op
	TID  uint32
	Time uint64
	Site uint64
}

// Grant says who allowed an extent to be written, and when.
type Grant struct {
	Time uint64 // commit stamp; 0 if nobody did since it was made
	Site uint64 // what Call.Site was
}

// after returns the grant once the permissions are now instead of was, by a call that
// would be the grant by. Made is that of the call that made the memory.
//
// The first to allow writing stays it until the memory can no longer be used at all:
// who forbids writing for a while and allows it again, as garbage collectors and JIT
// compilers do, or allows what is allowed, makes nothing.
func (g Grant) after(was, now procmaps.Mode, by, made Grant) Grant {
	const write = procmaps.Write
	switch {
	case now&procmaps.Perm == 0:
		return Grant{}
	case g.Time == 0 && was&write == 0 && now&write != 0:
		return by
	case g.Time == 0 && was&write != 0 && now&write == 0:
		return made // to be known when it is allowed again
	case g == made && now&write != 0:
		return Grant{}
	}
	return g
}

// Extent is a piece of memory made by one operation.
type Extent struct {
	procmaps.Range
	Mode   procmaps.Mode
	Kind   procmaps.Kind // 0 for the zero Extent, which is no memory
	Flags  Flags
	File   FileID // 0 for anonymous memory
	Offset uint64 // in the file, bytes
	Name   string // as maps prints it, or as much of it as is known
	Origin Origin
	// Granted is the call that allowed it to be written: a heap that is reserved as a
	// whole grows by such calls.
	Granted Grant
	// Since is the commit stamp of what put the extent where it is, or the time of a
	// read that found it there: before, there may have been something else.
	Since uint64
	// Ops counts the operations that made, changed or moved the extent, and
	// those of the extent it replaced. Of pieces that became one, the largest.
	Ops uint32
	// Calls is more than 1 if the extent was made of so many by Space.Coarsen. Its Origin
	// and Granted are then of several calls: the oldest times, and if the sites were not
	// the same what Options.Mix gave. Ops is the sum. Of a part of it the counts are
	// estimates.
	Calls uint32
}

// extent returns the public form of c; the zero Extent for a hole.
func (s *Space) extent(c *cell) Extent {
	if !c.alive() {
		return Extent{}
	}
	kind, name := s.describe(c, c.rng())
	return Extent{
		Range: c.rng(), Mode: c.mode, Kind: kind, Flags: c.flag & flagMask,
		File: c.file, Offset: c.off, Name: name, Ops: c.ops, Calls: c.extents, Since: c.mapAt,
		Origin:  Origin{Op: c.op, TID: c.tid, Time: c.born, Site: c.site},
		Granted: Grant{Time: c.grantAt, Site: c.grantSite},
	}
}

// Blame is the time and the site that stand for the extent: of the call that
// made its memory, or of a later one that allowed it to be written.
func (e *Extent) Blame() (at, site uint64) {
	if e.Granted.Site != 0 && e.Mode&procmaps.Write != 0 {
		return e.Granted.Time, e.Granted.Site
	}
	return e.Origin.Time, e.Origin.Site
}

// Protected is the extent once a call has set its permissions to those of a mode.
func (e *Extent) Protected(mode procmaps.Mode, by Grant) Extent {
	now := *e
	now.Mode = e.Mode&^procmaps.Perm | mode&procmaps.Perm
	now.Granted = e.Granted.after(e.Mode, now.Mode, by, Grant{e.Origin.Time, e.Origin.Site})
	return now
}

// describe returns the kind and name of memory like c that spans r. It
// imitates fs/proc/task_mmu.c:get_vma_name: the heap is what overlaps the
// program break (vma_is_initial_heap), the stack what holds the start of the
// stack (vma_is_initial_stack), and both hide a name given by prctl.
func (s *Space) describe(c *cell, r procmaps.Range) (procmaps.Kind, string) {
	switch {
	case c.flag&special != 0:
		return procmaps.KindSpecial, s.tab.names[c.name].raw
	case c.file != 0:
		f := &s.tab.files[c.file]
		kind := procmaps.KindFile
		switch f.Class {
		case ClassAnonShared, ClassSysV, ClassMemfd:
			kind = procmaps.KindShm
		case ClassHugeTLB:
			if kind = procmaps.KindShm; c.mode&procmaps.Shared == 0 {
				kind = procmaps.KindAnon
			}
		}
		if f.Class == ClassAnonShared && c.name != 0 {
			return kind, s.tab.names[c.name].shmem
		}
		return kind, f.Name
	case r.Start < s.brk && r.End > s.brkStart && s.brkStart != 0:
		return procmaps.KindHeap, heapName
	case s.stack != 0 && r.Start <= s.stack && s.stack <= r.End:
		return procmaps.KindStack, stackName
	case c.name != 0:
		return procmaps.KindAnon, s.tab.names[c.name].anon
	}
	return procmaps.KindAnon, ""
}

// At returns the extent that holds addr.
func (s *Space) At(addr uint64) (Extent, bool) {
	p := s.list.find(addr)
	if !s.list.has(p) || s.list.cell(p).start > addr || !s.list.cell(p).alive() {
		return Extent{}, false
	}
	return s.extent(s.list.cell(p)), true
}

// End returns where the highest extent ends, 0 when there is none.
func (s *Space) End() uint64 {
	for p, ok := s.list.prev(s.list.end()); ok; p, ok = s.list.prev(p) {
		if c := s.list.cell(p); c.alive() {
			return c.end
		}
	}
	return 0
}

// Extents yields the extents that overlap r, whole, in address order. The
// Space must not change while it runs.
func (s *Space) Extents(r procmaps.Range) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for p := s.list.find(r.Start); s.list.has(p); p = s.list.next(p) {
			c := s.list.cell(p)
			if c.start >= r.End {
				return
			}
			if c.alive() && !yield(s.extent(c)) {
				return
			}
		}
	}
}

// Region is a row of maps: neighbouring extents that the kernel would show,
// or could show, as one.
type Region struct {
	procmaps.Mapping
	Kind    procmaps.Kind
	Flags   Flags
	File    FileID
	Extents int
	Ops     uint64 // of all its extents
}

// Regions appends all regions, in address order, to dst.
func (s *Space) Regions(dst []Region) []Region {
	s.eachRegion(func(r *Region) { dst = append(dst, *r) })
	return dst
}

// eachRegion calls yield with each region, which is valid until that returns.
func (s *Space) eachRegion(yield func(*Region)) {
	var run cell // the cells so far of the region under way
	var n int
	var ops uint64
	var region Region
	flush := func() {
		if n == 0 {
			return
		}
		kind, name := s.describe(&run, run.rng())
		f := s.File(run.file)
		region = Region{
			Mapping: procmaps.Mapping{
				Range: run.rng(), Mode: run.mode, Offset: run.off,
				Dev: f.Dev, Inode: f.Inode, Name: name,
			},
			Kind: kind, Flags: run.flag & flagMask, File: run.file, Extents: n, Ops: ops,
		}
		yield(&region)
	}
	for ci := range s.list.chunks {
		ch := s.list.chunks[ci]
		for i := range ch.n {
			c := &ch.c[i]
			if !c.alive() {
				continue
			}
			if n > 0 && sameRegion(&run, c) && !s.bounds(&run, c) {
				run.end = c.end
			} else {
				flush()
				run, n, ops = *c, 0, 0
			}
			n += int(c.extents)
			ops += uint64(c.ops)
		}
	}
	flush()
}

// sameRegion reports whether b continues the region of a. The kernel's own
// test (mm/vma.c:is_mergeable_vma) is stricter: it may show two rows for one
// region, never one row for two.
func sameRegion(a, b *cell) bool {
	const visible = GrowsDown | DontFork | WipeOnFork | special
	return a.end == b.start && a.mode == b.mode && a.file == b.file && a.name == b.name &&
		(a.flag^b.flag)&visible == 0 && a.offAt(b.start) == b.off
}

// bounds reports whether the heap begins or ends where an extent begins, which the kernel then
// shows in a row of its own: brk(2) makes the mapping of nothing larger that is below the heap
// (mm/mmap.c: brk), and nothing larger than the heap.
// Of what calls have made it is not known: see HeapUnclear.
func (s *Space) bounds(below, c *cell) bool {
	switch {
	case c.file != 0 || s.brkStart == 0:
		return false
	case c.start == s.brkStart:
		return (s.heapFrom == 0 || s.heapFrom >= c.start) && !below.byCall()
	}
	return c.start == s.pageAlign(s.brk) && !c.byCall()
}

// byCall reports whether a call made it, or has changed its permissions.
func (c *cell) byCall() bool { return c.op <= OpSetVMA || c.protAt != c.mapAt }

// HeapUnclear tells whether memory beside the heap is like it that the kernel may have made one
// mapping of with it, which is called [heap] then, or not: what a call has made, or changed, or
// a call has parted by flags that maps does not show.
func (s *Space) HeapUnclear() bool {
	if s.brkStart == 0 {
		return false
	}
	meet := func(addr uint64, outer func(below, above *cell) bool) bool {
		p := s.list.find(addr)
		if !s.list.has(p) || s.list.cell(p).start != addr {
			return false
		}
		q, ok := s.list.prev(p)
		if !ok {
			return false
		}
		a, b := s.list.cell(q), s.list.cell(p)
		return a.alive() && b.alive() && b.file == 0 && sameRegion(a, b) && outer(a, b)
	}
	end := s.pageAlign(s.brk)
	return s.heapParted ||
		meet(s.brkStart, func(below, above *cell) bool { return below.byCall() || end == s.brkStart && above.byCall() }) ||
		end > s.brkStart && meet(end, func(_, above *cell) bool { return above.byCall() })
}

// StackUnclear tells the same of the stack, of which the kernel makes all by itself.
func (s *Space) StackUnclear() bool {
	_, mixed := s.around(s.stack)
	return mixed || s.stackParted
}

// around returns the memory without a file that is one region with an address, empty if there is
// none, and whether a call has mapped some of it, and not all.
func (s *Space) around(addr uint64) (r procmaps.Range, mixed bool) {
	at := s.list.find(addr)
	if addr == 0 || !s.list.has(at) {
		return r, false
	}
	c := s.list.cell(at)
	if r = c.rng(); !r.Contains(addr) || c.file != 0 || !c.alive() {
		return procmaps.Range{}, false
	}
	mapped := func(c *cell) bool { return c.op <= OpSetVMA }
	for p := at; ; {
		q, ok := s.list.prev(p)
		if !ok || !s.list.cell(q).alive() || !sameRegion(s.list.cell(q), s.list.cell(p)) || s.bounds(s.list.cell(q), s.list.cell(p)) {
			break
		}
		p, r.Start = q, s.list.cell(q).start
		mixed = mixed || mapped(s.list.cell(p)) != mapped(c)
	}
	for p := at; ; {
		q := s.list.next(p)
		if !s.list.has(q) || !s.list.cell(q).alive() || !sameRegion(s.list.cell(p), s.list.cell(q)) || s.bounds(s.list.cell(p), s.list.cell(q)) {
			return r, mixed
		}
		p, r.End = q, s.list.cell(q).end
		mixed = mixed || mapped(s.list.cell(p)) != mapped(c)
	}
}

// part notes that a call may have parted the stack, or what reaches beyond the heap, by flags that
// maps does not show: of the pieces maps names only those that have something of either.
func (s *Space) part(c *Call) {
	switch {
	case c.Op != OpMadvise && c.Op != OpMlock && c.Op != OpMbind, c.Op == OpMadvise && !partingAdvice(c.Args[2]):
		return
	case c.Sub == SubProcessMadvise:
		s.stackParted, s.heapParted = true, true // it may name many ranges
		return
	}
	r := s.named(c)
	cuts := func(whole procmaps.Range) bool {
		cut := r.Intersect(whole)
		return !cut.Empty() && cut != whole
	}
	if whole, _ := s.around(s.stack); cuts(whole) {
		s.stackParted = true
	}
	if whole, _ := s.around(s.brkStart); cuts(whole) && (whole.Start < s.brkStart || whole.End > s.pageAlign(s.brk)) {
		s.heapParted = true
	}
}

// partingAdvice tells whether an advice sets flags of a mapping, which maps does not show.
func partingAdvice(advice uint64) bool {
	return advice <= madvSequential || advice >= madvMergeable && advice <= madvDoDump
}

// Snapshot is a copy of the regions at one moment. It is immutable and may be
// read by any goroutine.
type Snapshot struct {
	Regions []Region
	Totals  Totals
}

// Snapshot copies the regions.
func (s *Space) Snapshot() Snapshot {
	return Snapshot{Regions: slices.Clip(s.Regions(nil)), Totals: s.Totals()}
}

// Delta is the difference of two snapshots, by addresses.
type Delta struct {
	// New has, for each region of the later snapshot, the bytes of it that
	// were not mapped at the earlier one.
	New []uint64
	// Gone are the pieces of the earlier regions that are not mapped any more.
	Gone []Region
}

// Diff compares two snapshots of one address space. Memory that was replaced
// by other memory at the same address is neither new nor gone.
func Diff(old, now Snapshot) Delta {
	d := Delta{New: make([]uint64, len(now.Regions))}
	j := 0
	for i, r := range now.Regions {
		d.New[i] = r.Len()
		for j < len(old.Regions) && old.Regions[j].End <= r.Start {
			j++
		}
		for k := j; k < len(old.Regions) && old.Regions[k].Start < r.End; k++ {
			d.New[i] -= old.Regions[k].Intersect(r.Range).Len()
		}
	}
	j = 0
	for _, r := range old.Regions {
		for j < len(now.Regions) && now.Regions[j].End <= r.Start {
			j++
		}
		addr := r.Start
		for k := j; addr < r.End; k++ {
			hi := r.End
			if k < len(now.Regions) {
				hi = min(hi, now.Regions[k].Start)
			}
			if addr < hi {
				gone := r
				gone.Range = procmaps.Range{Start: addr, End: hi}
				if r.File != 0 {
					gone.Offset += addr - r.Start
				}
				d.Gone = append(d.Gone, gone)
			}
			if k >= len(now.Regions) {
				break
			}
			addr = max(addr, now.Regions[k].End)
		}
	}
	return d
}
