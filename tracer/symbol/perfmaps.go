package symbol

import (
	"maps"
	"slices"
	"sync"
)

// perfMaps is what the maps of JIT compilers hold, of all processes together. A map may
// hold half of what the others leave: one that is as large as can be does not keep all
// others from being read.
type perfMaps struct {
	most  int64
	grown func(bytes int64) // is told each difference, also a negative one, without a lock

	mu   sync.Mutex
	held map[*PerfFile]int64 // of those that hold something
	sum  int64
}

// room is how many bytes a map, whose lock is held, may hold. If that is little, those of
// processes that have ended are closed before.
func (s *perfMaps) room(p *PerfFile) int64 {
	s.mu.Lock()
	others := slices.Collect(maps.Keys(s.held))
	short := s.sum > s.most/4
	s.mu.Unlock()
	if short {
		for _, o := range others {
			if o != p {
				o.closeEnded()
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const spare = 6 // a part is for slices that have room to grow
	room := max(0, s.most-(s.sum-s.held[p])) / 2
	return room - room/spare
}

// count notes how many bytes a map holds now.
func (s *perfMaps) count(p *PerfFile, bytes int64) {
	s.mu.Lock()
	more := bytes - s.held[p]
	if s.sum += more; bytes > 0 {
		s.held[p] = bytes
	} else {
		delete(s.held, p)
	}
	s.mu.Unlock()
	s.grown(more)
}
