package space

import "github.com/maptrace/maptrace/procmaps"

// pageAlign rounds a length up to pages; it wraps to 0 as the kernel's does.
func (s *Space) pageAlign(n uint64) uint64 {
	m := s.opts.PageSize - 1
	return (n + m) &^ m
}

func span(addr, n uint64) procmaps.Range {
	if addr+n < addr {
		return procmaps.Range{Start: addr, End: addr}
	}
	return procmaps.Range{Start: addr, End: addr + n}
}

// apply applies a successful call.
func (s *Space) apply(c *Call) {
	switch c.Op {
	case OpMmap:
		s.mmap(c)
	case OpMunmap:
		s.unmap(c, span(c.Args[0], s.pageAlign(c.Args[1])), Unmapped)
	case OpBrk:
		s.brkCall(c)
	case OpMremap:
		s.mremap(c)
	case OpMprotect:
		s.mprotect(c)
	case OpMadvise:
		s.madvise(c)
	case OpSetVMA:
		s.setName(c)
	case OpShmat:
		s.shmat(c)
	case OpShmdt:
		s.shmdt(c)
	case OpRemapFilePages:
		s.remapFilePages(c)
	case OpMlock, OpMbind:
		s.eff.Range = s.named(c)
	}
}

// origin fills in who makes an extent.
func (w *write) origin(c *Call) {
	w.op, w.tid, w.born, w.site, w.ops, w.extents = c.Op, c.TID, c.Time, c.Site, 1, 1
}

// mmap imitates mm/mmap.c:ksys_mmap_pgoff and do_mmap.
func (s *Space) mmap(c *Call) {
	flags := c.Args[3]
	w := write{regs: regAll, at: c.Time, how: Replaced, mode: c.modeOf(c.Args[2]), flag: present}
	w.origin(c)
	switch flags & mapTypeMask {
	case mapShared, mapSharedValidate:
		w.mode |= procmaps.Shared
	case mapDroppable:
		w.flag |= WipeOnFork
	}
	if flags&mapGrowsDown != 0 {
		w.flag |= GrowsDown
	}
	// Shared anonymous memory ignores the offset (do_mmap sets pgoff to 0).
	if flags&mapAnonymous == 0 || flags&mapHugeTLB != 0 {
		w.off = c.Args[5]
	}
	w.found(c)
	r := s.mmapRange(c)
	w.file, w.base = s.mmapFile(c, w.mode), r.Start
	s.mapNew(c, r, &w, flags&mapFixed != 0 && flags&mapFixedNoReplace == 0)
	s.mapUnsure(c, r)
}

// found takes over what a mapping was seen to have become.
func (w *write) found(c *Call) {
	if c.Found {
		w.mode, w.flag, w.off = c.Mode, present|c.Flags&flagMask, c.Offset
	}
	if c.ReadOnly && w.mode&procmaps.Shared != 0 {
		w.flag |= readOnly
	}
}

// mapUnsure doubts a mapping that was not seen, and whether a child inherits it.
func (s *Space) mapUnsure(c *Call, r procmaps.Range) {
	if c.Unsure {
		s.unsure(r, c.Time)
		s.unadvise(r, c.Time)
	}
}

// mmapRange is the range an mmap gave out.
func (s *Space) mmapRange(c *Call) procmaps.Range {
	if !c.VMA.Empty() {
		return c.VMA
	}
	n := s.pageAlign(c.Args[1])
	if c.Args[3]&mapHugeTLB != 0 {
		n = alignUp(c.Args[1], s.hugePage(c))
	}
	return span(uint64(c.Ret), n)
}

func (s *Space) hugePage(c *Call) uint64 {
	if c.File.HugePageSize != 0 {
		return c.File.HugePageSize
	}
	if log := c.Args[3] >> mapHugeShift & mapHugeMask; c.Args[3]&mapHugeTLB != 0 && log != 0 {
		return 1 << log
	}
	return s.opts.HugePageSize
}

func alignUp(n, size uint64) uint64 { return (n + size - 1) &^ (size - 1) }

