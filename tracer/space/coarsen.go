package space

import (
	"unsafe"

	"github.com/maptrace/maptrace/procmaps"
)

// How extents are bounded.
//
// The rows of maps are bounded by vm.max_map_count. The calls that made one row are not:
// a program may make it of single pages, each an extent with an origin of its own. So
// where extents are too many Coarsen makes one of neighbours in the same row, and takes
// as little of their origins as it can:
//
//	similarAge   made by the same sites at about the same time: nothing but single
//	             calls is lost
//	sameSites    made by the same sites at any time
//	anySites     any: nothing is left but the row
//
// The registers are never touched: only what is older than the horizon, of which the
// stamps are forgotten, is made one. So a coarsened tree has the same regions as another.
// Two calls ask for what is given up: shmdt, which takes away the pieces of one attachment,
// and an mprotect that stops where memory must not be written. More is in doubt after
// these where extents became one.

// CellBytes is what a cell takes.
const CellBytes = int(unsafe.Sizeof(cell{}))

// coarseness says which neighbours become one.
type coarseness uint8

const (
	exact coarseness = iota // pieces of one extent
	similarAge
	sameSites
	anySites
)

// Cells returns how many pieces of memory and holes are kept.
func (s *Space) Cells() int { return s.list.cells }

// Spare returns how many extents there were beyond one for each region, as of the last Prune
// or Coarsen, of those that were older than the horizon.
func (s *Space) Spare() int { return s.surplus }

// Horizon returns the stamp up to which everything has been forgotten: what a read that
// began before shows cannot be compared with the tree any more.
func (s *Space) Horizon() uint64 { return s.horizon }

// Coarsen makes one of neighbouring extents, older than the last Prune, until there are no
// more than so many of them beyond one for each region, or as few as there can be. It reports
// whether an origin was lost. Each step takes as long as a Prune.
func (s *Space) Coarsen(spare int) bool {
	lost := false
	for how := similarAge; how <= anySites && s.Spare() > spare; how++ {
		lost = s.compact(how) || lost
	}
	return lost
}

// compact forgets holes and stamps that are older than the horizon, makes one of
// neighbours, and counts those that are left. It reports whether an origin was lost.
func (s *Space) compact(how coarseness) (lost bool) {
	sweep := s.tab.sweeping()
	l := &s.list
	chunks, first := l.chunks[:0], l.first[:0]
	l.cells, l.alive, s.surplus = 0, 0, 0
	var last *cell
	for _, ch := range l.chunks {
		n := 0
		for i := range ch.n {
			c := ch.c[i]
			remembers, old := c.fold(s.horizon)
			if !remembers {
				continue
			}
			if last != nil && mergeable(last, &c) {
				last.join(&c)
				continue
			}
			more := old && last != nil && last.alive() && sameRegion(last, &c)
			if more && how != exact && s.coarsen(last, &c, how) {
				lost = true
				continue
			}
			ch.c[n] = c
			last = &ch.c[n]
			n++
			l.cells++
			if c.alive() {
				l.alive++
			}
			if more {
				s.surplus++
			}
			if sweep {
				s.tab.liveFiles[c.file], s.tab.liveNames[c.name] = true, true
			}
		}
		ch.n = n
		if n == 0 {
			l.free = append(l.free, ch)
			continue
		}
		if k := len(chunks) - 1; k >= 0 && chunks[k].n+n <= chunkCap*3/4 {
			prev := chunks[k]
			prev.n += copy(prev.c[prev.n:], ch.c[:n])
			last = &prev.c[prev.n-1]
			l.free = append(l.free, ch)
			continue
		}
		chunks, first = append(chunks, ch), append(first, ch.c[0].start)
	}
	clear(l.chunks[len(chunks):])
	l.chunks, l.first = chunks, first
	// Free chunks beyond what the tree is likely to want again are given back.
	if keep := len(chunks) + 16; len(l.free) > keep {
		clear(l.free[keep:])
		l.free = l.free[:keep]
	}
	if sweep {
		s.tab.sweep()
	}
	return lost
}

// coarsen adds the extent b to its neighbour a, if they are alike enough.
//
// Precondition: they are of one region.
func (s *Space) coarsen(a, b *cell, how coarseness) bool {
	if !continues(a, b) {
		return false // newer than the horizon, or not to be written both
	}
	if how < anySites {
		if a.site != b.site || a.grantSite != b.grantSite || a.op != b.op || a.flag != b.flag ||
			(a.grantAt == 0) != (b.grantAt == 0) || a.grantedBefore() != b.grantedBefore() ||
			how == similarAge && !s.similar(a, b) {
			return false
		}
		a.grantAt = min(a.grantAt, b.grantAt)
	} else {
		site, other := a.blame(), b.blame()
		if site != other {
			site = s.opts.mix(site, other)
		}
		a.site, a.grantAt, a.grantSite = site, 0, 0
		if a.op != b.op {
			a.op = OpReread // all that is known is that it is there
		}
	}
	if b.born < a.born {
		a.born, a.tid = b.born, b.tid
	}
	a.end = b.end
	a.extents, a.ops = addCounts(a.extents, b.extents), addCounts(a.ops, b.ops)
	return true
}

// similar reports whether both were made at about the same time: with an eighth of their
// age, as of the horizon, between them.
func (s *Space) similar(a, b *cell) bool {
	from, to := min(a.born, b.born), max(a.born, b.born)
	return to <= s.horizon && to-from <= (s.horizon-to)/8
}

// grantedBefore reports whether the grant of c is its origin, as [Grant.after] has it of
// memory that could be written from the beginning.
func (c *cell) grantedBefore() bool { return c.grantAt == c.born && c.grantSite == c.site }

// blame is the site that stands for c, as in [Extent.Blame].
func (c *cell) blame() uint64 {
	if c.grantSite != 0 && c.mode&procmaps.Write != 0 {
		return c.grantSite
	}
	return c.site
}
