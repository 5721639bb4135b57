package site

import (
	"strings"

	"github.com/maptrace/maptrace/tracer/symbol"
)

// maxJITs bounds the maps that are open. Those of processes that still run are
// opened again; the frames of others have got their names when they were seen.
const maxJITs = 256

// HasPerfMap tells whether the JIT compiler of a process has written names of its code, which
// were asked for.
func (s *Sites) HasPerfMap(pid int) bool { return s.jits[pid] != nil && s.jits[pid].Found() }

// jit returns the names of the code that a process' JIT compiler has written.
func (s *Sites) jit(pid int) *symbol.PerfFile {
	j := s.jits[pid]
	if j == nil {
		if len(s.jits) >= maxJITs {
			for _, j := range s.jits {
				_ = j.Close() // it was only read
			}
			clear(s.jits)
		}
		j = s.modules.cache.PerfFile(pid)
		s.jits[pid] = j
	}
	return j
}

// trampoline tells whether pc is in code that python made to help perf.
func (s *Sites) trampoline(pc uint64) bool {
	name, _, _, ok := s.jit(s.pid).Lookup(pc)
	return ok && strings.HasPrefix(name, "py::")
}
