// Package resident remembers how much of an address space is resident, and says
// which parts of it must be counted again.
//
// To count every page each time costs in proportion to what is resident, most of
// which has not changed since: a server of 8 GiB touches a few MiB a second. The
// kernel tells where page faults were and which mappings calls have changed; only
// that is counted. What it does not tell of (pages it takes away, or brings in itself,
// for O_DIRECT or a driver) is found by counting some of the rest at each look, in
// turn, and all of it when the process' RSS is no longer what the parts add up to.
package resident

import (
	"cmp"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

const (
	// sweepLooks is after how many looks each part was counted at least once.
	sweepLooks = 60

	// quietLooks is how many looks at most become one where nothing happens: there
	// may be hundreds of such processes.
	quietLooks = 10

	// doubtLooks is for how many looks in a row the sum may be wrong by less than
	// what has everything counted at once.
	doubtLooks = 5

	// mostParts is into how many parts a range is cut at most.
	mostParts = 1024

	// mostChanges is how many changed ranges are kept; beyond, those next to each
	// other are made one, and if that does not help everything is counted.
	mostChanges = 1 << 14
)

// Set is what is known of one address space. Looks are taken in three steps: Plan,
// the counting, and Counted. A Set is not safe for concurrent use, but the counting
// does not use it, and Touch, Change and Forget may be called meanwhile: what changes
// then belongs to the next look.
type Set struct {
	piece uint64 // a power of two, bytes: the smallest part

	parts   []part // ascending
	spare   []part
	lengths []int // how many of the parts belong to each of the ranges
	planned []int // the parts being counted

	changes []procmaps.Range // by calls, since the last Plan
	touched []procmaps.Range // by faults
	before  []procmaps.Range // by faults, in the look before
	dirty   []procmaps.Range
	all     bool // everything must be counted
	full    bool // all was planned, and Check has not seen it yet
	swept   uint64
	owed    int // looks since some were counted in their turn

	total  uint64 // resident bytes
	doubts int    // looks since the sum was right to the slack
	offset int64  // what the kernel's RSS had more than total when all was counted
}

// part is a piece of a range, within one mapping.
type part struct {
	procmaps.Range
	held  procmaps.Resident
	known bool
}

// New returns a Set of which nothing is known. Piece is the size of the pieces of
// memory that [Set.Touch] is told, in bytes, a power of two.
func New(piece uint64) *Set { return &Set{piece: piece, all: true} }

// Touch says that a page fault was in the piece that begins at addr. The page may not
// be there yet, so the piece is counted in two looks. A page that takes longer to come
// than that, as from a slow disk or by userfaultfd, is found in its turn.
func (s *Set) Touch(addr uint64) {
	s.touched = s.add(s.touched, procmaps.Range{Start: addr, End: addr + s.piece})
}

// Change says what a call did, or what a look at the mappings has found. Calls that do
// not tell where they change what is resident (mlockall, process_madvise) are for
// [Set.Forget].
func (s *Set) Change(c *model.Change) {
	switch c.Kind {
	case model.KindCall:
		s.change(c.Effect.Range)
		s.change(c.Effect.From)
		for _, r := range c.Effect.Doubts {
			s.change(r)
		}
		switch c.Call.Op {
		case space.OpMunmap, space.OpMadvise, space.OpMlock:
			// One that failed may have done half of it.
			s.change(procmaps.Range{Start: c.Call.Args[0], End: c.Call.Args[0] + c.Call.Args[1]})
		}
	case model.KindReread:
		for i := range c.Found {
			s.change(c.Found[i].Range)
		}
	}
}

func (s *Set) change(r procmaps.Range) {
	if !r.Empty() {
		s.changes = s.add(s.changes, r)
	}
}

// Forget says that anything may have changed.
func (s *Set) Forget() { s.all = true }

// Whole tells whether the last Plan was of everything.
func (s *Set) Whole() bool { return s.full }

// add appends r. Calls tend to come at the same place.
func (s *Set) add(to []procmaps.Range, r procmaps.Range) []procmaps.Range {
	if last := len(to) - 1; last >= 0 && to[last].Start <= r.Start && r.Start <= to[last].End {
		to[last].End = max(to[last].End, r.End)
		return to
	}
	if to = append(to, r); len(to) >= mostChanges {
		if to = merge(to); len(to) >= mostChanges/2 {
			s.all = true
			return to[:0]
		}
	}
	return to
}

// merge sorts ranges and joins those that meet.
func merge(all []procmaps.Range) []procmaps.Range {
	slices.SortFunc(all, func(a, b procmaps.Range) int { return cmp.Compare(a.Start, b.Start) })
	out := all[:0]
	for _, r := range all {
		if last := len(out) - 1; last >= 0 && r.Start <= out[last].End {
			out[last].End = max(out[last].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Rest tells whether a look may be left out, in place of Plan: nothing has happened
// since the last one, and what the kernel does not tell of has had its turn lately.
func (s *Set) Rest() bool {
	if s.all || len(s.changes)+len(s.touched)+len(s.before)+len(s.planned) > 0 || s.owed+1 >= quietLooks {
		return false
	}
	s.owed++
	return true
}

// Plan begins a look at ranges, which are ascending and disjoint, and each within one
// mapping. It appends to dst what must be counted, in the same order.
func (s *Set) Plan(dst, ranges []procmaps.Range) []procmaps.Range {
	s.takeChanges()
	s.cut(ranges)
	first, count := s.sweep()
	dirty := s.dirty
	for i := range s.parts {
		p := &s.parts[i]
		for len(dirty) > 0 && dirty[0].End <= p.Start {
			dirty = dirty[1:]
		}
		changed := len(dirty) > 0 && dirty[0].Start < p.End
		turn := (i-first+len(s.parts))%len(s.parts) < count
		if s.full || changed || turn || !p.known {
			s.total -= p.held.Bytes
			p.held, p.known = procmaps.Resident{}, false
			s.planned = append(s.planned, i)
			dst = append(dst, p.Range)
		}
	}
	return dst
}

// takeChanges makes one list of all that has changed.
func (s *Set) takeChanges() {
	s.dirty = append(append(append(s.dirty[:0], s.changes...), s.touched...), s.before...)
	s.dirty = merge(s.dirty)
	s.changes = s.changes[:0]
	s.touched, s.before = s.before[:0], s.touched
	s.full, s.all = s.all, false
}

// cut makes the parts those of ranges, with what is known of them.
func (s *Set) cut(ranges []procmaps.Range) {
	old := s.parts
	s.parts, s.spare = slices.Grow(s.spare[:0], len(old)), s.parts
	s.lengths, s.planned, s.total = s.lengths[:0], s.planned[:0], 0
	for _, r := range ranges {
		before := len(s.parts)
		size := s.partSize(r.Len())
		for at := r.Start; at < r.End; {
			p := part{Range: procmaps.Range{Start: at, End: min(r.End, at&^(size-1)+size)}}
			if p.End < at { // the last part of the address space
				p.End = r.End
			}
			for len(old) > 0 && old[0].Start < at {
				old = old[1:]
			}
			if len(old) > 0 && old[0].Range == p.Range {
				p = old[0]
			}
			s.total += p.held.Bytes
			s.parts = append(s.parts, p)
			at = p.End
		}
		s.lengths = append(s.lengths, len(s.parts)-before)
	}
}

// partSize is the size of the parts of a range, a power of two. It is doubled as a
// range grows: a reservation of terabytes must not be a million parts.
func (s *Set) partSize(length uint64) uint64 {
	size := s.piece
	for length/size > mostParts {
		size *= 2
	}
	return size
}

// sweep returns from where on, and of how many parts it is the turn, and moves on.
func (s *Set) sweep() (first, count int) {
	if s.owed++; len(s.parts) == 0 {
		return 0, 0
	}
	first, _ = slices.BinarySearchFunc(s.parts, s.swept, func(p part, at uint64) int { return cmp.Compare(p.Start, at) })
	count = min((len(s.parts)*s.owed+sweepLooks-1)/sweepLooks, len(s.parts))
	s.swept, s.owed = s.parts[(first+count)%len(s.parts)].Start, 0
	return first, count
}

// Counted takes what was found in the ranges that Plan has returned. Without it they
// are planned again.
func (s *Set) Counted(found []procmaps.Resident) {
	for i, at := range s.planned {
		p := &s.parts[at]
		p.held, p.known = found[i], true
		s.total += p.held.Bytes
	}
	s.planned = s.planned[:0]
}

// Release gives up memory that only a look takes, if that is for more than so many parts.
func (s *Set) Release(many int) {
	if cap(s.spare) > many {
		s.spare = nil
	}
	if len(s.planned) == 0 && cap(s.planned) > many {
		s.planned = nil
	}
}

// Totals appends to dst what was found in each of the ranges of the last Plan.
func (s *Set) Totals(dst []procmaps.Resident) []procmaps.Resident {
	parts, dst := s.parts, slices.Grow(dst, len(s.lengths))
	for _, n := range s.lengths {
		var sum procmaps.Resident
		for i := range parts[:n] {
			sum.Add(parts[i].held)
		}
		dst, parts = append(dst, sum), parts[n:]
	}
	return dst
}

// Check compares the sum of all parts with the RSS of the process, of before and after
// the counting, in bytes, which may be wrong by slack each. If it has become another
// than when all was counted, the next look counts everything again, and Check returns
// false. It may be asked in place of a look that was left out, too.
func (s *Set) Check(before, after, slack uint64) bool {
	low, high := int64(min(before, after)-s.total), int64(max(before, after)-s.total)
	if s.full {
		s.offset, s.full, s.doubts = low+(high-low)/2, false, 0
		return true
	}
	right := func(allowed uint64) bool {
		return s.offset >= low-int64(allowed) && s.offset <= high+int64(allowed)
	}
	if right(slack) {
		s.doubts = 0
		return true
	}
	const part = 64 // of the whole, that may go unnoticed for some looks
	if s.doubts++; s.doubts < doubtLooks && right(slack+max(before, after)/part) {
		return true
	}
	s.all = true
	return false
}