// mmapFile interns what an mmap maps.
func (s *Space) mmapFile(c *Call, mode procmaps.Mode) FileID {
	f := c.File
	switch flags := c.Args[3]; {
	case flags&mapAnonymous != 0 && flags&mapHugeTLB != 0:
		f.Class, f.HugePageSize = ClassHugeTLB, s.hugePage(c)
		if f.Name == "" {
			f.Name = "/anon_hugepage (deleted)"
		}
	case flags&mapAnonymous != 0 && mode&procmaps.Shared != 0:
		f.Class = ClassAnonShared
		if f.Name == "" {
			f.Name = "/dev/zero (deleted)"
		}
	case flags&mapAnonymous != 0:
		return 0
	}
	return s.tab.internFile(&f)
}

// mapNew maps r; unless fixed, the kernel has found it free.
func (s *Space) mapNew(c *Call, r procmaps.Range, w *write, fixed bool) {
	s.eff.Range = r
	sv := s.survey(r)
	if !fixed && sv.alive > 0 {
		s.violate(c, r, sv.newest, OverlapsLive)
	}
	s.write(r, w, &sv)
}

// unmap unmaps r, whatever it holds (mm/vma.c:do_vmi_munmap).
func (s *Space) unmap(c *Call, r procmaps.Range, how How) {
	if s.eff.Range.Empty() {
		s.eff.Range = r
	}
	sv := s.survey(r)
	s.write(r, &write{regs: regAll, at: c.Time, how: how}, &sv)
}

// brkCall imitates the brk of mm/mmap.c: the call is refused by returning
// the old break, and both ends are page aligned.
func (s *Space) brkCall(c *Call) {
	now := uint64(c.Ret)
	from, to := s.pageAlign(c.OldBrk), s.pageAlign(now)
	if to < from {
		s.unmap(c, procmaps.Range{Start: to, End: from}, Unmapped) // while it is known to be the heap
	}
	if c.Time > s.brkAt {
		s.brk, s.brkAt = now, c.Time
	}
	if to > from {
		w := write{
			regs: regAll, at: c.Time, how: Replaced, flag: present,
			mode: c.modeOf(uint64(procmaps.Read | procmaps.Write)),
		}
		w.origin(c)
		s.mapNew(c, procmaps.Range{Start: from, End: to}, &w, false)
	}
}

// mprotect imitates mm/mprotect.c:do_mprotect_pkey.
func (s *Space) mprotect(c *Call) {
	r := span(c.Args[0], s.pageAlign(c.Args[1]))
	if r.Empty() {
		return
	}
	if c.Args[2]&protGrowsDown != 0 {
		r.Start = s.growsDownFrom(c, r)
	}
	s.eff.Range = r
	sv := s.survey(r)
	if sv.alive < r.Len() && s.violate(c, r, sv.newest, ProtectedAbsent) {
		s.doubt(r, c.Time)
	}
	w := write{regs: regProt, at: c.Time, mode: c.modeOf(c.Args[2])}
	if c.Site != 0 {
		// Without sites the steps of a heap that grows so become one extent.
		w.grantAt, w.grantSite = c.Time, c.Site
	}
	s.write(r, &w, &sv)
	s.doubtExec(c, r)
}

// doubtExec doubts the permissions that a call with READ_IMPLIES_EXEC has given to memory of
// files: not what is on a mount without exec becomes executable (mm/mprotect.c:
// do_mprotect_pkey, mm/mmap.c:do_mmap).
func (s *Space) doubtExec(c *Call, r procmaps.Range) {
	hasFile := func(e *cell) bool { return e.file != 0 }
	if c.Exec && s.first(r, hasFile) < r.End {
		s.doubt(r, c.Time)
	}
}

// growsDownFrom returns where an mprotect with PROT_GROWSDOWN begins: at the
// start of the mapping that r.Start is in, or of the first above it. That is a look at the
// tree: what lies between may have been different at the time of a late call.
func (s *Space) growsDownFrom(c *Call, r procmaps.Range) uint64 {
	p := s.list.find(s.first(r, func(*cell) bool { return true }))
	if !s.list.has(p) || s.list.cell(p).start >= r.End || !s.list.cell(p).alive() {
		return r.Start
	}
	at := s.list.cell(p)
	lo := at.start
	for {
		q, ok := s.list.prev(p)
		if !ok {
			break
		}
		below := s.list.cell(q)
		if below.end != lo || !below.alive() || (below.flag^at.flag)&GrowsDown != 0 ||
			below.mode != at.mode || below.name != at.name {
			break
		}
		p, lo = q, below.start
	}
	if at.flag&GrowsDown == 0 && c.Failed() {
		return r.Start // else it grows down, which a read need not have shown
	}
	// What is alike below may be several mappings to the kernel, of which it takes the last.
	between := procmaps.Range{Start: min(lo, r.Start), End: max(lo, r.Start)}
	if lo < r.Start || s.eff.Late || c.Time <= s.readUntil || s.doubtful(between) {
		s.doubt(between, c.Time)
	}
	return lo
}

