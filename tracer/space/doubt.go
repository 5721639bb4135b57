package space

import "github.com/maptrace/maptrace/procmaps"

// Doubt says that nobody knows what r holds since the stamp at: something
// changed it that is not a call. It is settled by a read that began later.
func (s *Space) Doubt(r procmaps.Range, at uint64) { s.openDoubt(r, at) }

// Doubtful reports whether any range is in doubt.
func (s *Space) Doubtful() bool { return len(s.open) > 0 }

// Stack returns the lowest extent of the main thread's stack: where it grows.
func (s *Space) Stack() (Extent, bool) {
	if s.stack == 0 {
		return Extent{}, false
	}
	low, ok := s.At(s.stack)
	for ok {
		below, there := s.At(low.Start - 1)
		if !there || below.Flags&GrowsDown == 0 {
			break
		}
		low = below
	}
	return low, ok
}

// IsStack reports whether r holds the start of the main thread's stack.
func (s *Space) IsStack(r procmaps.Range) bool { return s.stack != 0 && r.Contains(s.stack) }
