package space

import (
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// reader is a call that read src to write dst. What an older call, arriving
// later, changes in src would have been in dst.
type reader struct {
	at       uint64
	src, dst procmaps.Range
	// self: the straggler itself would have been changed, as an older mprotect
	// by a failed one that stopped at a gap.
	self bool
	// copies: with the fork advices of src, as an mremap does.
	copies bool
	// detach: a shmdt of src.Start. It passed over everything above src, which
	// holds what it found; an older shmat that arrives later would have been
	// detached, wherever its piece is.
	detach bool
}

// detaches reports whether a shmdt would have found what w, which is older,
// maps at r: a piece of a segment whose offset is its distance from the
// address.
func (s *Space) detaches(rd *reader, r procmaps.Range, w *write) bool {
	return rd.detach && w != nil && w.file != 0 && s.tab.files[w.file].Class == ClassSysV &&
		r.Start >= rd.src.Start && w.offAt(r.Start) == r.Start-rd.src.Start
}

// addReader keeps the readers in the order of their stamps.
func (s *Space) addReader(rd reader) {
	s.readers = slices.Insert(s.readers, s.readersAfter(rd.at), rd)
	s.lastReader = max(s.lastReader, rd.at)
}

// readersAfter returns the index of the first reader later than at.
func (s *Space) readersAfter(at uint64) int {
	i := len(s.readers)
	for i > 0 && s.readers[i-1].at > at { // nearly always the last one
		i--
	}
	return i
}

// known reports whether the reader with this stamp has been applied already.
func (s *Space) known(at uint64) bool {
	i := s.readersAfter(at)
	return i > 0 && s.readers[i-1].at == at
}

// unsure doubts what a call made or may have changed, as far as that cannot be known, and
// what newer readers took from there.
func (s *Space) unsure(made procmaps.Range, at uint64) {
	switch {
	case made.Empty():
		return
	case at < s.lostReader: // it may have taken something from there, to wherever
		made = procmaps.Range{End: kernelHalf}
	}
	s.doubt(made, at)
	if at < s.lastReader {
		s.straggler(made, at, nil)
	}
}

// maxTaints bounds the ranges that one straggler is followed through; beyond,
// they become one range.
const maxTaints = 32

// straggler doubts what newer readers made of r, which is about to be written
// with an older stamp; and what others made of that in turn. w is what is
// written, nil if that is not known: then r is in doubt, and the read that
// settles it is a straggler of its own.
func (s *Space) straggler(r procmaps.Range, at uint64, w *write) {
	s.tainted = append(s.tainted[:0], r)
	for i := s.readersAfter(at); i < len(s.readers); i++ {
		rd := &s.readers[i]
		if s.detaches(rd, r, w) {
			s.doubt(r, rd.at)
		}
		if !slices.ContainsFunc(s.tainted, rd.src.Overlaps) {
			continue
		}
		s.doubtCopy(rd)
		if rd.at == s.movedMany {
			s.movedMany = 0 // it may have been one mapping
		}
		if rd.self && rd.src.Overlaps(r) {
			s.doubt(r, rd.at)
		}
		if s.tainted = append(s.tainted, rd.dst); len(s.tainted) > maxTaints {
			s.tainted = append(s.tainted[:0], hull(s.tainted))
		}
	}
}

func hull(rs []procmaps.Range) procmaps.Range {
	all := rs[0]
	for _, r := range rs[1:] {
		all.Start, all.End = min(all.Start, r.Start), max(all.End, r.End)
	}
	return all
}

// doubtCopy doubts what still is as the reader made it, or older.
func (s *Space) doubtCopy(rd *reader) {
	addr := rd.dst.Start
	for p := s.list.find(addr); s.list.has(p); p = s.list.next(p) {
		c := s.list.cell(p)
		if c.start >= rd.dst.End {
			break
		}
		if c.mapAt > rd.at {
			s.doubt(procmaps.Range{Start: addr, End: max(addr, c.start)}, rd.at)
			addr = c.end
		}
	}
	s.doubt(procmaps.Range{Start: addr, End: rd.dst.End}, rd.at)
}

// sure reports whether the tree shows src as it was when c committed: nothing
// newer has been written there, no read may have seen it later, and nobody
// doubts it.
func (s *Space) sure(c *Call, src procmaps.Range, sv *survey) bool {
	return c.Time > sv.newest && c.Time > s.readUntil && !s.doubtful(src)
}

// copyOf returns the write that copies all of c, as of stamp at.
func copyOf(c *cell, at uint64, base uint64) write {
	return write{
		regs: regAll, at: at, how: Replaced,
		mode: c.mode, flag: c.flag, file: c.file, name: c.name,
		op: c.op, tid: c.tid, ops: addCounts(c.ops, c.extents), extents: c.extents, born: c.born, site: c.site,
		base: base, off: c.off, grantAt: c.grantAt, grantSite: c.grantSite,
	}
}

// take copies the extents in r, clipped, to the scratch list.
func (s *Space) take(r procmaps.Range) {
	s.copied = s.copied[:0]
	for p := s.list.find(r.Start); s.list.has(p); p = s.list.next(p) {
		c := *s.list.cell(p)
		if c.start >= r.End {
			break
		}
		if c.alive() {
			c.clip(c.rng().Intersect(r))
			s.copied = append(s.copied, c)
		}
	}
}

// mremap imitates mm/mremap.c:do_mremap. A moved extent keeps its origin, since
// it is the same memory; what is added to it has the origin of the mremap, and
// so has a copy whose source stays.
func (s *Space) mremap(c *Call) {
	addr, flags, to := c.Args[0], c.Args[3], uint64(c.Ret)
	oldLen, newLen := s.mremapLens(c)
	src, dst := span(addr, oldLen), span(to, newLen)
	s.eff.Range, s.eff.From = dst, src
	if s.known(c.Time) {
		return
	}
	look := src
	switch {
	case oldLen == 0, to == addr && newLen <= oldLen:
		// One duplicates a shared mapping, the other cuts off what is mapped of the
		// rest: either looks at the first page only.
		look = span(addr, s.opts.PageSize)
	case newLen < oldLen:
		look = span(addr, newLen) // the rest is cut off, whatever it is
	}
	sv := s.survey(look)
	absent := s.absent(flags, oldLen == newLen, look, &sv)
	if absent && s.violate(c, look, sv.newest, MovedAbsent) {
		s.doubt(look, c.Time)
	}
	if to == addr && newLen <= oldLen {
		s.unmap(c, procmaps.Range{Start: dst.End, End: src.End}, Unmapped)
		return
	}
	sure := !absent && s.sure(c, look, &sv)
	made := dst
	if to == addr {
		made.Start = src.End
	}
	rd := reader{at: c.Time, src: look, dst: made, copies: true}
	s.addReader(rd)
	s.unadviseCopy(&rd)
	if !sure {
		s.unsure(made, c.Time)
	}
	s.take(look)
	fixed := flags&mremapFixed != 0
	if fixed && oldLen == newLen && sure && s.severalTaken() {
		s.showsMany(c)
	}
	if !fixed {
		if at := s.survey(made); at.alive > 0 {
			s.violate(c, made, at.newest, OverlapsLive)
		}
	}
	s.placeCopies(c, src, dst)
	s.doubtZero(c, made)
	if to == addr || oldLen == 0 || flags&mremapDontUnmap != 0 {
		return
	}
	// A shrinking MREMAP_FIXED unmaps the tail and moves the rest.
	kept := src
	kept.End = min(src.End, addr+newLen)
	s.unmap(c, kept, Moved)
	s.unmap(c, procmaps.Range{Start: kept.End, End: src.End}, Unmapped)
}

// doubtZero doubts what mremap has made of private mappings of /dev/zero: they are anonymous, and
// such as were never touched have an offset by their address (mm/vma.c:copy_vma).
func (s *Space) doubtZero(c *Call, made procmaps.Range) {
	for i := range s.copied {
		if e := &s.copied[i]; e.file != 0 && e.mode&procmaps.Shared == 0 {
			if f := &s.tab.files[e.file]; f.Class == ClassDevice || f.Name == "/dev/zero" {
				s.doubt(made, c.Time)
				return
			}
		}
	}
}

// showsMany notes that c shows that the kernel moves several mappings with one
// mremap. That is trusted after the next Prune, when no older call can show that
// it was otherwise.
func (s *Space) showsMany(c *Call) {
	if s.movedMany == 0 {
		s.movedMany = c.Time
	}
}

// severalTaken reports whether the scratch list holds what cannot be one mapping.
func (s *Space) severalTaken() bool {
	for i := 1; i < len(s.copied); i++ {
		if !sameRegion(&s.copied[i-1], &s.copied[i]) {
			return true
		}
	}
	return false
}

// mremapLens returns the lengths of an mremap as the kernel rounds them.
func (s *Space) mremapLens(c *Call) (oldLen, newLen uint64) {
	oldLen, newLen = s.pageAlign(c.Args[1]), s.pageAlign(c.Args[2])
	if ext, ok := s.At(c.Args[0]); ok && ext.File != 0 && s.tab.files[ext.File].Class == ClassHugeTLB {
		size := s.opts.HugePageSize
		if n := s.tab.files[ext.File].HugePageSize; n != 0 {
			size = n
		}
		oldLen, newLen = alignUp(oldLen, size), alignUp(newLen, size)
	}
	return oldLen, newLen
}

// absent reports whether a source lacks memory it must have had. Since 6.17 a
// MREMAP_FIXED of equal lengths moves many mappings and the gaps between them
// (mm/mremap.c:remap_move); a gap at the start is refused.
func (s *Space) absent(flags uint64, sameLen bool, src procmaps.Range, sv *survey) bool {
	if flags&mremapFixed == 0 || !sameLen {
		return sv.alive < src.Len()
	}
	if !s.list.has(sv.p) {
		return true
	}
	c := s.list.cell(sv.p)
	return !c.alive() || c.start > src.Start
}

// placeCopies writes the copied extents of src at dst, and after them what an
// mremap added. Gaps of the source leave the target alone, as in remap_move.
func (s *Space) placeCopies(c *Call, src, dst procmaps.Range) {
	if len(s.copied) == 0 {
		return
	}
	last := &s.copied[len(s.copied)-1]
	// The mapping that grows is the one at the end of the source; one of
	// length 0 is copied from its first byte on, for the whole length.
	grown := procmaps.Range{Start: dst.Start + src.Len(), End: dst.End}
	if dst.Start != src.Start && !src.Empty() {
		for i := range s.copied {
			from := &s.copied[i]
			r := procmaps.Range{Start: from.start - src.Start + dst.Start, End: from.end - src.Start + dst.Start}
			r.End = min(r.End, dst.End)
			if r.Empty() {
				continue
			}
			w := copyOf(from, c.Time, r.Start)
			if c.Args[3]&mremapDontUnmap != 0 {
				w.made(c)
			}
			sv := s.survey(r)
			s.write(r, &w, &sv)
		}
	}
	if grown.Empty() {
		return
	}
	w := copyOf(last, c.Time, grown.Start)
	if !src.Empty() {
		w.off = last.offAt(src.End)
	}
	w.made(c)
	sv := s.survey(grown)
	s.write(grown, &w, &sv)
}

// made makes a copy the call's own.
func (w *write) made(c *Call) {
	w.origin(c)
	w.grantAt, w.grantSite = 0, 0
	w.flag &^= Inherited
}

// remapFilePages imitates mm/mmap.c:remap_file_pages, which maps the file of
// the extent at the start anew, with another offset.
func (s *Space) remapFilePages(c *Call) {
	r := s.named(c)
	s.eff.Range = r
	if r.Empty() || s.known(c.Time) {
		return
	}
	sv := s.survey(r)
	sure := s.sure(c, r, &sv)
	s.take(r)
	if sv.alive < r.Len() {
		s.violate(c, r, sv.newest, MovedAbsent)
		sure = false
	}
	s.addReader(reader{at: c.Time, src: r, dst: r})
	if !sure {
		s.unsure(r, c.Time)
	}
	if len(s.copied) == 0 {
		return
	}
	w := copyOf(&s.copied[0], c.Time, r.Start)
	w.origin(c)
	w.grantAt, w.grantSite = 0, 0
	w.flag &= present | readOnly
	w.name = 0
	w.off = c.Args[3] * s.opts.PageSize
	s.write(r, &w, &sv)
	s.doubtExec(c, r)
}

// shmRange is the range of a segment attached at addr: the VMA if it is known.
func (s *Space) shmRange(c *Call, addr uint64) procmaps.Range {
	if !c.VMA.Empty() {
		return c.VMA
	}
	return span(addr, s.opts.PageSize)
}

// shmat imitates ipc/shm.c:do_shmat. Without Call.VMA the size of the segment
// is unknown: its first page is mapped and put in doubt.
func (s *Space) shmat(c *Call) {
	prot := uint64(procmaps.Read | procmaps.Write)
	if c.Args[2]&shmReadOnly != 0 {
		prot = protRead
	}
	if c.Args[2]&shmExec != 0 {
		prot |= protExec
	}
	f := c.File
	f.Class = ClassSysV
	if f.Name == "" {
		f.Name = "/SYSV00000000 (deleted)"
	}
	w := write{
		regs: regAll, at: c.Time, how: Replaced, flag: present,
		mode: c.modeOf(prot) | procmaps.Shared, file: s.tab.internFile(&f),
	}
	w.found(c)
	if c.Args[2]&shmReadOnly != 0 {
		w.flag |= readOnly
	}
	w.origin(c)
	r := s.shmRange(c, uint64(c.Ret))
	w.base = r.Start
	s.mapNew(c, r, &w, c.Args[2]&shmRemap != 0)
	if c.VMA.Empty() {
		s.doubt(s.shmReach(c, r.Start), c.Time)
	}
	s.mapUnsure(c, r)
}

// shmReach is where a segment attached at addr may be: the VMA if it is known,
// else anything above.
func (s *Space) shmReach(c *Call, addr uint64) procmaps.Range {
	if c.VMA.Empty() {
		return procmaps.Range{Start: addr, End: kernelHalf}
	}
	return s.shmRange(c, addr)
}

// shmdt imitates ipc/shm.c:ksys_shmdt: the first extent at or above addr that
// is a piece of a segment attached there, and all further pieces of that
// segment; a piece is known by its file offset being its distance from addr.
func (s *Space) shmdt(c *Call) {
	addr := c.Args[0]
	page := span(addr, s.opts.PageSize)
	s.eff.Range = page
	if s.known(c.Time) {
		return
	}
	var file FileID
	mixed := false
	hull, look := span(addr, 0), page
	s.copied = s.copied[:0]
	for p := s.list.find(addr); s.list.has(p); p = s.list.next(p) {
		e := s.list.cell(p)
		if e.file == 0 || s.tab.files[e.file].Class != ClassSysV || e.start < addr || e.off != e.start-addr {
			continue
		}
		// A piece of another segment would be the one, were the first not there.
		look.End = max(look.End, e.end)
		if file != 0 && e.file != file {
			continue
		}
		file, hull.End = e.file, e.end
		s.copied = append(s.copied, *e)
		if e.extents > 1 || len(s.copied) > 1 && !sameOrigin(&s.copied[0], e) {
			mixed = true // perhaps of another attachment, whose pieces stay: that is another struct file
		}
	}
	sv := s.survey(look)
	sure := file != 0 && !mixed && !s.eff.Late && s.sure(c, look, &sv)
	if file == 0 {
		hull = page
		// It was there, wherever.
		above := procmaps.Range{Start: addr, End: kernelHalf}
		sv = s.survey(above)
		s.violate(c, above, sv.newest, DetachedAbsent)
	}
	s.eff.Range = hull
	s.addReader(reader{at: c.Time, src: look, dst: look, self: true, detach: true})
	if !sure {
		s.doubt(look, c.Time)
		if c.Time < s.lastReader { // which may have moved a piece away
			s.straggler(procmaps.Range{Start: addr, End: kernelHalf}, c.Time, nil)
		}
	}
	for i := range s.copied {
		s.unmap(c, s.copied[i].rng(), Unmapped)
	}
}
