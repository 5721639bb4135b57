package space

import (
	"math"

	"github.com/maptrace/maptrace/procmaps"
)

// Flags are properties of an extent that maps does not show.
type Flags uint8

// The flags, and the word of smaps' VmFlags that shows each.
const (
	GrowsDown  Flags = 1 << iota // "gd"
	DontFork                     // "dc": not inherited by fork
	WipeOnFork                   // "wf": inherited as zero pages
	Inherited                    // came from the parent by fork

	// Userfault is of a Row only: it is registered with a userfaultfd ("um", "uw",
	// "ui").
	Userfault

	// These are the cell's own: whether it is known never to be writable, whether
	// it is an extent, and whether its name is that of a special mapping such as
	// the vdso.
	readOnly Flags = 1 << 5
	present  Flags = 1 << 6
	special  Flags = 1 << 7
)

const flagMask = GrowsDown | DontFork | WipeOnFork | Inherited

// cell is a run of addresses with equal registers. It holds no pointers, so
// that the collector need not look at the tree.
//
// Invariants: start < end; cells do not overlap and are in address order; a
// hole has no file, offset, origin or counts, and none of the cell's own flags.
// A new field belongs in continues or mergeable as well.
type cell struct {
	start, end uint64

	// The stamps of the registers. mapAt covers everything not named in the
	// next five; stamp 0 means never written. A read of maps shows no flags:
	// hence GrowsDown, which only mappings set, has a register of its own.
	mapAt  uint64
	protAt uint64 // the permissions in mode
	nameAt uint64 // name, unless special
	forkAt uint64 // DontFork
	wipeAt uint64 // WipeOnFork
	growAt uint64 // GrowsDown

	off  uint64 // of start, in the file
	born uint64
	site uint64
	// Who allowed it to be written. Of the register that protAt stamps.
	grantAt, grantSite uint64
	tid                uint32
	ops                uint32
	extents            uint32 // how many became one by Coarsen; 1 of others, 0 of a hole
	file               FileID
	name               nameID
	mode               procmaps.Mode // Shared belongs to the map register
	op                 Op
	flag               Flags
}

func (c *cell) rng() procmaps.Range { return procmaps.Range{Start: c.start, End: c.end} }
func (c *cell) alive() bool         { return c.flag&present != 0 }

// newest returns the latest stamp of any register.
func (c *cell) newest() uint64 {
	return max(c.mapAt, c.protAt, c.nameAt, c.forkAt, c.wipeAt, c.growAt)
}

// offAt returns the file offset that belongs to addr, 0 without a file.
func (c *cell) offAt(addr uint64) uint64 {
	if c.file == 0 {
		return 0
	}
	return c.off + (addr - c.start)
}

// continues reports whether b begins where a ends and has the same registers, whoever
// made both, and whether or not they were inherited.
func continues(a, b *cell) bool {
	return a.end == b.start &&
		a.mapAt == b.mapAt && a.protAt == b.protAt && a.nameAt == b.nameAt &&
		a.forkAt == b.forkAt && a.wipeAt == b.wipeAt && a.growAt == b.growAt &&
		a.file == b.file && a.name == b.name && a.mode == b.mode &&
		(a.flag^b.flag)&^Inherited == 0 && a.offAt(b.start) == b.off
}

// mergeable reports whether b, which begins where a ends, only continues it.
// The counts may differ: see join.
func mergeable(a, b *cell) bool {
	return continues(a, b) &&
		a.grantAt == b.grantAt && a.grantSite == b.grantSite &&
		a.born == b.born && a.site == b.site && a.tid == b.tid && a.op == b.op && a.flag == b.flag
}

// join makes a and b, which are mergeable, one. Two pieces of one extent are one again;
// those of several count as many as both.
func (c *cell) join(b *cell) {
	c.end = b.end
	if c.extents > 1 || b.extents > 1 {
		c.extents, c.ops = addCounts(c.extents, b.extents), addCounts(c.ops, b.ops)
		return
	}
	c.ops = max(c.ops, b.ops)
}

func addCounts(a, b uint32) uint32 { return uint32(min(uint64(a)+uint64(b), math.MaxUint32)) }

// clip cuts c down to r, which it covers. Of several extents it leaves a part in
// proportion: where each of them was is not known any more.
func (c *cell) clip(r procmaps.Range) {
	if c.extents > 1 {
		part := float64(r.Len()) / float64(c.end-c.start)
		each := c.each()
		c.extents = max(1, uint32(part*float64(c.extents)))
		c.ops = max(each, uint32(part*float64(c.ops)))
	}
	c.off = c.offAt(r.Start)
	c.start, c.end = r.Start, r.End
}

// each is the count of operations of one extent, on average if they are several.
func (c *cell) each() uint32 {
	if c.extents <= 1 {
		return c.ops
	}
	return c.ops / c.extents
}

// register selects registers of a cell.
type register uint8

const (
	regMap register = 1 << iota
	regProt
	regName
	regFork
	regWipe
	regGrow

	regAll = regMap | regProt | regName | regFork | regWipe | regGrow
)

// write is one stamped write of some registers over a range.
type write struct {
	regs register
	at   uint64
	how  How
	read bool // by a look at maps: an extent that agrees keeps its origin

	// Values. off is the file offset at base.
	mode       procmaps.Mode
	flag       Flags
	file       FileID
	name       nameID
	op         Op
	tid, ops   uint32
	extents    uint32
	born, site uint64
	base, off  uint64
	// Of a write to regProt alone; what makes memory has its origin.
	grantAt, grantSite uint64
}

