package space

import "github.com/maptrace/maptrace/procmaps"

// Doubt says that nobody knows what r holds since the stamp at: something
// changed it that is not a call. It is settled by a read that began later.
func (s *Space) Doubt(r procmaps.Range, at uint64) { s.openDoubt(r, at) }

// Doubtful reports whether any range is in doubt.
func (s *Space) Doubtful() bool { return len(s.open) > 0 }

// Stack returns the extent that holds the start of the main thread's stack.
func (s *Space) Stack() (Extent, bool) {
	if s.stack == 0 {
		return Extent{}, false
	}
	return s.At(s.stack)
}

// IsStack reports whether r holds the start of the main thread's stack.
func (s *Space) IsStack(r procmaps.Range) bool { return s.stack != 0 && r.Contains(s.stack) }
