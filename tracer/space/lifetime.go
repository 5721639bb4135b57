package space

import (
	"maps"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// folded is the stamp of everything that is older than the last Prune.
const folded = 1

// Prune forgets when things older than the stamp before happened: holes and
// waiting registers go, extents of one operation that only differ in such
// stamps become one again. Calls older than before can then not be placed any
// more; Apply puts their range in doubt. Prune takes time in proportion to the
// number of cells (about 15 ns each), and none if nothing has changed; about once a
// second will do.
func (s *Space) Prune(before uint64) {
	if before <= s.horizon {
		return
	}
	settled := s.newest < s.horizon // nothing has been written since it was
	s.horizon = before
	if s.movedMany != 0 && s.movedMany < before {
		s.movesMany = true
	}
	s.readers = slices.DeleteFunc(s.readers, func(r reader) bool {
		if r.at >= before {
			return false
		}
		s.lostReader = max(s.lostReader, r.at)
		return true
	})
	s.unadvised = slices.DeleteFunc(s.unadvised, func(u doubt) bool {
		// No call that is yet to come can map or move what was there, and nothing is left.
		older := func(e *cell) bool { return e.mapAt <= u.at }
		return u.at != 0 && u.at < before && s.first(u.Range, older) == u.End
	})
	if !settled {
		s.compact(exact)
	}
}

// fold replaces stamps older than before. It reports whether the cell still has anything to
// remember, and whether all of them are older.
func (c *cell) fold(before uint64) (remembers, all bool) {
	all = c.newest() < before
	if all && !c.alive() {
		return false, true
	}
	for _, at := range [...]*uint64{&c.mapAt, &c.protAt, &c.nameAt, &c.forkAt, &c.wipeAt, &c.growAt} {
		if *at != 0 && *at < before { // what was never seen is not known
			*at = folded
		}
	}
	return true, all
}

// Clone returns the address space of a child forked at the stamp at
// (kernel/fork.c:dup_mmap): without what is marked DontFork; what is marked
// WipeOnFork is mapped all the same. Origins are kept and the extents marked
// Inherited. The ranges in the child that are not certain are returned, and
// open in its Doubts: what was found by a read that does not show whether it is
// inherited, what is in doubt here, where a fork advice failed half-way or may have
// been given unseen, and what has changed here since the fork. For an older call applied
// here afterwards (Effect.Late) the caller puts its range in the child in doubt too. The child is complete if s
// is.
func (s *Space) Clone(at uint64) (*Space, []procmaps.Range) {
	child := New(s.opts)
	child.tab = s.tab.clone()
	child.complete, child.aliased, child.heapFrom = s.complete, s.aliased, s.heapFrom
	child.userfault, child.movesMany = s.userfault, s.movesMany
	child.brkStart, child.brk, child.stack = s.brkStart, s.brk, s.stack
	child.heapParted, child.stackParted = s.heapParted, s.stackParted
	child.newest, child.horizon = at, at
	var last cell
	for ci := range s.list.chunks {
		ch := s.list.chunks[ci]
		for i := range ch.n {
			c := ch.c[i]
			if c.newest() > at || c.alive() && c.forkAt == 0 && c.start < kernelHalf {
				child.doubt(c.rng(), at)
			}
			if !c.alive() || c.flag&DontFork != 0 {
				continue
			}
			c.mapAt, c.protAt, c.nameAt = folded, folded, folded
			c.forkAt, c.wipeAt, c.growAt = folded, folded, min(c.growAt, folded)
			c.flag |= Inherited
			child.mapped += c.rng().Len()
			child.list.insert(child.list.end(), &c)
			if last.alive() && sameRegion(&last, &c) {
				child.surplus++
			}
			last = c
		}
	}
	if at < s.horizon {
		// What has changed since cannot be told from what has not.
		child.doubt(procmaps.Range{End: kernelHalf}, at)
	}
	for _, d := range s.open {
		child.doubt(d.Range, at)
	}
	for _, u := range s.unadvised {
		child.doubt(u.Range, at)
	}
	return child, slices.Clone(child.doubts)
}

func (t *tables) clone() tables {
	c := *t
	c.renamed, c.liveFiles, c.liveNames = nil, nil, nil
	c.files, c.names = slices.Clone(t.files), slices.Clone(t.names)
	c.freeFiles, c.freeNames = slices.Clone(t.freeFiles), slices.Clone(t.freeNames)
	c.fileIDs, c.nameIDs = maps.Clone(t.fileIDs), maps.Clone(t.nameIDs)
	return c
}