func (w *write) offAt(addr uint64) uint64 {
	if w.file == 0 {
		return 0
	}
	return w.off + (addr - w.base)
}

// cell returns the cell that the write makes of r where nothing is newer.
// Precondition: it writes all registers.
func (w *write) cell(r procmaps.Range) cell {
	return cell{
		start: r.Start, end: r.End,
		mapAt: w.at, protAt: w.at, nameAt: w.at, forkAt: w.at, wipeAt: w.at, growAt: w.at,
		off: w.offAt(r.Start), born: w.born, site: w.site, tid: w.tid, ops: w.ops, extents: w.extents,
		grantAt: w.grantAt, grantSite: w.grantSite,
		file: w.file, name: w.name, mode: w.mode, op: w.op, flag: w.flag,
	}
}

// put writes the registers of w that are newer than those of c, and books the
// change if it is more than one of stamps. Only here, and in Space.replace for
// the case that nothing is newer, are registers written.
func (s *Space) put(c *cell, w *write) {
	changed, replaced := false, false
	was := *c
	if w.regs&regMap != 0 && w.at > c.mapAt {
		c.mapAt = w.at
		if !w.read || !s.agrees(&was, w) {
			replaced = true
			changed = was.alive() || w.flag&present != 0
			s.putMap(c, w)
		} else {
			c.file = w.file
		}
	}
	if w.regs&regProt != 0 && w.at > c.protAt {
		switch {
		case replaced || w.read && (was.mode^w.mode)&procmaps.Perm != 0:
			c.grantAt, c.grantSite = w.grantAt, w.grantSite
		case !w.read:
			g := Grant{was.grantAt, was.grantSite}.after(was.mode, w.mode, Grant{w.grantAt, w.grantSite}, Grant{was.born, was.site})
			c.grantAt, c.grantSite = g.Time, g.Site
		}
		if was.mode&procmaps.Perm != w.mode&procmaps.Perm {
			c.mode = c.mode&procmaps.Shared | w.mode&procmaps.Perm
			changed = true
		}
		c.protAt = w.at
	}
	if w.regs&regName != 0 && w.at > c.nameAt {
		if c.flag&special == 0 && c.name != w.name {
			c.name, changed = w.name, true
		}
		c.nameAt = w.at
	}
	if w.regs&regFork != 0 && w.at > c.forkAt {
		changed = c.putFlag(w, DontFork) || changed
		c.forkAt = w.at
	}
	if w.regs&regWipe != 0 && w.at > c.wipeAt {
		changed = c.putFlag(w, WipeOnFork) || changed
		c.wipeAt = w.at
	}
	if w.regs&regGrow != 0 && w.at > c.growAt {
		changed = c.putFlag(w, GrowsDown) || changed
		c.growAt = w.at
	}
	if changed {
		if !replaced && c.alive() {
			c.ops = addCounts(c.ops, c.extents)
		}
		s.report(&was, c, w, replaced)
	}
}

// putMap writes the map register.
func (s *Space) putMap(c *cell, w *write) {
	const own = Inherited | readOnly | present | special
	if w.flag&special != 0 || c.flag&special != 0 {
		// A special mapping's name is part of what it is, and no prctl changes it.
		c.name = w.name
	} else if w.read {
		// What stood here is gone, and its name and advices with it; what stands
		// here instead has not been seen, so a straggler may still tell. A newer
		// one has told already.
		if w.regs&regName == 0 && c.nameAt < w.at {
			c.name, c.nameAt = 0, 0
		}
		if w.regs&regFork == 0 && c.forkAt < w.at {
			c.flag, c.forkAt = c.flag&^DontFork, 0
		}
		if w.regs&regWipe == 0 && c.wipeAt < w.at {
			c.flag, c.wipeAt = c.flag&^WipeOnFork, 0
		}
		if w.regs&regGrow == 0 && c.growAt < w.at {
			c.flag, c.growAt = c.flag&^GrowsDown, 0
		}
	}
	c.flag = c.flag&^own | w.flag&own
	c.mode = c.mode&procmaps.Perm | w.mode&procmaps.Shared
	c.file, c.off = w.file, w.offAt(c.start)
	if w.flag&present == 0 {
		c.op, c.tid, c.born, c.site, c.ops, c.extents = 0, 0, 0, 0, 0, 0
		return
	}
	c.op, c.tid, c.born, c.site = w.op, w.tid, w.born, w.site
	c.ops, c.extents = max(c.each()+1, w.ops), w.extents
}

// putFlag sets one flag as in w, and reports whether it changed.
func (c *cell) putFlag(w *write, f Flags) bool {
	if c.flag&f == w.flag&f {
		return false
	}
	c.flag ^= f
	return true
}

// agrees reports whether an extent is what a read saw: everything of the map
// register but the flags. An extent of unknown file agrees with every file of
// its class.
func (s *Space) agrees(c *cell, w *write) bool {
	if !c.alive() || w.flag&present == 0 {
		return c.alive() == (w.flag&present != 0)
	}
	if (c.mode^w.mode)&procmaps.Shared != 0 || (c.flag^w.flag)&special != 0 {
		return false
	}
	if c.flag&special != 0 {
		return c.name == w.name
	}
	if c.file != w.file {
		if c.file == 0 || w.file == 0 {
			return false
		}
		have, saw := &s.tab.files[c.file], &s.tab.files[w.file]
		if have.known() || !have.Class.agrees(saw.Class) {
			return false
		}
	}
	return c.file == 0 || c.off == w.offAt(c.start)
}
