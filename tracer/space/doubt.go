package space

import "github.com/maptrace/maptrace/procmaps"

// Doubt says that nobody knows what r holds since the stamp at: something
// changed it that is not a call. It is settled by a read that began later.
func (s *Space) Doubt(r procmaps.Range, at uint64) { s.openDoubt(r, at) }

// Doubtful reports whether any range is in doubt.
func (s *Space) Doubtful() bool { return len(s.open) > 0 }

// Stack returns the lowest extent of the main thread's stack: where it grows. ok is false
// if something else may grow as well: the kernel tells by how much something has grown,
// and not what.
func (s *Space) Stack() (lowest Extent, ok bool) {
	var low *cell
	var end uint64
	for p := s.list.begin(); s.list.has(p); p = s.list.next(p) {
		c := s.list.cell(p)
		switch {
		case !c.alive() || c.flag&GrowsDown == 0 && c.growAt != 0, c.start >= kernelHalf:
			continue
		case low == nil:
			low = c
		case c.start != end:
			return Extent{}, false
		}
		end = c.end
	}
	if low == nil || s.stack < low.start || s.stack >= end {
		return Extent{}, false
	}
	return s.extent(low), true
}
