package space

import (
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// The bracketed names that are derived, or hold a name given by prctl.
const (
	heapName        = "[heap]"
	stackName       = "[stack]"
	anonPrefix      = "[anon:"
	anonShmemPrefix = "[anon_shmem:"
)

// Row is a row of maps, and the flags that smaps told. Known has the flags
// that were looked at; with maps alone it is 0.
type Row struct {
	procmaps.Mapping
	Flags, Known Flags
}

// Read is a fresh look at maps. It need not be consistent: rows may have been
// read at different moments between Began and Ended.
type Read struct {
	Range procmaps.Range // of addresses looked at: what has no row was not mapped
	Rows  []Row          // in address order; what lies outside Range is ignored
	Began uint64         // stamp before the first row was read, never 0
	Ended uint64         // stamp after the last; Began if 0

	// Op is the origin of what turns out to be new: OpSeed, OpStack, OpOther
	// or OpReread (if 0); with the thread and stack, where they are known.
	// A seed reports no changes.
	Op   Op
	TID  uint32
	Site uint64
}

// Change is something a read found other than the tree had it.
type Change struct {
	Range    procmaps.Range
	Was, Now Extent // the zero Extent where nothing was or is
}

// Reread writes what a read saw, stamped with Began, to all registers that it
// saw and that are older. An extent that agrees keeps its origin. It returns
// what it had to change, in a slice that is overwritten by the next Reread,
// and closes the doubts about the range older than Began, also where it saw no
// flags; the rest of [Space.Doubts] is still open. A read older than the last Prune is not used,
// and its range put in doubt.
func (s *Space) Reread(rd Read) []Change {
	s.eff, s.changes, s.doubts = Effect{}, s.changes[:0], s.doubts[:0]
	if rd.Began < s.horizon {
		s.openDoubt(rd.Range, s.newest)
		return nil
	}
	if rd.Op == 0 {
		rd.Op = OpReread
	}
	s.quiet = rd.Op == OpSeed
	s.readUntil = max(s.readUntil, rd.Began, rd.Ended)
	s.newest = max(s.newest, rd.Began)

	s.tab.renamed = s.tab.renamed[:0]
	s.aliased = s.aliased && rd.Range != All
	addr := rd.Range.Start
	for i := range rd.Rows {
		row := &rd.Rows[i]
		// A torn read may show a mapping again that has grown meanwhile.
		r := row.Intersect(rd.Range)
		r.Start = max(r.Start, addr)
		if r.Empty() {
			continue
		}
		s.readAbsent(&rd, procmaps.Range{Start: addr, End: r.Start})
		s.readRow(&rd, row, r)
		if rd.Op == OpSeed && (row.Known&Userfault == 0 || row.Flags&Userfault != 0) {
			s.userfault = true
		}
		addr = r.End
	}
	s.readAbsent(&rd, procmaps.Range{Start: addr, End: rd.Range.End})
	s.settle(rd.Range, rd.Began)
	s.checkNames(rd.Range, rd.Rows)
	return s.changes
}

// checkNames notes whether files that came by other names than were known have several, as
// links have, and are not just renamed: among the rows that were read, or as one is mapped
// outside of what came, by the one or the other name.
func (s *Space) checkNames(came procmaps.Range, rows []Row) {
	const many = 1024 // extents are not searched for each name that a program comes up with
	if s.aliased || len(s.tab.renamed) == 0 {
		return
	}
	read := make(map[fileKey]string) // the last name of each
	for _, id := range s.tab.renamed {
		read[s.tab.files[id].key()] = ""
	}
	for i := range rows {
		f := File{Dev: rows[i].Dev, Inode: rows[i].Inode, Class: s.tab.classOf(rows[i].Dev, rows[i].Name), Name: rows[i].Name}
		k := f.key()
		if last, is := read[k]; is {
			read[k] = strings.TrimSuffix(rows[i].Name, procmaps.DeletedSuffix)
			s.aliased = s.aliased || last != "" && last != read[k]
		}
	}
	if s.aliased || came == All {
		return
	}
	s.aliased = s.Cells() > many
	for e := range s.Extents(All) {
		s.aliased = s.aliased || slices.Contains(s.tab.renamed, e.File) && !came.Covers(e.Range)
	}
}

// Aliased tells whether files are mapped that have several names, so that of some extents it
// is not known which is theirs. Reading all of it tells, if there is one for each.
func (s *Space) Aliased() bool { return s.aliased }

func (s *Space) readAbsent(rd *Read, r procmaps.Range) {
	r.End = min(r.End, kernelHalf)
	if r.Empty() {
		return
	}
	sv := s.survey(r)
	w := write{regs: regAll, at: rd.Began, read: true}
	s.writeRead(r, &w, &sv)
}

func (s *Space) readRow(rd *Read, row *Row, r procmaps.Range) {
	w := write{
		regs: regMap | regProt, at: rd.Began, read: true,
		mode: row.Mode, flag: present | row.Flags&row.Known&flagMask,
		op: rd.Op, tid: rd.TID, born: rd.Began, site: rd.Site, ops: 1, extents: 1,
		base: row.Start, off: row.Offset,
	}
	if row.Known&DontFork != 0 {
		w.regs |= regFork
	}
	if row.Known&WipeOnFork != 0 {
		w.regs |= regWipe
	}
	if row.Known&GrowsDown != 0 {
		w.regs |= regGrow
	}
	what := s.classify(&row.Mapping)
	switch {
	case what.file:
		w.file = s.tab.internFile(&File{
			Dev: row.Dev, Inode: row.Inode, Name: what.path, Class: what.class,
		})
	case what.special:
		w.flag |= special
		w.name = s.tab.internName(row.Name)
	}
	if what.named {
		w.regs |= regName
		w.name = s.tab.internName(what.name)
	}
	if row.Name == heapName {
		s.heapFrom = row.Start
	}
	switch {
	case row.Name == heapName && s.brkStart == 0:
		s.brkStart, s.brk = row.Start, max(s.brk, row.End)
	case row.Name == heapName && rd.Began >= s.brkAt && row.Start >= s.brkStart && (row.End > s.brk || rd.Range.End >= s.brk):
		// Something that is not a call moved the break: a 32-bit brk, prctl. The last
		// row of the heap ends there; one of several is not the last unless all that
		// was the heap was read.
		s.brk, s.brkAt = row.End, rd.Began
	case row.Name == stackName:
		if s.stack == 0 {
			s.stack = row.End - 1 // it grows down: the top stays
		}
		if row.Known&GrowsDown == 0 {
			w.flag |= GrowsDown
			w.regs |= regGrow
		}
	}
	sv := s.survey(r)
	s.writeRead(r, &w, &sv)
}

// writeRead writes what a read saw, and doubts what a newer call copied from
// where it saw a change.
func (s *Space) writeRead(r procmaps.Range, w *write, sv *survey) {
	before := s.eff.Changed
	s.eff.Changed = false
	if w.regs == regAll && w.at > sv.newest && w.flag&present == 0 {
		s.replace(r, w, sv)
	} else {
		s.overlay(r, w)
	}
	if s.eff.Changed && w.at < s.lastReader {
		s.straggler(r, w.at, w)
	}
	s.eff.Changed = s.eff.Changed || before
}

// identity is what the columns of a row say.
type identity struct {
	file, special, named bool
	class                Class
	path, name           string // without the brackets of a name given by prctl
}

// classify takes the name column of a row apart. The heap and the stack show
// their bracketed word instead of a name they may have been given.
func (s *Space) classify(m *procmaps.Mapping) identity {
	if m.Inode != 0 || m.Dev != (procmaps.Device{}) || m.Name != "" && m.Name[0] != '[' {
		// No prctl can name a file's memory; maps shows the name of shared
		// anonymous memory instead of its file.
		id := identity{file: true, named: true, class: s.tab.classOf(m.Dev, m.Name), path: m.Name}
		if strings.HasPrefix(m.Name, anonShmemPrefix) {
			id.name, id.path = bracketed(m.Name, anonShmemPrefix), "/dev/zero (deleted)"
		}
		return id
	}
	switch {
	case m.Name == "":
		return identity{named: true}
	case strings.HasPrefix(m.Name, anonPrefix):
		return identity{named: true, name: bracketed(m.Name, anonPrefix)}
	case m.Name == heapName, strings.HasPrefix(m.Name, "[stack"):
		return identity{}
	}
	return identity{special: true}
}

func bracketed(name, prefix string) string {
	return strings.TrimSuffix(strings.TrimPrefix(name, prefix), "]")
}

// Verify compares the tree, over a range, with the rows of maps that overlap it, read not
// before the stamp from. It returns where they differ, and what it could not compare: where
// they differ in a register that was stamped from or later, which may have changed during
// the read. What maps does not show, the advices for fork, excuses nothing. Both results
// are in address order.
//
// The caller passes over what operations not yet applied touch. Rows that the kernel merges
// or splits are equal; so are heap, stack and plain anonymous memory, a basename and a path,
// and memory of unknown and of known identity.
//
// Precondition: from is not before the Horizon.
func (s *Space) Verify(rows []procmaps.Mapping, in procmaps.Range, from uint64) (drift []Drift, unverified []procmaps.Range) {
	in.End = min(in.End, kernelHalf)
	p := s.list.find(in.Start)
	for addr := in.Start; addr < in.End; {
		for len(rows) > 0 && rows[0].End <= addr {
			rows = rows[1:]
		}
		for s.list.has(p) && s.list.cell(p).end <= addr {
			p = s.list.next(p)
		}
		hi := in.End
		var c *cell
		var row *procmaps.Mapping
		if s.list.has(p) {
			c = s.list.cell(p)
			if c.start > addr {
				hi, c = min(hi, c.start), nil
			} else {
				hi = min(hi, c.end)
			}
		}
		if len(rows) > 0 {
			row = &rows[0]
			if row.Start > addr {
				hi, row = min(hi, row.Start), nil
			} else {
				hi = min(hi, row.End)
			}
		}
		r := procmaps.Range{Start: addr, End: hi}
		if what := s.differ(c, row, r); what != 0 {
			if c == nil || c.writtenAt(what) < from {
				drift = s.drift(drift, what, c, row, r)
			} else if n := len(unverified); n > 0 && unverified[n-1].End == r.Start {
				unverified[n-1].End = r.End
			} else {
				unverified = append(unverified, r)
			}
		}
		addr = hi
	}
	return slices.Clip(drift), unverified
}

// writtenAt is the stamp of what decides a respect. With another mapping comes all of it.
func (c *cell) writtenAt(what What) uint64 {
	switch what {
	case ModeOf:
		return max(c.mapAt, c.protAt)
	case NameOf:
		return max(c.mapAt, c.nameAt)
	}
	return c.mapAt
}

// What says in which respect tree and maps differ.
type What uint8

// The respects.
const (
	Missing   What = 1 + iota // mapped, but not in the tree
	Extra                     // in the tree, but not mapped
	SharedOf                  // private or shared
	ModeOf                    // the rest of the mode: the permissions
	FileOf                    // the file
	OffsetOf                  // the offset in the file
	SpecialOf                 // which special mapping it is, or whether it is one
	NameOf                    // the name given by prctl
)

var whatNames = [...]string{
	Missing: "missing", Extra: "extra", SharedOf: "mode", ModeOf: "mode", FileOf: "file", OffsetOf: "offset", SpecialOf: "name", NameOf: "name",
}

// String returns the word used in output.
func (w What) String() string {
	if int(w) < len(whatNames) {
		return whatNames[w]
	}
	return ""
}

// Drift is a range where the tree is wrong.
type Drift struct {
	Range procmaps.Range
	What  What
	Tree  Extent           // the zero Extent if missing
	Row   procmaps.Mapping // the zero Mapping if extra
}

// drift appends a difference, or extends the last one where it goes on.
func (s *Space) drift(out []Drift, what What, c *cell, row *procmaps.Mapping, r procmaps.Range) []Drift {
	d := Drift{Range: r, What: what}
	if c != nil {
		d.Tree = s.extent(c)
	}
	if row != nil {
		d.Row = *row
	}
	if n := len(out); n > 0 && out[n-1].Range.End == r.Start && out[n-1].What == what &&
		out[n-1].Tree == d.Tree && out[n-1].Row == d.Row {
		out[n-1].Range.End = r.End
		return out
	}
	return append(out, d)
}

// differ compares one cell and one row, each nil for none, over r. What the map register
// covers comes first: if that may have changed, so may all else.
func (s *Space) differ(c *cell, row *procmaps.Mapping, r procmaps.Range) What {
	alive := c != nil && c.alive()
	switch {
	case !alive && row == nil:
		return 0
	case !alive:
		return Missing
	case row == nil:
		return Extra
	case (c.mode^row.Mode)&procmaps.Shared != 0:
		return SharedOf
	}
	what := s.classify(row)
	if what.special != (c.flag&special != 0) || what.special && s.tab.names[c.name].raw != row.Name {
		return SpecialOf
	}
	if what.file != (c.file != 0) {
		return FileOf
	}
	if what.file {
		f := &s.tab.files[c.file]
		if f.known() {
			saw := File{Dev: row.Dev, Inode: row.Inode, Class: what.class}
			if f.Dev != saw.Dev || f.Inode != saw.Inode {
				return FileOf
			}
		} else if !f.Class.agrees(what.class) {
			return FileOf
		}
		if c.offAt(r.Start) != row.Offset+(r.Start-row.Start) {
			return OffsetOf
		}
	}
	if (c.mode^row.Mode)&procmaps.Perm != 0 {
		return ModeOf
	}
	if what.named && s.tab.names[c.name].raw != what.name {
		return NameOf
	}
	return 0
}