// madvise keeps the advices that change what a fork inherits
// (mm/madvise.c:madvise_vma_behavior); the others change no mapping.
func (s *Space) madvise(c *Call) {
	r := s.named(c)
	s.eff.Range = r
	if c.Sub == SubProcessMadvise && forkAdvice(c.Args[2]) {
		s.unadvise(All, c.Time) // it may name many ranges
	}
	if r.Empty() || c.Sub != 0 {
		return
	}
	w := write{at: c.Time}
	switch c.Args[2] {
	case madvDontFork:
		w.regs, w.flag = regFork, DontFork
	case madvDoFork:
		w.regs = regFork
	case madvWipeOnFork:
		w.regs, w.flag = regWipe, WipeOnFork
	case madvKeepOnFork:
		w.regs = regWipe
	default:
		return
	}
	sv := s.survey(r)
	s.write(r, &w, &sv)
}

// forkAdvice reports whether an advice says what a child inherits.
func forkAdvice(advice uint64) bool {
	switch advice {
	case madvDontFork, madvDoFork, madvWipeOnFork, madvKeepOnFork:
		return true
	}
	return false
}

// setName imitates mm/madvise.c:set_anon_vma_name.
func (s *Space) setName(c *Call) {
	r := s.named(c)
	s.eff.Range = r
	sv := s.survey(r)
	s.write(r, &write{regs: regName, at: c.Time, name: s.tab.internName(c.Name)}, &sv)
	if !c.Found {
		return
	}
	for _, unseen := range [2]procmaps.Range{{Start: r.Start, End: max(r.Start, c.VMA.Start)}, {Start: max(r.Start, c.VMA.End), End: r.End}} {
		s.doubt(unseen.Intersect(r), c.Time)
	}
}

// named returns the range that the arguments of a call name, empty where they
// name none.
func (s *Space) named(c *Call) procmaps.Range {
	switch {
	case c.Sub == SubProcessMadvise, c.Sub == SubMlockall, c.Sub == SubMunlockall:
		return procmaps.Range{}
	case c.Op == OpSetVMA:
		return span(c.Args[2], s.pageAlign(c.Args[3]))
	case c.Op == OpMlock: // mm/mlock.c:do_mlock takes any address
		off := c.Args[0] & (s.opts.PageSize - 1)
		return span(c.Args[0]-off, s.pageAlign(c.Args[1]+off))
	case c.Op == OpRemapFilePages: // rounds down
		m := s.opts.PageSize - 1
		return span(c.Args[0]&^m, c.Args[1]&^m)
	}
	return span(c.Args[0], s.pageAlign(c.Args[1]))
}

// unplaced puts in doubt what a successful call that is too old changed.
func (s *Space) unplaced(c *Call) {
	s.eff.Late = true
	switch c.Op {
	case OpMmap:
		s.unsure(s.mmapRange(c), c.Time)
	case OpMunmap, OpMadvise, OpSetVMA, OpRemapFilePages:
		s.unsure(s.named(c), c.Time)
	case OpMprotect:
		r := s.named(c)
		if c.Args[2]&protGrowsDown != 0 {
			r.Start = 0 // where the mapping began
		}
		s.unsure(r, c.Time)
	case OpBrk:
		a, b := s.pageAlign(c.OldBrk), s.pageAlign(uint64(c.Ret))
		s.unsure(procmaps.Range{Start: min(a, b), End: max(a, b)}, c.Time)
	case OpMremap:
		oldLen, newLen := s.mremapLens(c)
		s.unsure(span(c.Args[0], oldLen), c.Time)
		s.unsure(span(uint64(c.Ret), newLen), c.Time)
	case OpShmat:
		s.unsure(s.shmReach(c, uint64(c.Ret)), c.Time)
	case OpShmdt:
		s.unsure(procmaps.Range{Start: c.Args[0], End: kernelHalf}, c.Time)
	}
}
