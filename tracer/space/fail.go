package space

import (
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// fail applies what a failed call changed before it failed. As a rule that is
// nothing. Some work their way up and stop at what they cannot do; others free
// a place first and then cannot fill it, which the kernel's count of mapped
// pages shows. What follows from the tree as it was at the call's commit is
// applied, the rest is put in doubt.
//
// The others have no half way: munmap takes all or nothing
// (mm/vma.c:vms_gather_munmap_vmas), and so does brk, which does not even fail
// but returns the break; shmdt finds something or not; what mlock, mbind and
// mseal do is not kept here.
//
// Precondition: the call held the lock for writing. One that did not was refused
// at first sight and changed nothing.
func (s *Space) fail(c *Call) {
	if s.known(c.Time) {
		return
	}
	s.eff.Late = c.Time < s.newest
	switch c.Op {
	case OpMmap, OpShmat, OpRemapFilePages:
		s.failPlace(c)
	case OpMremap:
		s.failMremap(c)
	case OpMprotect:
		s.failProtect(c)
	case OpMadvise:
		s.failAdvice(c)
	case OpSetVMA:
		s.failName(c)
	}
}

// shows reports whether the tree shows r as it was when c committed.
func (s *Space) shows(c *Call, r procmaps.Range) bool {
	if r.Empty() {
		return true
	}
	sv := s.survey(r)
	return c.Time >= s.horizon && s.sure(c, r, &sv)
}

// derived notes that what c did follows from these ranges together: a straggler
// that shows that one was otherwise puts all in doubt.
func (s *Space) derived(c *Call, from ...procmaps.Range) {
	for _, src := range from {
		for _, dst := range from {
			s.addReader(reader{at: c.Time, src: src, dst: dst, self: src == dst})
		}
	}
}

// failPlace handles calls that replace what is mapped at an address of their
// own: they unmap first and then ask the file (mm/vma.c:__mmap_region), which
// may refuse, and the place stays free. What fails before, or is restored since
// 6.12, leaves the count of pages as it was.
func (s *Space) failPlace(c *Call) {
	if c.Pages == 0 {
		return
	}
	switch c.Op {
	case OpMmap:
		to := *c
		to.Ret = int64(c.Args[0])
		r := s.mmapRange(&to)
		// A hugetlbfs file, which nothing here tells, has its length rounded up.
		s.freed(c, r, procmaps.Range{Start: r.End, End: alignUp(r.End, s.opts.HugePageSize)})
	case OpShmat:
		s.unsure(s.shmReach(c, c.Args[1]&^(s.opts.PageSize-1)), c.Time) // the size is not known
	case OpRemapFilePages:
		r := s.named(c)
		s.freed(c, r, procmaps.Range{Start: r.End, End: r.End})
	}
}

// freed unmaps what the count of pages says that a failed call has unmapped:
// the first range, or both.
func (s *Space) freed(c *Call, first, second procmaps.Range) {
	gone, was := uint64(-c.Pages)*s.opts.PageSize, s.aliveIn(first)
	switch {
	case !s.shows(c, first):
	case gone == was:
		s.derived(c, first)
		// That nothing of the second is gone follows from the first as well.
		s.addReader(reader{at: c.Time, src: first, dst: second})
		s.freedOne(c, first)
		return
	case !s.shows(c, second):
	case gone == was+s.aliveIn(second):
		s.derived(c, first, second)
		s.freedOne(c, first)
		s.freedOne(c, second)
		return
	}
	if gone > was+s.aliveIn(second) {
		second.End = kernelHalf // its length was rounded up to larger pages than the default
	}
	s.unsure(first, c.Time)
	s.unsure(second, c.Time)
}

func (s *Space) freedOne(c *Call, r procmaps.Range) {
	s.newest = max(s.newest, c.Time)
	s.unmap(c, r, Unmapped)
}

func (s *Space) aliveIn(r procmaps.Range) uint64 {
	sv := s.survey(r)
	return sv.alive
}

// failMremap handles a failed mremap. Only MREMAP_FIXED frees anything before it
// fails: the target, and then what a shrinking one cuts off. Before 6.17 it did
// so before it looked whether the source is one mapping.
func (s *Space) failMremap(c *Call) {
	if c.Args[3]&mremapFixed == 0 {
		return
	}
	oldLen, newLen := s.mremapLens(c)
	src, dst := span(c.Args[0], oldLen), span(c.Args[4], newLen)
	if oldLen == newLen {
		s.failMove(c, src, dst)
		return
	}
	if c.Pages != 0 {
		s.freed(c, dst, procmaps.Range{Start: src.Start + newLen, End: max(src.End, src.Start+newLen)})
	}
}

// failMove handles a failed MREMAP_FIXED of equal lengths. Since 6.17 it moves
// one mapping after the other (mm/mremap.c:remap_move) and stops at one that may
// not be moved with others; before, it has freed the target. Which of both it
// was shows in the count of pages, if the target was not free anyway.
func (s *Space) failMove(c *Call, src, dst procmaps.Range) {
	if src.Overlaps(dst) {
		return // refused at first sight
	}
	if !s.shows(c, src) || !s.shows(c, dst) {
		s.unsure(src, c.Time)
		s.unsure(dst, c.Time)
		return
	}
	if _, ok := s.At(src.Start); !ok {
		s.derived(c, src, dst) // EFAULT in any case
		if c.Pages != 0 {
			s.unsure(src, c.Time)
			s.unsure(dst, c.Time)
		}
		return
	}
	stop, one := s.immovable(src)
	part := procmaps.Range{Start: src.Start, End: stop}
	gone, all := uint64(-c.Pages)*s.opts.PageSize, s.aliveIn(dst)
	// What shows as it would before 6.17, and since.
	freed := gone == all
	moved := stop < src.End && gone == s.aliveIn(span(dst.Start, part.Len()))
	switch {
	case c.Ret != -errnoFault || s.userfault || !one:
		moved, freed = false, false
	case freed && moved:
		// The target was free beyond the part; there may be nothing to tell apart.
		moved = s.movesMany || part.Empty()
		freed = false
	}
	switch {
	case moved && !part.Empty():
		s.showsMany(c)
		done := *c
		done.Args[1], done.Args[2], done.Ret = part.Len(), part.Len(), int64(dst.Start)
		s.newest = max(s.newest, c.Time)
		s.mremap(&done)
	case freed && c.Pages != 0:
		s.freedOne(c, dst)
	case !moved && !freed:
		s.unsure(src, c.Time)
		s.unsure(dst, c.Time)
		return
	}
	s.derived(c, src, dst)
}

// immovable returns where the first mapping in r begins whose file may choose
// its own addresses, so that mm/mremap.c:vma_multi_allowed may forbid to move it
// with others; the end of r if there is none. one is false if there are several
// such files: then it may be any of them.
func (s *Space) immovable(r procmaps.Range) (stop uint64, one bool) {
	var file FileID
	stop = r.End
	for p := s.list.find(r.Start); s.list.has(p); p = s.list.next(p) {
		e := s.list.cell(p)
		if e.start >= r.End {
			break
		}
		if e.file == 0 || e.file == file {
			continue
		}
		switch s.tab.files[e.file].Class {
		case ClassAnonShared, ClassMemfd, ClassHugeTLB:
			continue
		}
		if file != 0 {
			return stop, false
		}
		file, stop = e.file, max(e.start, r.Start)
	}
	return stop, true
}

// refusesSplit tells whether there may be a mapping in r that cannot be split
// (vm_ops->may_split): of huge pages, of the kernel, of a device, and since 6.18 a perf buffer.
func (s *Space) refusesSplit(r procmaps.Range) bool {
	for p := s.list.find(r.Start); s.list.has(p); p = s.list.next(p) {
		e := s.list.cell(p)
		if e.start >= r.End {
			break
		}
		if e.flag&special != 0 {
			return true
		}
		switch s.tab.files[e.file].Class {
		case ClassDevice, ClassAnonInode, ClassHugeTLB:
			return true
		}
	}
	return false
}

// failProtect handles a failed mprotect: it works up from the start and stops,
// with the work done, at the first gap or at a mapping that refuses
// (mm/mprotect.c:do_mprotect_pkey). A limit of memory or mappings gives the errno
// of a gap; where there is a gap it is taken for the reason.
func (s *Space) failProtect(c *Call) {
	const plain = protRead | protWrite | protExec | protSem | protGrowsDown | protGrowsUp
	r := s.named(c)
	if c.Ret == -errnoInvalid && c.Args[2]&^plain == 0 && s.shows(c, r) && !s.refusesSplit(r) {
		return // other protections may not suit a mapping, nor a part of one
	}
	if c.Args[2]&protGrowsDown != 0 {
		r.Start = s.growsDownFrom(c, r)
	}
	stop, until := r.Start, r.End // what is between is not known
	if s.shows(c, r) {
		s.derived(c, r)
		gap := s.gap(r)
		switch {
		case c.Ret == -errnoNoMemory && gap < r.End:
			stop, until = gap, gap
		case c.Ret == -errnoAccess && c.modeOf(c.Args[2])&(procmaps.Write|procmaps.Exec) == procmaps.Write:
			stop, until = s.refusesWrite(procmaps.Range{Start: r.Start, End: gap})
		}
	}
	if stop > r.Start {
		done := *c
		done.Args[0], done.Args[1], done.Args[2] = r.Start, stop-r.Start, c.Args[2]&^protGrowsDown
		s.newest = max(s.newest, c.Time)
		s.mprotect(&done)
	}
	s.unsure(procmaps.Range{Start: stop, End: until}, c.Time)
}

// gap returns where the first unmapped page of r is, its end if there is none.
func (s *Space) gap(r procmaps.Range) uint64 {
	addr := r.Start
	for p := s.list.find(addr); s.list.has(p) && addr < r.End; p = s.list.next(p) {
		e := s.list.cell(p)
		if e.start > addr || !e.alive() {
			break
		}
		addr = e.end
	}
	return min(addr, r.End)
}

// refusesWrite returns the first and the last place in r where a mapping may
// begin that is never writable: one of them refused.
func (s *Space) refusesWrite(r procmaps.Range) (first, last uint64) {
	var origin *cell
	for p := s.list.find(r.Start); s.list.has(p); p = s.list.next(p) {
		e := s.list.cell(p)
		if e.start >= r.End {
			break
		}
		at := max(e.start, r.Start)
		refuses, sure := s.neverWritable(e)
		switch {
		case !refuses, origin != nil && sameOrigin(origin, e):
			continue
		case origin == nil:
			origin, first = e, at
		}
		last = at
		if sure {
			return first, last
		}
		if e.op > OpSetVMA || e.extents > 1 {
			// A read shows as one what may be two mappings, and so does what became one.
			last = min(e.end, r.End) - s.opts.PageSize
		}
	}
	if origin == nil {
		return r.Start, r.End
	}
	return first, last
}

// sameOrigin reports whether one call made both, which hence may be written
// both or neither.
func sameOrigin(a, b *cell) bool {
	return a.op <= OpSetVMA && a.extents == 1 && b.extents == 1 && a.op == b.op && a.born == b.born && a.tid == b.tid
}

// neverWritable reports whether memory may be, or surely is, without the
// VM_MAYWRITE that mm/mmap.c:do_mmap takes from shared memory of a file that is
// open for reading only. Drivers do as they like.
func (s *Space) neverWritable(e *cell) (may, sure bool) {
	switch {
	case e.mode&procmaps.Write != 0:
		return false, false
	case e.flag&readOnly != 0:
		return true, true
	case e.flag&special != 0:
		return true, false
	case e.file == 0:
		return false, false
	}
	shared := e.mode&procmaps.Shared != 0
	switch s.tab.files[e.file].Class {
	case ClassDevice, ClassAnonInode:
		return true, false
	case ClassAnonShared:
		return false, false
	case ClassRegular:
		return shared && e.op != OpMmap, false
	case ClassSysV:
		return e.op != OpShmat, false
	}
	return shared, false // a memfd may be sealed
}

// failAdvice handles the failure of a fork advice. mm/madvise.c:madvise_walk_vmas
// passes over gaps, does the rest and then returns ENOMEM; with any other error
// it stopped somewhere. Which memory a child gets is then not known.
func (s *Space) failAdvice(c *Call) {
	if !forkAdvice(c.Args[2]) {
		return
	}
	if c.Sub != 0 {
		s.unadvise(All, c.Time)
		return
	}
	r := s.named(c)
	stop := r.Start
	switch {
	case c.Ret == -errnoNoMemory && c.Time >= s.horizon:
		stop = r.End
	case c.Ret == -errnoInvalid && c.Args[2] == madvWipeOnFork && s.shows(c, r):
		s.derived(c, r)
		// Only private memory without a file can be wiped.
		stop = s.first(r, func(e *cell) bool { return e.file != 0 || e.mode&procmaps.Shared != 0 })
		if stop < r.End {
			r.End = stop
		} else {
			stop = r.Start
		}
	}
	if stop == r.Start && !r.Empty() {
		s.unadvise(r, c.Time)
		return
	}
	done := *c
	done.Args[1] = stop - r.Start
	s.newest = max(s.newest, c.Time)
	s.madvise(&done)
}

// unadvise notes that r may or may not have taken a fork advice at the stamp at,
// and so what newer calls copied from there.
func (s *Space) unadvise(r procmaps.Range, at uint64) {
	s.addUnadvised(doubt{r, at})
	for i := s.readersAfter(at); i < len(s.readers); i++ {
		s.unadviseCopy(&s.readers[i])
	}
}

// unadviseCopy notes that a copy may have an advice, if its source may.
func (s *Space) unadviseCopy(rd *reader) {
	mayHave := func(u doubt) bool { return u.at < rd.at && u.Overlaps(rd.src) }
	if rd.copies && slices.ContainsFunc(s.unadvised, mayHave) {
		s.addUnadvised(doubt{rd.dst, rd.at})
	}
}

func (s *Space) addUnadvised(d doubt) {
	for i := range s.unadvised {
		if u := &s.unadvised[i]; u.Covers(d.Range) {
			u.at = max(u.at, d.at) // copies that were made in between have been noted
			return
		}
	}
	s.unadvised = append(s.unadvised, d)
	if len(s.unadvised) > maxDoubts {
		s.unadvised = append(s.unadvised[:0], doubt{All, 0})
	}
}

// first returns where the first extent of r begins of which is is true, the end
// of r if there is none.
func (s *Space) first(r procmaps.Range, is func(*cell) bool) uint64 {
	for p := s.list.find(r.Start); s.list.has(p); p = s.list.next(p) {
		e := s.list.cell(p)
		if e.start >= r.End {
			break
		}
		if e.alive() && is(e) {
			return max(e.start, r.Start)
		}
	}
	return r.End
}

// failName handles a failed naming, which walks as the advices do, and stops with
// EBADF at the memory of a file (mm/madvise.c:madvise_update_vma).
func (s *Space) failName(c *Call) {
	r := s.named(c)
	stop := r.Start
	switch {
	case c.Ret == -errnoInvalid:
		// kernel/sys.c:prctl_set_vma refuses before it changes anything, and always
		// without CONFIG_ANON_VMA_NAME, as every start of a Go program finds.
		return
	case c.Ret == -errnoNoMemory && c.Time >= s.horizon:
		stop = r.End
	case c.Ret == -errnoBadFile && s.shows(c, r):
		s.derived(c, r)
		sure := true
		stop = s.first(r, func(e *cell) bool {
			if e.file == 0 {
				return false
			}
			class := s.tab.files[e.file].Class
			// The shared memory of /dev/zero is anonymous.
			sure = sure && class != ClassDevice
			return class != ClassAnonShared
		})
		if !sure || stop == r.End {
			stop = r.Start
			break
		}
		r.End = stop
	}
	if stop > r.Start {
		done := *c
		done.Args[3] = stop - r.Start
		s.newest = max(s.newest, c.Time)
		s.setName(&done)
	}
	s.unsure(procmaps.Range{Start: stop, End: r.End}, c.Time)
}
